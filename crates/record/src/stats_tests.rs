#![allow(clippy::float_cmp, reason = "the values compared are exact")]

use super::*;
use proptest::prelude::*;

fn samples(at_least: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(1e-9..1e6_f64, at_least..120)
}

#[test]
fn the_median_of_an_even_count_is_the_mean_of_the_middle_two() {
    assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    assert_eq!(median(&[9.0, 1.0, 3.0]), Some(3.0));
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[1.0, f64::NAN]), None);
}

#[test]
fn the_scaled_mad_of_a_normal_sample_is_its_standard_deviation() {
    // The 999 inner quantiles of the standard normal, by Newton's method on its distribution.
    let values: Vec<f64> = (1..1000).map(|i| normal_quantile(f64::from(i) / 1000.0)).collect();
    let sigma = mad(&values).unwrap();
    assert!((sigma - 1.0).abs() < 0.005, "{sigma}");
}

fn normal_quantile(probability: f64) -> f64 {
    let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    // Simpson's rule from 0 is plenty for a test.
    let distribution = |x: f64| {
        let step = x / 200.0;
        let inner: f64 = (1..200)
            .map(|i| density(f64::from(i) * step) * if i % 2 == 0 { 2.0 } else { 4.0 })
            .sum();
        0.5 + (density(0.0) + inner + density(x)) * step / 3.0
    };
    (0..60).fold(0.0, |x, _| {
        let step: f64 = (distribution(x) - probability) / density(x);
        x - step.clamp(-0.5, 0.5)
    })
}

#[test]
fn quartiles_interpolate_as_numpy_does() {
    let found = quartiles(&[1.0, 2.0, 3.0, 4.0]).unwrap();
    assert_eq!(found, Quartiles { lower: 1.75, median: 2.5, upper: 3.25 });
    assert_eq!(found.range(), 1.5);
}

#[test]
fn a_geometric_mean_takes_positive_numbers_only() {
    assert!((geometric_mean(&[0.5, 2.0]).unwrap() - 1.0).abs() < 1e-15);
    assert_eq!(geometric_mean(&[1.0, 0.0]), None);
    assert_eq!(geometric_mean(&[1.0, f64::INFINITY]), None);
    assert_eq!(geometric_mean(&[]), None);
}

#[test]
fn p99_of_30_samples_is_refused_with_the_number_it_needs() {
    let error = percentile(&[1.0; 30], 0.99).unwrap_err();
    assert_eq!(error, StatsError::TooFew { quantile: 0.99, needed: 1000, n: 30 });
    assert!(error.to_string().starts_with("p99 needs at least 1000 samples, there are 30"));
    assert_eq!(samples_needed(0.5), Ok(20));
    assert_eq!(samples_needed(0.9), Ok(100));
    assert_eq!(samples_needed(0.1), Ok(100));
    assert_eq!(samples_needed(0.999), Ok(10_000));
}

#[test]
fn a_percentile_outside_the_open_unit_interval_is_refused() {
    for quantile in [0.0, 1.0, -0.1, 99.0, f64::NAN] {
        assert!(matches!(percentile(&[1.0; 100], quantile), Err(StatsError::NoQuantile(_))));
    }
    let mut values = [1.0; 100];
    values[7] = f64::NAN;
    assert_eq!(percentile(&values, 0.5), Err(StatsError::NotANumber { index: 7 }));
}

#[test]
fn the_median_interval_takes_the_ranks_of_the_published_tables() {
    // Conover, Practical Nonparametric Statistics, 95 %: ranks 2 and 9 of 10, 6 and 15 of 20, 40 and
    // 61 of 100.
    for (n, low, high, coverage) in
        [(6, 1.0, 6.0, 0.96875), (10, 2.0, 9.0, 0.978_516), (20, 6.0, 15.0, 0.958_61)]
    {
        let values: Vec<f64> = (1..=n).rev().map(f64::from).collect();
        let found = median_interval(&values, 0.95).unwrap();
        assert_eq!((found.low, found.high), (low, high), "{n} samples");
        assert!((found.confidence - coverage).abs() < 1e-5, "{n}: {}", found.confidence);
    }
    let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
    let found = median_interval(&hundred, 0.95).unwrap();
    assert_eq!((found.low, found.high), (40.0, 61.0));
    assert_eq!(median_interval(&[1.0; 5], 0.95), None);
}

#[test]
fn the_median_interval_does_not_underflow_with_many_samples() {
    let values: Vec<f64> = (0..5000).map(f64::from).collect();
    let found = median_interval(&values, 0.95).unwrap();
    // Half the width is 1.96 * √n / 2 in ranks.
    assert!((found.high - found.low - 1.96 * 5000_f64.sqrt()).abs() < 4.0);
}

#[test]
fn the_bootstrap_covers_the_truth_about_as_often_as_it_says() {
    let bootstrap = Bootstrap::default();
    let mut random = SplitMix64(1);
    let hits = (0..300)
        .filter(|_| {
            let sample: Vec<f64> =
                (0..40).map(|_| (random.next() >> 11) as f64 / (1_u64 << 53) as f64).collect();
            let found = bootstrap.interval(&sample, median_of).unwrap();
            found.low <= 0.5 && 0.5 <= found.high
        })
        .count();
    // 285 expected; 15 is four standard deviations.
    assert!((270..=300).contains(&hits), "{hits} of 300");
}

#[test]
fn the_generator_gives_the_published_sequence() {
    // Vigna's splitmix64.c, seed 1234567.
    let mut random = SplitMix64(1_234_567);
    assert_eq!(random.next(), 6_457_827_717_110_365_317);
    assert_eq!(random.next(), 3_203_168_211_198_807_973);
}

#[test]
fn drift_compares_the_ends_and_ignores_one_spike() {
    let steady = [1.0, 1.0, 1.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0];
    assert_eq!(drift(&steady), Some(0.0));
    assert_eq!(drift(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.5, 1.5, 1.5]), Some(0.5));
    assert_eq!(drift(&[1.0; 5]), None);
}

#[test]
fn one_far_value_is_one_outlier() {
    let mut values = vec![1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.02, 0.98];
    assert_eq!(outliers(&values), Some(0));
    values.push(5.0);
    assert_eq!(outliers(&values), Some(1));
}

proptest! {
    #[test]
    fn the_order_of_samples_does_not_matter(values in samples(1), by in 0_usize..100) {
        let mut turned = values.clone();
        turned.rotate_left(by % values.len());
        prop_assert_eq!(median(&values), median(&turned));
        prop_assert_eq!(mad(&values), mad(&turned));
        prop_assert_eq!(quartiles(&values), quartiles(&turned));
        prop_assert_eq!(median_interval(&values, 0.9), median_interval(&turned, 0.9));
        prop_assert_eq!(outliers(&values), outliers(&turned));
    }

    #[test]
    fn half_of_the_samples_lie_on_each_side_of_the_median(values in samples(1)) {
        let middle = median(&values).unwrap();
        let below = values.iter().filter(|v| **v < middle).count();
        let above = values.iter().filter(|v| **v > middle).count();
        prop_assert!(2 * below <= values.len() && 2 * above <= values.len());
    }

    #[test]
    fn scaling_the_samples_scales_what_has_their_unit(values in samples(6), factor in 0.5..2.0_f64) {
        let scaled: Vec<f64> = values.iter().map(|value| value * factor).collect();
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (a.abs() + b.abs() + 1e-12);
        prop_assert!(close(median(&scaled).unwrap(), factor * median(&values).unwrap()));
        prop_assert!(close(mad(&scaled).unwrap(), factor * mad(&values).unwrap()));
        prop_assert!(close(drift(&scaled).unwrap(), drift(&values).unwrap()));
        let means = geometric_mean(&scaled).zip(geometric_mean(&values));
        prop_assert!(means.is_some_and(|(a, b)| close(a, factor * b)));
    }

    #[test]
    fn quartiles_and_intervals_are_in_order_and_inside_the_sample(values in samples(6)) {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        let q = quartiles(&values).unwrap();
        // Interpolating between two equal values may round in the last place.
        let slack = 1e-12 * most;
        prop_assert!(least - slack <= q.lower && q.lower <= q.median + slack);
        prop_assert!(q.median <= q.upper + slack && q.upper <= most + slack);
        let interval = median_interval(&values, 0.95).unwrap();
        prop_assert!(least <= interval.low && interval.low <= median(&values).unwrap());
        prop_assert!(median(&values).unwrap() <= interval.high && interval.high <= most);
        prop_assert!(interval.confidence >= 0.95);
    }

    #[test]
    fn the_ratio_of_a_sample_to_itself_has_one_in_its_interval(values in samples(2), seed: u64) {
        let bootstrap = Bootstrap { seed, ..Bootstrap::default() };
        let found = bootstrap.median_ratio(&values, &values).unwrap();
        prop_assert!(found.low <= 1.0 && 1.0 <= found.high);
        prop_assert_eq!(bootstrap.median_ratio(&values, &values), Some(found));
    }

    #[test]
    fn a_percentile_is_given_exactly_when_there_are_enough_samples(
        n in 1_usize..2000,
        quantile in 0.01..0.99_f64,
    ) {
        let values: Vec<f64> = (0..n).map(|i| i as f64).collect();
        let needed = samples_needed(quantile).unwrap();
        match percentile(&values, quantile) {
            Ok(value) => {
                prop_assert!(n >= needed);
                // Ten on the thinner side, give or take the interpolation.
                let beyond = values.iter().filter(|v| **v > value).count();
                let before = values.iter().filter(|v| **v < value).count();
                prop_assert!(beyond.min(before) >= 9);
            }
            Err(error) => prop_assert_eq!(error, StatsError::TooFew { quantile, needed, n }),
        }
    }
}

#[test]
fn runs_that_differ_widen_the_interval_of_their_ratio() {
    let steady: Vec<f64> = (0..20).map(|i| 1.0 + 1e-4 * f64::from(i)).collect();
    let shifted: Vec<f64> = steady.iter().map(|time| time * 1.1).collect();
    let bootstrap = Bootstrap::default();
    let alike = bootstrap.median_ratio_of_runs(&[&steady, &steady], &[&steady, &steady]).unwrap();
    assert!(alike.high - alike.low < 0.002, "{alike:?}");
    let apart = bootstrap.median_ratio_of_runs(&[&steady, &shifted], &[&steady, &steady]).unwrap();
    assert!(apart.low < 1.002 && apart.high > 1.098, "{apart:?}");
    assert_eq!(bootstrap.median_ratio_of_runs(&[], &[&steady]), None);
    assert_eq!(bootstrap.median_ratio_of_runs(&[&vec![f64::NAN]], &[&steady]), None);
}
