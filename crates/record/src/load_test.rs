//! What requests met that came to a loaded model one after the other or side by side.

use serde::{Deserialize, Serialize};

use crate::stats::{self, StatsError};
use crate::units::Seconds;

/// One level of load on one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadTest {
    /// How requests came.
    pub arrivals: Arrivals,
    /// How they were put together.
    pub batching: Batching,
    /// Seconds of load before the window; what was asked in them is not counted.
    pub warm_up_s: f64,
    /// Seconds in which requests that were asked are counted.
    pub window_s: f64,
    /// Seconds after the window in which its last requests were still answered.
    pub drain_s: f64,
    /// Seconds after which a caller gives up, if callers do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
    /// Requests that may wait; one more is turned away.
    pub queue_limit: u64,
    /// What became of the window's requests.
    pub requests: Requests,
    /// Answers that came within the window, whenever they had been asked for.
    pub answered_in_window: u64,
    /// The same, of those that kept to the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_in_window: Option<u64>,
    /// The time that an answer may take, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_s: Option<f64>,
    /// Tokens written for each request; absent where an answer is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_request: Option<u64>,
    /// What the device did in the window.
    pub passes: Passes,
    /// Requests that waited, over the window.
    pub queue: Queue,
    /// From the moment a request was due to its answer: what its caller sees.
    pub latency: Histogram,
    /// From the moment a request was due to the beginning of its first pass.
    pub waiting: Histogram,
    /// From the moment a request was due to its first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token: Option<Histogram>,
    /// From each token of a request to its next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between_tokens: Option<Histogram>,
}

/// How requests came.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loop", rename_all = "snake_case")]
pub enum Arrivals {
    /// Each of so many users asks again as soon as it has its answer.
    Closed {
        /// Users.
        users: u64,
    },
    /// Requests come by a Poisson process of this rate, whatever the answers do.
    Open {
        /// Requests a second.
        rate: f64,
        /// The seed of the arrivals.
        seed: u64,
    },
}

/// How requests were put together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "batching", rename_all = "snake_case")]
pub enum Batching {
    /// A pass begins when this many wait, or when the first has waited for `delay_s`.
    Dynamic {
        /// The most requests of a pass.
        #[serde(rename = "most")]
        max_batch: u64,
        /// The longest that a request waits for company.
        #[serde(rename = "delay_s")]
        max_queue_delay_s: f64,
    },
    /// A request joins between two tokens of the others and leaves after its last.
    Continuous {
        /// The most requests side by side.
        slots: u64,
    },
}

/// What became of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// All that were asked.
    pub asked: u64,
    /// Answered in time.
    pub completed: u64,
    /// The service failed.
    pub failed: u64,
    /// The caller had given up when the answer came, or would have come.
    pub timed_out: u64,
    /// The caller took it back.
    pub cancelled: u64,
    /// Turned away at a full queue.
    pub rejected: u64,
    /// Without an answer when the test ended.
    pub unfinished: u64,
}

impl Requests {
    /// The share that got no answer through the service's fault: failed, timed out, rejected. `None`
    /// where nothing was asked.
    pub fn error_rate(&self) -> Option<f64> {
        let errors = self.failed.saturating_add(self.timed_out).saturating_add(self.rejected);
        (self.asked > 0).then(|| errors as f64 / self.asked as f64)
    }
}

/// What the device did in the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Passes {
    /// Passes: batches, or reads of prompts and steps.
    pub count: u64,
    /// Requests in them, each as often as it was in one.
    pub requests: u64,
    /// Seconds in passes.
    pub busy_s: f64,
    /// Seconds in which nothing was to do.
    pub idle_s: f64,
    /// Seconds of the load generator's own: everything else.
    pub generator_s: f64,
}

/// Requests that waited, over the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    /// The mean over time.
    pub mean: f64,
    /// The most.
    pub most: u64,
}

/// A distribution of times in buckets whose width is a thousandth of their value: as many as it may
/// be, it stays small.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// The middle of each bucket that holds anything, in nanoseconds, and how many it holds; rising.
    pub buckets: Vec<(u64, u64)>,
    /// The sum of all times, exact.
    pub sum_s: f64,
    /// The longest, exact.
    pub max_s: f64,
}

impl Histogram {
    /// How many times it holds.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// The mean; `None` where it is empty.
    pub fn mean(&self) -> Option<Seconds> {
        let count = self.count();
        (count > 0).then(|| Seconds(self.sum_s / count as f64))
    }

    /// The quantile by nearest rank.
    ///
    /// # Errors
    /// [`StatsError`] where it holds too few times for that tail, as [`stats::samples_needed`] has it.
    pub fn percentile(&self, quantile: f64) -> Result<Seconds, StatsError> {
        let (count, needed) = (self.count(), stats::samples_needed(quantile)? as u64);
        if count < needed {
            return Err(StatsError::TooFew {
                quantile,
                needed: needed as usize,
                n: count as usize,
            });
        }
        let rank = ((quantile * count as f64).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        for (nanoseconds, held) in &self.buckets {
            seen = held.saturating_add(seen);
            if seen >= rank {
                return Ok(Seconds(*nanoseconds as f64 * 1e-9));
            }
        }
        Ok(Seconds(self.max_s))
    }
}

impl LoadTest {
    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.answered_in_window as f64 / self.window_s
    }

    /// Answers a second that kept to the target, if one was given.
    pub fn goodput(&self) -> Option<f64> {
        self.good_in_window.map(|good| good as f64 / self.window_s)
    }

    /// Tokens a second, where answers are text.
    pub fn tokens_per_second(&self) -> Option<f64> {
        self.tokens_per_request.map(|tokens| tokens as f64 * self.rate())
    }

    /// How full passes were: their mean number of requests over the most there could be.
    pub fn batch_efficiency(&self) -> Option<f64> {
        let most = match self.batching {
            Batching::Dynamic { max_batch, .. } => max_batch,
            Batching::Continuous { slots } => slots,
        };
        let mean = self.passes.requests as f64 / self.passes.count as f64;
        (self.passes.count > 0 && most > 0).then(|| mean / most as f64)
    }

    /// The load generator's own time for each request of the window.
    pub fn overhead_per_request(&self) -> Option<Seconds> {
        let asked = self.requests.asked;
        (asked > 0).then(|| Seconds(self.passes.generator_s / asked as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(buckets: Vec<(u64, u64)>) -> Histogram {
        let sum = buckets.iter().map(|(value, count)| (value * count) as f64 * 1e-9).sum();
        let max = buckets.last().map_or(0.0, |(value, _)| *value as f64 * 1e-9);
        Histogram { buckets, sum_s: sum, max_s: max }
    }

    #[test]
    fn a_percentile_is_the_value_of_its_rank_and_a_tail_needs_enough_of_them() {
        let times = histogram(vec![(1_000, 100), (2_000, 90), (9_000, 10)]);
        let micros = |quantile| (times.percentile(quantile).unwrap().0 * 1e6).round();
        assert_eq!([micros(0.5) as u64, micros(0.95) as u64], [1, 2]);
        assert!(histogram(vec![(1_000, 8)]).percentile(0.99).is_err());
        assert!(Histogram::default().percentile(0.5).is_err());
        assert!((times.mean().unwrap().0 - 1.85e-6).abs() < 1e-12);
    }

    #[test]
    fn a_request_that_was_taken_back_is_no_error_and_one_turned_away_is() {
        let requests = Requests {
            asked: 10,
            completed: 6,
            rejected: 1,
            timed_out: 1,
            cancelled: 2,
            ..Requests::default()
        };
        assert_eq!(requests.error_rate(), Some(0.2));
        assert_eq!(Requests::default().error_rate(), None);
    }
}
