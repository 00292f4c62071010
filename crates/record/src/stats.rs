//! Statistics that assume nothing about the shape of a distribution.
//!
//! Times are skewed and heavy-tailed, so everything here works on order statistics: medians instead of
//! means, MAD instead of the standard deviation, exact binomial intervals instead of normal ones. What
//! a sample cannot support is refused ([`percentile`]) or `None`, never estimated anyway.

/// Turns the median absolute deviation of normal data into its standard deviation: 1 / Φ⁻¹(3/4).
pub const MAD_TO_SIGMA: f64 = 1.482_602_218_505_602;

/// Samples that must lie beyond a percentile before [`percentile`] gives it.
///
/// The number of samples beyond the true percentile is binomial; with ten expected its standard
/// deviation is about √10, so the tail the answer cuts off is known to about a third of itself. With
/// fewer, the answer is in effect the sample's extreme, which grows with the time spent on sampling.
pub const SAMPLES_BEYOND_PERCENTILE: f64 = 10.0;

/// Why a statistic cannot be had.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatsError {
    /// Too few samples for this percentile.
    #[error(
        "p{} needs at least {needed} samples, there are {n}: sample more, or ask for a percentile nearer to the median",
        .quantile * 100.0
    )]
    TooFew {
        /// The quantile that was asked for, 0 to 1.
        quantile: f64,
        /// How many samples it needs.
        needed: usize,
        /// How many there are.
        n: usize,
    },
    /// A quantile outside the open interval from 0 to 1.
    #[error("{0} is no quantile: give a number between 0 and 1, both excluded (0.99 for p99)")]
    NoQuantile(f64),
    /// A sample is NaN.
    #[error("sample {index} is NaN: the samples have no order")]
    NotANumber {
        /// Its position, from 0.
        index: usize,
    },
}

/// A range that holds a statistic with a known confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// The probability with which the method covers the true value, 0 to 1.
    pub confidence: f64,
}

impl Interval {
    /// Half the width as a share of `centre`; infinite when `centre` is 0.
    pub fn relative_half_width(&self, centre: f64) -> f64 {
        ((self.high - self.low) / 2.0 / centre).abs()
    }
}

/// The quarter points of a sample, linearly interpolated between order statistics (Hyndman and Fan's
/// definition 7, which NumPy and R use unless told otherwise).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quartiles {
    /// A quarter of the samples lies below.
    pub lower: f64,
    /// The median.
    pub median: f64,
    /// A quarter of the samples lies above.
    pub upper: f64,
}

impl Quartiles {
    /// The interquartile range.
    pub fn range(&self) -> f64 {
        self.upper - self.lower
    }
}

/// The middle value, or the mean of the two middle ones; `None` of nothing or when a value is NaN.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut scratch = ordered_input(values)?;
    Some(median_of(&mut scratch))
}

/// The median absolute deviation from the median, scaled by [`MAD_TO_SIGMA`] so that it reads like a
/// standard deviation; `None` of nothing or when a value is NaN.
pub fn mad(values: &[f64]) -> Option<f64> {
    let centre = median(values)?;
    let mut deviations: Vec<f64> = values.iter().map(|value| (value - centre).abs()).collect();
    Some(MAD_TO_SIGMA * median_of(&mut deviations))
}

/// The quartiles; `None` of nothing or when a value is NaN.
pub fn quartiles(values: &[f64]) -> Option<Quartiles> {
    let sorted = sorted(values)?;
    let at = |quantile| interpolated(&sorted, quantile);
    Some(Quartiles { lower: at(0.25), median: at(0.5), upper: at(0.75) })
}

/// The n-th root of the product; `None` of nothing or unless every value is positive and finite.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    let usable = !values.is_empty() && values.iter().all(|v| *v > 0.0 && v.is_finite());
    usable.then(|| {
        let logarithms: f64 = values.iter().map(|value| value.ln()).sum();
        (logarithms / values.len() as f64).exp()
    })
}

/// How many samples [`percentile`] asks for: [`SAMPLES_BEYOND_PERCENTILE`] of them on the thinner side,
/// so 1000 for p99, 100 for p90 and for p10, 20 for the median.
pub fn samples_needed(quantile: f64) -> Result<usize, StatsError> {
    if !(quantile > 0.0 && quantile < 1.0) {
        return Err(StatsError::NoQuantile(quantile));
    }
    let tail = quantile.min(1.0 - quantile);
    // 1 - 0.99 is a little less than 0.01; without the factor p99 would ask for 1001.
    Ok((SAMPLES_BEYOND_PERCENTILE / tail * (1.0 - 1e-9)).ceil() as usize)
}

/// The value below which the share `quantile` of samples lies, interpolated like [`quartiles`].
///
/// Refused with the number of samples needed when there are too few of them to speak about the tail;
/// see [`SAMPLES_BEYOND_PERCENTILE`] for the rule.
pub fn percentile(values: &[f64], quantile: f64) -> Result<f64, StatsError> {
    let needed = samples_needed(quantile)?;
    if values.len() < needed {
        return Err(StatsError::TooFew { quantile, needed, n: values.len() });
    }
    if let Some(index) = values.iter().position(|value| value.is_nan()) {
        return Err(StatsError::NotANumber { index });
    }
    // Not empty, as `needed` is at least 20, and free of NaN.
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    Ok(interpolated(&sorted, quantile))
}

/// The exact confidence interval of the median between two order statistics.
///
/// The number of samples below the true median is binomial with probability 1/2 whatever the
/// distribution, so the k-th smallest and k-th largest sample enclose it with a probability that can be
/// computed (David and Nagaraja, *Order Statistics*, §7.1). The narrowest such pair whose coverage is at
/// least `confidence` is returned, with its true coverage. `None` when even the extremes do not reach
/// it (95 % takes 6 samples), when a value is NaN, or when `confidence` is not between 0 and 1.
pub fn median_interval(values: &[f64], confidence: f64) -> Option<Interval> {
    let n = values.len();
    if !(confidence > 0.0 && confidence < 1.0) {
        return None;
    }
    let (rank, coverage) = median_ranks(n, confidence)?;
    let mut scratch = ordered_input(values)?;
    let (_, low, above) = scratch.select_nth_unstable_by(rank - 1, f64::total_cmp);
    let low = *low;
    // The upper rank counts from the top, so it lies in the part above the lower one (n >= 2 * rank).
    let (_, high, _) = above.select_nth_unstable_by(n - 2 * rank, f64::total_cmp);
    Some(Interval { low, high: *high, confidence: coverage })
}

/// The largest k for which the k-th smallest and k-th largest of `n` samples enclose the median with
/// at least `confidence`, and the coverage they reach.
fn median_ranks(n: usize, confidence: f64) -> Option<(usize, f64)> {
    // P(fewer than k samples below the median), kept as a logarithm's exponential: 2^-n underflows.
    let mut log_probability = -(n as f64) * std::f64::consts::LN_2;
    let mut below = 0.0;
    let mut best = None;
    for k in 1..=n / 2 {
        below += log_probability.exp();
        let coverage = 1.0 - 2.0 * below;
        if coverage < confidence {
            break;
        }
        best = Some((k, coverage));
        log_probability += ((n - k + 1) as f64 / k as f64).ln();
    }
    best
}

/// How a bootstrap is run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// Resamples drawn.
    pub resamples: usize,
    /// The confidence asked for, 0 to 1.
    pub confidence: f64,
    /// The seed: the same samples and seed give the same interval on every machine.
    pub seed: u64,
}

impl Default for Bootstrap {
    /// 1000 resamples leave 25 beyond each end of a 95 % interval, enough by
    /// [`SAMPLES_BEYOND_PERCENTILE`].
    fn default() -> Self {
        Self { resamples: 1000, confidence: 0.95, seed: 0x5EED }
    }
}

impl Bootstrap {
    /// The percentile bootstrap interval of `statistic` (Efron 1979). `None` of nothing, when a value
    /// is NaN, or when `resamples` are too few for `confidence`.
    pub fn interval(
        &self,
        values: &[f64],
        mut statistic: impl FnMut(&mut [f64]) -> f64,
    ) -> Option<Interval> {
        let mut scratch = ordered_input(values)?;
        let mut random = SplitMix64(self.seed);
        let draws: Vec<f64> = (0..self.resamples)
            .map(|_| {
                random.resample(values, &mut scratch);
                statistic(&mut scratch)
            })
            .collect();
        self.ends(&draws)
    }

    /// The interval of `median(numerator) / median(denominator)` when the two are sampled
    /// independently. `None` as for [`Bootstrap::interval`], or when a resampled denominator is 0.
    pub fn median_ratio(&self, numerator: &[f64], denominator: &[f64]) -> Option<Interval> {
        let mut upper = ordered_input(numerator)?;
        let mut lower = ordered_input(denominator)?;
        let mut random = SplitMix64(self.seed);
        let draws: Vec<f64> = (0..self.resamples)
            .map(|_| {
                random.resample(numerator, &mut upper);
                random.resample(denominator, &mut lower);
                median_of(&mut upper) / median_of(&mut lower)
            })
            .collect();
        self.ends(&draws)
    }

    /// The same when both were sampled in several runs, one list a run: runs are drawn first and samples
    /// within them after, so that the interval covers what changes from one run to the next (Davison and
    /// Hinkley, *Bootstrap Methods*, 1997, section 3.8). A side's figure is the median of its runs'
    /// medians. `None` as for [`Bootstrap::median_ratio`].
    pub fn median_ratio_of_runs<R: AsRef<[f64]>>(
        &self,
        numerator: &[R],
        denominator: &[R],
    ) -> Option<Interval> {
        self.statistic(|random| {
            Some(random.median_of_runs(numerator)? / random.median_of_runs(denominator)?)
        })
    }

    /// The percentile interval of a statistic that draws for itself. `None` when a draw has no value or
    /// is not finite, or when `resamples` are too few for `confidence`.
    pub fn statistic(
        &self,
        mut statistic: impl FnMut(&mut Resampler) -> Option<f64>,
    ) -> Option<Interval> {
        let mut random = Resampler(SplitMix64(self.seed));
        let draws: Option<Vec<f64>> = (0..self.resamples).map(|_| statistic(&mut random)).collect();
        self.ends(&draws?)
    }

    fn ends(&self, draws: &[f64]) -> Option<Interval> {
        if draws.iter().any(|draw| !draw.is_finite()) {
            return None;
        }
        let tail = (1.0 - self.confidence) / 2.0;
        let low = percentile(draws, tail).ok()?;
        let high = percentile(draws, 1.0 - tail).ok()?;
        Some(Interval { low, high, confidence: self.confidence })
    }
}

/// Draws with replacement, for [`Bootstrap::statistic`].
pub struct Resampler(SplitMix64);

impl Resampler {
    /// One of the numbers below `n`, each as likely; 0 where there is none.
    pub fn index(&mut self, n: usize) -> usize {
        self.0.index(n)
    }

    /// The median of as many values as there are, drawn from them; `None` of nothing or of NaN.
    pub fn median(&mut self, values: &[f64]) -> Option<f64> {
        let mut drawn = ordered_input(values)?;
        self.0.resample(values, &mut drawn);
        Some(median_of(&mut drawn))
    }

    /// The median of the medians of as many runs as there are, drawn from them.
    pub fn median_of_runs<R: AsRef<[f64]>>(&mut self, runs: &[R]) -> Option<f64> {
        let medians: Option<Vec<f64>> = (0..runs.len())
            .map(|_| {
                let run = runs.get(self.index(runs.len()))?;
                self.median(run.as_ref())
            })
            .collect();
        median(&medians?)
    }
}

/// How far the last third of a sample has moved from its first: the difference of their medians as a
/// share of the first's. `None` below six samples (two a third), of NaN, or when the first median is 0.
pub fn drift(values: &[f64]) -> Option<f64> {
    let third = values.len() / 3;
    if third < 2 {
        return None;
    }
    let first = median(&values[..third])?;
    let last = median(&values[values.len() - third..])?;
    (first != 0.0).then(|| (last - first) / first)
}

/// How many samples lie outside Tukey's fences, 1.5 interquartile ranges beyond the quartiles; `None`
/// of nothing or when a value is NaN.
pub fn outliers(values: &[f64]) -> Option<usize> {
    let quartiles = quartiles(values)?;
    let reach = 1.5 * quartiles.range();
    let fences = quartiles.lower - reach..=quartiles.upper + reach;
    Some(values.iter().filter(|value| !fences.contains(value)).count())
}

/// A copy to reorder, if the values have an order at all.
fn ordered_input(values: &[f64]) -> Option<Vec<f64>> {
    let usable = !values.is_empty() && !values.iter().any(|value| value.is_nan());
    usable.then(|| values.to_vec())
}

fn sorted(values: &[f64]) -> Option<Vec<f64>> {
    let mut copy = ordered_input(values)?;
    copy.sort_unstable_by(f64::total_cmp);
    Some(copy)
}

/// The median of values that are not empty and hold no NaN; reorders them.
fn median_of(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    let even = values.len().is_multiple_of(2);
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if !even {
        return *upper;
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    lower.midpoint(*upper)
}

fn interpolated(sorted: &[f64], quantile: f64) -> f64 {
    let position = quantile * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let share = position - below as f64;
    // Not `low + share * (high - low)`: that overshoots `high` by rounding.
    sorted[below] * (1.0 - share) + sorted[above] * share
}

/// Steele, Lea and Flood's generator (*Fast Splittable Pseudorandom Number Generators*, 2014): two lines
/// that never change, so that an interval printed today comes out again in ten years.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Fills `into` with values drawn with replacement.
    fn resample(&mut self, values: &[f64], into: &mut [f64]) {
        for slot in into {
            *slot = values[self.index(values.len())];
        }
    }

    /// The high half of a 128-bit product maps 64 bits onto the indices without a division.
    fn index(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
#[path = "stats_tests.rs"]
mod tests;
