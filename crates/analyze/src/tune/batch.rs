//! The same work in several batches: what a larger one buys, and where it ends.

use warpmark_record::{Bytes, Seconds};

use super::{Timed, count, grouped, timed};
use crate::RunAnalysis;

/// A batch counts as the best when a larger one is not faster by more than this share.
pub(super) const ENOUGH: f64 = 0.05;

/// The same work in several batches, the smallest first.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchCurve {
    /// What they have in common: the id without the batch.
    pub what: String,
    /// One point a batch.
    pub points: Vec<BatchPoint>,
    /// The smallest batch whose rate is within 5 % of the highest.
    pub best: u64,
    /// Whether the rate still rose by more than 5 % at the largest batch.
    pub still_rising: bool,
}

/// One batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchPoint {
    /// Sequences, images or clips together.
    pub batch: u64,
    /// The median time of an iteration.
    pub time: Seconds,
    /// Items a second of wall time.
    pub rate: f64,
    /// The rate over batch times the rate of a batch of 1; `None` where 1 was not measured.
    pub efficiency: Option<f64>,
    /// The most that was held, where it is known.
    pub peak: Option<Bytes>,
}

impl BatchCurve {
    /// The point of the best batch.
    pub fn best_point(&self) -> Option<&BatchPoint> {
        self.points.iter().find(|point| point.batch == self.best)
    }
}

pub(super) fn of(run: &RunAnalysis<'_>) -> Vec<BatchCurve> {
    let groups = grouped(timed(run), |record| Some(format!("b{}", count(record, "batch")?)));
    groups.into_iter().filter_map(|(what, rows)| curve(what, &rows)).collect()
}

fn curve(what: String, rows: &[Timed<'_>]) -> Option<BatchCurve> {
    let batch = |row: &Timed<'_>| count(row.record(), "batch");
    let one = rows.iter().find(|row| batch(row) == Some(1)).map(|row| row.rate);
    let mut points: Vec<BatchPoint> = rows
        .iter()
        .filter_map(|row| {
            let batch = batch(row)?;
            Some(BatchPoint {
                batch,
                time: row.time,
                rate: row.rate,
                efficiency: one.map(|one| row.rate / (batch as f64 * one)),
                peak: row.peak().map(Bytes),
            })
        })
        .collect();
    points.sort_by_key(|point| point.batch);
    let most = points.iter().map(|point| point.rate).fold(0.0, f64::max);
    let best = points.iter().find(|point| point.rate >= most * (1.0 - ENOUGH))?.batch;
    let still_rising = match points.as_slice() {
        [.., before, last] => last.rate > before.rate * (1.0 + ENOUGH),
        _ => false,
    };
    Some(BatchCurve { what, points, best, still_rising })
}
