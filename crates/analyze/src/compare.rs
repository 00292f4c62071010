//! Two recordings, row by row: how much longer does B take than A, and is that more than noise?
//!
//! The ratio is the median time of B over the median time of A, so below 1 B is faster. Its interval is
//! a seeded bootstrap over the samples of both rows. It says how far these samples can be trusted and
//! nothing about what changes from one run to the next (clocks, neighbours, memory layout): two runs
//! on an idle machine differ by more than their intervals now and then.
//!
//! With the threshold `t` (1 % unless told otherwise) the interval is held against the band from
//! `1 / (1 + t)` to `1 + t`: inside it the verdict is *same*, below *faster*, above *slower*, and an
//! interval that reaches over an edge is *ambiguous*. The band is symmetric, so swapping the recordings
//! swaps the verdicts. A row that is the very same measurement on both sides is *same*.

mod side;
pub(crate) mod unlike;
mod verdict;

use warpmark_record::stats::{self, Bootstrap, Interval};
use warpmark_record::store::Recording;
use warpmark_record::{BenchmarkId, Outcome, Record, Run, Seconds};

pub use verdict::{Overall, Verdict, verdict};

use side::{Side, measured};

/// How recordings are compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The relative difference that does not matter.
    pub threshold: f64,
    /// How intervals are made.
    pub bootstrap: Bootstrap,
    /// Whether of several runs of a side all count, so that intervals cover what changes from run to run;
    /// else the latest row of each benchmark does.
    pub all_runs: bool,
    /// Compare this engine's rows of A with that engine's rows of B, path by path, instead of equal ids.
    pub engines: Option<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { threshold: 0.01, bootstrap: Bootstrap::default(), all_runs: false, engines: None }
    }
}

/// Two rows that may be compared, and how they do.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The benchmark in A.
    pub a: BenchmarkId,
    /// The benchmark in B; another engine's when engines are compared.
    pub b: BenchmarkId,
    /// The median time in A.
    pub time_a: Seconds,
    /// The median time in B.
    pub time_b: Seconds,
    /// `time_b / time_a`.
    pub ratio: f64,
    /// The interval of the ratio.
    pub interval: Interval,
    /// What follows.
    pub verdict: Verdict,
}

/// Two rows that must not be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The benchmark in A.
    pub id: BenchmarkId,
    /// Every way in which the two are unlike.
    pub reasons: Vec<String>,
}

/// A benchmark that only one side measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmatched {
    /// The benchmark.
    pub id: BenchmarkId,
    /// What the other side says of it; `None` when it has no such row.
    pub other_side: Option<Outcome>,
}

/// What came of comparing two recordings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// The relative difference that did not matter.
    pub threshold: f64,
    /// Rows that were compared, in the order of their ids.
    pub pairs: Vec<Pair>,
    /// Rows that must not be compared, and why.
    pub refused: Vec<Refusal>,
    /// Measured in A alone.
    pub only_a: Vec<Unmatched>,
    /// Measured in B alone.
    pub only_b: Vec<Unmatched>,
    /// Differences that do not forbid a comparison and may explain it: driver, power limit, build.
    pub notes: Vec<String>,
}

impl Comparison {
    /// The geometric mean of all ratios; `None` without pairs.
    pub fn mean_ratio(&self) -> Option<f64> {
        let ratios: Vec<f64> = self.pairs.iter().map(|pair| pair.ratio).collect();
        stats::geometric_mean(&ratios)
    }

    /// The verdict on all rows. Unlike things weigh most: who compares them has asked a question that
    /// has no answer, whatever the other rows say.
    pub fn overall(&self) -> Overall {
        let any = |verdict| self.pairs.iter().any(|pair| pair.verdict == verdict);
        if self.pairs.is_empty() || !self.refused.is_empty() {
            return Overall::NotComparable;
        }
        if any(Verdict::Slower) {
            return Overall::Slower;
        }
        let edge = 1.0 + self.threshold;
        let may_be_slower = self.pairs.iter().any(|pair| pair.interval.high > edge);
        let failed = |row: &Unmatched| matches!(row.other_side, Some(Outcome::Failed { .. }));
        if may_be_slower || self.only_a.iter().any(failed) {
            return Overall::Ambiguous;
        }
        Overall::SameOrFaster
    }
}

/// Compares B with A.
pub fn compare(a: &Recording, b: &Recording, options: &Options) -> Comparison {
    let mut comparison = Comparison { threshold: options.threshold, ..Comparison::default() };
    let engines = options.engines.as_ref();
    let (engine_a, engine_b) = (engines.map(|e| e.0.as_str()), engines.map(|e| e.1.as_str()));
    let all = options.all_runs;
    let mut left = Side::of(a, engine_a, all, "A", &mut comparison.notes);
    let mut right = Side::of(b, engine_b, all, "B", &mut comparison.notes);
    let keys: Vec<String> = left.rows.keys().chain(right.rows.keys()).cloned().collect();
    for key in keys {
        if let (Some(row_a), Some(row_b)) = (left.rows.get(&key), right.rows.get(&key))
            && measured(row_a)
            && measured(row_b)
        {
            let runs = (left.run(row_a), right.run(row_b));
            let repeats = (left.repeats(&key, row_a), right.repeats(&key, row_b));
            comparison.add(row_a, row_b, runs, &repeats, options);
            left.rows.remove(&key);
            right.rows.remove(&key);
        }
    }
    if engines.is_none() {
        comparison.refuse_other_engines(&mut left, &mut right);
    }
    comparison.only_a = left.unmatched(&right);
    comparison.only_b = right.unmatched(&left);
    comparison.pairs.sort_by(|x, y| x.a.cmp(&y.a));
    comparison
}

impl Comparison {
    fn add(
        &mut self,
        a: &Record,
        b: &Record,
        runs: (Option<&Run>, Option<&Run>),
        repeats: &(Vec<&Record>, Vec<&Record>),
        options: &Options,
    ) {
        let mut reasons = unlike::rows(a, b);
        match runs {
            (Some(run_a), Some(run_b)) => {
                reasons.extend(unlike::runs(run_a, run_b));
                for note in unlike::notes(run_a, run_b) {
                    if !self.notes.contains(&note) {
                        self.notes.push(note);
                    }
                }
            }
            _ => reasons.push("the line of a run is missing, so its device is unknown".to_owned()),
        }
        if reasons.is_empty() {
            match pair(a, b, repeats, options) {
                Some(pair) => return self.pairs.push(pair),
                None => reasons.push("a median time is 0, so there is no ratio".to_owned()),
            }
        }
        self.refused.push(Refusal { id: a.id.clone(), reasons });
    }

    /// Rows of one path that stand under different engines on the two sides, and under none in common.
    fn refuse_other_engines(&mut self, left: &mut Side<'_>, right: &mut Side<'_>) {
        let matched: Vec<String> = self.pairs.iter().map(|pair| pair.a.path()).collect();
        let keys: Vec<String> = left.rows.keys().cloned().collect();
        for key in keys {
            let a = left.rows[&key];
            let path = a.id.path();
            let counterpart = right
                .rows
                .iter()
                .find(|(_, b)| b.id.path() == path && b.id.engine() != a.id.engine() && measured(b))
                .map(|(key, b)| (key.clone(), b.id.engine().to_owned()));
            if let Some((other_key, engine)) = counterpart
                && measured(a)
                && !matched.contains(&path)
            {
                let reason = format!(
                    "engine: {} and {engine} are two programs; ask for a comparison of engines",
                    a.id.engine()
                );
                self.refused.push(Refusal { id: a.id.clone(), reasons: vec![reason] });
                left.rows.remove(&key);
                right.rows.remove(&other_key);
            }
        }
    }
}

/// `repeats` are all rows of the benchmark that count, `a` and `b` among them.
fn pair(
    a: &Record,
    b: &Record,
    repeats: &(Vec<&Record>, Vec<&Record>),
    options: &Options,
) -> Option<Pair> {
    let (runs_a, runs_b) = (times(&repeats.0), times(&repeats.1));
    let (time_a, time_b) = (middle(&runs_a)?, middle(&runs_b)?);
    if time_a.0 <= 0.0 || time_b.0 <= 0.0 {
        return None;
    }
    let interval = if repeats.0 == repeats.1 {
        // One and the same measurement, so there is nothing to be uncertain of.
        Interval { low: 1.0, high: 1.0, confidence: 1.0 }
    } else if let ([one_a], [one_b]) = (runs_a.as_slice(), runs_b.as_slice()) {
        options.bootstrap.median_ratio(one_b, one_a)?
    } else {
        options.bootstrap.median_ratio_of_runs(&runs_b, &runs_a)?
    };
    Some(Pair {
        a: a.id.clone(),
        b: b.id.clone(),
        time_a,
        time_b,
        ratio: time_b.ratio(time_a),
        interval,
        verdict: verdict(interval, options.threshold),
    })
}

fn times(rows: &[&Record]) -> Vec<Vec<f64>> {
    rows.iter().filter_map(|row| Some(row.samples.as_ref()?.per_iteration())).collect()
}

/// The median of the runs' medians.
fn middle(runs: &[Vec<f64>]) -> Option<Seconds> {
    let medians: Option<Vec<f64>> = runs.iter().map(|run| stats::median(run)).collect();
    stats::median(&medians?).map(Seconds)
}

#[cfg(test)]
#[path = "compare/compare_tests.rs"]
mod tests;
