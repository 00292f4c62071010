//! Comma-separated values: one line a record, units in the columns' names.

use serde_json::Value;
use warpmark_analyze::{Comparison, RunAnalysis};

use crate::decision::Decision;
use crate::specs::Sheet;
use crate::{ReportError, comparison, escape, fields};

/// All rows of all runs.
pub fn run(runs: &[RunAnalysis<'_>]) -> Result<String, ReportError> {
    let mut table = Table::default();
    for run in runs {
        for row in &run.rows {
            table.add(&fields::of(run, row))?;
        }
    }
    table.finish()
}

/// What a machine said of itself.
pub fn specs(sheets: &[Sheet]) -> Result<String, ReportError> {
    let mut table = Table::default();
    for sheet in sheets {
        for fact in &sheet.facts {
            let (value, reason) = match &fact.value {
                Ok(value) => (Value::from(value.as_str()), Value::Null),
                Err(reason) => (Value::Null, Value::from(reason.as_str())),
            };
            let section = Value::from(sheet.title);
            let name = Value::from(fact.name.as_str());
            table.add(&[
                ("section", section),
                ("name", name),
                ("value", value),
                ("unknown_because", reason),
            ])?;
        }
    }
    table.finish()
}

/// The compared pairs, and after them what was not compared.
pub fn comparison(found: &Comparison) -> Result<String, ReportError> {
    let mut table = Table::default();
    for line in comparison::fields(found) {
        table.add(&line)?;
    }
    table.finish()
}

/// Every line of a page that helps to decide.
pub fn decision(view: &Decision) -> Result<String, ReportError> {
    let mut table = Table::default();
    for line in &view.lines {
        table.add(line)?;
    }
    table.finish()
}

#[derive(Default)]
struct Table {
    lines: Vec<u8>,
}

impl Table {
    fn add(&mut self, fields: &[(&'static str, Value)]) -> Result<(), ReportError> {
        let header = self.lines.is_empty();
        let mut writer = csv::Writer::from_writer(&mut self.lines);
        if header {
            writer.write_record(fields.iter().map(|(name, _)| name)).map_err(failed)?;
        }
        writer.write_record(fields.iter().map(|(_, value)| cell(value))).map_err(failed)?;
        writer.flush().map_err(failed)
    }

    fn finish(self) -> Result<String, ReportError> {
        String::from_utf8(self.lines).map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> ReportError {
    ReportError::Csv(error.to_string())
}

/// Numbers as they are, since a minus sign makes no formula of them; all other text neutralised.
fn cell(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        other => escape::csv(&plain(other)),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join("; "),
        Value::Object(entries) => entries
            .iter()
            .map(|(name, value)| format!("{name}={}", plain(value)))
            .collect::<Vec<_>>()
            .join(" "),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}
