//! The device itself against size: products of matrices, traffic and latency from the caches to memory.

use std::collections::BTreeMap;

use maud::{Markup, html};
use warpmark_analyze::{RowAnalysis, RunAnalysis};
use warpmark_record::{BytesPerSecond, FlopsPerSecond, Seconds};

use super::chart::{Axis, Chart, Line, Marker, Point, Scale, Series};
use super::color;
use super::figure::Figure;
use super::plain::{binary, count, micro, prefixed, seconds, whole};
use super::table::{Cell, numbers, words};

/// The figures of a run.
pub(super) fn section(run: &RunAnalysis<'_>) -> Option<Markup> {
    let figures: Vec<Markup> =
        [matmul(run), traffic(run), latency(run)].into_iter().flatten().collect();
    (!figures.is_empty()).then(|| html! { div.grid { @for figure in &figures { (figure) } } })
}

/// A row on a chart: what it belongs to, where it is, what its tables say.
struct Entry<'a> {
    series: String,
    row: &'a RowAnalysis<'a>,
    x: f64,
    y: f64,
    /// Whether it lies on the line of its series.
    joined: bool,
    latency: bool,
}

impl Entry<'_> {
    /// A rate is the better the higher it is, a latency the lower.
    fn better(&self, other: &Self) -> bool {
        if self.latency { self.y < other.y } else { self.y > other.y }
    }
}

fn matmul(run: &RunAnalysis<'_>) -> Option<Markup> {
    let entries: Vec<Entry<'_>> = micro(run, "matmul")
        .filter_map(|row| {
            let side = |name| count(row.record, name);
            let (m, n, k) = (side("m")?, side("n")?, side("k")?);
            let (x, joined) =
                ((m * n * k).cbrt(), m.total_cmp(&n).is_eq() && n.total_cmp(&k).is_eq());
            let series = row.record.id.segments().get(2)?.clone();
            Some(Entry { series, row, x, y: row.rates.as_ref()?.flops?.0, joined, latency: false })
        })
        .collect();
    figure(
        "Matmul against size",
        Some(
            "The best of each size is joined. Rings are shapes that are no cubes, at the side of the cube with as much work.",
        ),
        (Axis::new("side of the cube", Scale::Log2, whole), numbers("side")),
        (Axis::new("FLOP/s", Scale::Log10, prefixed), numbers("rate")),
        |y| FlopsPerSecond(y).to_string(),
        &entries,
        color::of_arithmetic,
    )
}

fn traffic(run: &RunAnalysis<'_>) -> Option<Markup> {
    let cache = micro(run, "cache").map(|row| ("caches", row, "working_set_bytes"));
    let memory = micro(run, "memory").map(|row| ("memory", row, "array_bytes"));
    let entries: Vec<Entry<'_>> = cache
        .chain(memory)
        .filter_map(|(family, row, size)| {
            let name = match family {
                "caches" => "caches, read".to_owned(),
                _ => format!("memory, {}", row.record.id.segments().get(2)?),
            };
            let y = row.rates.as_ref()?.bytes?.0;
            Some(Entry {
                series: name,
                row,
                x: count(row.record, size)?,
                y,
                joined: true,
                latency: false,
            })
        })
        .collect();
    let cache = run.run.and_then(|run| run.device.last_level_cache.known());
    let note = cache.map(|size| format!("The last cache before memory holds {}.", size.binary()));
    figure(
        "Bandwidth against size",
        note.as_deref(),
        (Axis::new("working set or array", Scale::Log2, binary), numbers("size")),
        (Axis::new("B/s", Scale::Log10, prefixed), numbers("rate")),
        |y| BytesPerSecond(y).to_string(),
        &entries,
        |name| {
            let order = ["caches, read", "memory, read", "memory, write", "memory, copy"];
            let order = order.iter().chain(&["memory, scale", "memory, add", "memory, triad"]);
            color::of_part(order.into_iter().position(|known| *known == name).unwrap_or(7))
        },
    )
}

fn latency(run: &RunAnalysis<'_>) -> Option<Markup> {
    let entries: Vec<Entry<'_>> = micro(run, "latency")
        .filter_map(|row| {
            let rate = row.rates.as_ref()?.items?.rate;
            let x = count(row.record, "working_set_bytes")?;
            let series = "pointer chase".to_owned();
            Some(Entry { series, row, x, y: 1.0 / rate, joined: true, latency: true })
        })
        .collect();
    figure(
        "Latency against size",
        Some("The time of one load whose address the load before it gave."),
        (Axis::new("working set", Scale::Log2, binary), numbers("size")),
        (Axis::new("time of one load", Scale::Log10, seconds), numbers("latency")),
        |y| Seconds(y).to_string(),
        &entries,
        |_| color::of_part(0),
    )
}

fn figure(
    title: &str,
    note: Option<&str>,
    (x, x_head): (Axis, super::table::Head),
    (y, y_head): (Axis, super::table::Head),
    show: fn(f64) -> String,
    entries: &[Entry<'_>],
    color: impl Fn(&str) -> String,
) -> Option<Markup> {
    let mut groups: BTreeMap<&str, Vec<&Entry<'_>>> = BTreeMap::new();
    for entry in entries {
        groups.entry(&entry.series).or_default().push(entry);
    }
    let mut series = Vec::new();
    for (name, group) in groups {
        series.extend(lines(name, &group, &color(name), show));
    }
    if entries.iter().all(|entry| entry.series == entries[0].series) {
        for series in &mut series {
            series.label = None;
        }
    }
    let rows = entries
        .iter()
        .map(|entry| {
            let id = entry.row.record.id.to_string();
            vec![Cell::Code(id), (x.show)(entry.x).into(), show(entry.y).into()]
        })
        .collect();
    Figure {
        title: title.to_owned(),
        note: note.map(str::to_owned),
        chart: Chart { x, y, series, labels: Vec::new() },
        heads: vec![words("benchmark"), x_head, y_head],
        rows,
    }
    .half()
}

/// A line through the best of each size, all its points, and rings for what is not on the line.
fn lines(name: &str, group: &[&Entry<'_>], color: &str, show: fn(f64) -> String) -> Vec<Series> {
    let point = |entry: &&Entry<'_>| Point {
        x: entry.x,
        y: entry.y,
        title: format!("{}: {}", entry.row.record.id, show(entry.y)),
    };
    let (joined, single): (Vec<&Entry<'_>>, Vec<&Entry<'_>>) =
        group.iter().partition(|entry| entry.joined);
    let mut best: BTreeMap<u64, &Entry<'_>> = BTreeMap::new();
    for entry in &joined {
        // The bits of positive numbers stand in the order of the numbers.
        let known = best.entry(entry.x.to_bits()).or_insert(*entry);
        if entry.better(known) {
            *known = entry;
        }
    }
    let series = |line, marker, points: Vec<Point>, label: bool| Series {
        color: color.to_owned(),
        line,
        marker,
        label: (label && !points.is_empty()).then(|| name.to_owned()),
        points,
    };
    let rings: Vec<Point> = single.iter().map(point).collect();
    vec![
        series(Line::Solid, Marker::None, best.values().map(point).collect(), true),
        series(Line::None, Marker::Dot, joined.iter().map(point).collect(), false),
        series(Line::None, Marker::Ring, rings, joined.is_empty()),
    ]
}
