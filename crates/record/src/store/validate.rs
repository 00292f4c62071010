//! What a row must not say, whoever wrote it: checked before writing and after reading.

use crate::load::{Histogram, Load};
use crate::row::{Outcome, Record, Samples};

/// Why a row contradicts itself.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// A number that must be finite and not negative is not.
    #[error("{place} is {value}: expected a finite number, at least 0")]
    Number {
        /// The field, with the sample's position.
        place: String,
        /// What stands there.
        value: f64,
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
    ] {
        if let Some(value) = value {
            number(|| place.to_owned(), value)?;
        }
    }
    if let Some(found) = &row.load {
        load(found)?;
    }
    match (&row.outcome, &row.samples) {
        (Outcome::Measured, Some(found)) => samples(found),
        (Outcome::Measured, None) if row.load.is_some() => Ok(()),
        (Outcome::Measured, None) => Err(Invalid::NotMeasured),
        (Outcome::Skipped { .. } | Outcome::Failed { .. }, Some(_)) => Err(Invalid::TimesOfNothing),
        (Outcome::Skipped { .. } | Outcome::Failed { .. }, None) => Ok(()),
    }
}

fn samples(samples: &Samples) -> Result<(), Invalid> {
    if samples.iterations.is_empty() {
        return Err(Invalid::NotMeasured);
    }
    if let Some(at) = samples.iterations.iter().position(|n| *n == 0) {
        return Err(Invalid::NoIterations(at));
    }
    let expected = samples.iterations.len();
    times("wall_s", &samples.wall_s, expected)?;
    if let Some(device_s) = &samples.device_s {
        times("device_s", device_s, expected)?;
    }
    for (phase, seconds) in &samples.phases {
        times(&format!("phases.{phase}"), seconds, expected)?;
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
    for (cause, places) in &samples.throttled {
        if let Some(place) = places.iter().find(|place| **place >= expected) {
            return Err(Invalid::NoSuchSample { cause: cause.clone(), place: *place, expected });
        }
    }
    if let Some(burst) = &samples.burst {
        times("burst.seconds", &burst.seconds, burst.iterations.len())?;
        number(|| "samples.burst.rest_s".to_owned(), burst.rest_s)?;
        number(|| "samples.burst.load_s".to_owned(), burst.load_s)?;
    }
    number(|| "samples.warm_up_s".to_owned(), samples.warm_up_s)
}

fn load(load: &Load) -> Result<(), Invalid> {
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
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(Invalid::Number { place: place(), value })
}
