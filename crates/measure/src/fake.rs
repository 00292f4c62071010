//! A clock made of numbers, for tests of everything that measures.

use std::collections::VecDeque;

use warpmark_record::{ClockKind, Seconds};

use crate::clock::{Clock, ClockError, TimedInterval};

/// A clock that reads the intervals it was given, then repeats the last one.
#[derive(Debug, Clone)]
pub struct FakeClock {
    intervals: VecDeque<TimedInterval>,
    running: bool,
}

impl FakeClock {
    /// A clock that will read these wall times, and the same on the device.
    ///
    /// Without any it reads zero for ever.
    pub fn reading(intervals: impl IntoIterator<Item = f64>) -> Self {
        let intervals = intervals
            .into_iter()
            .map(|time| TimedInterval {
                device: Some(Seconds(time)),
                wall: Seconds(time),
                launch: None,
                counted: None,
            })
            .collect();
        Self { intervals, running: false }
    }
}

impl Clock for FakeClock {
    fn kind(&self) -> ClockKind {
        ClockKind::Fake
    }

    fn start(&mut self) -> Result<(), ClockError> {
        self.running = true;
        Ok(())
    }

    fn queued(&mut self) -> Result<(), ClockError> {
        Ok(())
    }

    fn finish(&mut self) -> Result<TimedInterval, ClockError> {
        if !std::mem::take(&mut self.running) {
            return Err(ClockError::NotStarted);
        }
        let next = match self.intervals.len() {
            0 | 1 => self.intervals.front().copied(),
            _ => self.intervals.pop_front(),
        };
        Ok(next.unwrap_or(TimedInterval {
            device: Some(Seconds(0.0)),
            wall: Seconds(0.0),
            launch: None,
            counted: None,
        }))
    }
}
