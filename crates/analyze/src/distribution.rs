//! The times of what happened within iterations: the median and the tail, where there are samples
//! enough to speak of it.

use warpmark_record::stats::{self, StatsError};
use warpmark_record::{Record, Seconds};

/// The quantiles that are asked of every distribution.
pub const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

/// One distribution of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// Its name as recorded, `time_to_first_token_s`.
    pub name: String,
    /// How many times there are.
    pub n: usize,
    /// The mean.
    pub mean: Seconds,
    /// The standard deviation of a sample (n - 1); `None` of a single time.
    pub deviation: Option<Seconds>,
    /// Each of [`QUANTILES`], or why it cannot be had.
    pub quantiles: Vec<(f64, Result<Seconds, StatsError>)>,
}

impl Distribution {
    /// The distributions of a row by name; none where it was not measured.
    pub fn of(record: &Record) -> Vec<Self> {
        let Some(samples) = &record.samples else {
            return Vec::new();
        };
        let named = samples.distributions.iter();
        named.filter(|(_, times)| !times.is_empty()).map(|(name, times)| new(name, times)).collect()
    }

    /// Its name in words, without the unit: `time to first token`.
    pub fn words(&self) -> String {
        self.name.strip_suffix("_s").unwrap_or(&self.name).replace('_', " ")
    }
}

fn new(name: &str, times: &[f64]) -> Distribution {
    let n = times.len();
    let (mean, deviation) = mean_and_deviation(times);
    let quantile = |q| (q, stats::percentile(times, q).map(Seconds));
    Distribution {
        name: name.to_owned(),
        n,
        mean: Seconds(mean),
        deviation: deviation.map(Seconds),
        quantiles: QUANTILES.map(quantile).to_vec(),
    }
}

/// The mean, and the standard deviation of a sample (n - 1), which a single value has none of.
pub(crate) fn mean_and_deviation(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_tail_is_refused_where_too_few_times_lie_beyond_it() {
        let mut row = fixture::decode("f32", 0.04);
        let times = (1..=200).map(f64::from).collect();
        let distributions = &mut row.samples.as_mut().unwrap().distributions;
        distributions.insert("time_to_first_token_s".to_owned(), times);
        let found = Distribution::of(&row).remove(0);
        assert_eq!((found.words().as_str(), found.n), ("time to first token", 200));
        assert_eq!(found.mean, Seconds(100.5));
        let [p50, p95, p99] = &found.quantiles[..] else { panic!("{found:?}") };
        assert_eq!(p50.1, Ok(Seconds(100.5)));
        assert!((p95.1.as_ref().unwrap().0 - 190.05).abs() < 1e-9);
        assert!(matches!(p99.1, Err(StatsError::TooFew { needed: 1000, n: 200, .. })), "{p99:?}");
    }

    #[test]
    fn a_single_time_has_no_deviation_and_a_row_without_times_no_distribution() {
        let mut row = fixture::decode("f32", 0.04);
        assert_eq!(Distribution::of(&row), []);
        let distributions = &mut row.samples.as_mut().unwrap().distributions;
        distributions.insert("x_s".to_owned(), vec![2.0]);
        let found = Distribution::of(&row).remove(0);
        assert_eq!((found.mean, found.deviation), (Seconds(2.0), None));
        assert!(found.quantiles.iter().all(|(_, value)| value.is_err()));
    }
}
