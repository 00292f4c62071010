//! What runs say about how to use their devices.

use std::collections::BTreeSet;

use serde_json::json;
use warpmark_analyze::tune::{BatchCurve, Precision, PrecisionRow, Scaling, Tuning};
use warpmark_analyze::{RunAnalysis, analyze};
use warpmark_record::store::Recording;
use warpmark_record::units::three_digits;
use warpmark_record::{Bytes, Record, Seconds};

use super::{Decision, Fields, Grid, Note, held};

/// What all runs say; `selected` chooses among their rows.
pub fn of(recording: &Recording, selected: impl Fn(&Record) -> bool) -> Decision {
    let mut decision = Decision { title: "how to use it".to_owned(), ..Decision::default() };
    for mut run in analyze(recording) {
        run.rows.retain(|row| selected(row.record));
        one(&mut decision, &run, &Tuning::of(&run));
    }
    if decision.grids.is_empty() {
        let held = held(recording, &selected);
        decision.summary = format!(
            "no measured rows of a model differ in precision, batch or size alone; there is {held}"
        );
    }
    decision
}

fn one(decision: &mut Decision, run: &RunAnalysis<'_>, tuning: &Tuning) {
    let device = run.run.map_or("unknown device", |run| run.device.name.as_str());
    let title = |what: &str| format!("{what} on {device}, run {}", run.id);
    for found in &tuning.precisions {
        decision.grids.push(precision(found, title(&format!("precision: {}", found.what))));
        decision.lines.extend(precision_lines(run, found));
    }
    for found in &tuning.batches {
        decision.grids.push(batch(found, title(&format!("batch: {}", found.what))));
        decision.lines.extend(batch_lines(run, found));
    }
    for found in tuning.scalings.iter().filter(|scaling| scaling.models.len() > 1) {
        decision.grids.push(scaling(found, title(&format!("model size: {}", found.what))));
        decision.lines.extend(scaling_lines(run, found));
    }
    for advice in &tuning.advice {
        decision.notes.push(Note::plain("advice: ", format!("{}: {}", advice.about, advice.text)));
        let line = Line { kind: "advice", what: &advice.about, text: &advice.text, ..Line::EMPTY };
        decision.lines.push(line.fields(run));
    }
}

fn bytes(amount: Option<Bytes>) -> String {
    amount.map_or_else(|| "-".to_owned(), Bytes::binary)
}

fn precision(found: &Precision, title: String) -> Grid {
    let columns = ["dtype", ">time", ">speed", ">weights", ">peak", ">difference"];
    let mut grid = Grid::new(title, &columns);
    for row in &found.rows {
        grid.rows.push(vec![
            row.name(),
            row.time.to_string(),
            format!("{:.2}x", row.speedup),
            bytes(row.weights),
            bytes(row.peak),
            row.difference.map_or_else(|| "-".to_owned(), |error| format!("{error:.1e}")),
        ]);
    }
    let checks: BTreeSet<&String> =
        found.rows.iter().filter_map(|row| row.checked.as_ref()).collect();
    grid.notes.extend(checks.into_iter().map(|what| Note::plain("difference: ", what.clone())));
    if found.rows.iter().any(PrecisionRow::is_quantised) {
        grid.notes.push(Note::plain(
            "difference: ",
            "quantised weights are held against the same weights turned back into f32; what quantising \
             cost the model is not in it",
        ));
    }
    grid
}

fn batch(found: &BatchCurve, title: String) -> Grid {
    let columns = [">batch", ">time", ">items/s", ">efficiency", ">peak", ""];
    let mut grid = Grid::new(title, &columns);
    for point in &found.points {
        let efficiency = point.efficiency.map(|share| format!("{:.0} %", share * 100.0));
        grid.rows.push(vec![
            point.batch.to_string(),
            point.time.to_string(),
            three_digits(point.rate),
            efficiency.unwrap_or_else(|| "-".to_owned()),
            bytes(point.peak),
            if point.batch == found.best { "best".to_owned() } else { String::new() },
        ]);
    }
    if found.still_rising {
        grid.notes.push(Note::plain("note: ", "the rate still rises at the largest batch"));
    }
    grid
}

fn scaling(found: &Scaling, title: String) -> Grid {
    let columns = ["model", ">weights", ">parameters", ">time", ">items/s", ">peak"];
    let mut grid = Grid::new(title, &columns);
    for model in &found.models {
        grid.rows.push(vec![
            model.model.clone(),
            model.weights.binary(),
            model.parameters.map_or_else(|| "-".to_owned(), parameters),
            model.time.to_string(),
            three_digits(model.rate),
            bytes(model.peak),
        ]);
    }
    if let Some((line, bandwidth)) = found.time.and_then(|line| Some((line, line.bandwidth()?))) {
        let rest = if line.intercept > 0.0 {
            format!(", and {} go to what does not grow with them", Seconds(line.intercept))
        } else {
            String::new()
        };
        let text =
            format!("weights are in effect read at {bandwidth}{rest} ({} models)", line.points);
        grid.notes.push(Note::plain("time: ", text));
    }
    if let Some(largest) = found.largest {
        let count =
            found.largest_parameters.map(|count| format!(" ({} parameters)", parameters(count)));
        let text = format!(
            "a model with {}{} of weights in {} should be the largest that fits: an estimate from a \
             line through {} models",
            largest.binary(),
            count.unwrap_or_default(),
            found.dtype,
            found.memory.map_or(0, |line| line.points)
        );
        grid.notes.push(Note::plain("largest: ", text));
    }
    grid
}

fn parameters(count: f64) -> String {
    if count >= 1e9 {
        format!("{}B", three_digits(count / 1e9))
    } else {
        format!("{}M", three_digits(count / 1e6))
    }
}

/// A line of CSV and JSON: all kinds have the same names.
#[derive(Clone, Copy)]
struct Line<'a> {
    kind: &'a str,
    what: &'a str,
    dtype: Option<&'a str>,
    batch: Option<u64>,
    model: Option<&'a str>,
    time: Option<Seconds>,
    rate: Option<f64>,
    relative: Option<f64>,
    weights: Option<Bytes>,
    peak: Option<Bytes>,
    difference: Option<f64>,
    best: Option<bool>,
    text: &'a str,
}

impl Line<'_> {
    const EMPTY: Line<'static> = Line {
        kind: "",
        what: "",
        dtype: None,
        batch: None,
        model: None,
        time: None,
        rate: None,
        relative: None,
        weights: None,
        peak: None,
        difference: None,
        best: None,
        text: "",
    };

    fn fields(&self, run: &RunAnalysis<'_>) -> Fields {
        vec![
            ("run", json!(run.id.0)),
            ("device", json!(run.run.map(|run| &run.device.name))),
            ("kind", json!(self.kind)),
            ("what", json!(self.what)),
            ("dtype", json!(self.dtype)),
            ("batch", json!(self.batch)),
            ("model", json!(self.model)),
            ("time_s", json!(self.time.map(|time| time.0))),
            ("item_per_s_wall", json!(self.rate)),
            ("speedup_or_efficiency", json!(self.relative)),
            ("weights_byte", json!(self.weights.map(|bytes| bytes.0))),
            ("peak_byte", json!(self.peak.map(|bytes| bytes.0))),
            ("output_difference", json!(self.difference)),
            ("best", json!(self.best)),
            ("text", json!(self.text)),
        ]
    }
}

fn precision_lines(run: &RunAnalysis<'_>, found: &Precision) -> Vec<Fields> {
    let line = |row: &PrecisionRow| {
        let line = Line {
            kind: "precision",
            what: &found.what,
            dtype: Some(&row.dtype),
            time: Some(row.time),
            relative: Some(row.speedup),
            weights: row.weights,
            peak: row.peak,
            difference: row.difference,
            ..Line::EMPTY
        };
        line.fields(run)
    };
    found.rows.iter().map(line).collect()
}

fn batch_lines(run: &RunAnalysis<'_>, found: &BatchCurve) -> Vec<Fields> {
    let line = |point: &warpmark_analyze::tune::BatchPoint| {
        let line = Line {
            kind: "batch",
            what: &found.what,
            batch: Some(point.batch),
            time: Some(point.time),
            rate: Some(point.rate),
            relative: point.efficiency,
            peak: point.peak,
            best: Some(point.batch == found.best),
            ..Line::EMPTY
        };
        line.fields(run)
    };
    found.points.iter().map(line).collect()
}

fn scaling_lines(run: &RunAnalysis<'_>, found: &Scaling) -> Vec<Fields> {
    let line = |model: &warpmark_analyze::tune::ModelSize| {
        let line = Line {
            kind: "size",
            what: &found.what,
            dtype: Some(&found.dtype),
            model: Some(&model.model),
            time: Some(model.time),
            rate: Some(model.rate),
            weights: Some(model.weights),
            peak: model.peak,
            ..Line::EMPTY
        };
        line.fields(run)
    };
    found.models.iter().map(line).collect()
}
