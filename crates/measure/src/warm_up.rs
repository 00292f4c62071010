//! Warm-up until times stop falling.
//!
//! Caches fill, clocks ramp, allocators and code paths are touched for the first time; a fixed number
//! of iterations is too few for one workload and a waste for another. Batches of iterations run until
//! the median of the last few is where the median of the few before them was.

use warpmark_record::{Seconds, stats};

/// How many batches are compared with as many before them.
const WINDOW: usize = 4;
/// How far the two medians may lie apart.
const CONVERGED: f64 = 0.02;
/// The wall time a batch should take: long against the clock's resolution, short against the ramp.
const BATCH: Seconds = Seconds(0.01);
/// The most iterations in a batch, so that an empty workload or a clock that stands still ends too.
const LARGEST_BATCH: u64 = 1 << 20;

/// The state of a warm-up: which batch to run next, and when to stop.
#[derive(Debug)]
pub struct WarmUp {
    limit: Seconds,
    single: bool,
    /// Whether it goes on to its limit, converged or not.
    whole: bool,
    spent: Seconds,
    batch: u64,
    batches: usize,
    times: Vec<f64>,
}

impl WarmUp {
    /// A warm-up that takes about `limit` at most. A `single` one runs one iteration at a time.
    pub fn new(limit: Seconds, single: bool) -> Self {
        Self {
            limit,
            single,
            whole: false,
            spent: Seconds(0.0),
            batch: 1,
            batches: 0,
            times: Vec::new(),
        }
    }

    /// The wall time of a warm-up whose iterations all take `iteration`: for a plan, the least that there is.
    pub fn expected(limit: Seconds, single: bool, iteration: Seconds) -> Seconds {
        // A guess of nothing is taken for what no clock resolves.
        let iteration = iteration.max(Seconds(1e-9));
        let mut warm_up = Self::new(limit, single);
        while let Some(iterations) = warm_up.next_batch() {
            warm_up.ran(iteration * iterations as f64);
        }
        warm_up.spent()
    }

    /// A warm-up that lasts `limit` whether times converge or not.
    pub fn of_length(limit: Seconds) -> Self {
        Self { whole: true, ..Self::new(limit, false) }
    }

    /// The iterations of the next batch, or `None` when the warm-up is over. It runs at least one.
    pub fn next_batch(&self) -> Option<u64> {
        let over =
            self.batches > 0 && (self.spent >= self.limit || !self.whole && self.converged());
        (!over).then_some(self.batch)
    }

    /// Takes note of a batch that took `wall`.
    pub fn ran(&mut self, wall: Seconds) {
        self.spent = self.spent + wall;
        self.batches += 1;
        if !self.single && wall < BATCH && self.batch < LARGEST_BATCH {
            // Too short to be judged by, and batches of different lengths are not comparable.
            self.batch *= 2;
            self.times.clear();
            return;
        }
        self.times.push(wall.get() / self.batch as f64);
    }

    /// Whether the last batches took as long as those before them.
    pub fn converged(&self) -> bool {
        // A batch that takes a good part of the limit leaves no room for two windows: then the last
        // two batches are compared.
        let slow = self
            .times
            .last()
            .is_some_and(|time| time * self.batch as f64 * (2 * WINDOW) as f64 > self.limit.get());
        let window = if slow || self.single { 1 } else { WINDOW };
        let Some(first) = self.times.len().checked_sub(2 * window) else {
            return false;
        };
        let (before, after) = self.times[first..].split_at(window);
        match (stats::median(before), stats::median(after)) {
            (Some(before), Some(after)) => (after - before).abs() <= CONVERGED * before.abs(),
            _ => false,
        }
    }

    /// Wall time of an iteration in the last batch that was long enough to be judged by.
    pub fn iteration(&self) -> Option<Seconds> {
        self.times.last().copied().map(Seconds)
    }

    /// Wall time spent so far.
    pub fn spent(&self) -> Seconds {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(mut warm_up: WarmUp, mut time: impl FnMut(usize, u64) -> f64) -> (WarmUp, usize) {
        let mut batches = 0;
        while let Some(iterations) = warm_up.next_batch() {
            warm_up.ran(Seconds(time(batches, iterations)));
            batches += 1;
            assert!(batches < 100_000, "the warm-up does not end");
        }
        (warm_up, batches)
    }

    #[test]
    fn it_stops_when_times_are_level() {
        let (warm_up, batches) = run(WarmUp::new(Seconds(10.0), false), |_, n| 0.02 * n as f64);
        assert!(warm_up.converged());
        assert_eq!(batches, 2 * WINDOW);
    }

    #[test]
    fn what_is_expected_of_a_warm_up_is_what_level_times_take() {
        // 1, 2, 4 and 8 of a millisecond are too short to be judged by; eight batches of 16 are compared.
        let expected = WarmUp::expected(Seconds(1.0), false, Seconds(1e-3));
        assert!((expected.get() - (15e-3 + 8.0 * 16e-3)).abs() < 1e-9, "{expected}");
        let slow = WarmUp::expected(Seconds(1.0), false, Seconds(0.7));
        assert!((slow.get() - 1.4).abs() < 1e-9, "{slow}");
        assert!(WarmUp::expected(Seconds(1.0), false, Seconds(0.0)).get() < 0.5);
    }

    #[test]
    fn it_waits_for_a_falling_ramp_to_end() {
        let (warm_up, batches) =
            run(WarmUp::new(Seconds(100.0), false), |i, _| 0.02 + 0.1 * (-(i as f64) / 10.0).exp());
        assert!(warm_up.converged());
        assert!(batches > 20, "{batches}");
    }

    #[test]
    fn it_gives_up_at_the_limit_and_says_that_it_did_not_settle() {
        let mut time = 0.02;
        let (warm_up, _) = run(WarmUp::new(Seconds(1.0), false), |_, _| {
            time *= 1.1;
            time
        });
        assert!(!warm_up.converged());
        assert!(warm_up.spent() >= Seconds(1.0));
    }

    #[test]
    fn one_of_a_given_length_goes_on_when_times_are_level() {
        let (warm_up, _) = run(WarmUp::of_length(Seconds(3.0)), |_, n| 0.02 * n as f64);
        assert!(warm_up.converged());
        assert!((3.0..3.1).contains(&warm_up.spent().get()), "{:?}", warm_up.spent());
        assert_eq!(warm_up.iteration(), Some(Seconds(0.02)));
    }

    #[test]
    fn short_iterations_are_batched() {
        let (warm_up, _) = run(WarmUp::new(Seconds(1.0), false), |_, n| 1e-6 * n as f64);
        assert!(warm_up.converged());
        assert!(warm_up.batch as f64 * 1e-6 >= BATCH.get());
    }

    #[test]
    fn at_least_one_iteration_runs_without_any_time() {
        let (_, batches) = run(WarmUp::new(Seconds(0.0), true), |_, _| 5.0);
        assert_eq!(batches, 1);
    }

    #[test]
    fn a_clock_that_stands_still_does_not_hang_it() {
        let (_, batches) = run(WarmUp::new(Seconds(1.0), false), |_, _| 0.0);
        assert!(batches < 100, "{batches}");
    }
}
