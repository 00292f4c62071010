//! Comma-separated values: one line a record, units in the columns' names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use warpmark_analyze::{Comparison, RunAnalysis};

use crate::decision::Decision;
use crate::specs::Sheet;
use crate::{ReportError, comparison, escape, fields};

/// All rows of all runs. What has names of its own (parameters, phases, percentiles, tags) stands together in a
/// column of its kind, and once more in a column for each name after all others: `parameters.batch`,
/// `distributions.time_to_first_token_s.p50`.
pub fn run(runs: &[RunAnalysis<'_>]) -> Result<String, ReportError> {
    let rows = || runs.iter().flat_map(|run| run.rows.iter().map(move |row| fields::of(run, row)));
    let names: BTreeSet<String> = rows().flat_map(|fields| named(&fields).into_keys()).collect();
    let mut table = Table::default();
    for fields in rows() {
        table.add_with(&fields, &names)?;
    }
    table.finish()
}

/// The values that have names of their own, by column.
fn named(fields: &[(&'static str, Value)]) -> BTreeMap<String, Value> {
    fn below(column: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(entries) => {
                for (name, value) in entries {
                    below(&format!("{column}.{name}"), value, found);
                }
            }
            value => {
                found.insert(column.to_owned(), value.clone());
            }
        }
    }
    let mut found = BTreeMap::new();
    for (name, value) in fields.iter().filter(|(_, value)| value.is_object()) {
        below(name, value, &mut found);
    }
    found
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
        self.add_with(fields, &BTreeSet::new())
    }

    /// A line, with a column for each of these names after the others.
    fn add_with(
        &mut self,
        fields: &[(&'static str, Value)],
        names: &BTreeSet<String>,
    ) -> Result<(), ReportError> {
        let header = self.lines.is_empty();
        let mut writer = csv::Writer::from_writer(&mut self.lines);
        if header {
            let columns = fields.iter().map(|(name, _)| (*name).to_owned());
            let columns = columns.chain(names.iter().map(|name| escape::csv(name)));
            writer.write_record(columns).map_err(failed)?;
        }
        let known = if names.is_empty() { BTreeMap::new() } else { named(fields) };
        let cells = fields.iter().map(|(_, value)| cell(value));
        let cells =
            cells.chain(names.iter().map(|name| known.get(name).map_or_else(String::new, cell)));
        writer.write_record(cells).map_err(failed)?;
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
