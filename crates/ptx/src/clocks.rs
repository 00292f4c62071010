//! What a kernel reads of the card's clocks.

use super::instruction::Clock;

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
    pub(super) fn shows(&self, clock: Clock, multiprocessor: u32, cycles: u64) -> u64 {
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
