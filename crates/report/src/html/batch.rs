//! Models against the batch: throughput and its best point.

use std::collections::BTreeMap;

use maud::{Markup, html};
use warpmark_analyze::{MainRate, RowAnalysis, RunAnalysis};
use warpmark_record::Record;
use warpmark_record::units::three_digits;

use super::chart::{Axis, Chart, Label, Line, Marker, Point, Scale, Series};
use super::color::Engines;
use super::figure::Figure;
use super::plain::{count, prefixed, whole};
use super::table::{Cell, numbers, words};

/// A section draws no more charts than this; further ones have their figures in the tables alone.
const MOST_CHARTS: usize = 24;
/// A chart names no more lines than this.
const MOST_NAMED: usize = 8;

/// Rows that share a chart, by the chart's name.
type Charts<'a> = BTreeMap<String, BTreeMap<String, Vec<(f64, &'a RowAnalysis<'a>)>>>;

/// Throughput against the batch, a chart for each model and phase.
pub(super) fn throughput(run: &RunAnalysis<'_>, engines: &Engines) -> Option<Markup> {
    let charts = collect(run);
    section(&charts, |name, lines| {
        let unit = unit(lines)?;
        let series = series(lines, engines);
        let best = best(lines);
        let labels: Vec<Label> = best.iter().map(|(x, row)| label(*x, row)).collect();
        let note = best.map(|(x, row)| {
            let rate = main(row).map_or_else(String::new, |rate| rate.to_string());
            format!("Best at batch {x}: {rate}.")
        });
        Figure {
            title: format!("{name}, throughput against batch"),
            note,
            chart: Chart {
                x: Axis::new("batch", Scale::Log2, whole),
                y: Axis::new(&format!("{unit}/s"), Scale::Linear, prefixed),
                series,
                labels,
            },
            heads: vec![words("benchmark"), numbers("batch"), numbers("time"), numbers("rate")],
            rows: numbers_of(lines),
        }
        .half()
    })
}

fn section(
    charts: &Charts<'_>,
    draw: impl Fn(&str, &BTreeMap<String, Vec<(f64, &RowAnalysis<'_>)>>) -> Option<Markup>,
) -> Option<Markup> {
    let mut drawn: Vec<Markup> =
        charts.iter().filter_map(|(name, lines)| draw(name, lines)).collect();
    let rest = drawn.len().saturating_sub(MOST_CHARTS);
    drawn.truncate(MOST_CHARTS);
    (!drawn.is_empty()).then(|| {
        html! {
            div.grid { @for figure in &drawn { (figure) } }
            @if rest > 0 { p.note { (rest) " further curves are not drawn; their figures are in the tables below." } }
        }
    })
}

/// The rows that have a batch, by subject and phase and then by everything else in their id.
fn collect<'a>(run: &'a RunAnalysis<'a>) -> Charts<'a> {
    let mut charts = Charts::new();
    for row in &run.rows {
        let (Some(x), Some(_)) = (count(row.record, "batch"), &row.rates) else { continue };
        let segments = row.record.id.segments();
        let chart = segments.iter().take(3).skip(1).cloned().collect::<Vec<_>>().join(", ");
        let line = line(row.record, x);
        charts.entry(chart).or_default().entry(line).or_default().push((x, row));
    }
    // One point is no curve.
    charts.retain(|_, lines| lines.values().any(|points| points.len() > 1));
    charts
}

/// What a row's id says besides subject, phase and the value on the axis.
fn line(record: &Record, x: f64) -> String {
    let value = whole(x);
    let is_value = |segment: &str| segment.trim_start_matches(|c: char| c.is_alphabetic()) == value;
    let mut left_out = false;
    let mut words: Vec<&str> = Vec::new();
    for segment in record.id.segments().iter().skip(3) {
        if !left_out && is_value(segment) {
            left_out = true;
        } else {
            words.push(segment);
        }
    }
    format!("{} @{}", words.join(" "), record.id.engine())
}

fn series(
    lines: &BTreeMap<String, Vec<(f64, &RowAnalysis<'_>)>>,
    engines: &Engines,
) -> Vec<Series> {
    let curves: Vec<_> = lines.iter().filter(|(_, rows)| rows.len() > 1).collect();
    let mut series = Vec::new();
    for (at, (name, rows)) in curves.iter().enumerate() {
        let point = |(x, row): &(f64, &RowAnalysis<'_>)| {
            let rate = main(row)?;
            Some(Point { x: *x, y: rate.get(), title: format!("{}: {rate}", row.record.id) })
        };
        let Some((_, first)) = rows.first() else { continue };
        series.push(Series {
            color: engines.color(first.record),
            line: Line::Solid,
            marker: Marker::Dot,
            label: (curves.len() > 1 && at < MOST_NAMED).then(|| (*name).clone()),
            points: rows.iter().filter_map(point).collect(),
        });
    }
    series
}

fn main(row: &RowAnalysis<'_>) -> Option<MainRate> {
    row.rates.as_ref()?.main(row.record)
}

/// The unit of all rows; none where they have several, for then they share no axis.
fn unit(lines: &BTreeMap<String, Vec<(f64, &RowAnalysis<'_>)>>) -> Option<&'static str> {
    let rows = lines.values().flatten();
    let mut units = rows.map(|(_, row)| row.record.work.items.map(|items| items.unit.symbol()));
    let first = units.next()??;
    units.all(|unit| unit == Some(first)).then_some(first)
}

/// The fastest row on a line.
fn best<'a>(
    lines: &BTreeMap<String, Vec<(f64, &'a RowAnalysis<'a>)>>,
) -> Option<(f64, &'a RowAnalysis<'a>)> {
    let rows = lines.values().filter(|rows| rows.len() > 1).flatten();
    let rate = |row: &RowAnalysis<'_>| main(row).map_or(0.0, MainRate::get);
    rows.copied().max_by(|a, b| rate(a.1).total_cmp(&rate(b.1)))
}

fn label(x: f64, row: &RowAnalysis<'_>) -> Label {
    let y = main(row).map_or(0.0, MainRate::get);
    Label { x, y, text: format!("best: {} at {x}", three_digits(y)) }
}

fn numbers_of(lines: &BTreeMap<String, Vec<(f64, &RowAnalysis<'_>)>>) -> Vec<Vec<Cell>> {
    let rows = lines.values().filter(|rows| rows.len() > 1).flatten();
    rows.map(|(x, row)| {
        let time = row.rates.as_ref().map_or_else(String::new, |rates| rates.time.to_string());
        let rate = main(row).map_or_else(String::new, |rate| rate.to_string());
        vec![Cell::Code(row.record.id.to_string()), whole(*x).into(), time.into(), rate.into()]
    })
    .collect()
}
