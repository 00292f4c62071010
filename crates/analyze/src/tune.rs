//! What one run says about how to use its device: which precision, which batch, how large a model, and
//! what to change.
//!
//! Rows are put side by side that differ in one thing alone. What a table extrapolates (the largest model)
//! is marked as an estimate with what it rests on; what the rows do not hold is left out.

mod advice;
mod batch;
mod precision;
mod size;

use std::collections::BTreeMap;

use warpmark_record::{BenchmarkId, Group, Record, Seconds, Value};

pub use advice::Advice;
pub use batch::{BatchCurve, BatchPoint};
pub use precision::{Precision, PrecisionRow};
pub use size::{Fit, ModelSize, Scaling};

use crate::{RowAnalysis, RunAnalysis};

/// All that a run says.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuning {
    /// The same work in several types of number.
    pub precisions: Vec<Precision>,
    /// The same work in several batches.
    pub batches: Vec<BatchCurve>,
    /// Models of several sizes.
    pub scalings: Vec<Scaling>,
    /// What to change, in words.
    pub advice: Vec<Advice>,
}

impl Tuning {
    /// Reads a run.
    pub fn of(run: &RunAnalysis<'_>) -> Self {
        let precisions = precision::of(run);
        let batches = batch::of(run);
        let scalings = size::of(run);
        let advice = advice::of(run, &precisions, &batches);
        Self { precisions, batches, scalings, advice }
    }
}

/// A measured row of a model.
#[derive(Clone, Copy)]
struct Timed<'a> {
    row: &'a RowAnalysis<'a>,
    time: Seconds,
    /// Items a second of wall time.
    rate: f64,
}

impl Timed<'_> {
    fn record(&self) -> &Record {
        self.row.record
    }

    fn weights(&self) -> Option<f64> {
        Some(self.record().memory.as_ref()?.weights.known()?.0)
    }

    fn peak(&self) -> Option<f64> {
        Some(self.record().memory.as_ref()?.peak.known()?.0)
    }
}

fn text<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    match record.parameters.get(name)? {
        Value::Text(text) => Some(text),
        Value::Integer(_) => None,
    }
}

fn count(record: &Record, name: &str) -> Option<u64> {
    match record.parameters.get(name)? {
        Value::Integer(number) => Some(*number),
        Value::Text(_) => None,
    }
}

/// The measured rows of models that yield items; loads are none.
fn timed<'a>(run: &'a RunAnalysis<'a>) -> impl Iterator<Item = Timed<'a>> {
    let models = |row: &&RowAnalysis<'_>| {
        Group::usual_phase_of(row.record.id.group()).is_some() && row.record.load_test.is_none()
    };
    run.rows.iter().filter(models).filter_map(|row| {
        let rates = row.rates.as_ref()?;
        let rate = (row.record.work.items? / rates.wall).rate;
        (rate.is_finite() && rate > 0.0).then_some(Timed { row, time: rates.time, rate })
    })
}

/// A row's id without one of its segments, and without any other segment of `also`.
fn id_without(id: &BenchmarkId, segment: &str) -> String {
    let kept: Vec<&str> =
        id.segments().iter().map(String::as_str).filter(|part| *part != segment).collect();
    format!("{}@{}", kept.join("/"), id.engine())
}

/// Rows that differ in a parameter alone, by what they have in common, in the order of their ids.
fn grouped<'a>(
    rows: impl Iterator<Item = Timed<'a>>,
    segment: impl Fn(&Record) -> Option<String>,
) -> BTreeMap<String, Vec<Timed<'a>>> {
    let mut groups: BTreeMap<String, Vec<Timed<'a>>> = BTreeMap::new();
    for row in rows {
        if let Some(segment) = segment(row.record()) {
            groups.entry(id_without(&row.record().id, &segment)).or_default().push(row);
        }
    }
    groups.retain(|_, rows| rows.len() > 1);
    groups
}

#[cfg(test)]
#[path = "tune/tune_tests.rs"]
mod tests;
