//! The roofline: every row that counts traffic of the device's memory, under the roofs that this run
//! measured (solid) and that the card's datasheet states (dashed). A row that counts no operations has no
//! intensity: it is a ring at the left edge, as far below the slope as it is below the roof's bandwidth. What
//! cannot be drawn is listed with its reason.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use warpmark_analyze::{RowAnalysis, RunAnalysis};
use warpmark_record::{FlopsPerSecond, Record};

use super::chart::{Axis, Chart, Label, Line, Marker, Point, Scale, Series};
use super::figure::Figure;
use super::plain::prefixed;
use super::table::{Cell, numbers, table, words};
use super::{color, plain};

/// Peaks that differ by less than this are one roof.
const ALIKE: f64 = 0.02;
/// So many points are named at most.
const NAMED: usize = 18;

/// A roof.
struct Roof {
    datasheet: bool,
    /// The arithmetics it is the peak of.
    names: Vec<String>,
    peak: f64,
    bandwidth: f64,
}

/// A row's place on the drawing.
struct Spot<'a> {
    row: &'a RowAnalysis<'a>,
    /// Operations a byte.
    x: f64,
    /// Operations a second.
    y: f64,
    /// Whether it counts bytes alone.
    edge: bool,
}

/// The roofline of a run.
pub(super) fn section(run: &RunAnalysis<'_>) -> Option<Markup> {
    let timed = run.rows.iter().filter(|row| row.rates.is_some());
    let placed: Vec<(&RowAnalysis<'_>, PointPosition)> =
        timed.map(|row| (row, place(row))).collect();
    let within = placed.iter().filter_map(|(row, place)| match place {
        PointPosition::At(x, y) => Some(Spot { row, x: *x, y: *y, edge: false }),
        PointPosition::Edge(_) | PointPosition::Off(_) => None,
    });
    let mut spots: Vec<Spot<'_>> = within.collect();
    let (least, most) = spots
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(low, high), spot| (low.min(spot.x), high.max(spot.x)));
    let roofs = roofs(run);
    let ridge = roofs.iter().map(|roof| roof.peak / roof.bandwidth).fold(0.0, f64::max);
    let ends = (least / 2.0, (most * 2.0).max(ridge * 3.0));
    // Without a row that computes there is no axis to be at the edge of.
    if !spots.is_empty() {
        spots.extend(placed.iter().filter_map(|(row, place)| match place {
            PointPosition::Edge(bandwidth) => {
                Some(Spot { row, x: ends.0, y: ends.0 * bandwidth, edge: true })
            }
            PointPosition::At(..) | PointPosition::Off(_) => None,
        }));
    }
    let mut series: Vec<Series> = roofs.iter().map(|roof| roof.line(ends)).collect();
    series.extend(families(&spots));
    let mut labels = slopes(&roofs, ends.0);
    labels.extend(named(&spots));
    let chart = Chart {
        x: Axis::new("arithmetic intensity, FLOP/B", Scale::Log10, prefixed),
        y: Axis::new("FLOP/s", Scale::Log10, prefixed),
        series,
        labels,
    };
    let figure = Figure {
        title: "Every row under its roof".to_owned(),
        note: Some(note(&spots, placed.len(), !roofs.is_empty())),
        chart,
        heads: vec![
            words("roof"),
            words("from"),
            numbers("peak"),
            numbers("memory"),
            numbers("ridge"),
        ],
        rows: roofs.iter().map(Roof::row).collect(),
    };
    let drawn = figure.whole()?;
    let off = off(&placed);
    Some(html! {
        (super::bars::legend(&legend(&spots)))
        (drawn)
        @if !off.is_empty() {
            h4 { "Not on it" }
            (table(&[words("rows"), numbers("how many"), words("reason")], off.into_iter()))
        }
    })
}

/// Where a row belongs.
enum PointPosition {
    /// Operations a byte, and a second.
    At(f64, f64),
    /// Bytes a second, of a row without operations.
    Edge(f64),
    /// Nowhere, for this reason.
    Off(&'static str),
}

fn place(row: &RowAnalysis<'_>) -> PointPosition {
    if let Some(reason) = elsewhere(row.record) {
        return PointPosition::Off(reason);
    }
    let intensity = row.placement.as_ref().and_then(|placement| placement.intensity);
    let rates = row.rates.as_ref();
    let flops = rates.and_then(|rates| rates.flops).map(|rate| rate.0).filter(|rate| *rate > 0.0);
    let bytes = rates.and_then(|rates| rates.bytes).map(|rate| rate.0).filter(|rate| *rate > 0.0);
    if [flops, bytes].into_iter().flatten().any(f64::is_infinite) {
        return PointPosition::Off("its time is too short for a rate");
    }
    match (flops, bytes) {
        (Some(flops), _) => match intensity {
            Some(intensity) if intensity > 0.0 => PointPosition::At(intensity, flops),
            _ => PointPosition::Off("it counts operations and no traffic of memory"),
        },
        (None, Some(bytes)) => PointPosition::Edge(bytes),
        (None, None) => PointPosition::Off("it counts neither operations nor traffic of memory"),
    }
}

/// Why the bytes of a row are not those of the device's memory.
fn elsewhere(record: &Record) -> Option<&'static str> {
    match (record.id.group(), record.id.subject()) {
        ("load", _) => Some("its bytes come from storage"),
        ("micro", "cache") => Some("its bytes are those of a cache"),
        ("micro", "shared") => Some("its bytes are those of shared memory"),
        ("micro", "transfer") => Some("its bytes go over the bus"),
        _ => None,
    }
}

/// What is not drawn, subject by subject.
fn off(placed: &[(&RowAnalysis<'_>, PointPosition)]) -> Vec<Vec<Cell>> {
    let mut counts: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for (row, place) in placed {
        if let PointPosition::Off(reason) = place {
            let id = &row.record.id;
            let subject = format!("{}/{} @{}", id.group(), id.subject(), id.engine());
            *counts.entry((subject, reason)).or_default() += 1;
        }
    }
    let line = |((subject, reason), count): ((String, &str), usize)| {
        vec![Cell::Code(subject), count.to_string().into(), reason.into()]
    };
    counts.into_iter().map(line).collect()
}

fn note(spots: &[Spot<'_>], measured: usize, roofs: bool) -> String {
    let edge = match spots.iter().filter(|spot| spot.edge).count() {
        0 => String::new(),
        1 => ", 1 of them at the left edge: it counts no operations, and stands as far below \
              the slope as below its bandwidth"
            .to_owned(),
        n => format!(
            ", {n} of them at the left edge: they count no operations, and stand as far below the \
             slope as below its bandwidth"
        ),
    };
    let rest = match measured.saturating_sub(spots.len()) {
        0 => String::new(),
        1 => " 1 other row is listed below with the reason.".to_owned(),
        n => format!(" {n} other rows are listed below with the reason."),
    };
    let roofs = if roofs {
        "Solid roofs were measured in this run, dashed ones are the datasheet's."
    } else {
        "No roof is known: neither matmul nor memory was measured, and no datasheet fits."
    };
    format!(
        "{} of {measured} measured rows{edge}.{rest} {roofs} Where points coincide, one is drawn; each row's \
         own figures are in the tables below.",
        spots.len()
    )
}

fn roofs(run: &RunAnalysis<'_>) -> Vec<Roof> {
    let gpu = run.run.and_then(|run| run.device.gpu.as_ref());
    let datasheet = gpu.and_then(|gpu| gpu.datasheet.known());
    let datasheet_bandwidth = datasheet
        .and_then(|datasheet| datasheet.bandwidth.as_ref())
        .map(|bandwidth| bandwidth.value.0);
    let measured_bandwidth = run.limits.measured_bandwidth().map(|bandwidth| bandwidth.0);
    let measured: Vec<(&str, f64)> =
        run.limits.measured_peaks().map(|(name, peak)| (name, peak.0)).collect();
    let stated: Vec<(&str, f64)> = datasheet
        .into_iter()
        .flat_map(|datasheet| {
            datasheet.peaks.iter().map(|(name, peak)| (name.as_str(), peak.value.0))
        })
        .filter(|(name, _)| measured.is_empty() || measured.iter().any(|(known, _)| known == name))
        .collect();
    let mut roofs = Vec::new();
    for (peaks, bandwidth, datasheet) in [
        (measured, measured_bandwidth.or(datasheet_bandwidth), false),
        (stated, datasheet_bandwidth.or(measured_bandwidth), true),
    ] {
        let Some(bandwidth) = bandwidth.filter(|bandwidth| *bandwidth > 0.0) else { continue };
        for (name, peak) in peaks.into_iter().filter(|(_, peak)| *peak > 0.0 && peak.is_finite()) {
            let alike = |roof: &&mut Roof| {
                roof.datasheet == datasheet && (roof.peak / peak - 1.0).abs() < ALIKE
            };
            match roofs.iter_mut().find(alike) {
                Some(roof) => roof.names.push(name.to_owned()),
                None => {
                    roofs.push(Roof { datasheet, names: vec![name.to_owned()], peak, bandwidth });
                }
            }
        }
    }
    roofs
}

impl Roof {
    fn source(&self) -> &'static str {
        if self.datasheet { "datasheet" } else { "measured" }
    }

    fn line(&self, (low, high): (f64, f64)) -> Series {
        let ridge = self.peak / self.bandwidth;
        let mut corners = vec![(low, (self.bandwidth * low).min(self.peak))];
        if ridge > low {
            corners.push((ridge, self.peak));
        }
        corners.push((high, self.peak));
        let points = corners.into_iter().map(|(x, y)| Point { x, y, title: String::new() });
        let names = self.names.join(" ");
        let from = if self.datasheet { " datasheet" } else { "" };
        Series {
            color: "var(--roof)".to_owned(),
            line: if self.datasheet { Line::Dashed } else { Line::Solid },
            marker: Marker::None,
            label: Some(format!("{names}{from} {}", prefixed_rate(self.peak))),
            points: points.collect(),
        }
    }

    fn row(&self) -> Vec<Cell> {
        vec![
            self.names.join(", ").into(),
            self.source().into(),
            FlopsPerSecond(self.peak).to_string().into(),
            warpmark_record::BytesPerSecond(self.bandwidth).to_string().into(),
            format!("{} FLOP/B", plain::trimmed(self.peak / self.bandwidth)).into(),
        ]
    }
}

fn prefixed_rate(peak: f64) -> String {
    FlopsPerSecond(peak).to_string().replace("FLOP/s", "")
}

/// The names of the slopes, one for each bandwidth.
fn slopes(roofs: &[Roof], low: f64) -> Vec<Label> {
    let mut labels: Vec<Label> = Vec::new();
    for roof in roofs {
        let x = low * 2.0;
        let rate = warpmark_record::BytesPerSecond(roof.bandwidth);
        let text = format!("{rate} {}", roof.source());
        if !labels.iter().any(|label| label.text == text) {
            labels.push(Label { x, y: x * roof.bandwidth, text });
        }
    }
    labels
}

/// The families in the order of their names, those at the edge apart.
fn families(spots: &[Spot<'_>]) -> Vec<Series> {
    let mut families: BTreeMap<(String, bool), Series> = BTreeMap::new();
    for spot in spots {
        let id = &spot.row.record.id;
        let (marker, title) = if spot.edge {
            let bandwidth = warpmark_record::BytesPerSecond(spot.y / spot.x);
            (Marker::Ring, format!("{id}: {bandwidth}"))
        } else {
            let rate = FlopsPerSecond(spot.y);
            (Marker::Dot, format!("{id}: {rate}, {} FLOP/B", plain::trimmed(spot.x)))
        };
        let name = color::family(spot.row.record);
        let color = color::of_family(&name);
        let series = families.entry((name, spot.edge)).or_insert_with(|| Series {
            color,
            line: Line::None,
            marker,
            label: None,
            points: Vec::new(),
        });
        series.points.push(Point { x: spot.x, y: spot.y, title });
    }
    families.into_values().collect()
}

fn legend(spots: &[Spot<'_>]) -> Vec<(String, String)> {
    let names: BTreeSet<String> = spots.iter().map(|spot| color::family(spot.row.record)).collect();
    names.into_iter().map(|name| (name.clone(), color::of_family(&name))).collect()
}

/// The fastest and the slowest row of every subject and phase, the fastest first; of those at the edge the
/// fastest alone.
fn named(spots: &[Spot<'_>]) -> Vec<Label> {
    let mut groups: BTreeMap<String, Vec<&Spot<'_>>> = BTreeMap::new();
    for spot in spots {
        let id = &spot.row.record.id;
        let parts = if spot.edge { 1 } else { 2 };
        let key = id.segments().iter().skip(1).take(parts).cloned().collect::<Vec<_>>().join(" ");
        groups.entry(key).or_default().push(spot);
    }
    let mut labels: Vec<Label> = Vec::new();
    for (key, mut spots) in groups {
        spots.sort_by(|a, b| b.y.total_cmp(&a.y));
        let ends = [spots.first(), spots.last().filter(|spot| spots.len() > 1 && !spot.edge)];
        for spot in ends.into_iter().flatten() {
            let batch = plain::count(spot.row.record, "batch");
            let batch = batch.map_or_else(String::new, |batch| format!(" b{batch}"));
            labels.push(Label { x: spot.x, y: spot.y, text: format!("{key}{batch}") });
        }
    }
    labels.sort_by(|a, b| b.y.total_cmp(&a.y));
    let mut seen = BTreeSet::new();
    labels.retain(|label| seen.insert(label.text.clone()));
    labels.truncate(NAMED);
    labels
}
