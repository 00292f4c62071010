//! Two recordings, row by row: how much longer does B take than A, and is that more than noise?
//!
//! The ratio is the median time of B over the median time of A, so below 1 B is faster. Its interval covers
//! what changes from one run to the next (clocks, neighbours, memory layout), which the samples of a single
//! run do not show: as `variation` has it from repeated runs, or by a floor where there are none.
//!
//! With the threshold `t` (1 % unless told otherwise) the interval is held against the band from
//! `1 / (1 + t)` to `1 + t`: inside it the verdict is *same*. A row is *faster* or *slower* where the wider
//! interval that holds for all rows together lies beyond the band: of a hundred rows five would leave their
//! own by chance. Everything else is *ambiguous*. The band is symmetric, so swapping the recordings
//! swaps the verdicts. A row that is the very same measurement on both sides is *same*.
//!
//! Of single runs without any that were repeated, the middle of all ratios is judged as well (`Trend`): what
//! all rows have in common may be clear where no row alone is. The two share the chance of a false alarm.

mod matched;
mod side;
mod uncertainty;
pub(crate) mod unlike;
mod variation;
mod verdict;

use std::collections::BTreeSet;

use warpmark_record::stats::{self, Bootstrap, Interval};
use warpmark_record::store::Recording;
use warpmark_record::{BenchmarkId, Outcome, Record, Run, Seconds};

pub use verdict::{Overall, Trend, Verdict, verdict};

use matched::{Matched, around};
use side::{Side, measured};
use uncertainty::Uncertainty;
use variation::Variation;

/// The confidence of every interval, and of all rows together.
const CONFIDENCE: f64 = 0.95;

/// Rows from which on their ratios have a middle.
const ROWS_OF_A_TREND: usize = 3;

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
    /// Compare machines that differ in cores, threads, memory, governor or virtualisation, and cards
    /// that differ in SMs, ECC, multi-instance mode, power limit or link, too, with a note.
    pub across_machines: bool,
    /// Compare this engine's rows of A with that engine's rows of B, path by path, instead of equal ids.
    pub engines: Option<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threshold: 0.01,
            bootstrap: Bootstrap::default(),
            all_runs: false,
            across_machines: false,
            engines: None,
        }
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
    /// The interval of the ratio, for this row alone.
    pub interval: Interval,
    /// The wider one that holds for all rows together.
    pub together: Interval,
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
    /// What all rows have in common; `None` of few rows, and where runs were repeated.
    pub trend: Option<Trend>,
    /// What the variation between runs was taken to be; `None` without pairs.
    pub basis: Option<Basis>,
}

/// Where the variation between runs is from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Basis {
    /// A typical standard deviation from run to run, as a share.
    pub typical: f64,
    /// Whether repeated runs showed it; else it is a floor from what the rows say of themselves.
    pub repeated: bool,
    /// How many of those were earlier runs of the same rows on the same machine.
    pub earlier: usize,
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
        let all = self.trend.map(|trend| trend.verdict);
        if any(Verdict::Slower) || all == Some(Verdict::Slower) {
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

/// In what ways two runs are of unlike machines, though their devices bear one name: cores, memory, threads, and
/// of a card its SMs, ECC, multi-instance mode and power limit.
pub fn unlike_machines(a: &Run, b: &Run) -> Vec<String> {
    unlike::machines(a, b)
}

/// Compares B with A.
pub fn compare(a: &Recording, b: &Recording, options: &Options) -> Comparison {
    compare_among(a, b, &Recording::default(), options)
}

/// Compares B with A. What varies from run to run is learnt from `earlier` runs, too: those of the same rows
/// on the same machine count, and what else is among them does not.
pub fn compare_among(
    a: &Recording,
    b: &Recording,
    earlier: &Recording,
    options: &Options,
) -> Comparison {
    let mut comparison = Comparison { threshold: options.threshold, ..Comparison::default() };
    let engines = options.engines.as_ref();
    let (engine_a, engine_b) = (engines.map(|e| e.0.as_str()), engines.map(|e| e.1.as_str()));
    let all = options.all_runs;
    let mut left = Side::of(a, engine_a, all, "A", &mut comparison.notes);
    let mut right = Side::of(b, engine_b, all, "B", &mut comparison.notes);
    let keys: BTreeSet<String> = left.rows.keys().chain(right.rows.keys()).cloned().collect();
    let mut matched = Vec::new();
    for key in keys {
        if let (Some(row_a), Some(row_b)) =
            (left.rows.get(&key).copied(), right.rows.get(&key).copied())
            && measured(row_a)
            && measured(row_b)
        {
            let runs = (left.run(row_a), right.run(row_b));
            let repeats = (left.repeats(&key, row_a), right.repeats(&key, row_b));
            matched.extend(comparison.admit((row_a, row_b), runs, &repeats, options));
            left.rows.remove(&key);
            right.rows.remove(&key);
        }
    }
    comparison.judge(&matched, earlier, options);
    if engines.is_none() {
        comparison.refuse_other_engines(&mut left, &mut right);
    }
    comparison.only_a = left.unmatched(&right);
    comparison.only_b = right.unmatched(&left);
    comparison.pairs.sort_by(|x, y| x.a.cmp(&y.a));
    comparison
}

impl Comparison {
    /// Two rows as a pair, unless they must not be compared.
    fn admit<'a>(
        &mut self,
        (a, b): (&'a Record, &'a Record),
        runs: (Option<&'a Run>, Option<&'a Run>),
        repeats: &(Vec<&'a Record>, Vec<&'a Record>),
        options: &Options,
    ) -> Option<Matched<'a>> {
        let mut reasons = unlike::rows(a, b);
        if let (Some(run_a), Some(run_b)) = runs {
            let mut notes = unlike::notes(run_a, run_b);
            reasons.extend(unlike::devices(run_a, run_b));
            let machines = unlike::machines(run_a, run_b);
            if !machines.is_empty() && !options.across_machines {
                notes.push("unlike machines are compared with `--across-machines`".to_owned());
            }
            if options.across_machines { &mut notes } else { &mut reasons }.extend(machines);
            let forbidden = unlike::crosses_the_link(a) && !options.across_machines;
            if forbidden { &mut reasons } else { &mut notes }.extend(unlike::links(run_a, run_b));
            for note in notes {
                if !self.notes.contains(&note) {
                    self.notes.push(note);
                }
            }
        } else {
            reasons.push("the line of a run is missing, so its device is unknown".to_owned());
        }
        if reasons.is_empty() {
            let matched = runs.0.zip(runs.1).and_then(|runs| Matched::of((a, b), runs, repeats));
            if matched.is_some() {
                return matched;
            }
            reasons.push("a median time is 0, so there is no ratio".to_owned());
        }
        self.refused.push(Refusal { id: a.id.clone(), reasons });
        None
    }

    /// Makes pairs of what may be compared, each with its verdict, and judges what they have in common.
    fn judge(&mut self, matched: &[Matched<'_>], earlier: &Recording, options: &Options) {
        if matched.is_empty() {
            return;
        }
        let variation = Variation::of(matched, earlier);
        let repeated = variation.is_known();
        let earlier = if repeated { variation.earlier } else { 0 };
        self.basis = Some(Basis { typical: variation.typical(), repeated, earlier });
        let mut alarm = 1.0 - CONFIDENCE;
        if !repeated && matched.len() >= ROWS_OF_A_TREND && matched.iter().any(|pair| !pair.one) {
            alarm /= 2.0;
            self.trend = trend(matched, variation.of_all(), 1.0 - alarm, options.threshold);
        }
        let confidence = 1.0 - alarm / matched.len() as f64;
        for (at, rows) in matched.iter().enumerate() {
            let within = if rows.one { Some(0.0) } else { rows.within(&options.bootstrap) };
            let found = within.and_then(|within| {
                let uncertainty = variation.of_pair(at, rows, within);
                rows.pair(uncertainty, confidence, options.threshold)
            });
            match found {
                Some(pair) => self.pairs.push(pair),
                None => self.refused.push(Refusal {
                    id: rows.a.id.clone(),
                    reasons: vec!["a median time is 0, so there is no ratio".to_owned()],
                }),
            }
        }
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

/// The middle of all ratios, with a verdict of its own.
fn trend(
    matched: &[Matched<'_>],
    uncertainty: Uncertainty,
    confidence: f64,
    threshold: f64,
) -> Option<Trend> {
    let ratios: Vec<f64> = matched.iter().filter_map(Matched::log_ratio).collect();
    let centre = stats::median(&ratios)?;
    let interval = around(centre, uncertainty, confidence);
    Some(Trend { ratio: centre.exp(), interval, verdict: verdict(interval, interval, threshold) })
}

#[cfg(test)]
#[path = "compare/compare_tests.rs"]
mod tests;
