//! One timed interval of a workload under a clock: launches, and the wait for them.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use warpmark_record::Seconds;

use crate::clock::{Clock, TimedInterval};
use crate::workload::{Blocking, Workload, WorkloadError};

/// Below this time of an iteration the device is held back while launches are queued: a launch takes
/// the host 2 to 10 µs, and libraries that make several for one call take some more.
const BLOCKED_BELOW: Seconds = Seconds(50e-6);

/// Iterations that are queued on a held device at once, and how few where that many do not fit its queue. A
/// driver queues about a thousand launches and then lets the next one wait, which behind a blocking
/// kernel would be for ever; an iteration may be several, and large arguments make the queue shorter.
const BLOCKED_AT_ONCE: [u64; 2] = [200, 50];

/// How often a part is taken held before it is taken as it comes: a machine that was suspended is no
/// reason to give up, and what waits behind a blocking kernel does so every time.
const ATTEMPTS: u32 = 2;

/// How launches of a workload reach the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LaunchMode {
    /// Launches run as soon as they arrive.
    Direct,
    /// Launches wait until those of their part, of so many iterations at most, are all queued.
    Blocked(u64),
    /// They would have been held, but the blocking kernel gave up before they were queued.
    BlockingFailed,
    /// They were held at first, until the blocking kernel gave up twice on one part.
    GaveUp,
}

impl LaunchMode {
    /// What a row says whose launches are too short to be timed as they come, and that were.
    pub(crate) fn caveat(self) -> Option<&'static str> {
        match self {
            Self::Direct | Self::Blocked(_) => None,
            Self::BlockingFailed => Some(
                "the device could not be held back while launches were queued, so that the host's pace is \
                 in its times",
            ),
            Self::GaveUp => Some(
                "the device went on twice before its launches were queued and was not held back from there \
                 on, so that the host's pace is in the later times",
            ),
        }
    }
}

/// How intervals of a warm workload are to be taken, whose iteration takes `iteration` by the wall: held
/// where it is short and the workload can be held, which is tried.
pub(crate) fn launch_mode(
    workload: &mut dyn Workload,
    clock: &mut dyn Clock,
    iteration: Option<Seconds>,
) -> Result<LaunchMode, WorkloadError> {
    let short = iteration.is_some_and(|time| time < BLOCKED_BELOW);
    if !short || workload.blocking().is_none() {
        return Ok(LaunchMode::Direct);
    }
    for at_once in BLOCKED_AT_ONCE {
        workload.prepare(at_once)?;
        if blocked(workload, clock, at_once)?.1 {
            return Ok(LaunchMode::Blocked(at_once));
        }
    }
    Ok(LaunchMode::BlockingFailed)
}

/// Takes one interval of `iterations`. Where the blocking kernel gives up, the part is taken once more;
/// after a second time this one and all later ones are taken as they come, which `mode` then says.
pub(crate) fn time_interval(
    workload: &mut dyn Workload,
    clock: &mut dyn Clock,
    iterations: u64,
    mode: &mut LaunchMode,
) -> Result<TimedInterval, WorkloadError> {
    workload.prepare(iterations)?;
    let mut total: Option<TimedInterval> = None;
    let mut left = iterations;
    while left > 0 {
        let (interval, part) = match *mode {
            LaunchMode::Blocked(at_once) => {
                let part = left.min(at_once);
                let Some(interval) = patiently(workload, clock, part, left)? else {
                    *mode = LaunchMode::GaveUp;
                    continue;
                };
                (interval, part)
            }
            _ => (direct(workload, clock, left)?, left),
        };
        total = Some(total.map_or(interval, |total| total.and(interval)));
        left -= part;
    }
    total.ok_or_else(|| {
        WorkloadError::Failed("an interval of no iterations was asked for".to_owned())
    })
}

/// A blocked interval of `part` iterations; `None` where the blocking kernel gave up each time. The
/// workload is then ready for the `left` ones again.
fn patiently(
    workload: &mut dyn Workload,
    clock: &mut dyn Clock,
    part: u64,
    left: u64,
) -> Result<Option<TimedInterval>, WorkloadError> {
    for _ in 0..ATTEMPTS {
        let (interval, lasted) = blocked(workload, clock, part)?;
        if lasted {
            return Ok(Some(interval));
        }
        workload.prepare(left)?;
    }
    Ok(None)
}

fn direct(
    workload: &mut dyn Workload,
    clock: &mut dyn Clock,
    iterations: u64,
) -> Result<TimedInterval, WorkloadError> {
    clock.start().map_err(WorkloadError::failed)?;
    launch(workload, clock, iterations)?;
    workload.wait()?;
    clock.finish().map_err(WorkloadError::failed)
}

/// An interval that begins when all of it is queued, and whether it did.
fn blocked(
    workload: &mut dyn Workload,
    clock: &mut dyn Clock,
    iterations: u64,
) -> Result<(TimedInterval, bool), WorkloadError> {
    block(workload)?;
    // Whatever happens in between, a panic of a library too, the queue is let go.
    let launched = catch_unwind(AssertUnwindSafe(|| {
        clock.start().map_err(WorkloadError::failed)?;
        launch(workload, clock, iterations)
    }));
    workload.blocking().map(Blocking::unblock);
    launched.unwrap_or_else(|panic| resume_unwind(panic))?;
    workload.wait()?;
    let interval = clock.finish().map_err(WorkloadError::failed)?;
    Ok((interval, workload.blocking().is_some_and(Blocking::lasted)))
}

fn block(workload: &dyn Workload) -> Result<(), WorkloadError> {
    workload.blocking().map_or(Ok(()), Blocking::block)
}

fn launch(
    workload: &mut dyn Workload,
    clock: &mut dyn Clock,
    iterations: u64,
) -> Result<(), WorkloadError> {
    for _ in 0..iterations {
        workload.launch()?;
    }
    clock.queued().map_err(WorkloadError::failed)
}

#[cfg(test)]
#[path = "interval_tests.rs"]
mod tests;
