//! JSON for programs. Results files hold what was measured; this holds what follows from it.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::Value;
use warpmark_analyze::{Comparison, RowAnalysis, RunAnalysis};
use warpmark_record::store::Warning;
use warpmark_record::{DeviceSpec, HostSpec, Run};

use crate::decision::Decision;
use crate::{ReportError, attribution, comparison as view, escape, fields};

/// All runs with their rows, and what the reader warned of.
pub fn run(runs: &[RunAnalysis<'_>], warnings: &[Warning]) -> Result<String, ReportError> {
    #[derive(Serialize)]
    struct Report<'a> {
        runs: Vec<RunLine<'a>>,
        warnings: Vec<String>,
    }
    text(&Report {
        runs: runs.iter().map(RunLine::of).collect(),
        warnings: warnings.iter().map(ToString::to_string).collect(),
    })
}

/// Device and host as results files hold them.
pub fn specs(device: &DeviceSpec, host: &HostSpec) -> Result<String, ReportError> {
    #[derive(Serialize)]
    struct Specs<'a> {
        device: &'a DeviceSpec,
        host: &'a HostSpec,
    }
    text(&Specs { device, host })
}

/// The verdict, the pairs and what was not compared.
pub fn comparison(found: &Comparison) -> Result<String, ReportError> {
    #[derive(Serialize)]
    struct Report<'a> {
        verdict: String,
        exit_code: u8,
        threshold: f64,
        geometric_mean_ratio: Option<f64>,
        rows: Vec<Fields>,
        notes: &'a [String],
    }
    let overall = found.overall();
    text(&Report {
        verdict: overall.to_string(),
        exit_code: overall.exit_code(),
        threshold: found.threshold,
        geometric_mean_ratio: found.mean_ratio(),
        rows: view::fields(found).into_iter().map(Fields).collect(),
        notes: &found.notes,
    })
}

/// What a page that helps to decide says as a whole, its lines and its remarks.
pub fn decision(found: &Decision) -> Result<String, ReportError> {
    let facts = found.facts.iter().map(|(name, value)| (*name, Value::from(value.as_str())));
    let notes = found.notes.iter().chain(found.grids.iter().flat_map(|grid| &grid.notes));
    let notes: Vec<String> = notes.map(|note| format!("{}{}", note.label, note.text)).collect();
    let mut whole: Vec<(&'static str, Value)> = found.head.clone();
    whole.push(("summary", Value::from(found.summary.as_str())));
    whole.push(("facts", Value::Object(facts.map(|(n, v)| (n.to_owned(), v)).collect())));
    whole.push(("notes", Value::from(notes)));
    let lines: Vec<Fields> = found.lines.iter().cloned().map(Fields).collect();
    whole.push(("lines", serde_json::to_value(lines)?));
    text(&Fields(whole))
}

#[derive(Serialize)]
struct RunLine<'a> {
    run_id: &'a str,
    run: Option<&'a Run>,
    measured_peaks_flop_per_s: BTreeMap<&'a str, f64>,
    measured_bandwidth_byte_per_s: Option<f64>,
    measured_reading_byte_per_s: Option<f64>,
    measured_transfer_byte_per_s: Option<f64>,
    attribution: Value,
    caveats: Vec<String>,
    rows: Rows<'a>,
}

impl<'a> RunLine<'a> {
    fn of(analysis: &'a RunAnalysis<'a>) -> Self {
        let limits = &analysis.limits;
        Self {
            run_id: &analysis.id.0,
            run: analysis.run,
            measured_peaks_flop_per_s: limits
                .measured_peaks()
                .map(|(name, peak)| (name, peak.0))
                .collect(),
            measured_bandwidth_byte_per_s: limits.measured_bandwidth().map(|bandwidth| bandwidth.0),
            measured_reading_byte_per_s: limits.measured_reading().map(|rate| rate.0),
            measured_transfer_byte_per_s: limits.measured_transfer().map(|rate| rate.0),
            attribution: attribution::json(analysis),
            caveats: analysis.caveats.iter().map(ToString::to_string).collect(),
            rows: Rows(analysis),
        }
    }
}

/// The rows of a run, each made when it is written: as one tree of values, ten thousand of them would
/// take a quarter of a gigabyte.
struct Rows<'a>(&'a RunAnalysis<'a>);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let of = |row: &RowAnalysis<'_>| Fields(fields::of(self.0, row));
        serializer.collect_seq(self.0.rows.iter().map(of))
    }
}

/// An object whose entries keep their order.
struct Fields(Vec<(&'static str, Value)>);

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

fn text(value: &impl Serialize) -> Result<String, ReportError> {
    let mut text = escape::json(&serde_json::to_string_pretty(value)?);
    text.push('\n');
    Ok(text)
}
