//! Sizes of working sets that show the levels of a memory hierarchy, each a power of two.

use warpmark_record::DeviceSpec;

use crate::memory::ASSUMED_CACHE;

/// Sizes between which a hierarchy's steps lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Levels {
    /// Inside the first cache of any device.
    pub(crate) first: usize,
    /// Inside the last cache, with room to spare.
    pub(crate) last: usize,
    /// At least four times the last cache.
    pub(crate) beyond: usize,
}

impl Levels {
    /// Those of a device whose last cache is shared by `sharers` working sets.
    pub(crate) fn of(spec: &DeviceSpec, first: usize, sharers: usize) -> Self {
        let cache = spec.last_level_cache.known().map_or(ASSUMED_CACHE, |cache| cache.0);
        let share = cache as usize / sharers.max(1);
        // The largest power of two that leaves half of the cache to others.
        let last = ((share / 2 + 1).next_power_of_two() / 2).max(first);
        Self { first, last, beyond: (4 * share).next_power_of_two().max(2 * last) }
    }

    /// Every power of two from the first to the last of them.
    pub(crate) fn all(self) -> Vec<usize> {
        let sizes = std::iter::successors(Some(self.first), |size| Some(2 * size));
        sizes.take_while(|size| *size <= self.beyond).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{h200, t4};

    #[test]
    fn sizes_lie_inside_the_first_cache_inside_the_last_and_beyond() {
        let levels = Levels::of(&t4(), 32 << 10, 1);
        assert_eq!(levels, Levels { first: 32 << 10, last: 2 << 20, beyond: 16 << 20 });
        assert_eq!(levels.all().len(), 10);
        let large = Levels::of(&h200(), 32 << 10, 1);
        let cache = h200().last_level_cache.known().unwrap().0 as usize;
        assert!(large.last <= cache / 2 && large.last > cache / 4);
        assert!(large.beyond >= 4 * cache && large.beyond < 8 * cache);
    }

    #[test]
    fn threads_that_share_a_cache_have_a_part_of_it_each() {
        let (one, four) = (Levels::of(&t4(), 1 << 10, 1), Levels::of(&t4(), 1 << 10, 4));
        assert_eq!((four.last * 4, four.beyond * 4), (one.last, one.beyond));
    }
}
