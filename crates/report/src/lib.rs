//! Reports: a recording, a machine or a comparison as text for a terminal, a pull request, a
//! spreadsheet or a program.
//!
//! Each report is made once, free of any format ([`view`], [`specs`], [`comparison`]), and then written
//! by the format's own file. Names and reasons come from results files that anyone may have written:
//! every format escapes them ([`escape`]).

pub mod comparison;
pub mod csv;
pub mod decision;
pub mod escape;
pub mod html;
pub mod index;
pub mod json;
pub mod list;
pub mod load_test;
pub mod markdown;
pub mod series;
pub mod specs;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod terminal;
pub mod view;

mod attribution;
mod fields;
mod format;
mod memory;

use std::borrow::Cow;

use warpmark_analyze::cost::Tariffs;
use warpmark_analyze::{Comparison, RunAnalysis, analyze};
use warpmark_record::store::Recording;
use warpmark_record::{DeviceSpec, HostSpec, Record};

pub use decision::Decision;
pub use list::{ListColumn, render_list};
pub use series::Series;

/// What a report is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Tables for a person at a terminal.
    Terminal,
    /// GitHub's Markdown.
    Markdown,
    /// One line a row, numbers in SI units; for spreadsheets.
    Csv,
    /// The same figures for programs.
    Json,
    /// One page with charts that needs nothing but a browser.
    Html,
}

/// How a terminal is written to. Other formats ignore it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal.
    pub width: u16,
    /// Whether it understands ANSI colours; false where the output is no terminal.
    pub color: bool,
    /// Whether its locale has ASCII alone.
    pub ascii: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self { width: 80, color: false, ascii: false }
    }
}

impl Style {
    /// Text that does nothing to the terminal, in the characters that it has.
    fn text(self, text: &str) -> Cow<'_, str> {
        match escape::terminal(text) {
            escaped if !self.ascii => escaped,
            escaped => Cow::Owned(escape::ascii(&escaped).into_owned()),
        }
    }
}

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The CSV writer refused.
    #[error("cannot write the report as CSV: {0}")]
    Csv(String),
    /// The JSON writer refused.
    #[error("cannot write the report as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The report of a recording: every run with its rows, limits, warnings, and what was not measured.
pub fn render_run(
    recording: &Recording,
    format: Format,
    style: Style,
) -> Result<String, ReportError> {
    render_selected(recording, |_| true, format, style)
}

/// The same for the rows that `selected` chooses. Limits still come from all rows of a run: a report of
/// decoding alone is read against the matmul and the bandwidth that were measured beside it. Runs
/// without a selected row are left out.
pub fn render_selected(
    recording: &Recording,
    selected: impl Fn(&Record) -> bool,
    format: Format,
    style: Style,
) -> Result<String, ReportError> {
    let runs = chosen(recording, selected);
    match format {
        Format::Terminal => Ok(terminal::run(&view::of(&runs), &recording.warnings, style)),
        Format::Markdown => Ok(markdown::run(&view::of(&runs), &recording.warnings)),
        Format::Csv => csv::run(&runs),
        Format::Json => json::run(&runs, &recording.warnings),
        Format::Html => Ok(html::run(&runs, &recording.warnings, &Tariffs::default())),
    }
}

/// The page of the rows that `selected` chooses, with what they cost where `tariffs` know a price.
pub fn render_page(
    recording: &Recording,
    selected: impl Fn(&Record) -> bool,
    tariffs: &Tariffs,
) -> String {
    html::run(&chosen(recording, selected), &recording.warnings, tariffs)
}

/// The newest figure of each selected benchmark on each card, for a tool that follows figures over time.
pub fn render_series(
    recording: &Recording,
    selected: impl Fn(&Record) -> bool,
    series: Series,
) -> Result<String, ReportError> {
    series::of(&chosen(recording, selected), series)
}

/// The page over a folder of results, in Markdown: every device, every run with its environment.
pub fn render_index(recording: &Recording) -> String {
    index::of(&analyze(recording), &index::ranking(recording))
}

fn chosen(recording: &Recording, selected: impl Fn(&Record) -> bool) -> Vec<RunAnalysis<'_>> {
    let mut runs = analyze(recording);
    for run in &mut runs {
        run.rows.retain(|row| selected(row.record));
    }
    if runs.iter().any(|run| !run.rows.is_empty()) {
        runs.retain(|run| !run.rows.is_empty());
    }
    runs
}

/// What a device and its host said of themselves, with the reason where they said nothing.
pub fn render_specs(
    device: &DeviceSpec,
    host: &HostSpec,
    format: Format,
    style: Style,
) -> Result<String, ReportError> {
    match format {
        Format::Terminal => Ok(terminal::specs(&specs::of(device, host), style)),
        Format::Markdown => Ok(markdown::specs(&specs::of(device, host))),
        Format::Csv => csv::specs(&specs::of(device, host)),
        Format::Json => json::specs(device, host),
        Format::Html => Ok(html::specs(&specs::of(device, host))),
    }
}

/// A comparison, row by row and as a whole.
pub fn render_comparison(
    comparison: &Comparison,
    format: Format,
    style: Style,
) -> Result<String, ReportError> {
    match format {
        Format::Terminal => Ok(terminal::comparison(&comparison::of(comparison), style)),
        Format::Markdown => Ok(markdown::comparison(&comparison::of(comparison))),
        Format::Csv => csv::comparison(comparison),
        Format::Json => json::comparison(comparison),
        Format::Html => Ok(html::comparison(&comparison::of(comparison))),
    }
}

/// A page that helps to decide.
pub fn render_decision(
    decision: &Decision,
    format: Format,
    style: Style,
) -> Result<String, ReportError> {
    match format {
        Format::Terminal => Ok(terminal::decision(decision, style)),
        Format::Markdown => Ok(markdown::decision(decision)),
        Format::Csv => csv::decision(decision),
        Format::Json => json::decision(decision),
        Format::Html => Ok(html::decision(decision)),
    }
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
