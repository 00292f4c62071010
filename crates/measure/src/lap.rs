//! One lap of a workload under a clock: launches, and the wait for them.

use warpmark_record::Seconds;

use crate::clock::{Clock, Lap};
use crate::workload::{Hold, Workload, WorkloadError};

/// Below this time of an iteration the device is held back while launches are queued: a launch takes
/// the host 2 to 10 µs, and libraries that make several for one call take some more.
const HELD_BELOW: Seconds = Seconds(50e-6);

/// Iterations that are queued on a held device at once. A driver queues about a thousand launches and
/// then lets the next one wait, which behind a hold would be for ever; an iteration may be several.
const HELD_AT_ONCE: u64 = 200;

/// How laps of a workload are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feeding {
    /// Launches run as soon as they arrive.
    Free,
    /// Launches wait until those of their part are all queued.
    Held,
    /// They would have been held, but the hold gave up before they were queued.
    NotHeld,
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
    workload.prepare(HELD_AT_ONCE)?;
    let lasted = held(workload, clock, HELD_AT_ONCE)?.1;
    Ok(if lasted { Feeding::Held } else { Feeding::NotHeld })
}

/// Takes one lap of `iterations`.
pub(crate) fn lap(
    workload: &mut dyn Workload,
    clock: &mut dyn Clock,
    iterations: u64,
    feeding: Feeding,
) -> Result<Lap, WorkloadError> {
    workload.prepare(iterations)?;
    if feeding != Feeding::Held {
        return free(workload, clock, iterations);
    }
    let mut total: Option<Lap> = None;
    let mut left = iterations;
    while left > 0 {
        let part = left.min(HELD_AT_ONCE);
        let (lap, lasted) = held(workload, clock, part)?;
        if !lasted {
            return Err(WorkloadError::Failed(
                "the device went on before its launches were queued, so that the host's pace is in its \
                 times; was the machine suspended?"
                    .to_owned(),
            ));
        }
        total = Some(total.map_or(lap, |total| total.and(lap)));
        left -= part;
    }
    total.ok_or_else(|| WorkloadError::Failed("a lap of no iterations was asked for".to_owned()))
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
    // Whatever happens in between, the queue is let go.
    let started = clock.start().map_err(WorkloadError::failed);
    let launched = started.and_then(|()| launch(workload, clock, iterations));
    workload.hold().map(Hold::open);
    launched?;
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
