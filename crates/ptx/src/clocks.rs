//! What a kernel reads of the card's clocks.

use super::instruction::{Clock, Instruction};
use super::launch::Run;
use super::value::Value;
use super::warp::Warp;

/// Cycles between two looks at a clock; what matters is that clocks go on.
const LOOK: u64 = 32;

/// How far `%globaltimer` goes on at a time: cards count nanoseconds, and most show a new value about every
/// microsecond.
const REFRESH: u64 = 1024;

/// How far the cycle counters of two neighbouring multiprocessors lie apart: each has one of its own, and a
/// difference between two of them is no time.
const APART: u64 = 1_000_003;

/// The card's clocks at the moment when a kernel begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clocks {
    /// Cycles that the multiprocessors have counted.
    pub cycles: u64,
    /// Nanoseconds that have passed.
    pub nanoseconds: u64,
    /// Cycles of a nanosecond from here on.
    pub gigahertz: f64,
}

impl Default for Clocks {
    fn default() -> Self {
        Self { cycles: 0, nanoseconds: 0, gigahertz: 2.0 }
    }
}

impl Clocks {
    /// What a clock shows on a multiprocessor so many cycles into the kernel.
    fn shows(&self, clock: Clock, multiprocessor: u32, cycles: u64) -> u64 {
        let counted = self.cycles + u64::from(multiprocessor) * APART + cycles;
        match clock {
            Clock::Cycles => counted,
            Clock::CyclesHigh => counted >> 32,
            Clock::Nanoseconds => {
                let passed = self.nanoseconds + (cycles as f64 / self.gigahertz) as u64;
                passed / REFRESH * REFRESH
            }
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_and_nanoseconds_go_on_at_the_cards_clock_and_each_multiprocessor_counts_for_itself() {
        let clocks = Clocks { cycles: 5 << 32, nanoseconds: 10 * REFRESH, gigahertz: 1.5 };
        assert_eq!(clocks.shows(Clock::Cycles, 0, 100), (5 << 32) + 100);
        assert_eq!(clocks.shows(Clock::Cycles, 3, 100), (5 << 32) + 100 + 3 * APART);
        assert_eq!(clocks.shows(Clock::CyclesHigh, 0, 0), 5);
        // 1536 cycles are 1024 ns, and what lies between two refreshes is not seen.
        assert_eq!(clocks.shows(Clock::Nanoseconds, 3, 1536), 11 * REFRESH);
        assert_eq!(clocks.shows(Clock::Nanoseconds, 3, 1500), 10 * REFRESH);
    }
}
