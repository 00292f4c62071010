//! What records mean: rates, shares of a limit, what bounds a row, whether to trust it, and how two
//! recordings compare.
//!
//! Sees records only: nothing here opens a device or reads a file, and nothing is stored. Prices and
//! published figures are handed in, or compiled in with their sources. What cannot be known from a record
//! is `None`, never an assumption.

pub mod attribution;
pub mod check;
pub mod compare;
pub mod cost;
pub mod distribution;
pub mod fleet;
pub mod holdings;
pub mod load_test;
pub mod location;
pub mod money;
pub mod prices;
pub mod rank;
pub mod rates;
pub mod recommend;
pub mod reference;
pub mod roofline;
pub mod rounds;
pub mod scaling;
pub mod speech;
pub mod trust;
pub mod tune;

use std::collections::HashMap;

use warpmark_record::store::Recording;
use warpmark_record::{Outcome, Record, Run, RunId};

pub use attribution::{Attribution, EngineStep};
pub use compare::{Comparison, Overall, Verdict, compare};
pub use distribution::Distribution;
pub use money::UsdPerHour;
pub use prices::Prices;
pub use rates::{MainRate, Rates};
pub use reference::PublishedTables;
pub use roofline::{Bound, Limit, Limits, Placement, Resource, Share};
pub use rounds::Rounds;
pub use speech::SpeechRates;
pub use trust::Caveat;

/// One run of a recording, read in full.
#[derive(Debug)]
pub struct RunAnalysis<'a> {
    /// Its name.
    pub id: &'a RunId,
    /// Its line; `None` when it was lost.
    pub run: Option<&'a Run>,
    /// The limits that its rows are read against.
    pub limits: Limits,
    /// Its rows, in the order in which they were recorded.
    pub rows: Vec<RowAnalysis<'a>>,
    /// What holds for all of its rows.
    pub caveats: Vec<Caveat>,
}

/// One row, read in full.
#[derive(Debug)]
pub struct RowAnalysis<'a> {
    /// The row.
    pub record: &'a Record,
    /// Its times and rates; `None` when it was not measured.
    pub rates: Option<Rates>,
    /// How it stands to the limits; `None` when it was not measured.
    pub placement: Option<Placement>,
    /// The times of what happened within its iterations.
    pub distributions: Vec<Distribution>,
    /// What to know before trusting it.
    pub caveats: Vec<Caveat>,
}

impl RowAnalysis<'_> {
    /// Why the row has no times, when it has none.
    pub fn reason(&self) -> Option<&str> {
        match &self.record.outcome {
            Outcome::Measured => None,
            Outcome::Skipped { reason } | Outcome::Failed { reason } => Some(reason),
        }
    }
}

/// Reads a recording: one analysis a run, in the order in which the runs appear.
pub fn analyze(recording: &Recording) -> Vec<RunAnalysis<'_>> {
    let runs = recording.runs_by_id();
    let mut ids: Vec<&RunId> = recording.runs.iter().map(|run| &run.run).collect();
    let mut rows_of: HashMap<&RunId, Vec<&Record>> = HashMap::new();
    for row in &recording.rows {
        let rows = rows_of.entry(&row.run).or_default();
        if rows.is_empty() && !runs.contains_key(&row.run) {
            ids.push(&row.run);
        }
        rows.push(row);
    }
    ids.into_iter()
        .map(|id| run_analysis(id, runs.get(id).copied(), rows_of.remove(id).unwrap_or_default()))
        .collect()
}

fn run_analysis<'a>(
    id: &'a RunId,
    run: Option<&'a Run>,
    records: Vec<&'a Record>,
) -> RunAnalysis<'a> {
    let measured: Vec<(&Record, Option<Rates>)> =
        records.into_iter().map(|record| (record, Rates::of(record))).collect();
    let limits = Limits::of(
        run,
        measured.iter().filter_map(|(record, rates)| Some((*record, rates.as_ref()?))),
    );
    let rows: Vec<RowAnalysis<'_>> = measured
        .into_iter()
        .map(|(record, rates)| {
            let placement = rates.as_ref().map(|rates| limits.place(record, rates));
            let caveats = trust::of_row(record, rates.as_ref(), placement.as_ref());
            let distributions = Distribution::of(record);
            RowAnalysis { record, rates, placement, distributions, caveats }
        })
        .collect();
    let caveats = trust::of_run(run, &rows);
    RunAnalysis { id, run, limits, rows, caveats }
}

#[cfg(test)]
mod fixture;
