//! criterion drives: it plans the iterations of each sample, runs them and analyses the result; a
//! [`Clock`] inside `iter_custom` takes the times, and what criterion saw is kept.
//!
//! criterion has no way to hand its samples out, to attach a second time to them or to fail, so this is
//! the one place that bridges the three: every call of its measuring phase is kept as it is made (they
//! are the last `samples` calls), and an error stops all further launches and comes out at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use criterion::{Criterion, SamplingMode};
use warpmark_record::{BenchmarkId, Samples, Seconds};

use crate::clock::{Clock, Lap};
use crate::observer::{Observer, Step};
use crate::own_report::OwnReport;
use crate::plan::{Entry, Sampling};
use crate::warm_up::WarmUp;
use crate::workload::{Workload, WorkloadError};

/// One call that criterion made.
struct Call {
    iterations: u64,
    lap: Lap,
    phases: BTreeMap<String, f64>,
    distributions: BTreeMap<String, Vec<f64>>,
}

/// Takes one lap of `iterations` launches.
fn lap(
    workload: &mut dyn Workload,
    clock: &mut dyn Clock,
    iterations: u64,
) -> Result<Lap, WorkloadError> {
    workload.prepare(iterations)?;
    clock.start().map_err(WorkloadError::failed)?;
    for _ in 0..iterations {
        workload.launch()?;
    }
    clock.queued().map_err(WorkloadError::failed)?;
    workload.wait()?;
    clock.finish().map_err(WorkloadError::failed)
}

/// Runs a workload until its times settle or its limit is reached.
pub(crate) fn warm_up(
    sampling: Sampling,
    workload: &mut dyn Workload,
    clock: &mut dyn Clock,
) -> Result<WarmUp, WorkloadError> {
    let mut warm_up = WarmUp::new(sampling.warm_up, sampling.single);
    while let Some(iterations) = warm_up.next_batch() {
        warm_up.ran(lap(workload, clock, iterations)?.wall);
    }
    Ok(warm_up)
}

/// Lets criterion sample a workload that is warm.
pub(crate) fn sample(
    criterion: &mut Criterion,
    own_report: &OwnReport,
    entry: &Entry,
    warm_up: &WarmUp,
    workload: &mut dyn Workload,
    clock: &mut dyn Clock,
    observer: &mut dyn Observer,
) -> Result<Samples, WorkloadError> {
    let Entry { id, sampling, .. } = entry;
    let sampling = *sampling;
    let mut calls = Vec::new();
    let mut outcome = Ok(());
    let mut routine = |iterations: u64| {
        if outcome.is_err() {
            // criterion cannot be told to stop; it is given the shortest times there are instead.
            return Duration::from_nanos(1);
        }
        // Its own short warm-up comes before the samples and counts as sample 0.
        let done = calls.len().saturating_sub(1).min(sampling.samples);
        observer.step(id, Step::Sampling { done, total: sampling.samples });
        match lap(workload, clock, iterations) {
            Ok(lap) => {
                let (phases, distributions) = (workload.phases(), workload.distributions());
                calls.push(Call { iterations, lap, phases, distributions });
                // criterion refuses a time of zero.
                let time = lap.device.unwrap_or(lap.wall).get().max(1e-9);
                Duration::from_secs_f64(time)
            }
            Err(error) => {
                outcome = Err(error);
                Duration::from_nanos(1)
            }
        }
    };
    own_report.divert(|| drive(criterion, id, sampling, &mut routine));
    outcome?;
    keep_last(calls, sampling.samples, clock, warm_up)
}

/// Hands the routine to criterion.
fn drive(
    criterion: &mut Criterion,
    id: &BenchmarkId,
    sampling: Sampling,
    routine: &mut dyn FnMut(u64) -> Duration,
) {
    // The shortest time that criterion accepts: one iteration a sample, one warm-up call.
    let shortest = Duration::from_nanos(1);
    let (target, warm_up) = if sampling.single {
        (shortest, shortest)
    } else {
        // Ours has settled the workload; criterion's only has to estimate the time of an iteration.
        let target = sampling.target.get();
        (Duration::from_secs_f64(target), Duration::from_secs_f64(target / 20.0))
    };
    let mut group = criterion.benchmark_group(id.group());
    group
        .sample_size(sampling.samples.max(10))
        // As many iterations in each sample, so that every sample weighs the same.
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(warm_up)
        .measurement_time(target)
        .bench_function(id.to_string(), |bencher| bencher.iter_custom(&mut *routine));
    group.finish();
}

/// The calls of criterion's measuring phase, which are its last ones.
fn keep_last(
    mut calls: Vec<Call>,
    wanted: usize,
    clock: &dyn Clock,
    warm_up: &WarmUp,
) -> Result<Samples, WorkloadError> {
    let Some(first) = calls.len().checked_sub(wanted.max(10)) else {
        return Err(WorkloadError::Failed(format!(
            "criterion made {} calls where {wanted} samples were wanted; was the benchmark filtered \
             out by one of its own options?",
            calls.len()
        )));
    };
    let before: Seconds = calls.drain(..first).map(|call| call.lap.wall).sum();
    let device: Option<Vec<f64>> =
        calls.iter().map(|call| call.lap.device.map(Seconds::get)).collect();
    let mut phases: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut distributions: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for call in &calls {
        for (name, time) in &call.phases {
            phases.entry(name.clone()).or_default().push(*time);
        }
        for (name, times) in &call.distributions {
            distributions.entry(name.clone()).or_default().extend(times);
        }
    }
    Ok(Samples {
        clock: clock.kind(),
        iterations: calls.iter().map(|call| call.iterations).collect(),
        device_s: device,
        wall_s: calls.iter().map(|call| call.lap.wall.get()).collect(),
        warm_up_s: (warm_up.spent() + before).get(),
        settled: warm_up.settled(),
        phases,
        distributions,
    })
}
