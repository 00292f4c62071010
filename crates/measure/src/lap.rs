//! One lap of a workload under a clock: launches, and the wait for them.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use warpmark_record::Seconds;

use crate::clock::{Clock, Lap};
use crate::workload::{Hold, Workload, WorkloadError};

/// Below this time of an iteration the device is held back while launches are queued: a launch takes
/// the host 2 to 10 µs, and libraries that make several for one call take some more.
const HELD_BELOW: Seconds = Seconds(50e-6);

/// Iterations that are queued on a held device at once, and how few where that many do not fit its queue. A
/// driver queues about a thousand launches and then lets the next one wait, which behind a hold would be
/// for ever; an iteration may be several, and large arguments make the queue shorter.
const HELD_AT_ONCE: [u64; 2] = [200, 50];

/// How often a part is taken held before it is taken as it comes: a machine that was suspended is no
/// reason to give up, and what blocks behind a hold does so every time.
const ATTEMPTS: u32 = 2;

/// How laps of a workload are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feeding {
    /// Launches run as soon as they arrive.
    Free,
    /// Launches wait until those of their part, of so many iterations at most, are all queued.
    Held(u64),
    /// They would have been held, but the hold gave up before they were queued.
    NotHeld,
    /// They were held at first, until the hold gave up twice on one part.
    GaveUp,
}

impl Feeding {
    /// What a row says whose launches are too short to be timed as they come, and that were.
    pub(crate) fn caveat(self) -> Option<&'static str> {
        match self {
            Self::Free | Self::Held(_) => None,
            Self::NotHeld => Some(
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

/// How laps of a warm workload are to be taken, whose iteration takes `iteration` by the wall: held
/// where it is short and the workload can be held, which is tried.
pub(crate) fn feeding(
    workload: &mut dyn Workload,
    clock: &mut dyn Clock,
    iteration: Option<Seconds>,
) -> Result<Feeding, WorkloadError> {
    let short = iteration.is_some_and(|time| time < HELD_BELOW);
    if !short || workload.hold().is_none() {
        return Ok(Feeding::Free);
    }
    for at_once in HELD_AT_ONCE {
        workload.prepare(at_once)?;
        if held(workload, clock, at_once)?.1 {
            return Ok(Feeding::Held(at_once));
        }
    }
    Ok(Feeding::NotHeld)
}

/// Takes one lap of `iterations`. Where a hold gives up, the part is taken once more; after a second time
/// this one and all later ones are taken as they come, which `feeding` then says.
pub(crate) fn lap(
    workload: &mut dyn Workload,
    clock: &mut dyn Clock,
    iterations: u64,
    feeding: &mut Feeding,
) -> Result<Lap, WorkloadError> {
    workload.prepare(iterations)?;
    let mut total: Option<Lap> = None;
    let mut left = iterations;
    while left > 0 {
        let (lap, part) = match *feeding {
            Feeding::Held(at_once) => {
                let part = left.min(at_once);
                let Some(lap) = patiently(workload, clock, part, left)? else {
                    *feeding = Feeding::GaveUp;
                    continue;
                };
                (lap, part)
            }
            _ => (free(workload, clock, left)?, left),
        };
        total = Some(total.map_or(lap, |total| total.and(lap)));
        left -= part;
    }
    total.ok_or_else(|| WorkloadError::Failed("a lap of no iterations was asked for".to_owned()))
}

/// A held lap of `part` iterations; `None` where the hold gave up each time. The workload is then ready for
/// the `left` ones again.
fn patiently(
    workload: &mut dyn Workload,
    clock: &mut dyn Clock,
    part: u64,
    left: u64,
) -> Result<Option<Lap>, WorkloadError> {
    for _ in 0..ATTEMPTS {
        let (lap, lasted) = held(workload, clock, part)?;
        if lasted {
            return Ok(Some(lap));
        }
        workload.prepare(left)?;
    }
    Ok(None)
}

fn free(
    workload: &mut dyn Workload,
    clock: &mut dyn Clock,
    iterations: u64,
) -> Result<Lap, WorkloadError> {
    clock.start().map_err(WorkloadError::failed)?;
    launch(workload, clock, iterations)?;
    workload.wait()?;
    clock.finish().map_err(WorkloadError::failed)
}

/// A lap that begins when all of it is queued, and whether it did.
fn held(
    workload: &mut dyn Workload,
    clock: &mut dyn Clock,
    iterations: u64,
) -> Result<(Lap, bool), WorkloadError> {
    close(workload)?;
    // Whatever happens in between, a panic of a library too, the queue is let go.
    let launched = catch_unwind(AssertUnwindSafe(|| {
        clock.start().map_err(WorkloadError::failed)?;
        launch(workload, clock, iterations)
    }));
    workload.hold().map(Hold::open);
    launched.unwrap_or_else(|panic| resume_unwind(panic))?;
    workload.wait()?;
    let lap = clock.finish().map_err(WorkloadError::failed)?;
    Ok((lap, workload.hold().is_some_and(Hold::lasted)))
}

fn close(workload: &dyn Workload) -> Result<(), WorkloadError> {
    workload.hold().map_or(Ok(()), Hold::close)
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
#[path = "lap_tests.rs"]
mod tests;
