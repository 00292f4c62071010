//! What is counted of a level while it runs. Its size does not depend on the number of requests.

use std::time::Duration;

use hdrhistogram::Histogram as Buckets;
use warpmark_record::load_test::{Histogram, Passes, Queue, Requests};

use crate::level::{Level, ServeError};

/// Significant digits of a bucket.
const DIGITS: u8 = 3;

/// No level lasts longer: two days, in nanoseconds.
const LONGEST: u64 = 2 * 86_400 * 1_000_000_000;

/// Times on their way into a [`Histogram`].
pub(crate) struct Times {
    buckets: Buckets<u64>,
    sum_s: f64,
    max_s: f64,
}

impl Times {
    fn new() -> Result<Self, ServeError> {
        let buckets = Buckets::new_with_max(LONGEST, DIGITS);
        let buckets = buckets.map_err(|error| ServeError::Histogram(error.to_string()))?;
        Ok(Self { buckets, sum_s: 0.0, max_s: 0.0 })
    }

    fn add(&mut self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.buckets.saturating_record(nanoseconds);
        self.sum_s += time.as_secs_f64();
        self.max_s = self.max_s.max(time.as_secs_f64());
    }

    fn finish(&self) -> Histogram {
        let middle = |value| self.buckets.median_equivalent(value);
        let held = self.buckets.iter_recorded();
        let buckets = held.map(|step| (middle(step.value_iterated_to()), step.count_at_value()));
        Histogram { buckets: buckets.collect(), sum_s: self.sum_s, max_s: self.max_s }
    }
}

/// Everything that is counted of a level.
pub(crate) struct Tally {
    from: Duration,
    to: Duration,
    target: Option<Duration>,
    pub(crate) requests: Requests,
    answered: u64,
    good: u64,
    passes: Passes,
    depth: usize,
    depth_since: Duration,
    depth_area: f64,
    deepest: usize,
    latency: Times,
    waiting: Times,
    first_token: Times,
    between_tokens: Times,
}

/// What a level came to.
pub(crate) struct Tallied {
    pub(crate) requests: Requests,
    pub(crate) answered: u64,
    pub(crate) good: Option<u64>,
    pub(crate) passes: Passes,
    pub(crate) queue: Queue,
    pub(crate) latency: Histogram,
    pub(crate) waiting: Histogram,
    pub(crate) first_token: Histogram,
    pub(crate) between_tokens: Histogram,
}

impl Tally {
    pub(crate) fn new(level: &Level) -> Result<Self, ServeError> {
        Ok(Self {
            from: level.warm_up,
            to: level.end(),
            target: level.target,
            requests: Requests::default(),
            answered: 0,
            good: 0,
            passes: Passes::default(),
            depth: 0,
            depth_since: Duration::ZERO,
            depth_area: 0.0,
            deepest: 0,
            latency: Times::new()?,
            waiting: Times::new()?,
            first_token: Times::new()?,
            between_tokens: Times::new()?,
        })
    }

    /// Whether a moment lies in the window.
    pub(crate) fn counts(&self, moment: Duration) -> bool {
        (self.from..self.to).contains(&moment)
    }

    /// The part of a span that lies in the window, in seconds.
    fn within(&self, begin: Duration, end: Duration) -> f64 {
        end.min(self.to).saturating_sub(begin.max(self.from)).as_secs_f64()
    }

    /// So many requests wait from `moment` on.
    pub(crate) fn queued(&mut self, depth: usize, moment: Duration) {
        // A caller who gave up in the middle of a pass asked again then, and is heard of after it.
        let moment = moment.max(self.depth_since);
        self.depth_area += self.depth as f64 * self.within(self.depth_since, moment);
        if self.counts(moment) {
            self.deepest = self.deepest.max(depth);
        }
        self.depth = depth;
        self.depth_since = moment;
    }

    /// The device was busy with so many requests.
    pub(crate) fn passed(&mut self, begin: Duration, end: Duration, requests: usize) {
        self.passes.busy_s += self.within(begin, end);
        if self.counts(begin) {
            self.passes.count += 1;
            self.passes.requests += requests as u64;
        }
    }

    /// Nothing was to do.
    pub(crate) fn idled(&mut self, begin: Duration, end: Duration) {
        self.passes.idle_s += self.within(begin, end);
    }

    /// The first pass of a request began.
    pub(crate) fn taken(&mut self, due: Duration, moment: Duration) {
        if self.counts(due) {
            self.waiting.add(moment.saturating_sub(due));
        }
    }

    /// A request was answered in time.
    pub(crate) fn completed(&mut self, due: Duration, moment: Duration) {
        let latency = moment.saturating_sub(due);
        if self.counts(due) {
            self.requests.completed += 1;
            self.latency.add(latency);
        }
        if self.counts(moment) {
            self.answered += 1;
            self.good += u64::from(self.target.is_some_and(|target| latency <= target));
        }
    }

    /// The first token of a request is there.
    pub(crate) fn first_token(&mut self, due: Duration, moment: Duration) {
        if self.counts(due) {
            self.first_token.add(moment.saturating_sub(due));
        }
    }

    /// A later token of a request is there.
    pub(crate) fn next_token(&mut self, due: Duration, gap: Duration) {
        if self.counts(due) {
            self.between_tokens.add(gap);
        }
    }

    /// What it all came to.
    pub(crate) fn finish(mut self) -> Tallied {
        self.queued(0, self.to.max(self.depth_since));
        let window = self.to.saturating_sub(self.from).as_secs_f64();
        let mut passes = self.passes;
        passes.generator_s = (window - passes.busy_s - passes.idle_s).max(0.0);
        Tallied {
            requests: self.requests,
            answered: self.answered,
            good: self.target.map(|_| self.good),
            passes,
            queue: Queue { mean: self.depth_area / window, most: self.deepest as u64 },
            latency: self.latency.finish(),
            waiting: self.waiting.finish(),
            first_token: self.first_token.finish(),
            between_tokens: self.between_tokens.finish(),
        }
    }
}
