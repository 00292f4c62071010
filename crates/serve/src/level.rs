//! One level of load, and what it cannot be.

use std::time::Duration;

use warpmark_measure::WorkloadError;
use warpmark_record::load_test::Arrivals;

/// The soonest that a request may be taken back. Its user asks again at that moment: sooner, and the load
/// generator would fall behind its own callers, without end.
const SOONEST: Duration = Duration::from_micros(10);

/// One level of load.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// How requests come.
    pub arrivals: Arrivals,
    /// Load before anything is counted.
    pub warm_up: Duration,
    /// The window whose requests are counted.
    pub window: Duration,
    /// When a caller gives up; also the longest that is waited for the last answers.
    pub timeout: Duration,
    /// Requests that may wait; one more is turned away.
    pub queue_limit: usize,
    /// The time that an answer may take to be a good one.
    pub target: Option<Duration>,
    /// Callers that take their request back.
    pub cancellation: Option<Cancellation>,
}

/// Callers that take their request back, without being answered by then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cancellation {
    /// The share of requests, 0 to 1.
    pub share: f64,
    /// How long after they were due.
    pub after: Duration,
    /// The seed that chooses them.
    pub seed: u64,
}

/// Why a load could not be put on a service.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An invalid level.
    #[error("{what} = {value}: {advice}")]
    Level {
        /// Which of its values.
        what: &'static str,
        /// The value.
        value: String,
        /// What would be right.
        advice: &'static str,
    },
    /// The service failed many times in a row.
    #[error("the service failed {passes} times in a row, lastly with: {error}")]
    Broken {
        /// How often.
        passes: u32,
        /// The last failure.
        error: WorkloadError,
    },
    /// A histogram could not be made.
    #[error("times cannot be kept: {0}")]
    Histogram(String),
}

impl Level {
    /// Refuses invalid levels.
    pub fn check(&self) -> Result<(), ServeError> {
        let refuse = |what, value: String, advice| Err(ServeError::Level { what, value, advice });
        match self.arrivals {
            Arrivals::Closed { users: 0 } => {
                return refuse("users", "0".to_owned(), "at least one user must ask");
            }
            Arrivals::Closed { users } if users > self.queue_limit as u64 => {
                let advice = "the queue must have room for every user of a closed loop";
                return refuse("users", users.to_string(), advice);
            }
            Arrivals::Open { rate, .. } if !(rate > 0.0 && rate <= 1e6) => {
                return refuse("rate", rate.to_string(), "give requests a second, up to a million");
            }
            Arrivals::Closed { .. } | Arrivals::Open { .. } => {}
        }
        if self.window.is_zero() || self.window > Duration::from_hours(24) {
            let advice = "give a time to load it for, up to a day";
            return refuse("window", format!("{:?}", self.window), advice);
        }
        if self.timeout.is_zero() {
            return refuse("timeout", "0".to_owned(), "nobody would wait for an answer");
        }
        match self.cancellation {
            Some(Cancellation { share, .. }) if !(0.0..=1.0).contains(&share) => {
                refuse("cancelled share", share.to_string(), "give a share from 0 to 1")
            }
            Some(Cancellation { after, .. }) if after < SOONEST => {
                let advice = "take a request back no sooner than 10 µs after it was asked";
                refuse("cancelled after", format!("{after:?}"), advice)
            }
            _ => Ok(()),
        }
    }

    /// The end of the window.
    pub(crate) fn end(&self) -> Duration {
        self.warm_up + self.window
    }

    /// The moment after which no answer is waited for.
    pub(crate) fn last_call(&self) -> Duration {
        self.end() + self.timeout
    }
}
