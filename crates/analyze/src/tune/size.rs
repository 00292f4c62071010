//! Models of several sizes: how memory and time grow with the weights, and how large a model still fits.
//!
//! Two or more models of one phase, dtype and batch give a straight line, least squares, for the time of an
//! iteration against the bytes of the weights: its slope is the bandwidth at which weights are in effect
//! read, what remains at no weights is paid by every step. Another line, of the peak of memory against
//! the weights, says what a model takes beside them. The largest model that fits is where that line meets
//! the device's memory: an estimate, because a larger model has another shape.

use std::collections::BTreeMap;

use warpmark_record::{Bytes, BytesPerSecond, Seconds};

use super::{Timed, text, timed};
use crate::RunAnalysis;

/// Models of several sizes at the same work.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    /// What they have in common: the id with `*` for the model.
    pub what: String,
    /// The type of number.
    pub dtype: String,
    /// The models, the smallest first.
    pub models: Vec<ModelSize>,
    /// The line of time against weights; `None` where it does not rise.
    pub time: Option<Fit>,
    /// The line of peak memory against weights.
    pub memory: Option<Fit>,
    /// The weights of the largest model that the memory line lets into the device's memory.
    pub largest: Option<Bytes>,
    /// The number of parameters of that model, where a parameter's bytes are known.
    pub largest_parameters: Option<f64>,
}

/// One model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSize {
    /// Its name.
    pub model: String,
    /// Bytes of its weights.
    pub weights: Bytes,
    /// Its parameters, where a parameter's bytes are known.
    pub parameters: Option<f64>,
    /// The median time of an iteration.
    pub time: Seconds,
    /// Items a second of wall time.
    pub rate: f64,
    /// The most that was held.
    pub peak: Option<Bytes>,
}

/// A straight line `intercept + slope * weights`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// At no weights.
    pub intercept: f64,
    /// For a byte of weights.
    pub slope: f64,
    /// The points it rests on.
    pub points: usize,
}

impl Fit {
    /// The line with the least squares; `None` for fewer than two different abscissas.
    pub fn of(points: &[(f64, f64)]) -> Option<Self> {
        let n = points.len() as f64;
        let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / n;
        let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / n;
        let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        if points.len() < 2 || spread <= 0.0 {
            return None;
        }
        let together: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        let slope = together / spread;
        Some(Self { intercept: mean_y - slope * mean_x, slope, points: points.len() })
    }

    /// What a slope of seconds for a byte is as a bandwidth.
    pub fn bandwidth(&self) -> Option<BytesPerSecond> {
        (self.slope > 0.0).then(|| BytesPerSecond(1.0 / self.slope))
    }
}

/// Bytes of a parameter in types that have no blocks and scales.
fn bytes_of(dtype: &str) -> Option<f64> {
    Some(match dtype {
        "f64" => 8.0,
        "f32" => 4.0,
        "f16" | "bf16" => 2.0,
        _ => return None,
    })
}

pub(super) fn of(run: &RunAnalysis<'_>) -> Vec<Scaling> {
    let device = run.run.and_then(|run| run.device.memory.known()).map(|bytes| bytes.0);
    let mut groups: BTreeMap<String, Vec<Timed<'_>>> = BTreeMap::new();
    for row in timed(run) {
        if row.weights().is_some_and(|weights| weights > 0.0) {
            let id = &row.record().id;
            let rest = id.segments().get(2..).unwrap_or_default().join("/");
            let what = format!("{}/*/{rest}@{}", id.group(), id.engine());
            groups.entry(what).or_default().push(row);
        }
    }
    let scalings = groups.into_iter().map(|(what, rows)| scaling(what, &rows, device));
    scalings.filter(|scaling| !scaling.models.is_empty()).collect()
}

fn scaling(what: String, rows: &[Timed<'_>], device: Option<f64>) -> Scaling {
    let dtype = rows.first().and_then(|row| text(row.record(), "dtype")).unwrap_or_default();
    let mut models: Vec<ModelSize> = rows.iter().filter_map(|row| model(row, dtype)).collect();
    models.sort_by(|a, b| a.weights.0.total_cmp(&b.weights.0));
    let times: Vec<(f64, f64)> = models.iter().map(|m| (m.weights.0, m.time.0)).collect();
    let peaks: Vec<(f64, f64)> =
        models.iter().filter_map(|m| Some((m.weights.0, m.peak?.0))).collect();
    let memory = Fit::of(&peaks);
    let largest = memory
        .filter(|line| line.slope > 0.0)
        .zip(device)
        .map(|(line, device)| (device - line.intercept) / line.slope)
        .filter(|weights| *weights > 0.0);
    Scaling {
        what,
        time: Fit::of(&times).filter(|line| line.slope > 0.0),
        memory,
        largest: largest.map(Bytes),
        largest_parameters: largest.zip(bytes_of(dtype)).map(|(bytes, each)| bytes / each),
        dtype: dtype.to_owned(),
        models,
    }
}

fn model(row: &Timed<'_>, dtype: &str) -> Option<ModelSize> {
    let weights = row.weights()?;
    Some(ModelSize {
        model: row.record().id.subject().to_owned(),
        weights: Bytes(weights),
        parameters: bytes_of(dtype).map(|each| weights / each),
        time: row.time,
        rate: row.rate,
        peak: row.peak().map(Bytes),
    })
}
