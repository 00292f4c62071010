//! What a launch did, counted.

use super::instruction::Kind;

/// Bytes that memory gives at once.
pub const SECTOR: u64 = 32;

/// Traffic with one kind of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Instructions of a warp.
    pub requests: u64,
    /// Bytes that the lanes asked for.
    pub bytes: u64,
    /// What it took: sectors of device memory, passes over the banks of shared memory.
    pub taken: u64,
    /// The fewest that those bytes could have taken.
    pub least: u64,
}

/// Traffic with one allocation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Area {
    /// Where the allocation begins, and its length in bytes.
    pub start: u64,
    /// Bytes of the allocation.
    pub len: u64,
    /// Sectors that requests to read took.
    pub read: u64,
    /// Sectors that requests to write took.
    pub written: u64,
    /// Sectors that atomic operations took.
    pub atomic: u64,
    /// Sectors of which anything was touched, each once.
    pub touched: u64,
    /// Bytes from the first that was touched to behind the last.
    pub span: u64,
}

/// Atomic operations on device memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Atomics {
    /// Operations of lanes.
    pub operations: u64,
    /// The most of them on one word.
    pub on_one: u64,
}

/// What tensor cores multiply, as profiles name it: operands, accumulator.
pub const PRODUCTS: [&str; 4] = ["f16/f32", "f16/f16", "bf16/f32", "int8/int32"];

/// What a launch did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Instructions of lanes.
    pub lanes: u64,
    /// Instructions of warps, by kind.
    pub kinds: [u64; Kind::ALL.len()],
    /// Reads of device memory.
    pub read: Traffic,
    /// Writes to device memory.
    pub written: Traffic,
    /// Both, of shared memory.
    pub shared: Traffic,
    /// Barriers that a block came to, over all blocks.
    pub barriers: u64,
    /// How often a warp waited for what it had asked of device memory.
    pub waits: u64,
    /// Atomic operations on device memory.
    pub atomics: Atomics,
    /// Operations of tensor cores, in the order of [`PRODUCTS`].
    pub products: [u64; 4],
    /// Traffic by allocations, in the order in which they were touched first.
    pub areas: Vec<Area>,
}

impl Counts {
    /// Counts a request for device memory: `bytes` at each address.
    ///
    /// Returns the sectors that it took.
    pub(super) fn device(&mut self, writes: bool, addresses: &[u64], bytes: u64) -> u64 {
        let traffic = if writes { &mut self.written } else { &mut self.read };
        traffic.requests += 1;
        traffic.bytes += bytes * addresses.len() as u64;
        let taken = sectors(addresses, bytes);
        traffic.taken += taken;
        traffic.least += (distinct(addresses) * bytes).div_ceil(SECTOR).min(taken);
        taken
    }

    /// Counts a request of all lanes side by side, the first at this address.
    #[inline]
    ///
    /// Returns the sectors that it took.
    pub(super) fn row(&mut self, writes: bool, address: u64, bytes: u64) -> u64 {
        let traffic = if writes { &mut self.written } else { &mut self.read };
        let end = address + 32 * bytes;
        traffic.requests += 1;
        traffic.bytes += 32 * bytes;
        let taken = end.div_ceil(SECTOR) - address / SECTOR;
        traffic.taken += taken;
        traffic.least += bytes;
        taken
    }

    /// The same for shared memory: no bank is wanted twice.
    #[inline]
    pub(super) fn row_of_banks(&mut self, bytes: u64) {
        let passes = (32 * bytes).div_ceil(128);
        self.shared.requests += 1;
        self.shared.bytes += 32 * bytes;
        self.shared.taken += passes;
        self.shared.least += passes;
    }

    /// Counts a request for shared memory.
    pub(super) fn banks(&mut self, addresses: &[u64], bytes: u64) {
        self.shared.requests += 1;
        self.shared.bytes += bytes * addresses.len() as u64;
        // 128 bytes at a time: half a warp for 8 bytes, a quarter for 16.
        let together = (128 / bytes.max(4)) as usize;
        for part in addresses.chunks(together.min(32)) {
            self.shared.taken += passes(part, bytes);
            self.shared.least += 1;
        }
    }
}

impl Counts {
    /// What a launch would have counted, as far behind `later` as `ratio` says, where `self` is at 0 and
    /// `later` at 1: every count goes on as it went from one to the other.
    #[must_use]
    pub fn extrapolated(&self, later: &Self, ratio: f64) -> Self {
        let on = |from: u64, to: u64| {
            let (from, to) = (from as f64, to as f64);
            (from + (to - from) * ratio).round().max(0.0) as u64
        };
        let traffic = |from: &Traffic, to: &Traffic| Traffic {
            requests: on(from.requests, to.requests),
            bytes: on(from.bytes, to.bytes),
            taken: on(from.taken, to.taken),
            least: on(from.least, to.least),
        };
        let areas = later.areas.iter().map(|to| {
            // Areas come in the order in which blocks touch them, which is random.
            let from = self.areas.iter().find(|from| from.start == to.start).unwrap_or(to);
            Area {
                read: on(from.read, to.read),
                written: on(from.written, to.written),
                atomic: on(from.atomic, to.atomic),
                touched: on(from.touched, to.touched).min(to.len.div_ceil(SECTOR)),
                span: on(from.span, to.span).min(to.len.next_multiple_of(SECTOR)),
                ..*to
            }
        });
        Self {
            lanes: on(self.lanes, later.lanes),
            kinds: std::array::from_fn(|kind| on(self.kinds[kind], later.kinds[kind])),
            read: traffic(&self.read, &later.read),
            written: traffic(&self.written, &later.written),
            shared: traffic(&self.shared, &later.shared),
            barriers: on(self.barriers, later.barriers),
            waits: on(self.waits, later.waits),
            atomics: Atomics {
                operations: on(self.atomics.operations, later.atomics.operations),
                on_one: on(self.atomics.on_one, later.atomics.on_one),
            },
            products: std::array::from_fn(|each| on(self.products[each], later.products[each])),
            areas: areas.collect(),
        }
    }
}

/// How many different addresses there are.
fn distinct(addresses: &[u64]) -> u64 {
    if addresses.is_sorted_by(|a, b| a < b) {
        return addresses.len() as u64;
    }
    let mut sorted = addresses.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.len() as u64
}

/// The sectors that addresses lie in, each counted once.
fn sectors(addresses: &[u64], bytes: u64) -> u64 {
    let of = |address: u64| (address / SECTOR, address.saturating_add(bytes - 1) / SECTOR);
    if addresses.is_sorted() {
        let (mut count, mut next) = (0, 0);
        for address in addresses {
            let (first, last) = of(*address);
            let first = first.max(next);
            count += (last + 1).saturating_sub(first);
            next = next.max(last + 1);
        }
        return count;
    }
    let mut sorted = addresses.to_vec();
    sorted.sort_unstable();
    sectors(&sorted, bytes)
}

/// How often the banks are gone over: the most different words that one bank holds. Words of 8 and 16 bytes lie in two
/// and four banks side by side, and their lanes at multiples of them, so that such banks count as one.
fn passes(addresses: &[u64], bytes: u64) -> u64 {
    let step = bytes.max(4);
    if addresses.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(step)) {
        return 1;
    }
    let banks = (128 / step).max(1);
    let word_and_bank = |address: u64| (address / step, (address / step % banks) as usize);
    let mut counts = [0_u64; 32];
    for (index, address) in addresses.iter().enumerate() {
        let (word, bank) = word_and_bank(*address);
        // Only a bank that is wanted already can hold this very word.
        let known =
            counts[bank] > 0 && addresses[..index].iter().any(|before| before / step == word);
        counts[bank] += u64::from(!known);
    }
    counts.into_iter().max().unwrap_or(0).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(stride: u64, lanes: u64) -> Vec<u64> {
        (0..lanes).map(|lane| 4096 + lane * stride).collect()
    }

    #[test]
    fn sectors_are_counted_once_however_many_lanes_meet_in_them() {
        assert_eq!(sectors(&at(4, 32), 4), 4);
        assert_eq!(sectors(&at(16, 32), 16), 16);
        assert_eq!(sectors(&at(0, 32), 4), 1);
        assert_eq!(sectors(&at(32, 32), 4), 32);
        let backwards: Vec<u64> = at(4, 32).into_iter().rev().collect();
        assert_eq!(sectors(&backwards, 4), 4);
        // The last bytes that an address can name, in which a wrong one may lie.
        assert_eq!(sectors(&[u64::MAX - 1], 16), 1);
        let shifted: Vec<u64> = at(4, 32).into_iter().map(|a| a + 4).collect();
        assert_eq!(sectors(&shifted, 4), 5);
    }

    #[test]
    fn a_request_knows_the_fewest_sectors_that_it_could_have_taken() {
        let mut counts = Counts::default();
        counts.device(false, &at(8, 32), 4);
        assert_eq!((counts.read.taken, counts.read.least, counts.read.bytes), (8, 4, 128));
        counts.device(true, &at(0, 32), 4);
        assert_eq!((counts.written.taken, counts.written.least), (1, 1));
    }

    #[test]
    fn banks_conflict_where_lanes_want_different_words_of_one() {
        let passes_of = |stride: u64, lanes: u64, bytes| {
            let mut counts = Counts::default();
            counts.banks(&at(stride, lanes), bytes);
            (counts.shared.taken, counts.shared.least)
        };
        assert_eq!(passes_of(4, 32, 4), (1, 1));
        assert_eq!(passes_of(0, 32, 4), (1, 1));
        assert_eq!(passes_of(8, 32, 4), (2, 1));
        assert_eq!(passes_of(128, 32, 4), (32, 1));
        assert_eq!(passes_of(16, 32, 16), (4, 4));
        assert_eq!(passes_of(32, 32, 16), (8, 4));
        assert_eq!(passes_of(132, 32, 4), (1, 1));
    }
}
