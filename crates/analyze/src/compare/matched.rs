//! Two rows that are compared, on their way to a pair.

use warpmark_record::stats::{self, Bootstrap, Interval};
use warpmark_record::{Record, Run, RunId, Seconds};

use super::uncertainty::Uncertainty;
use super::{CONFIDENCE, Pair, verdict};

/// Two rows that may be compared, with all that counts of them.
pub(super) struct Matched<'a> {
    pub(super) a: &'a Record,
    pub(super) b: &'a Record,
    pub(super) runs: (&'a Run, &'a Run),
    /// Times of an iteration, sample by sample, of each run of a side.
    pub(super) times: (Vec<Vec<f64>>, Vec<Vec<f64>>),
    /// The figure of each side: the median of its runs' medians.
    medians: (Seconds, Seconds),
    /// The runs of both sides.
    run_ids: Vec<&'a RunId>,
    /// Whether the two are one and the same measurement.
    pub(super) one: bool,
}

impl<'a> Matched<'a> {
    /// `None` where a median time is 0, so that there is no ratio.
    pub(super) fn of(
        (a, b): (&'a Record, &'a Record),
        runs: (&'a Run, &'a Run),
        repeats: &(Vec<&'a Record>, Vec<&'a Record>),
    ) -> Option<Self> {
        let times = (times(&repeats.0), times(&repeats.1));
        let medians = (middle(&times.0)?, middle(&times.1)?);
        if medians.0.0 <= 0.0 || medians.1.0 <= 0.0 {
            return None;
        }
        let run_ids = repeats.0.iter().chain(&repeats.1).map(|row| &row.run).collect();
        Some(Self { a, b, runs, times, medians, run_ids, one: repeats.0 == repeats.1 })
    }

    pub(super) fn run_ids(&self) -> impl Iterator<Item = &'a RunId> {
        self.run_ids.iter().copied()
    }

    pub(super) fn log_ratio(&self) -> Option<f64> {
        let ratio = self.medians.1.ratio(self.medians.0).ln();
        ratio.is_finite().then_some(ratio)
    }

    /// The standard deviation of the ratio's logarithm by the samples of two single runs; of several the
    /// runs say it.
    pub(super) fn within(&self, bootstrap: &Bootstrap) -> Option<f64> {
        let ([a], [b]) = (self.times.0.as_slice(), self.times.1.as_slice()) else {
            return Some(0.0);
        };
        let interval = bootstrap.median_ratio(b, a)?;
        let reach = Uncertainty { deviation: 1.0, freedom: None }.reach(bootstrap.confidence);
        Some((interval.high / interval.low).ln() / 2.0 / reach)
    }

    /// The pair with its verdict; `None` where there is no ratio.
    pub(super) fn pair(
        &self,
        uncertainty: Uncertainty,
        confidence: f64,
        threshold: f64,
    ) -> Option<Pair> {
        let ratio = self.medians.1.ratio(self.medians.0);
        let (interval, together) = if self.one {
            // There is nothing to be uncertain of.
            let exact = Interval { low: 1.0, high: 1.0, confidence: 1.0 };
            (exact, exact)
        } else {
            let centre = self.log_ratio()?;
            (around(centre, uncertainty, CONFIDENCE), around(centre, uncertainty, confidence))
        };
        Some(Pair {
            a: self.a.id.clone(),
            b: self.b.id.clone(),
            time_a: self.medians.0,
            time_b: self.medians.1,
            ratio,
            interval,
            together,
            verdict: verdict(interval, together, threshold),
        })
    }
}

/// The interval of a ratio whose logarithm is uncertain.
pub(super) fn around(centre: f64, uncertainty: Uncertainty, confidence: f64) -> Interval {
    let reach = uncertainty.reach(confidence);
    Interval { low: (centre - reach).exp(), high: (centre + reach).exp(), confidence }
}

fn times(rows: &[&Record]) -> Vec<Vec<f64>> {
    rows.iter().filter_map(|row| Some(row.samples.as_ref()?.per_iteration())).collect()
}

/// The median of the runs' medians.
fn middle(runs: &[Vec<f64>]) -> Option<Seconds> {
    let medians: Option<Vec<f64>> = runs.iter().map(|run| stats::median(run)).collect();
    stats::median(&medians?).map(Seconds)
}
