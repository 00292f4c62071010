//! criterion drives: it plans the iterations of each sample, runs them and analyses the result; a
//! [`Clock`] inside `iter_custom` takes the times, and what criterion saw is kept.
//!
//! criterion has no way to hand its samples out, to attach a second time to them or to fail, so this is
//! the one place that bridges the three: every call of its measuring phase is kept as it is made (they
//! are the last `samples` calls), and an error stops all further launches and comes out at the end.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use criterion::{Criterion, SamplingMode};
use warpmark_device::telemetry::Watched;
use warpmark_record::row::SLOW_CLOCK;
use warpmark_record::{BenchmarkId, Burst, Ended, Hertz, Samples, Seconds};

use crate::clock::{Clock, Stopwatch, TimedInterval};
use crate::contained::LibraryPanic;
use crate::criterion_output::CriterionOutput;
use crate::ending::Ending;
use crate::interval::{LaunchMode, time_interval};
use crate::observer::{Observer, Step};
use crate::plan::FEWEST;
use crate::plan::{Entry, Sampling};
use crate::stamps::{Counted, SHORTEST};
use crate::warm_up::WarmUp;
use crate::workload::{Workload, WorkloadError};

/// How much load after a rest counts as the burst. Power and heat take longer than that to hold clocks
/// down, and clocks less to rise.
const BURST: Seconds = Seconds(1.0);

/// One call that criterion made.
struct Call {
    iterations: u64,
    interval: TimedInterval,
    stages: BTreeMap<String, f64>,
    distributions: BTreeMap<String, Vec<f64>>,
    /// When it began and ended, by the watch that runs beside the sensors.
    between: (Seconds, Seconds),
}

/// How a workload was made ready for its samples.
pub(crate) struct Ready {
    pub(crate) warm_up: WarmUp,
    pub(crate) launch_mode: LaunchMode,
    pub(crate) burst: Option<Burst>,
}

/// The samples of a row, and when each was taken.
pub(crate) struct Sampled {
    samples: Samples,
    /// What the row says of how its launches were fed to the device.
    pub(crate) caveat: Option<&'static str>,
    between: Vec<(Seconds, Seconds)>,
    /// What is to be known of how they came about.
    warning: Option<String>,
}

impl Sampled {
    /// The samples, marked with what held the clocks down meanwhile.
    pub(crate) fn marked(mut self, watched: &Watched) -> Samples {
        for (place, (from, to)) in self.between.iter().enumerate() {
            for cause in watched.causes(*from, *to) {
                self.samples.throttled.entry(cause.to_owned()).or_default().push(place);
            }
        }
        self.samples
    }

    /// Marks the samples whose clock was far below the card's highest.
    pub(crate) fn mark_slow(&mut self, highest: Option<Hertz>) {
        let Some((clocks, highest)) = self.samples.sm_clock_hz.as_ref().zip(highest) else {
            return;
        };
        let slow = clocks.iter().enumerate();
        let slow = slow.filter(|(_, clock)| **clock < SLOW_CLOCK * highest.get());
        self.samples.slow_clock = slow.map(|(place, _)| place).collect();
    }

    pub(crate) fn unmarked(self) -> Samples {
        self.samples
    }

    /// What is to be known of how they came about, if anything.
    pub(crate) fn warning(&self) -> Option<&String> {
        self.warning.as_ref()
    }
}

/// Runs a workload until its times converge or its limit is reached; after a rest, where it wants one,
/// to the end of that limit.
pub(crate) fn warm_up(
    sampling: Sampling,
    workload: &mut dyn Workload,
    clock: &mut dyn Clock,
) -> Result<(WarmUp, Option<Burst>), WorkloadError> {
    let Some(rest) = workload.rest() else {
        let mut warm_up = WarmUp::new(sampling.warm_up, sampling.single);
        while let Some(iterations) = warm_up.next_batch() {
            warm_up.ran(time_interval(workload, clock, iterations, &mut LaunchMode::Direct)?.wall);
        }
        return Ok((warm_up, None));
    };
    std::thread::sleep(Duration::from_secs_f64(rest.get()));
    let mut warm_up = WarmUp::of_length(sampling.warm_up);
    let mut ended = Seconds(0.0);
    let mut burst = Burst { rest_s: rest.get(), iterations: vec![], seconds: vec![], load_s: 0.0 };
    while let Some(iterations) = warm_up.next_batch() {
        let interval = time_interval(workload, clock, iterations, &mut LaunchMode::Direct)?;
        // One that is longer than the burst is the burst, and one that is too short to be judged by is
        // no part of it.
        let counts = burst.seconds.is_empty() || warm_up.spent() + interval.wall <= BURST;
        let load = warm_up.spent();
        warm_up.ran(interval.wall);
        if counts && warm_up.iteration().is_some() {
            burst.iterations.push(iterations);
            burst.seconds.push(interval.device.unwrap_or(interval.wall).get());
            ended = load + interval.wall;
        }
    }
    burst.load_s = (warm_up.spent() - ended).get();
    Ok((warm_up, (!burst.seconds.is_empty()).then_some(burst)))
}

/// What samples are taken with.
pub(crate) struct Means<'a> {
    pub(crate) criterion: &'a mut Criterion,
    pub(crate) criterion_output: &'a CriterionOutput,
    pub(crate) clock: &'a mut dyn Clock,
    pub(crate) observer: &'a mut dyn Observer,
    /// Runs since the sensors were started.
    pub(crate) watch: Stopwatch,
    /// What may end it between two samples.
    pub(crate) alarm: Option<&'a (dyn Fn() -> Option<String> + 'a)>,
    /// Whether every sample of the plan is wanted.
    pub(crate) whole: bool,
}

/// Lets criterion sample a workload that is warm.
pub(crate) fn sample(
    means: Means<'_>,
    entry: &Entry,
    ready: Ready,
    workload: &mut dyn Workload,
) -> Result<Sampled, WorkloadError> {
    let Means { criterion, criterion_output, clock, observer, watch, alarm, whole } = means;
    let Ready { warm_up, mut launch_mode, burst } = ready;
    let Entry { id, sampling, .. } = entry;
    let sampling = *sampling;
    let mut calls = Calls::new(Ending::new(sampling, whole));
    let mut outcome = Ok(());
    let measuring = Cell::new(false);
    let mut routine = |iterations: u64| {
        if outcome.is_err() {
            // criterion cannot be told to stop; it is given the shortest times there are instead.
            return Duration::from_nanos(1);
        }
        if let Some(reason) = alarm.and_then(|alarm| alarm()) {
            outcome = Err(WorkloadError::Unsupported(reason));
            return Duration::from_nanos(1);
        }
        if let Some(again) = calls.again() {
            return again;
        }
        // Its own short warm-up comes before the samples and counts as sample 0.
        let done = calls.made.len().saturating_sub(1).min(sampling.samples);
        observer.step(id, Step::Sampling { done, total: sampling.samples });
        let began = watch.elapsed();
        measuring.set(true);
        let interval = time_interval(workload, clock, iterations, &mut launch_mode);
        measuring.set(false);
        match interval {
            Ok(interval) => {
                let between = (began, watch.elapsed());
                let (stages, distributions) = (workload.stages(), workload.distributions());
                let call = Call { iterations, interval, stages, distributions, between };
                calls.keep(call)
            }
            Err(error) => {
                outcome = Err(error);
                Duration::from_nanos(1)
            }
        }
    };
    let driven = catch_unwind(AssertUnwindSafe(|| {
        criterion_output.divert(|| drive(criterion, id, sampling, &mut routine));
    }));
    outcome?;
    let warning = match driven {
        Ok(()) => None,
        // Whatever criterion makes of the samples (with a clock before 1970, or a damaged file of an
        // earlier run, it panics) costs nothing that was measured.
        Err(panic) if !measuring.get() && calls.are_whole(sampling.samples) => Some(format!(
            "criterion's own analysis of the samples failed and is missing from its report: {}",
            LibraryPanic::from_payload(panic.as_ref()).text
        )),
        Err(panic) => resume_unwind(panic),
    };
    let sampled = keep_last(calls, sampling.samples, clock, Ready { warm_up, launch_mode, burst })?;
    Ok(Sampled { warning, ..sampled })
}

/// The calls that criterion made.
struct Calls {
    made: Vec<Call>,
    ending: Ending,
    /// Why no more are made, and how many were answered with the times of earlier ones since.
    ended: Option<(Ended, usize)>,
}

impl Calls {
    fn new(ending: Ending) -> Self {
        Self { made: Vec::new(), ending, ended: None }
    }

    /// Keeps a call, and gives what criterion is told of it.
    fn keep(&mut self, call: Call) -> Duration {
        let (time, iterations) = (call.time(), call.iterations);
        if let Some(why) = self.ending.after(iterations, time, call.interval.wall) {
            self.ended = Some((why, 0));
        }
        self.made.push(call);
        told(time)
    }

    /// Once the row has ended: what criterion, which cannot be told to stop, is given instead of a sample.
    /// Those that were taken come again in turn, so that its own figures are those of the row.
    fn again(&mut self) -> Option<Duration> {
        let (_, repeated) = self.ended.as_mut()?;
        let last = self.made.len().checked_sub(FEWEST)?;
        let call = &self.made[last + *repeated % FEWEST];
        *repeated += 1;
        Some(told(call.time()))
    }

    fn answered(&self) -> usize {
        self.made.len() + self.ended.map_or(0, |(_, repeated)| repeated)
    }

    /// Where criterion's measuring phase begins among those that were made: `wanted` calls from the last
    /// answer on.
    fn first(&self, wanted: usize) -> Option<usize> {
        self.answered().checked_sub(wanted.max(FEWEST)).filter(|first| *first < self.made.len())
    }

    /// Whether criterion's measuring phase was done: its calls have as many iterations each, and those of the
    /// warm-up before it, of which there is one at least, ever more.
    fn are_whole(&self, wanted: usize) -> bool {
        let Some(first) = self.first(wanted).filter(|first| *first > 0) else {
            return false;
        };
        let samples = &self.made[first..];
        samples.iter().all(|call| call.iterations == samples[0].iterations)
    }
}

impl Call {
    /// Its time by the row's own clock.
    fn time(&self) -> Seconds {
        self.interval.device.unwrap_or(self.interval.wall)
    }
}

/// A time as criterion takes it, which refuses one of zero.
fn told(time: Seconds) -> Duration {
    Duration::from_secs_f64(time.get().max(1e-9))
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
        // Ours has brought the times to rest; criterion's only has to estimate the time of an iteration.
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
    calls: Calls,
    wanted: usize,
    clock: &dyn Clock,
    ready: Ready,
) -> Result<Sampled, WorkloadError> {
    let Some(first) = calls.first(wanted) else {
        return Err(WorkloadError::Failed(format!(
            "criterion made {} calls where {wanted} samples were wanted; was the benchmark filtered \
             out by one of its own options?",
            calls.answered()
        )));
    };
    let ended = calls.ended.map_or(Ended::Limit, |(why, _)| why);
    let mut calls = calls.made;
    let before: Seconds = calls.drain(..first).map(|call| call.interval.wall).sum();
    let all = |time: fn(&TimedInterval) -> Option<Seconds>| -> Option<Vec<f64>> {
        calls.iter().map(|call| time(&call.interval).map(Seconds::get)).collect()
    };
    let mut stages: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut distributions: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for call in &calls {
        for (name, time) in &call.stages {
            stages.entry(name.clone()).or_default().push(*time);
        }
        for (name, times) in &call.distributions {
            distributions.entry(name.clone()).or_default().extend(times);
        }
    }
    let Ready { warm_up, launch_mode, burst } = ready;
    let blocked = matches!(launch_mode, LaunchMode::Blocked(_));
    let samples = Samples {
        clock: clock.kind(),
        iterations: calls.iter().map(|call| call.iterations).collect(),
        device_s: all(|interval| interval.device),
        wall_s: calls.iter().map(|call| call.interval.wall.get()).collect(),
        warm_up_s: (warm_up.spent() + before).get(),
        converged: warm_up.converged(),
        stages,
        distributions,
        launch_s: all(|interval| interval.launch),
        blocked,
        duty: if blocked { duty(&calls) } else { None },
        burst: burst.map(|burst| Burst { load_s: burst.load_s + before.get(), ..burst }),
        ended: Some(ended),
        throttled: BTreeMap::new(),
        sm_clock_hz: clocks(&calls),
        slow_clock: Vec::new(),
    };
    let between = calls.iter().map(|call| call.between).collect();
    Ok(Sampled { samples, caveat: launch_mode.caveat(), between, warning: None })
}

/// The mean SM clock of each call; `None` unless all of them have one that was counted long enough.
fn clocks(calls: &[Call]) -> Option<Vec<f64>> {
    let clock = |call: &Call| {
        let Counted { cycles, time } =
            call.interval.counted.filter(|told| told.time >= SHORTEST)?;
        Some(cycles / time.get())
    };
    calls.iter().map(clock).collect()
}

/// The share of the time of the calls in which the device worked; `None` where the wall is the only clock.
fn duty(calls: &[Call]) -> Option<f64> {
    let device: Option<Seconds> = calls.iter().map(|call| call.interval.device).sum();
    let all: Seconds = calls.iter().map(|call| call.between.1 - call.between.0).sum();
    (all.get() > 0.0).then(|| device.map(|device| (device.get() / all.get()).min(1.0)))?
}
