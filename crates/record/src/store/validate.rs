//! What a row must not say, whoever wrote it: checked before writing and after reading.

use crate::load_test::{Arrivals, Batching, Histogram, LoadTest, Requests};
use crate::machine::Field;
use crate::row::{Outcome, Record, Samples, Telemetry};
use crate::run::Run;
use crate::units::LARGEST;

/// Why a row contradicts itself.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// A number that must be finite, not negative, and such as a machine can have, is not.
    #[error("{place} is {value:?}: expected a number of at least 0 and at most {most:e}")]
    Number {
        /// The field, with the sample's position.
        place: String,
        /// What stands there.
        value: f64,
        /// The most that may.
        most: f64,
    },
    /// More than can have been counted.
    #[error("{place} is {value}: expected no more than 2^53")]
    Count {
        /// The field.
        place: String,
        /// What stands there.
        value: u64,
    },
    /// A sample without iterations has no time per iteration.
    #[error("samples.iterations[{0}] is 0: expected at least 1")]
    NoIterations(usize),
    /// Lists that belong together have different lengths.
    #[error("{list} has {found} entries, its iterations are {expected}: expected as many")]
    Length {
        /// The list.
        list: String,
        /// Its length.
        found: usize,
        /// The number of samples.
        expected: usize,
    },
    /// A distribution of nothing.
    #[error("{0} is empty: expected at least one time")]
    Empty(String),
    /// A distribution whose buckets do not rise, or hold nothing.
    #[error("{0} has buckets that do not rise or hold nothing")]
    Buckets(&'static str),
    /// A load without a window.
    #[error("load.window_s is {0}: expected more than 0")]
    NoWindow(f64),
    /// A mark on a sample that is not there.
    #[error("samples.throttled.{cause} names sample {place}, and there are {expected}")]
    NoSuchSample {
        /// The mark.
        cause: String,
        /// The sample it names, from 0.
        place: usize,
        /// The number of samples.
        expected: usize,
    },
    /// `measured` without times.
    #[error("the outcome is `measured` and there are no samples")]
    NotMeasured,
    /// `skipped` or `failed` with times.
    #[error("the outcome is not `measured` and there are samples: such times are worth nothing")]
    TimesOfNothing,
}

/// Checks what the types of a row cannot: finite times, as many of each kind as there are samples, and
/// samples exactly where the outcome says so.
pub fn validate(row: &Record) -> Result<(), Invalid> {
    let work = &row.work;
    for (place, value) in [
        ("work.flops", work.flops.map(|flops| flops.0)),
        ("work.bytes", work.bytes.map(|bytes| bytes.0)),
        ("work.items.count", work.items.map(|items| items.count)),
        ("check.tolerance", row.check.as_ref().map(|check| check.tolerance)),
        ("check.worst_error", row.check.as_ref().map(|check| check.worst_error)),
        ("host.others", row.host.as_ref().map(|host| host.others)),
        ("host.stolen", row.host.as_ref().map(|host| host.stolen)),
    ] {
        if let Some(value) = value {
            number(|| place.to_owned(), value)?;
        }
    }
    if let Some(found) = &row.load_test {
        load(found)?;
    }
    if let Some(found) = &row.telemetry {
        telemetry(found)?;
    }
    if let Some(host) = &row.host {
        at_most(|| "host.stolen".to_owned(), host.stolen, 1.0)?;
    }
    match (&row.outcome, &row.samples) {
        (Outcome::Measured, Some(found)) => samples(found),
        (Outcome::Measured, None) if row.load_test.is_some() => Ok(()),
        (Outcome::Measured, None) => Err(Invalid::NotMeasured),
        (Outcome::Skipped { .. } | Outcome::Failed { .. }, Some(_)) => Err(Invalid::TimesOfNothing),
        (Outcome::Skipped { .. } | Outcome::Failed { .. }, None) => Ok(()),
    }
}

/// Checks the numbers of a run's line that are no quantities of their own type.
pub fn validate_run(run: &Run) -> Result<(), Invalid> {
    const CORES: f64 = 1e6;
    let known = |field: &Field<f64>| field.known().copied();
    let host = &run.host;
    let cpu = run.device.cpu.as_ref();
    for (place, value) in [
        ("host.load_average", known(&host.load_average)),
        ("host.busy_cores", host.busy_cores.as_ref().and_then(known)),
        ("host.cores", Some(f64::from(host.cores))),
        ("device.cpu.cores", cpu.map(|cpu| f64::from(cpu.cores))),
    ] {
        if let Some(value) = value {
            at_most(|| place.to_owned(), value, CORES)?;
        }
    }
    for (place, value) in [
        ("device.memory", run.device.memory.known().map(|bytes| bytes.0)),
        ("device.memory_bandwidth", run.device.memory_bandwidth.known().map(|rate| rate.0)),
        ("device.last_level_cache", run.device.last_level_cache.known().map(|bytes| bytes.0)),
        ("host.memory", host.memory.known().map(|bytes| bytes.0)),
    ] {
        if let Some(value) = value {
            number(|| place.to_owned(), value)?;
        }
    }
    Ok(())
}

fn telemetry(telemetry: &Telemetry) -> Result<(), Invalid> {
    let known = |field: &Field<f64>| field.known().copied();
    for (place, value, most) in [
        ("telemetry.gpu_utilisation_mean", known(&telemetry.gpu_utilisation_mean), 1.0),
        ("telemetry.memory_utilisation_mean", known(&telemetry.memory_utilisation_mean), 1.0),
        ("telemetry.energy", telemetry.energy.known().map(|energy| energy.0), LARGEST),
        ("telemetry.window", telemetry.window.known().map(|window| window.0), LARGEST),
        ("telemetry.power_mean", telemetry.power_mean.known().map(|power| power.0), LARGEST),
        ("telemetry.sm_clock_mean", telemetry.sm_clock_mean.known().map(|rate| rate.0), LARGEST),
    ] {
        if let Some(value) = value {
            at_most(|| place.to_owned(), value, most)?;
        }
    }
    Ok(())
}

fn samples(samples: &Samples) -> Result<(), Invalid> {
    if samples.iterations.is_empty() {
        return Err(Invalid::NotMeasured);
    }
    if let Some(at) = samples.iterations.iter().position(|n| *n == 0) {
        return Err(Invalid::NoIterations(at));
    }
    for (at, iterations) in samples.iterations.iter().enumerate() {
        count(|| format!("samples.iterations[{at}]"), *iterations)?;
    }
    let expected = samples.iterations.len();
    times("wall_s", &samples.wall_s, expected)?;
    if let Some(device_s) = &samples.device_s {
        times("device_s", device_s, expected)?;
    }
    for (stage, seconds) in &samples.stages {
        times(&format!("phases.{stage}"), seconds, expected)?;
    }
    for (name, seconds) in &samples.distributions {
        let name = format!("distributions.{name}");
        if seconds.is_empty() {
            return Err(Invalid::Empty(format!("samples.{name}")));
        }
        times(&name, seconds, seconds.len())?;
    }
    if let Some(launch_s) = &samples.launch_s {
        times("launch_s", launch_s, expected)?;
    }
    if let Some(clocks) = &samples.sm_clock_hz {
        times("sm_clock_hz", clocks, expected)?;
    }
    let marks = samples.throttled.iter().map(|(cause, places)| (cause.as_str(), places));
    for (cause, places) in marks.chain([("slow_clock", &samples.slow_clock)]) {
        if let Some(place) = places.iter().find(|place| **place >= expected) {
            let cause = cause.to_owned();
            return Err(Invalid::NoSuchSample { cause, place: *place, expected });
        }
    }
    if let Some(burst) = &samples.burst {
        times("burst.seconds", &burst.seconds, burst.iterations.len())?;
        for (at, iterations) in burst.iterations.iter().enumerate() {
            count(|| format!("samples.burst.iterations[{at}]"), *iterations)?;
        }
        number(|| "samples.burst.rest_s".to_owned(), burst.rest_s)?;
        number(|| "samples.burst.load_s".to_owned(), burst.load_s)?;
    }
    number(|| "samples.warm_up_s".to_owned(), samples.warm_up_s)
}

fn load(load: &LoadTest) -> Result<(), Invalid> {
    for (place, value) in [
        ("load.warm_up_s", load.warm_up_s),
        ("load.window_s", load.window_s),
        ("load.drain_s", load.drain_s),
        ("load.timeout_s", load.timeout_s.unwrap_or(0.0)),
        ("load.target_s", load.target_s.unwrap_or(0.0)),
        ("load.passes.busy_s", load.passes.busy_s),
        ("load.passes.idle_s", load.passes.idle_s),
        ("load.passes.generator_s", load.passes.generator_s),
        ("load.queue.mean", load.queue.mean),
    ] {
        number(|| place.to_owned(), value)?;
    }
    let Requests { asked, completed, failed, timed_out, cancelled, rejected, unfinished } =
        load.requests;
    for (place, value) in [
        ("asked", asked),
        ("completed", completed),
        ("failed", failed),
        ("timed_out", timed_out),
        ("cancelled", cancelled),
        ("rejected", rejected),
        ("unfinished", unfinished),
    ] {
        count(|| format!("load.requests.{place}"), value)?;
    }
    if let Arrivals::Open { rate, .. } = load.arrivals {
        number(|| "load.rate".to_owned(), rate)?;
    }
    if let Batching::Dynamic { max_queue_delay_s, .. } = load.batching {
        number(|| "load.delay_s".to_owned(), max_queue_delay_s)?;
    }
    if load.window_s == 0.0 {
        return Err(Invalid::NoWindow(load.window_s));
    }
    let times = [
        ("load.latency", Some(&load.latency)),
        ("load.waiting", Some(&load.waiting)),
        ("load.first_token", load.first_token.as_ref()),
        ("load.between_tokens", load.between_tokens.as_ref()),
    ];
    times.into_iter().try_for_each(|(place, times)| times.map_or(Ok(()), |t| histogram(place, t)))
}

fn histogram(place: &'static str, times: &Histogram) -> Result<(), Invalid> {
    number(|| format!("{place}.sum_s"), times.sum_s)?;
    number(|| format!("{place}.max_s"), times.max_s)?;
    for (_, held) in &times.buckets {
        count(|| format!("{place}.buckets"), *held)?;
    }
    let rising = times.buckets.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let held = times.buckets.iter().all(|(_, count)| *count > 0);
    if rising && held { Ok(()) } else { Err(Invalid::Buckets(place)) }
}

fn times(list: &str, seconds: &[f64], expected: usize) -> Result<(), Invalid> {
    if seconds.len() != expected {
        let list = format!("samples.{list}");
        return Err(Invalid::Length { list, found: seconds.len(), expected });
    }
    seconds
        .iter()
        .enumerate()
        .try_for_each(|(at, value)| number(|| format!("samples.{list}[{at}]"), *value))
}

fn number(place: impl FnOnce() -> String, value: f64) -> Result<(), Invalid> {
    at_most(place, value, LARGEST)
}

fn at_most(place: impl FnOnce() -> String, value: f64, most: f64) -> Result<(), Invalid> {
    if value.is_finite() && value >= 0.0 && value <= most {
        return Ok(());
    }
    Err(Invalid::Number { place: place(), value, most })
}

/// Counts stay below what a float holds exactly, so that they can be reckoned with.
fn count(place: impl FnOnce() -> String, value: u64) -> Result<(), Invalid> {
    if value <= 1 << f64::MANTISSA_DIGITS {
        return Ok(());
    }
    Err(Invalid::Count { place: place(), value })
}
