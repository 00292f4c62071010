//! Latency by pointer chase: a random cycle through cache lines, each load giving the next address.
//!
//! No prefetcher guesses a random cycle, and no load can begin before the one before it has ended. What
//! address translation costs is part of it, as it is of every scattered access.

pub(crate) mod host;
pub(crate) mod nvrtc;

use std::collections::BTreeMap;

use warpmark_measure::Entry;
use warpmark_record::{Bytes, DeviceSpec, ItemUnit, Items, Seconds, Value, Work};

use crate::data::Stream;
use crate::memory::size_name;
use crate::{RunOptions, cases};

/// A cycle through `n` places.
struct Cycle {
    /// The places in the order in which the walk meets them.
    order: Vec<u32>,
}

impl Cycle {
    /// One of the cycles through all of `places`, at random: the walk meets them in shuffled order
    /// (Fisher and Yates).
    fn new(places: usize, seed: u64) -> Self {
        let numbers = Stream::new(seed, 4);
        let mut order: Vec<u32> = (0..places as u32).collect();
        for i in (1..places).rev() {
            order.swap(i, (numbers.bits(i as u64) % (i as u64 + 1)) as usize);
        }
        Self { order }
    }

    /// Each place and the one that follows it.
    fn steps(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let following = self.order.iter().cycle().skip(1);
        self.order.iter().copied().zip(following.copied())
    }

    /// Where a walk that began at the first place is after so many steps.
    fn after(&self, steps: u64) -> u32 {
        self.order[(steps % self.order.len() as u64) as usize]
    }
}

/// The entry of a chase of `loads` loads through `size` bytes, each of which takes about `latency`.
fn entry(
    (spec, options): (&DeviceSpec, &RunOptions),
    engine: &str,
    size: usize,
    loads: u32,
    latency: Seconds,
) -> Option<Entry> {
    let segments = ["latency", "chase", &size_name(size)];
    let iteration = latency * f64::from(loads);
    cases::entry((spec, options), &segments, engine, iteration, Bytes::from_count(size))
}

/// What every row on latency says about itself.
fn parameters(size: usize, line: usize) -> BTreeMap<String, Value> {
    [
        ("working_set_bytes", Value::from(size)),
        ("line_bytes", Value::from(line)),
        ("threads", Value::from(1_usize)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn work(loads: u32) -> Work {
    let items = Items { count: f64::from(loads), unit: ItemUnit::Access };
    Work { flops: None, bytes: None, items: Some(items) }
}

/// What a record says of the walk's order.
fn described(seed: u64) -> String {
    format!("random cycle, seed {seed}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_meets_every_place_once_and_closes() {
        let cycle = Cycle::new(1000, 5);
        let mut next = vec![u32::MAX; 1000];
        for (place, following) in cycle.steps() {
            assert_eq!(next[place as usize], u32::MAX);
            next[place as usize] = following;
        }
        let mut at = cycle.after(0);
        for step in 1..=2000 {
            at = next[at as usize];
            assert_eq!(at, cycle.after(step));
            assert_eq!(at == cycle.after(0), step % 1000 == 0);
        }
    }

    #[test]
    fn cycles_of_two_seeds_differ() {
        assert_ne!(Cycle::new(100, 1).order, Cycle::new(100, 2).order);
    }
}
