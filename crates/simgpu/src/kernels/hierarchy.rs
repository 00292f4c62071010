//! The kernels that measure caches, latencies, shared memory, atomics and launches.

use std::sync::Arc;

use warpmark_ptx::DeviceMemory;

use super::{Launch, NOT_SUPPORTED};
use crate::contents::{Bytes, Source};

const ILLEGAL_ADDRESS: u32 = 700;

/// `THREADS` of `cache.cu` and `shared.cu`.
const THREADS: u64 = 256;
/// Bytes that a block of `intensity.cu` reads.
const SWEPT: u64 = THREADS * 4 * 16;
/// Bytes of a tile of `cache.cu`.
const TILE: u64 = 16 << 10;
/// `VECTORS` of `shared.cu`.
const VECTORS: usize = 1024;

impl Launch<'_> {
    pub(super) fn cache_read(&mut self) -> Result<(), u32> {
        let (a, tiles, steps) = (self.u64(0), u64::from(self.u32(1)), u64::from(self.u32(2)));
        if self.threads() != THREADS || tiles == 0 {
            return Err(NOT_SUPPORTED);
        }
        let what = self.memory.snapshot(a, tiles * TILE)?;
        let sum = match self.u32(4) {
            0 => 0,
            u32::MAX => {
                let visits = visits(self.blocks(), tiles, steps);
                (0..).zip(visits).fold(0, |sum: u32, (tile, count)| {
                    sum.wrapping_add(sum_of(&what, tile * TILE).wrapping_mul(count))
                })
            }
            _ => return Err(NOT_SUPPORTED),
        };
        self.add(3, sum)
    }

    /// Reads, and computes on what it read: the arithmetic units and the memory work at once.
    pub(super) fn intensity(&mut self) -> Result<(), u32> {
        let (a, steps, mask) = (self.u64(0), self.u32(1), self.u32(5));
        let (scale, shift) = (self.f32(2), self.f32(3));
        if self.threads() != THREADS {
            return Err(NOT_SUPPORTED);
        }
        let len = self.blocks() * SWEPT;
        let what = self.memory.snapshot(a, len)?;
        match mask {
            0 => {}
            u32::MAX => {
                let mut bytes = vec![0; len as usize];
                what.read(0, &mut bytes);
                let words = bytes.as_chunks::<4>().0.iter().enumerate();
                let fold = words.fold(0, |fold, (index, word)| {
                    let own = steps / 2 + u32::from(steps % 2 == 1 && index % 4 < 2);
                    let x = f32::from_le_bytes(*word);
                    fold ^ (0..own).fold(x, |x, _| x.mul_add(scale, shift)).to_bits()
                });
                let (at, mut before) = (self.u64(4), [0; 4]);
                self.memory.snapshot(at, 4)?.read(0, &mut before);
                let folded = u32::from_le_bytes(before) ^ fold;
                self.store(at, 4, Arc::new(Bytes(folded.to_le_bytes().to_vec())))?;
            }
            // Other masks fold each thread's part or not, which nobody asks for.
            _ => return Err(NOT_SUPPORTED),
        }
        Ok(())
    }

    /// The table is the allocation that the walk stands in.
    pub(super) fn chase(&mut self) -> Result<(), u32> {
        let (steps, state) = (self.u32(0), self.u64(1));
        if self.blocks() * self.threads() != 1 {
            return Err(NOT_SUPPORTED);
        }
        let mut word = [0; 8];
        self.memory.snapshot(state, 8)?.read(0, &mut word);
        let (start, len) = self.memory.extent(u64::from_le_bytes(word)).ok_or(ILLEGAL_ADDRESS)?;
        let table = self.memory.snapshot(start, len)?;
        for _ in 0..steps {
            let at = u64::from_le_bytes(word).wrapping_sub(start);
            if at.saturating_add(8) > len {
                return Err(ILLEGAL_ADDRESS);
            }
            table.read(at, &mut word);
        }
        let seconds = f64::from(steps) * self.profile.latency(len);
        let cycles = (seconds * f64::from(self.profile.sm_clock_mhz) * 1e6).round() as u64;
        let nanoseconds = (seconds * 1e9).round() as u64;
        let told = [word, cycles.to_le_bytes(), nanoseconds.to_le_bytes()].concat();
        self.store(state, 24, Arc::new(Bytes(told)))
    }

    pub(super) fn shared_read(&mut self) -> Result<(), u32> {
        let (key, steps, stride) = (self.u32(0), self.u32(1), self.u32(2));
        if self.threads() != THREADS {
            return Err(NOT_SUPPORTED);
        }
        let sum = match self.u32(4) {
            0 => 0,
            u32::MAX => self.shared_sum(key, steps, stride),
            _ => return Err(NOT_SUPPORTED),
        };
        self.add(3, sum)
    }

    /// What all blocks add up, read for read.
    fn shared_sum(&self, key: u32, steps: u32, stride: u32) -> u32 {
        let word = |index: u32| index.wrapping_add(key).wrapping_mul(0x9E37_79B9);
        let tile: Vec<u32> = (0..VECTORS as u32)
            .map(|i| (0..4).fold(0, |sum: u32, lane| sum.wrapping_add(word(4 * i + lane))))
            .collect();
        let of_thread = |thread: u32| {
            (0..steps).fold(0_u32, |sum, step| {
                let at = thread.wrapping_add(step.wrapping_mul(stride)) as usize % VECTORS;
                sum.wrapping_add(tile[at])
            })
        };
        let block = (0..THREADS as u32).fold(0, |sum: u32, t| sum.wrapping_add(of_thread(t)));
        block.wrapping_mul(self.blocks() as u32)
    }

    pub(super) fn atomics(&mut self) -> Result<(), u32> {
        let (counters, stride, rounds) = (self.u64(0), u64::from(self.u32(1)), self.u32(2));
        let threads = self.blocks() * self.threads();
        let len = ((threads - 1) * stride + 1) * 4;
        let mut bytes = vec![0; len as usize];
        self.memory.snapshot(counters, len)?.read(0, &mut bytes);
        for thread in 0..threads {
            let at = (thread * stride * 4) as usize;
            let counter = &mut bytes[at..at + 4];
            let count = u32::from_le_bytes(counter.try_into().unwrap()).wrapping_add(rounds);
            counter.copy_from_slice(&count.to_le_bytes());
        }
        self.store(counters, len, Arc::new(Bytes(bytes)))
    }

    pub(super) fn empty(&mut self) -> Result<(), u32> {
        self.add(0, self.u32(1))
    }

    /// Adds to the word that an argument points to.
    fn add(&mut self, argument: usize, amount: u32) -> Result<(), u32> {
        let at = self.u64(argument);
        let mut word = [0; 4];
        self.memory.snapshot(at, 4)?.read(0, &mut word);
        if amount == 0 {
            return Ok(());
        }
        let sum = u32::from_le_bytes(word).wrapping_add(amount);
        self.store(at, 4, Arc::new(Bytes(sum.to_le_bytes().to_vec())))
    }
}

/// How often each tile is read by blocks that start evenly spaced on the ring, modulo 2³².
fn visits(blocks: u64, tiles: u64, steps: u64) -> Vec<u32> {
    let mut visits = vec![(blocks * (steps / tiles)) as u32; tiles as usize];
    for block in 0..blocks {
        let start = block * tiles / blocks;
        for step in 0..steps % tiles {
            let visit = &mut visits[((start + step) % tiles) as usize];
            *visit = visit.wrapping_add(1);
        }
    }
    visits
}

/// The words of a tile, added up modulo 2³².
fn sum_of(what: &dyn Source, offset: u64) -> u32 {
    let mut tile = vec![0; TILE as usize];
    what.read(offset, &mut tile);
    let words = tile.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
    words.fold(0, u32::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::visits;

    #[test]
    fn blocks_read_on_from_their_own_place_and_round_the_ring() {
        assert_eq!(visits(2, 4, 3), [2, 1, 2, 1]);
        assert_eq!(visits(1, 3, 7), [3, 2, 2]);
        assert_eq!(visits(8, 1, 5), [40]);
    }
}
