//! Stopwatches.

use std::time::Instant;

use warpmark_record::{ClockKind, Seconds};

use crate::stamps::Counted;

/// What a stopwatch read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimedInterval {
    /// Time on the device's own clock; `None` where the wall is all there is.
    pub device: Option<Seconds>,
    /// Time on the wall, from the start to the moment the work was known to be done.
    pub wall: Seconds,
    /// The part of it until everything was launched; `None` where the wall is all there is, since work
    /// is done there as it is launched.
    pub launch: Option<Seconds>,
    /// What the device's own counters went on by, where it has any that could be read.
    pub counted: Option<Counted>,
}

impl TimedInterval {
    /// The two intervals as one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let both = |a: Option<Seconds>, b: Option<Seconds>| a.zip(b).map(|(a, b)| a + b);
        Self {
            device: both(self.device, other.device),
            wall: self.wall + other.wall,
            launch: both(self.launch, other.launch),
            counted: self.counted.zip(other.counted).map(|(a, b)| a.and(b)),
        }
    }
}

/// A stopwatch for one interval at a time: `start`, launches, `queued`, wait, `finish`.
pub trait Clock {
    /// Which kind of times it takes.
    fn kind(&self) -> ClockKind;

    /// Gets what it needs beside its times; called once nothing is held back, before the first interval.
    fn get_ready(&mut self) {}

    /// Starts the interval.
    fn start(&mut self) -> Result<(), ClockError>;

    /// Everything of this interval has been launched; a device clock marks its end here.
    fn queued(&mut self) -> Result<(), ClockError>;

    /// Everything of this interval is done; reads the interval.
    fn finish(&mut self) -> Result<TimedInterval, ClockError>;

    /// Why a device's clock does not read the device's counters beside its times, if that is so.
    fn lacks_counters(&self) -> Option<&str> {
        None
    }
}

/// Why a stopwatch could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The device refused.
    #[error("the device clock failed: {0}")]
    Device(String),
    /// `finish` without `start`.
    #[error("the clock was read before it was started")]
    NotStarted,
}

/// The host's monotonic clock.
#[derive(Debug, Default)]
pub struct WallClock {
    started: Option<Instant>,
}

impl Clock for WallClock {
    fn kind(&self) -> ClockKind {
        ClockKind::Wall
    }

    #[allow(clippy::disallowed_methods, reason = "the one home of the monotonic clock")]
    fn start(&mut self) -> Result<(), ClockError> {
        self.started = Some(Instant::now());
        Ok(())
    }

    fn queued(&mut self) -> Result<(), ClockError> {
        Ok(())
    }

    fn finish(&mut self) -> Result<TimedInterval, ClockError> {
        let wall = self.elapsed()?;
        self.started = None;
        Ok(TimedInterval { device: None, wall, launch: None, counted: None })
    }
}

impl WallClock {
    /// Time since the start of this interval.
    pub(crate) fn elapsed(&self) -> Result<Seconds, ClockError> {
        let started = self.started.ok_or(ClockError::NotStarted)?;
        Ok(Seconds(started.elapsed().as_secs_f64()))
    }
}

/// The moment as records write it: RFC 3339, UTC, to the second.
pub fn timestamp() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Wall time since some moment, for budgets and progress; rows are timed by a [`Clock`].
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[allow(clippy::disallowed_methods, reason = "the one home of the monotonic clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Seconds {
        Seconds(self.0.elapsed().as_secs_f64())
    }
}
