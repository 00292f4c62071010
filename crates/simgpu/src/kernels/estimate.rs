//! What launches of any size count: extrapolated from a few of their blocks, and a few rounds of their loops.
//!
//! A kernel with a model is launched over arrays that nobody could execute. Some blocks of such a launch are
//! executed for what they count alone, with its own text, arguments and geometry. Twice as many blocks tell
//! what each more costs, and where an argument says how often a loop is gone through, so do twice as many
//! rounds. Every block is taken for one like the others; small launches are counted whole.

use std::sync::{Arc, PoisonError};

use super::Launch;
use crate::cost::{Cost, Shape};
use crate::estimates::Key;
use warpmark_ptx::{Counts, DeviceMemory, Kernel, Limits, SECTOR, View};

/// Blocks that are executed, and twice as many.
const BLOCKS: u32 = 4;

/// Rounds of a loop that are executed, and twice as many: a multiple of what compilers unroll loops by.
const ROUNDS: u64 = 16;

/// Instructions of lanes that are executed for an estimate at the most.
const MOST: u64 = 1 << 28;

/// An argument that says how often a loop is gone through.
struct Repeats {
    argument: usize,
    /// How much of the argument is a round.
    unit: u64,
}

impl Launch<'_> {
    /// Seconds that the launch takes, by what it would count; none where it faults.
    pub(super) fn estimated_seconds(&mut self, code: &Kernel) -> f64 {
        // Where a walk stands, and in which table, is in memory and not among the arguments.
        if self.entry.name == "chase_walk" {
            return self.estimate(code).map_or(0.0, |counts| self.seconds(&counts));
        }
        let key = self.key();
        let all = || self.entry.estimates.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all().get(&key).cloned();
        let counts = if let Some(known) = known {
            known
        } else {
            let counts = self.estimate(code).map(Arc::new);
            let mut all = self.entry.estimates.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(key, counts.clone());
            counts
        };
        counts.map_or(0.0, |counts| self.seconds(&counts))
    }

    /// Seconds that a launch takes that counts this.
    pub(super) fn seconds(&self, counts: &Counts) -> f64 {
        let shape = Shape {
            blocks: self.blocks(),
            threads: self.threads() as u32,
            shared: self.entry.shared() + self.geometry.shared,
            assembled: self.entry.assembled_for(self.profile),
        };
        Cost::of(counts, &shape, self.profile).seconds()
    }

    fn key(&self) -> Key {
        let arguments = self.arguments.iter().zip(&self.entry.parameters);
        let arguments = arguments.map(|(bytes, parameter)| {
            if !parameter.pointer {
                return bytes.clone();
            }
            let address = bytes[..].try_into().map(u64::from_le_bytes).unwrap_or_default();
            let left = self.memory.extent(address).map(|(start, len)| start + len - address);
            left.unwrap_or_default().to_le_bytes().to_vec()
        });
        Key { geometry: self.geometry, arguments: arguments.collect() }
    }

    /// What the launch counts, without doing anything; `None` where it faults.
    pub(super) fn estimate(&mut self, code: &Kernel) -> Option<Counts> {
        let blocks = u32::try_from(self.blocks()).ok()?;
        if blocks <= 2 * BLOCKS {
            return self.some_blocks(code, &spread(blocks, blocks));
        }
        let few = self.some_blocks(code, &spread(BLOCKS, blocks))?;
        let more = self.some_blocks(code, &spread(2 * BLOCKS, blocks))?;
        let ratio = f64::from(blocks - BLOCKS) / f64::from(BLOCKS);
        Some(few.extrapolated(&more, ratio))
    }

    /// What some blocks count, however often they go through their loop.
    fn some_blocks(&mut self, code: &Kernel, blocks: &[u32]) -> Option<Counts> {
        let all = self.arguments.clone();
        let Some(Repeats { argument, unit }) = self.repeats() else {
            return self.counted(code, blocks, &all);
        };
        let mut bytes = [0; 8];
        let len = all[argument].len();
        bytes[..len].copy_from_slice(&all[argument]);
        let asked = u64::from_le_bytes(bytes);
        let round = unit * ROUNDS;
        // What is left of whole rounds is done in each of the two, so that it counts once.
        let first = asked % round + round;
        if asked <= first + round {
            return self.counted(code, blocks, &all);
        }
        let mut with = |value: u64| {
            let mut arguments = all.clone();
            arguments[argument] = value.to_le_bytes()[..len].to_vec();
            self.counted(code, blocks, &arguments)
        };
        let (few, more) = (with(first)?, with(first + round)?);
        Some(few.extrapolated(&more, (asked - first) as f64 / round as f64))
    }

    fn counted(&mut self, code: &Kernel, blocks: &[u32], arguments: &[Vec<u8>]) -> Option<Counts> {
        let limits: Limits = self.limits(MOST);
        let parameters = super::text::parameters(code, arguments);
        let mut view = View::new(self.memory);
        let outcome = code.sample(&mut view, self.geometry, limits, &parameters, blocks);
        let mut counts = outcome.counts;
        for area in &mut counts.areas {
            // Some blocks, or a few steps of a walk, touch little of what all of them go through.
            area.touched = area.span.div_ceil(SECTOR);
        }
        outcome.stopped.is_none().then_some(counts)
    }

    fn repeats(&self) -> Option<Repeats> {
        let argument = match &self.entry.name[..] {
            "cache_read" | "atomics_add" => 2,
            "shared_read" | "intensity_sweep" => 1,
            "chase_walk" => 0,
            name if name.starts_with("fill_") => {
                // All threads together make so many elements in a round.
                return Some(Repeats { argument: 1, unit: self.blocks() * self.threads() });
            }
            _ => return None,
        };
        Some(Repeats { argument, unit: 1 })
    }
}

/// So many blocks of all, the first and the last among them.
fn spread(count: u32, blocks: u32) -> Vec<u32> {
    let last = u64::from(count.max(2) - 1);
    (0..count).map(|index| (u64::from(index) * u64::from(blocks - 1) / last) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_block_are_among_those_that_are_executed() {
        assert_eq!(spread(4, 1000), [0, 333, 666, 999]);
        assert_eq!(spread(3, 3), [0, 1, 2]);
        assert_eq!(spread(1, 1), [0]);
    }
}
