//! JSON for programs. Results files hold what was measured; this holds what follows from it.

use serde_json::{Map, Value, json};
use warpmark_analyze::{Comparison, RunAnalysis};
use warpmark_record::store::Warning;
use warpmark_record::{DeviceSpec, HostSpec};

use crate::{ReportError, comparison as view, escape, fields};

/// All runs with their rows, and what the reader warned of.
pub fn run(runs: &[RunAnalysis<'_>], warnings: &[Warning]) -> Result<String, ReportError> {
    let runs: Vec<Value> = runs.iter().map(run_value).collect();
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    text(&json!({ "runs": runs, "warnings": warnings }))
}

/// Device and host as results files hold them.
pub fn specs(device: &DeviceSpec, host: &HostSpec) -> Result<String, ReportError> {
    text(&json!({ "device": device, "host": host }))
}

/// The verdict, the pairs and what was not compared.
pub fn comparison(found: &Comparison) -> Result<String, ReportError> {
    let overall = found.overall();
    text(&json!({
        "verdict": overall.to_string(),
        "exit_code": overall.exit_code(),
        "threshold": found.threshold,
        "geometric_mean_ratio": found.mean_ratio(),
        "rows": view::fields(found).into_iter().map(object).collect::<Vec<_>>(),
        "notes": found.notes,
    }))
}

fn run_value(analysis: &RunAnalysis<'_>) -> Value {
    let limits = &analysis.limits;
    let peaks: Map<String, Value> = limits
        .measured_peaks()
        .map(|(name, peak)| (name.to_owned(), json!(peak.0)))
        .collect();
    let caveats: Vec<String> = analysis.caveats.iter().map(ToString::to_string).collect();
    let rows: Vec<Value> = analysis
        .rows
        .iter()
        .map(|row| object(fields::of(analysis, row)))
        .collect();
    json!({
        "run": analysis.run,
        "run_id": analysis.id,
        "measured_peaks_flop_per_s": peaks,
        "measured_bandwidth_byte_per_s": limits.measured_bandwidth().map(|bandwidth| bandwidth.0),
        "caveats": caveats,
        "rows": rows,
    })
}

fn object(fields: Vec<(&'static str, Value)>) -> Value {
    Value::Object(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn text(value: &Value) -> Result<String, ReportError> {
    let mut text = escape::json(&serde_json::to_string_pretty(value)?);
    text.push('\n');
    Ok(text)
}
