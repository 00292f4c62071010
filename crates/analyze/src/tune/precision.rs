//! The same work in several types of number: speed, memory, difference of the output.

use warpmark_record::{Bytes, Seconds};

use super::{Timed, grouped, text, timed};
use crate::RunAnalysis;

/// The same work in several types of number, the slowest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Precision {
    /// What they have in common: the id without the type.
    pub what: String,
    /// One row a type.
    pub rows: Vec<PrecisionRow>,
}

/// The work in one type of number.
#[derive(Debug, Clone, PartialEq)]
pub struct PrecisionRow {
    /// The type.
    pub dtype: String,
    /// The median time of an iteration.
    pub time: Seconds,
    /// How many times as fast as in the slowest type, by the wall.
    pub speedup: f64,
    /// Held by the weights, where it is known.
    pub weights: Option<Bytes>,
    /// The most that was held, where it is known.
    pub peak: Option<Bytes>,
    /// The largest relative difference of the output from the reference that it was checked against.
    pub difference: Option<f64>,
    /// What it was checked against.
    pub checked: Option<String>,
}

impl PrecisionRow {
    /// The type, and for weights in blocks the integers that they are made of.
    pub fn name(&self) -> String {
        match integers(&self.dtype) {
            Some(integers) => format!("{} ({integers})", self.dtype),
            None => self.dtype.clone(),
        }
    }

    /// Whether its weights are held in blocks. The reference of such a row has the same weights, turned back
    /// into f32: what quantising cost the model is not in its difference.
    pub fn is_quantised(&self) -> bool {
        integers(&self.dtype).is_some()
    }

    /// The most that was held, or at least by the weights.
    pub(super) fn held(&self) -> Option<Bytes> {
        self.peak.or(self.weights)
    }
}

fn integers(dtype: &str) -> Option<&'static str> {
    match dtype {
        "q8_0" => Some("int8"),
        "q4_k_m" => Some("int4"),
        _ => None,
    }
}

pub(super) fn of(run: &RunAnalysis<'_>) -> Vec<Precision> {
    let groups = grouped(timed(run), |record| text(record, "dtype").map(str::to_owned));
    groups.into_iter().map(|(what, rows)| precision(what, &rows)).collect()
}

fn precision(what: String, rows: &[Timed<'_>]) -> Precision {
    let slowest = rows.iter().map(|row| row.rate).fold(f64::INFINITY, f64::min);
    let mut rows: Vec<PrecisionRow> = rows
        .iter()
        .map(|row| {
            let check = row.record().check.as_ref();
            PrecisionRow {
                dtype: text(row.record(), "dtype").unwrap_or_default().to_owned(),
                time: row.time,
                speedup: row.rate / slowest,
                weights: row.weights().map(Bytes),
                peak: row.peak().map(Bytes),
                difference: check.map(|check| check.worst_error),
                checked: check.map(|check| check.what.clone()),
            }
        })
        .collect();
    rows.sort_by(|a, b| a.speedup.total_cmp(&b.speedup));
    Precision { what, rows }
}
