//! Load: latency and answers against the number of users, and the levels of every service.

use std::collections::BTreeMap;

use maud::{Markup, html};
use warpmark_analyze::RunAnalysis;
use warpmark_record::Seconds;
use warpmark_record::load_test::{Arrivals, LoadTest};
use warpmark_record::units::three_digits;

use super::chart::{Axis, Chart, Line, Marker, Point, Scale, Series};
use super::figure::Figure;
use super::plain::{prefixed, seconds, whole};
use super::rows::footnotes;
use super::table::{Cell, Head, numbers, table, words};
use crate::load_test::{LoadSection, service};
use crate::view::RunView;

/// A section draws the charts of no more services; the levels of all are in its tables.
const MOST_SERVICES: usize = 12;

/// A quantile with its name, its colour and how it is joined.
const QUANTILES: [(f64, &str, &str, Line); 3] = [
    (0.5, "p50", "var(--c1)", Line::Solid),
    (0.95, "p95", "var(--c2)", Line::Solid),
    (0.99, "p99", "var(--c5)", Line::Dashed),
];

/// Levels of a closed loop, with the number of users and the row's id.
type Levels<'a> = Vec<(f64, String, &'a LoadTest)>;

/// The services of a run.
pub(super) fn section(run: &RunAnalysis<'_>, view: &RunView) -> Option<Markup> {
    let mut services: BTreeMap<String, Levels<'_>> = BTreeMap::new();
    for row in &run.rows {
        let Some(load) = row.record.load_test.as_deref() else { continue };
        if let Arrivals::Closed { users } = load.arrivals {
            let level = (users as f64, row.record.id.to_string(), load);
            services.entry(service(row.record)).or_default().push(level);
        }
    }
    let figures: Vec<Markup> = services
        .iter()
        .take(MOST_SERVICES)
        .flat_map(|(name, levels)| [latency(name, levels), answers(name, levels)])
        .flatten()
        .collect();
    (!view.loads.is_empty()).then(|| {
        html! {
            div.grid { @for figure in &figures { (figure) } }
            @for load in &view.loads { (levels(load)) }
            // With rows of another kind, all notes stand below those.
            @if view.sections.is_empty() && let Some(notes) = footnotes(view) { (notes) }
        }
    })
}

fn latency(name: &str, levels: &Levels<'_>) -> Option<Markup> {
    let quantile = |load: &LoadTest, quantile| load.latency.percentile(quantile).ok();
    let line = |(at, label, color, line): &(f64, &str, &str, Line)| Series {
        color: (*color).to_owned(),
        line: *line,
        marker: Marker::Dot,
        label: Some((*label).to_owned()),
        points: levels
            .iter()
            .filter_map(|(users, id, load)| {
                let time = quantile(load, *at)?;
                Some(Point { x: *users, y: time.0, title: format!("{id}: {label} {time}") })
            })
            .collect(),
    };
    let mut heads = vec![words("benchmark"), numbers("users")];
    heads.extend(QUANTILES.iter().map(|(_, name, _, _)| numbers(name)));
    let rows = levels.iter().map(|(users, id, load)| {
        let mut cells = vec![Cell::Code(id.clone()), whole(*users).into()];
        let times = QUANTILES.iter().map(|(at, _, _, _)| quantile(load, *at));
        cells.extend(
            times.map(|t| t.map_or_else(|| "-".to_owned(), |t: Seconds| t.to_string()).into()),
        );
        cells
    });
    let rows = rows.collect();
    Figure {
        title: format!("{name}, latency"),
        note: Some(
            "From the moment a request was due. A tail that too few answers show is left out."
                .to_owned(),
        ),
        chart: Chart {
            x: Axis::new("users at once", Scale::Log2, whole),
            y: Axis::new("time to the answer", Scale::Log10, seconds),
            series: QUANTILES.iter().map(line).collect(),
            labels: Vec::new(),
        },
        heads,
        rows,
    }
    .half()
}

fn answers(name: &str, levels: &Levels<'_>) -> Option<Markup> {
    let point = |(users, id, load): &(f64, String, &LoadTest)| Point {
        x: *users,
        y: load.rate(),
        title: format!("{id}: {} answers/s", three_digits(load.rate())),
    };
    let good = |(users, id, load): &(f64, String, &LoadTest)| {
        let rate = load.goodput()?;
        let title = format!("{id}: {} answers/s within the target", three_digits(rate));
        Some(Point { x: *users, y: rate, title })
    };
    let series = |label: &str, color: &str, line, points: Vec<Point>| Series {
        color: color.to_owned(),
        line,
        marker: Marker::Dot,
        label: (!points.is_empty()).then(|| label.to_owned()),
        points,
    };
    let rows = levels.iter().map(|(users, id, load)| {
        let good = load.goodput().map_or_else(|| "-".to_owned(), three_digits);
        vec![
            Cell::Code(id.clone()),
            whole(*users).into(),
            three_digits(load.rate()).into(),
            good.into(),
        ]
    });
    let rows = rows.collect();
    Figure {
        title: format!("{name}, answers"),
        note: None,
        chart: Chart {
            x: Axis::new("users at once", Scale::Log2, whole),
            y: Axis::new("answers/s", Scale::Linear, prefixed),
            series: vec![
                series("all", "var(--c1)", Line::Solid, levels.iter().map(point).collect()),
                series(
                    "in time",
                    "var(--c3)",
                    Line::Dashed,
                    levels.iter().filter_map(good).collect(),
                ),
            ],
            labels: Vec::new(),
        },
        heads: vec![words("benchmark"), numbers("users"), numbers("answers/s"), numbers("in time")],
        rows,
    }
    .half()
}

fn levels(load: &LoadSection) -> Markup {
    let head = |(at, title): (usize, &String)| -> Head {
        if at == 0 || title == "notes" { words(title) } else { numbers(title) }
    };
    let heads: Vec<Head> = load.header.iter().enumerate().map(head).collect();
    let rows =
        load.rows.iter().map(|row| row.iter().map(|cell| Cell::Text(cell.clone())).collect());
    html! {
        section.rows {
            h4 { code { (load.title) } }
            @for fact in &load.facts { p.best { (fact) } }
            (table(&heads, rows))
            @for remark in &load.remarks { p.note { (remark) } }
        }
    }
}
