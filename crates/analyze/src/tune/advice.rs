//! What to change, in words. Each sentence rests on rows that it names.

use std::collections::BTreeMap;

use warpmark_record::BenchmarkId;

use super::{BatchCurve, Precision, PrecisionRow, timed};
use crate::{Bound, RunAnalysis};

/// A type of number is worth a change when it is faster, or holds less, by this share.
const WORTH: f64 = 0.1;
/// Above this share of readings, a throttle cause is worth a word.
const OFTEN: f64 = 0.1;

/// A change that the rows speak for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// What it is about.
    pub about: String,
    /// The change and why.
    pub text: String,
}

pub(super) fn of(
    run: &RunAnalysis<'_>,
    precisions: &[Precision],
    batches: &[BatchCurve],
) -> Vec<Advice> {
    let mut advice: Vec<Advice> = batches.iter().filter_map(batch).collect();
    advice.extend(precisions.iter().flat_map(precision));
    advice.extend(bounds(run));
    advice.extend(throttling(run));
    advice
}

fn batch(curve: &BatchCurve) -> Option<Advice> {
    let (best, first) = (curve.best_point()?, curve.points.first()?);
    let text = if best.batch == first.batch {
        format!(
            "keep the batch at {}: larger ones are no faster, and each step takes longer",
            best.batch
        )
    } else {
        let gain = best.rate / first.rate;
        let more = if curve.still_rising {
            "; the rate still rises there, so a larger one may be better yet"
        } else {
            ""
        };
        format!(
            "use a batch of {}: {gain:.2} times the rate of {}, at {} a step instead of {}{more}",
            best.batch, first.batch, best.time, first.time
        )
    };
    Some(Advice { about: curve.what.clone(), text })
}

/// The fastest type of number, where it is worth a change, and the one that holds least, where it is another.
fn precision(found: &Precision) -> Vec<Advice> {
    let (Some(fastest), Some(slowest)) = (found.rows.last(), found.rows.first()) else {
        return Vec::new();
    };
    let mut texts = Vec::new();
    if fastest.speedup >= 1.0 + WORTH {
        let saved = fastest.peak.zip(slowest.peak).filter(|(a, b)| a < b);
        let saved = saved.map_or_else(String::new, |(a, b)| {
            format!(", holds {} instead of {}", a.binary(), b.binary())
        });
        texts.push(format!(
            "use {}: {:.2} times as fast as {}{saved}; {}",
            fastest.name(),
            fastest.speedup,
            slowest.name(),
            difference(fastest)
        ));
    }
    texts.extend(plain(found, fastest, slowest));
    texts.extend(smallest(found, fastest));
    texts.into_iter().map(|text| Advice { about: found.what.clone(), text }).collect()
}

/// Where quantised weights are the fastest, the fastest that are as they were trained.
fn plain(found: &Precision, fastest: &PrecisionRow, slowest: &PrecisionRow) -> Option<String> {
    let plain = found.rows.iter().rfind(|row| !row.is_quantised())?;
    let worth = fastest.is_quantised() && plain.speedup >= 1.0 + WORTH;
    worth.then(|| {
        format!(
            "where the weights must not be quantised, use {}: {:.2} times as fast as {}; {}",
            plain.name(),
            plain.speedup,
            slowest.name(),
            difference(plain)
        )
    })
}

fn smallest(found: &Precision, fastest: &PrecisionRow) -> Option<String> {
    let held = |row: &PrecisionRow| row.held().map_or(f64::INFINITY, |bytes| bytes.0);
    let smallest = found.rows.iter().min_by(|a, b| held(a).total_cmp(&held(b)))?;
    let (least, most) = (smallest.held()?, fastest.held()?);
    (least.0 < most.0 * (1.0 - WORTH)).then(|| {
        format!(
            "where memory is short, use {}: it holds {} instead of the {} of {}, at {:.2} times its speed; {}",
            smallest.name(),
            least.binary(),
            most.binary(),
            fastest.name(),
            smallest.speedup / fastest.speedup,
            difference(smallest)
        )
    })
}

fn difference(row: &PrecisionRow) -> String {
    match row.difference {
        Some(difference) if row.is_quantised() => format!(
            "its output differs by {difference:.1e} from the same weights in f32, and what quantising cost \
             the model is not in that"
        ),
        Some(difference) => format!("its output differs by {difference:.1e} from the reference"),
        None => "how far its output differs was not checked".to_owned(),
    }
}

/// For each model and phase, what most of its rows are bound by.
fn bounds(run: &RunAnalysis<'_>) -> Vec<Advice> {
    let phase = |id: &BenchmarkId| {
        let phase = id.segments().get(2).map_or("", String::as_str);
        format!("{}/{}/{phase}@{}", id.group(), id.subject(), id.engine())
    };
    let mut counts: BTreeMap<String, [usize; 4]> = BTreeMap::new();
    for row in timed(run) {
        let bound = row.row.placement.as_ref().map(|placement| placement.bound);
        let at = match bound {
            Some(Bound::Host) => 0,
            Some(Bound::Bandwidth) => 1,
            Some(Bound::Compute) => 2,
            _ => 3,
        };
        counts.entry(phase(&row.record().id)).or_default()[at] += 1;
    }
    let advice = counts.into_iter().filter_map(|(about, counts)| {
        let total: usize = counts.iter().sum();
        let texts = [
            "the host feeds the device too slowly: larger batches, fewer launches (a graph, fused \
             kernels) or a faster processor help, a faster card does not",
            "memory bandwidth is the limit: fewer bytes a weight (f16, int8, int4) or a larger \
             batch help, more arithmetic does not",
            "arithmetic is the limit: a type of number with a higher peak or a faster card help, a \
             larger batch does not",
        ];
        let most = (0..3).find(|at| 2 * counts[*at] > total)?;
        let text = format!("{} ({} of {total} rows)", texts[most], counts[most]);
        Some(Advice { about, text })
    });
    advice.collect()
}

fn throttling(run: &RunAnalysis<'_>) -> Vec<Advice> {
    let mut rows_of: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &run.rows {
        let Some(telemetry) = &row.record.telemetry else { continue };
        let causes = telemetry.throttle_causes.known().into_iter().flatten();
        for (cause, readings) in causes {
            if f64::from(*readings) > OFTEN * f64::from(telemetry.readings) {
                *rows_of.entry(cause.as_str()).or_default() += 1;
            }
        }
    }
    let advice = rows_of.into_iter().map(|(cause, rows)| Advice {
        about: "the device".to_owned(),
        text: format!(
            "its clock was held down by {cause:?} in {rows} rows: a higher power limit or better \
             cooling would make them faster"
        ),
    });
    advice.collect()
}
