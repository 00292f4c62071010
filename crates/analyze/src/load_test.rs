//! What the levels of load on one service say together.

use warpmark_record::load_test::{Arrivals, LoadTest};
use warpmark_record::stats::StatsError;
use warpmark_record::{Record, Seconds};

/// The tail by which a service is judged.
pub const TAIL: f64 = 0.95;

/// The load of a row, if it is one.
pub fn of(record: &Record) -> Option<&LoadTest> {
    record.load_test.as_deref()
}

/// Why a level does not keep to its target, or that it does.
#[derive(Debug, Clone, PartialEq)]
pub enum Kept {
    /// p95 is within the target, and nothing was lost.
    Yes,
    /// It is not, or something was lost.
    No,
    /// Too few answers to speak about the tail.
    Unknown(StatsError),
}

/// Whether a level keeps to a target: p95 from the moment a request was due, and no error.
pub fn keeps(load: &LoadTest, target: Seconds) -> Kept {
    // Where nobody asked in the window there is no rate of errors, and too few answers to judge by.
    if load.requests.error_rate().is_some_and(|rate| rate > 0.0) {
        return Kept::No;
    }
    match load.latency.percentile(TAIL) {
        Ok(tail) if tail <= target => Kept::Yes,
        Ok(_) => Kept::No,
        Err(error) => Kept::Unknown(error),
    }
}

/// The most users of a closed loop that a service serves within a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// The highest level that keeps to it, if one does.
    pub users: Option<u64>,
    /// The lowest level that does not, if one was tried.
    pub too_many: Option<u64>,
    /// Levels that had too few answers to be judged.
    pub unknown: usize,
}

/// Reads the levels of one service. Levels above one that fails do not count, even where they keep to
/// the target by luck.
pub fn capacity<'a>(levels: impl IntoIterator<Item = &'a LoadTest>, target: Seconds) -> Capacity {
    let closed = |load: &'a LoadTest| match load.arrivals {
        Arrivals::Closed { users } => Some((users, load)),
        Arrivals::Open { .. } => None,
    };
    let mut levels: Vec<(u64, &LoadTest)> = levels.into_iter().filter_map(closed).collect();
    levels.sort_by_key(|(users, _)| *users);
    let mut capacity = Capacity { users: None, too_many: None, unknown: 0 };
    for (users, load) in levels {
        match keeps(load, target) {
            Kept::Yes => capacity.users = Some(users),
            Kept::No => {
                capacity.too_many = Some(users);
                break;
            }
            Kept::Unknown(_) => capacity.unknown += 1,
        }
    }
    capacity
}

#[cfg(test)]
mod tests {
    use warpmark_record::load_test::{Batching, Histogram, Passes, Queue, Requests};

    use super::*;

    fn level(users: u64, seconds: f64, answers: u64, failed: u64) -> LoadTest {
        let latency = Histogram {
            buckets: vec![((seconds * 1e9) as u64, answers)],
            sum_s: seconds * answers as f64,
            max_s: seconds,
        };
        LoadTest {
            arrivals: Arrivals::Closed { users },
            batching: Batching::Dynamic { max_batch: 1, max_queue_delay_s: 0.0 },
            warm_up_s: 1.0,
            window_s: 10.0,
            drain_s: 0.0,
            timeout_s: None,
            queue_limit: 1000,
            requests: Requests {
                asked: answers + failed,
                completed: answers,
                failed,
                ..Requests::default()
            },
            answered_in_window: answers,
            good_in_window: None,
            target_s: None,
            tokens_per_request: None,
            passes: Passes::default(),
            queue: Queue::default(),
            waiting: latency.clone(),
            latency,
            first_token: None,
            between_tokens: None,
        }
    }

    #[test]
    fn the_capacity_is_the_highest_level_below_the_first_that_is_too_slow() {
        let levels = [
            level(1, 0.1, 500, 0),
            level(8, 0.4, 500, 0),
            level(4, 0.2, 500, 0),
            level(16, 0.3, 500, 0),
        ];
        let found = capacity(&levels, Seconds(0.35));
        assert_eq!(found, Capacity { users: Some(4), too_many: Some(8), unknown: 0 });
        let all = capacity(&levels, Seconds(1.0));
        assert_eq!(all, Capacity { users: Some(16), too_many: None, unknown: 0 });
    }

    #[test]
    fn an_error_breaks_a_level_and_too_few_answers_leave_it_unknown() {
        let levels = [level(1, 0.1, 10, 0), level(2, 0.1, 500, 0), level(4, 0.1, 500, 1)];
        let found = capacity(&levels, Seconds(1.0));
        assert_eq!(found, Capacity { users: Some(2), too_many: Some(4), unknown: 1 });
    }

    #[test]
    fn a_window_in_which_nobody_asked_says_nothing() {
        // All users were still waiting for what they had asked in the warm-up.
        let levels = [level(1, 0.1, 500, 0), level(2, 0.0, 0, 0)];
        let found = capacity(&levels, Seconds(1.0));
        assert_eq!(found, Capacity { users: Some(1), too_many: None, unknown: 1 });
    }
}
