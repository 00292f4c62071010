//! How a kernel reads the clocks of the card.

use super::instruction::{Clock, Instruction};
use super::launch::Run;
use super::value::Value;
use super::warp::Warp;

/// Cycles between two looks at a clock; what matters is that clocks go on.
const LOOK: u64 = 32;

impl Run<'_, '_> {
    /// The multiprocessor that the block runs on.
    pub(super) fn multiprocessor(&self) -> u32 {
        self.block % self.limits.multiprocessors.max(1)
    }

    pub(super) fn read_clock(&mut self, warp: &mut Warp, i: &Instruction, mask: u32, clock: Clock) {
        self.cycles += LOOK;
        let told = self.limits.clocks.shows(clock, self.multiprocessor(), self.cycles);
        if i.offset == 8 {
            u64::write(&mut warp.rows, i.d, [told; 32], mask);
        } else {
            u32::write(&mut warp.rows, i.d, [told as u32; 32], mask);
        }
    }
}
