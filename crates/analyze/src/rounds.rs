//! Generations in rounds: the mean over the rounds and its spread, as load tests state them.
//!
//! A round is a sample: some generations one after the other. With `n` generations of `b` sequences in a
//! round of `t` seconds, a generation takes `t / n` and a round answers `b n / t` requests a second.

use std::fmt;

use warpmark_record::units::three_digits;
use warpmark_record::{Record, Seconds, Value};

use crate::distribution::mean_and_deviation;

/// The rounds of a row of generations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rounds {
    /// How many there are.
    pub count: usize,
    /// Generations in each.
    pub generations: u64,
    /// Mean over the rounds of a generation's time, and the standard deviation (n - 1).
    pub time: (Seconds, Seconds),
    /// The same of answered requests a second.
    pub requests_per_s: (f64, f64),
}

impl Rounds {
    /// The rounds of a row whose phase is `generate`; `None` of any other, and where a round was a single
    /// generation or there was only one round.
    pub fn of(record: &Record) -> Option<Self> {
        if record.id.segments().get(2).map(String::as_str) != Some("generate") {
            return None;
        }
        let samples = record.samples.as_ref()?;
        let generations = *samples.iterations.first()?;
        let even = samples.iterations.iter().all(|count| *count == generations);
        if !even || generations < 2 {
            return None;
        }
        let Some(Value::Integer(batch)) = record.parameters.get("batch") else { return None };
        let times: Vec<f64> = samples.wall_s.iter().map(|t| t / generations as f64).collect();
        let requests: Vec<f64> = times.iter().map(|time| *batch as f64 / time).collect();
        let (time, spread) = mean_and_deviation(&times);
        let (rate, rate_spread) = mean_and_deviation(&requests);
        Some(Self {
            count: times.len(),
            generations,
            time: (Seconds(time), Seconds(spread?)),
            requests_per_s: (rate, rate_spread?),
        })
    }
}

impl fmt::Display for Rounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, generations, time, requests_per_s: (rate, spread) } = self;
        write!(
            f,
            "{count} of {generations} generations, mean {} ± {}, {} ± {} requests/s",
            time.0,
            time.1,
            three_digits(*rate),
            three_digits(*spread)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn generations(wall_s: Vec<f64>, each: u64) -> Record {
        let mut row = fixture::decode("f32", 0.04);
        row.id = "text/gpt2-124m/generate/f32/b4/p32+50@warpmark".parse().unwrap();
        row.parameters.insert("batch".to_owned(), 4u64.into());
        let samples = row.samples.as_mut().unwrap();
        samples.iterations = vec![each; wall_s.len()];
        samples.wall_s = wall_s;
        row
    }

    #[test]
    fn rounds_have_a_mean_and_a_spread_of_times_and_of_requests() {
        let found = Rounds::of(&generations(vec![100.0, 200.0], 100)).unwrap();
        assert_eq!((found.count, found.generations), (2, 100));
        assert!(
            (found.time.0.0 - 1.5).abs() < 1e-12 && (found.time.1.0 - 0.5f64.sqrt()).abs() < 1e-12
        );
        // Four sequences each: 4 and 2 requests a second.
        assert!((found.requests_per_s.0 - 3.0).abs() < 1e-12);
        assert_eq!(
            found.to_string(),
            "2 of 100 generations, mean 1.50 s ± 707 ms, 3.00 ± 1.41 requests/s"
        );
    }

    #[test]
    fn what_was_not_taken_in_rounds_has_none() {
        assert_eq!(Rounds::of(&generations(vec![1.0, 1.0], 1)), None);
        assert_eq!(Rounds::of(&generations(vec![1.0], 100)), None);
        assert_eq!(Rounds::of(&fixture::decode("f32", 0.04)), None);
    }
}
