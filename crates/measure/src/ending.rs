//! When a row has been sampled enough.
//!
//! Easy rows are known to a percent after ten samples, and hard ones are not after fifty: each gets what it
//! needs, up to the plan's limit.

use warpmark_record::{Ended, Seconds, stats};

use crate::plan::{FEWEST, LEAST, Sampling};

/// Half the width of the median's interval, as a share of the median, at which it is known well enough.
const PRECISE: f64 = 0.01;
/// How surely the median lies in that interval.
const CONFIDENCE: f64 = 0.95;

/// Over so many samples the noise is looked at, to see whether it still changes.
const WINDOW: usize = 15;
/// The share of the noise by which it may still change.
const STEADY: f64 = 0.05;

/// Decides after each sample whether the row has enough of them.
#[derive(Debug)]
pub(crate) struct Ending {
    sampling: Sampling,
    /// Whether every sample of the plan is wanted.
    whole: bool,
    /// The times of an iteration, of all calls since the last one that had another number of iterations:
    /// criterion's measuring phase has as many in each call, and its warm-up ever more.
    times: Vec<f64>,
    iterations: u64,
    spent: Seconds,
    /// The noise after each sample from the tenth on: the scaled median deviation over the median.
    noise: Vec<f64>,
}

impl Ending {
    pub(crate) fn new(sampling: Sampling, whole: bool) -> Self {
        let whole = whole || !sampling.may_end_early;
        let spent = Seconds(0.0);
        Self { sampling, whole, times: Vec::new(), iterations: 0, spent, noise: Vec::new() }
    }

    /// Takes note of a call of so many iterations that took `time` by the row's own clock and `wall` by the
    /// wall, and says whether the row may end with it, and why.
    pub(crate) fn after(&mut self, iterations: u64, time: Seconds, wall: Seconds) -> Option<Ended> {
        if iterations != self.iterations {
            *self = Self { iterations, ..Self::new(self.sampling, self.whole) };
            // The first call of the measuring phase may be taken for one of the warm-up's, and the last of
            // those for one of its: so the first of as many iterations is not counted.
            return None;
        }
        self.times.push(time.get() / iterations.max(1) as f64);
        self.spent = self.spent + wall;
        if self.whole || self.times.len() < FEWEST {
            return None;
        }
        let (median, deviation) = (stats::median(&self.times)?, stats::mad(&self.times)?);
        self.noise.push(if median > 0.0 { deviation / median } else { 0.0 });
        if self.spent < LEAST.min(self.sampling.target) {
            return None;
        }
        let interval = stats::median_interval(&self.times, CONFIDENCE)?;
        if interval.relative_half_width(median) <= PRECISE {
            return Some(Ended::Precise);
        }
        self.is_steady().then_some(Ended::NoiseSteady)
    }

    /// Whether the noise has stopped changing: more samples would narrow the interval with their number, and
    /// tell nothing new.
    fn is_steady(&self) -> bool {
        let Some(first) = self.noise.len().checked_sub(WINDOW) else { return false };
        let window = &self.noise[first..];
        let highest = window.iter().fold(0.0, |a: f64, b| a.max(*b));
        let lowest = window.iter().fold(f64::INFINITY, |a, b| a.min(*b));
        highest - lowest <= STEADY * highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Sampling = Sampling {
        samples: 50,
        target: Seconds(3.0),
        warm_up: Seconds(1.0),
        single: false,
        may_end_early: true,
    };

    /// After how many samples of 50 a row ends whose samples take these seconds, and why.
    fn ends(plan: Sampling, time: impl Fn(usize) -> f64) -> (usize, Option<Ended>) {
        let mut ending = Ending::new(plan, false);
        for (n, iterations) in [1, 2, 4, 8].into_iter().enumerate() {
            let time = Seconds(time(n));
            assert_eq!(ending.after(iterations, time, time), None);
        }
        for n in 0..plan.samples {
            let time = Seconds(time(n));
            if let Some(ended) = ending.after(9, time, time) {
                return (n + 1, Some(ended));
            }
        }
        (plan.samples, None)
    }

    #[test]
    fn an_even_row_ends_as_soon_as_it_has_the_least_time_and_samples() {
        // 1.2 s of 60 ms, and the first call of as many iterations does not count.
        assert_eq!(ends(PLAN, |_| 0.0601), (21, Some(Ended::Precise)));
        // Of 300 ms ten are more than that.
        assert_eq!(ends(PLAN, |_| 0.3), (11, Some(Ended::Precise)));
        let brief = Sampling { target: Seconds(0.5), ..PLAN };
        assert_eq!(ends(brief, |_| 0.01), (50, None), "half a second is less than the least");
    }

    #[test]
    fn a_row_whose_noise_is_even_ends_when_more_samples_tell_nothing_new() {
        // Five values in turn, 20 % apart: the interval stays wide, the noise what it is.
        let (samples, ended) = ends(PLAN, |n| 0.06 * (1.0 + 0.1 * (n * 2 % 5) as f64));
        assert_eq!(ended, Some(Ended::NoiseSteady));
        assert!((21..50).contains(&samples), "{samples}");
    }

    #[test]
    fn a_row_whose_noise_grows_goes_on_to_the_limit() {
        let sign = |n: usize| if n.is_multiple_of(2) { 1.0 } else { -1.0 };
        let (samples, ended) = ends(PLAN, |n| 0.06 * (1.0 + 0.02 * n as f64 * sign(n)));
        assert_eq!((samples, ended), (50, None));
    }

    #[test]
    fn a_plan_that_wants_every_sample_gets_them() {
        let whole = Sampling { may_end_early: false, ..PLAN };
        assert_eq!(ends(whole, |_| 0.06), (50, None));
    }
}
