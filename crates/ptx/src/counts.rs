//! What a launch did, counted.

use super::instruction::Kind;

/// Bytes that memory gives at once.
pub(crate) const SECTOR: u64 = 32;

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
}

impl Counts {
    /// Counts a request for device memory: `bytes` at each address.
    pub(super) fn device(&mut self, writes: bool, addresses: &[u64], bytes: u64) {
        let traffic = if writes { &mut self.written } else { &mut self.read };
        traffic.requests += 1;
        traffic.bytes += bytes * addresses.len() as u64;
        let taken = sectors(addresses, bytes);
        traffic.taken += taken;
        traffic.least += (distinct(addresses) * bytes).div_ceil(SECTOR).min(taken);
    }

    /// Counts a request of all lanes side by side, the first at this address.
    #[inline]
    pub(super) fn row(&mut self, writes: bool, address: u64, bytes: u64) {
        let traffic = if writes { &mut self.written } else { &mut self.read };
        let end = address + 32 * bytes;
        traffic.requests += 1;
        traffic.bytes += 32 * bytes;
        traffic.taken += end.div_ceil(SECTOR) - address / SECTOR;
        traffic.least += bytes;
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

/// How often the banks are gone over: the most different words that one bank holds.
fn passes(addresses: &[u64], bytes: u64) -> u64 {
    let step = bytes.max(4);
    if addresses.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(step)) {
        return 1;
    }
    let mut words: Vec<u64> = addresses
        .iter()
        .flat_map(|address| (0..bytes.div_ceil(4)).map(move |k| address / 4 + k))
        .collect();
    words.sort_unstable();
    words.dedup();
    let mut banks = [0_u64; 32];
    for word in words {
        banks[(word % 32) as usize] += 1;
    }
    banks.into_iter().max().unwrap_or(0).max(1)
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
