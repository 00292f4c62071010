//! Runs the groups of a plan, one benchmark after the other, and makes a row of each.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use criterion::Criterion;
use serde::{Deserialize, Serialize};
use warpmark_device::{Device, Footprint, HostWatch, Sampler};
use warpmark_record::message::shortened;
use warpmark_record::{Field, Hertz, Outcome, Record, RunId, Telemetry};

use crate::clock::{Clock, Stopwatch, timestamp};
use crate::contained::LibraryPanic;
use crate::criterion_output::CriterionOutput;
use crate::interval::launch_mode;
use crate::observer::{Observer, Step};
use crate::plan::{Entry, Group, Open, Session};
use crate::sampling::{Means, Ready, sample, warm_up};
use crate::workload::{Workload, WorkloadError};

/// Where a held device worked less of the time than this, its power is not that of the workload.
const BUSY: f64 = 0.9;

/// How far a benchmark is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Checked, sampled, checked again.
    Measure,
    /// Checked only: no times are taken, and the rows say so.
    Verify,
}

/// Runs benchmarks on one device under one criterion.
pub struct Runner<'a> {
    /// The device under test.
    pub device: &'a Device,
    /// The run that the rows belong to.
    pub run: RunId,
    /// What plans the samples.
    pub criterion: Criterion,
    /// Where criterion's own report goes.
    pub criterion_output: CriterionOutput,
    /// The stopwatch.
    pub clock: Box<dyn Clock>,
    /// The device's sensors, or why there are none; `None` on a device that has none to read.
    pub sensors: Option<Result<Sampler, String>>,
    /// How far benchmarks are taken.
    pub mode: Mode,
    /// Asked before each benchmark.
    pub admission: Admission<'a>,
    /// Whether every sample of a plan is taken, however well a row is known before.
    pub whole: bool,
    /// Asked between samples.
    pub alarm: Option<Alarm<'a>>,
}

/// May end a benchmark between two of its samples: the reason it gives becomes a skipped row.
pub type Alarm<'a> = Box<dyn Fn() -> Option<String> + 'a>;

/// May hold a benchmark back: the reason it gives becomes a skipped row. A budget that is used up
/// speaks through it.
pub type Admission<'a> = Box<dyn FnMut(&Entry) -> Option<String> + 'a>;

/// What a runner's caller does with a row; an error (a full disk) stops the run.
pub type Sink<'s, E> = dyn FnMut(Record) -> Result<(), E> + 's;

/// A group on its way: opened by its first benchmark that runs.
struct Running {
    open: Option<Open>,
    session: Option<Result<Box<dyn Session>, WorkloadError>>,
    /// The sweeps that have found the device full, and where.
    full: BTreeMap<String, String>,
}

impl Runner<'_> {
    /// Runs a group and hands each row to `sink` as soon as it is complete.
    ///
    /// A benchmark that fails or does not fit becomes a row that says so, and the next one runs.
    ///
    /// # Errors
    /// Only those of `sink`.
    pub fn run_group<E>(
        &mut self,
        group: Group,
        observer: &mut dyn Observer,
        sink: &mut Sink<'_, E>,
    ) -> Result<(), E> {
        let mut running = Running { open: Some(group.open), session: None, full: BTreeMap::new() };
        for entry in &group.entries {
            let row = self.row(entry, &mut running, observer);
            // Said to be done only once it is kept: whoever reads the line may stop the run.
            let kept = row.clone();
            sink(row)?;
            observer.done(&kept);
        }
        Ok(())
    }

    /// Runs one benchmark, or says why not.
    fn row(&mut self, entry: &Entry, running: &mut Running, observer: &mut dyn Observer) -> Record {
        let mut row = self.blank(entry);
        let full = entry.sweep.as_ref().and_then(|sweep| running.full.get(sweep).cloned());
        if let Some(reason) = entry.skip.clone().or(full).or_else(|| (self.admission)(entry)) {
            row.outcome = Outcome::Skipped { reason };
            return row;
        }
        if let Some(open) = running.open.take() {
            observer.step(&entry.id, Step::Opening);
            running.session = Some(catch_panic(|| open(self.device)));
        }
        let result = match &mut running.session {
            Some(Ok(session)) => {
                let measured =
                    catch_panic(|| self.measure(entry, session.as_mut(), observer, &mut row));
                // Both asked in any case: what a failed benchmark leaves is no fault of the next one.
                let after = check_sticky_error(self.device);
                let noted = session.check_sticky_error();
                with_cause(measured, session.as_ref()).and(after).and(noted)
            }
            Some(Err(error)) => Err(copy_of(error)),
            None => Err(WorkloadError::Failed("its group was not opened".to_owned())),
        };
        let result = match result {
            Err(error @ WorkloadError::OutOfMemory { .. }) => {
                if let Some(sweep) = &entry.sweep {
                    let reason = format!("the device was full at {}: {error}", entry.id);
                    running.full.insert(sweep.clone(), reason);
                }
                // The next one must find what this one could not use.
                trim_pool(self.device).and(Err(error))
            }
            other => other,
        };
        row.outcome = self.outcome(result);
        if row.outcome != Outcome::Measured {
            row.samples = None;
        }
        row
    }

    /// Measures one benchmark into `row`.
    fn measure(
        &mut self,
        entry: &Entry,
        session: &mut dyn Session,
        observer: &mut dyn Observer,
        row: &mut Record,
    ) -> Result<(), WorkloadError> {
        observer.step(&entry.id, Step::Opening);
        let mut workload = session.workload(entry)?;
        let described = workload.describe();
        row.parameters = described.parameters;
        row.work = described.work;
        row.data = described.data;
        row.weights = described.weights;
        row.caveats = described.caveats;

        observer.step(&entry.id, Step::Verifying);
        row.check = Some(workload.verify()?);
        if self.mode == Mode::Verify {
            return Ok(());
        }
        // What the clock takes of the memory is none of the workload's.
        self.clock.get_ready();
        let footprint = self.footprint();
        self.sample(entry, workload.as_mut(), observer, row)?;
        let weights = || Field::absent("the benchmark has no weights");
        row.memory =
            workload.memory().or_else(|| footprint.map(|footprint| footprint.read(weights())));
        observer.step(&entry.id, Step::Verifying);
        row.check = Some(workload.verify()?);
        // What it has learnt while it was measured.
        row.parameters = workload.describe().parameters;
        Ok(())
    }

    /// The marks of a GPU's memory from here on, for workloads that keep none of their own.
    fn footprint(&self) -> Option<Footprint> {
        let Device::Cuda(device) = self.device else {
            return None;
        };
        let mut footprint = Footprint::of(device);
        footprint.begin();
        Some(footprint)
    }

    /// Warms up and takes the samples, and watches the sensors meanwhile.
    fn sample(
        &mut self,
        entry: &Entry,
        workload: &mut dyn Workload,
        observer: &mut dyn Observer,
        row: &mut Record,
    ) -> Result<(), WorkloadError> {
        observer.step(&entry.id, Step::WarmingUp);
        let clock = self.clock.as_mut();
        let (warm_up, burst) = warm_up(entry.sampling, workload, clock)?;
        let launch_mode = launch_mode(workload, clock, warm_up.iteration())?;
        let watch = Stopwatch::start();
        if let Some(Ok(sensors)) = &mut self.sensors {
            sensors.start();
        }
        let host = HostWatch::start();
        let (criterion, criterion_output) = (&mut self.criterion, &self.criterion_output);
        let alarm = self.alarm.as_deref();
        let whole = self.whole;
        let means = Means { criterion, criterion_output, clock, observer, watch, alarm, whole };
        let sampled = sample(means, entry, Ready { warm_up, launch_mode, burst }, workload);
        row.host = host.and_then(|host| host.read());
        let watched = match &mut self.sensors {
            Some(Ok(sensors)) => Some(sensors.stop()),
            Some(Err(reason)) => {
                row.telemetry = Some(Telemetry::absent(reason));
                None
            }
            None => None,
        };
        let mut sampled = sampled?;
        sampled.mark_slow(self.highest_clock());
        row.caveats.extend(sampled.warning().cloned());
        row.caveats.extend(sampled.caveat.map(str::to_owned));
        row.caveats.extend(self.clock.lacks_counters().map(no_counters));
        let taken = match &watched {
            Some(watched) => sampled.marked(watched),
            None => sampled.unmarked(),
        };
        row.telemetry = watched.map(|watched| watched.telemetry).or(row.telemetry.take());
        if let Some(telemetry) = &mut row.telemetry {
            only_of_the_work(telemetry, taken.duty);
        }
        row.samples = Some(taken);
        Ok(())
    }

    /// The highest SM clock of the device, if it has one and tells it.
    fn highest_clock(&self) -> Option<Hertz> {
        self.device.spec().gpu.as_ref()?.sm_clock.known().copied()
    }

    fn outcome(&self, result: Result<(), WorkloadError>) -> Outcome {
        match (result, self.mode) {
            (Ok(()), Mode::Measure) => Outcome::Measured,
            (Ok(()), Mode::Verify) => Outcome::Skipped {
                reason: "its answer is right; no times were asked for".to_owned(),
            },
            (
                Err(
                    e @ (WorkloadError::OutOfMemory { .. }
                    | WorkloadError::Unsupported(_)
                    | WorkloadError::OutOfTime(_)),
                ),
                _,
            ) => Outcome::Skipped { reason: shortened(&e.to_string()).into_owned() },
            (Err(error), _) => {
                Outcome::Failed { reason: shortened(&error.to_string()).into_owned() }
            }
        }
    }

    fn blank(&self, entry: &Entry) -> Record {
        let now = timestamp();
        let skipped = Outcome::Skipped { reason: "not run".to_owned() };
        Record::without_samples(self.run.clone(), entry.id.clone(), now, skipped)
    }
}

/// A wrong answer or a failure with what the session knows about its cause.
fn with_cause(
    measured: Result<(), WorkloadError>,
    session: &dyn Session,
) -> Result<(), WorkloadError> {
    match measured {
        Err(error @ (WorkloadError::WrongAnswer { .. } | WorkloadError::Failed(_))) => {
            Err(match catch_panic(|| Ok(session.cause())) {
                Ok(Some(cause)) => WorkloadError::Failed(format!("{error}: {cause}")),
                Ok(None) | Err(_) => error,
            })
        }
        other => other,
    }
}

/// What a row says whose samples have no clock of their own.
fn no_counters(reason: &str) -> String {
    format!(
        "the clock of each sample is unknown, since the device's counters could not be read: {reason}"
    )
}

/// Leaves power and energy out where the device rested for a good part of the time.
fn only_of_the_work(telemetry: &mut Telemetry, duty: Option<f64>) {
    if let Some(duty) = duty.filter(|duty| *duty < BUSY) {
        telemetry.withhold_power(&format!(
            "the device worked {:.0} % of the time: it was held while launches were queued",
            100.0 * duty
        ));
    }
}

/// Errors that a driver noted while things were being dropped: cudarc keeps them for the next call, and
/// the next benchmark would be blamed.
fn check_sticky_error(device: &Device) -> Result<(), WorkloadError> {
    let Device::Cuda(gpu) = device else {
        return Ok(());
    };
    gpu.context.check_err().map_err(|error| {
        let error = warpmark_device::describe(&error);
        WorkloadError::Failed(format!("the device reported afterwards: {error}"))
    })
}

/// Lets a device that was full have back what nothing holds any more: the pool keeps what was freed, and
/// libraries do not allocate from it.
fn trim_pool(device: &Device) -> Result<(), WorkloadError> {
    let Device::Cuda(gpu) = device else {
        return Ok(());
    };
    gpu.still_works().map_err(WorkloadError::failed)?;
    if gpu.context.has_async_alloc() {
        gpu.trim().map_err(WorkloadError::failed)?;
    }
    Ok(())
}

/// The error of a group's opening, for each of its entries.
fn copy_of(error: &WorkloadError) -> WorkloadError {
    match error {
        WorkloadError::OutOfMemory { what, needed } => {
            WorkloadError::OutOfMemory { what: what.clone(), needed: *needed }
        }
        WorkloadError::Unsupported(reason) => WorkloadError::Unsupported(reason.clone()),
        WorkloadError::OutOfTime(reason) => WorkloadError::OutOfTime(reason.clone()),
        other => WorkloadError::Failed(other.to_string()),
    }
}

/// Turns a panic of a library into a failure of this benchmark alone.
fn catch_panic<T>(f: impl FnOnce() -> Result<T, WorkloadError>) -> Result<T, WorkloadError> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        Err(WorkloadError::failed(LibraryPanic::from_payload(panic.as_ref())))
    })
}

#[cfg(test)]
mod tests {
    use warpmark_record::Watts;

    use super::*;

    #[test]
    fn power_is_left_out_where_a_held_device_rested() {
        let told = |duty| {
            let mut telemetry = Telemetry::absent("not read");
            telemetry.power_mean = Field::Known(Watts(300.0));
            only_of_the_work(&mut telemetry, duty);
            telemetry.power_mean
        };
        assert_eq!(told(None).known(), Some(&Watts(300.0)));
        assert_eq!(told(Some(0.95)).known(), Some(&Watts(300.0)));
        let reason = "the device worked 43 % of the time: it was held while launches were queued";
        assert_eq!(told(Some(0.43)).reason(), Some(reason));
    }
}
