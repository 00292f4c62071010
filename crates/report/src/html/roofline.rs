//! The roofline: every row that counts operations and traffic of the device's memory, under the roofs
//! that this run measured (solid) and that the card's book states (dashed).

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use warpmark_analyze::{RowAnalysis, RunAnalysis};
use warpmark_record::FlopsPerSecond;

use super::chart::{Axis, Chart, Label, Line, Marker, Point, Scale, Series};
use super::figure::Figure;
use super::plain::prefixed;
use super::table::{Cell, numbers, words};
use super::{color, plain};

/// Peaks that differ by less than this are one roof.
const ALIKE: f64 = 0.02;
/// So many points are named at most.
const NAMED: usize = 18;

/// A roof.
struct Roof {
    book: bool,
    /// The arithmetics it is the peak of.
    names: Vec<String>,
    peak: f64,
    bandwidth: f64,
}

/// The roofline of a run.
pub(super) fn section(run: &RunAnalysis<'_>) -> Option<Markup> {
    let on_it: Vec<(&RowAnalysis<'_>, f64, f64)> = run.rows.iter().filter_map(place).collect();
    let (least, most) = on_it
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(low, high), (_, x, _)| (low.min(*x), high.max(*x)));
    let roofs = roofs(run);
    let ridge = roofs.iter().map(|roof| roof.peak / roof.bandwidth).fold(0.0, f64::max);
    let ends = (least / 2.0, (most * 2.0).max(ridge * 3.0));
    let mut series: Vec<Series> = roofs.iter().map(|roof| roof.line(ends)).collect();
    series.extend(families(&on_it));
    let mut labels = slopes(&roofs, ends.0);
    labels.extend(named(&on_it));
    let chart = Chart {
        x: Axis::new("arithmetic intensity, FLOP/B", Scale::Log10, prefixed),
        y: Axis::new("FLOP/s", Scale::Log10, prefixed),
        series,
        labels,
    };
    let figure = Figure {
        title: "Every row under its roof".to_owned(),
        note: Some(note(run, on_it.len(), !roofs.is_empty())),
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
    Some(html! { (super::bars::legend(&legend(&on_it))) (drawn) })
}

/// Operations a byte and a second, where both are counted and the bytes are those of the device's memory.
fn place<'a>(row: &'a RowAnalysis<'a>) -> Option<(&'a RowAnalysis<'a>, f64, f64)> {
    let id = &row.record.id;
    let other_bytes = id.group() == "load" || (id.group() == "micro" && id.subject() != "matmul");
    let intensity = row.placement.as_ref()?.intensity.filter(|_| !other_bytes)?;
    Some((row, intensity, row.rates.as_ref()?.flops?.0))
}

fn note(run: &RunAnalysis<'_>, on_it: usize, roofs: bool) -> String {
    let measured = run.rows.iter().filter(|row| row.rates.is_some()).count();
    let rest = measured - on_it.min(measured);
    let rest = match rest {
        0 => String::new(),
        1 => "; 1 other row counts no operations or no memory traffic".to_owned(),
        n => format!("; {n} other rows count no operations or no memory traffic"),
    };
    let roofs = if roofs {
        "Solid roofs were measured in this run, dashed ones are the book's."
    } else {
        "No roof is known: neither matmul nor memory was measured, and no book fits."
    };
    format!(
        "{on_it} of {measured} measured rows{rest}. {roofs} Where points coincide, one is drawn; each \
         row's own figures are in the tables below."
    )
}

fn roofs(run: &RunAnalysis<'_>) -> Vec<Roof> {
    let gpu = run.run.and_then(|run| run.device.gpu.as_ref());
    let book = gpu.and_then(|gpu| gpu.book.known());
    let book_bandwidth =
        book.and_then(|book| book.bandwidth.as_ref()).map(|bandwidth| bandwidth.value.0);
    let measured_bandwidth = run.limits.measured_bandwidth().map(|bandwidth| bandwidth.0);
    let measured: Vec<(&str, f64)> =
        run.limits.measured_peaks().map(|(name, peak)| (name, peak.0)).collect();
    let stated: Vec<(&str, f64)> = book
        .into_iter()
        .flat_map(|book| book.peaks.iter().map(|(name, peak)| (name.as_str(), peak.value.0)))
        .filter(|(name, _)| measured.is_empty() || measured.iter().any(|(known, _)| known == name))
        .collect();
    let mut roofs = Vec::new();
    for (peaks, bandwidth, book) in [
        (measured, measured_bandwidth.or(book_bandwidth), false),
        (stated, book_bandwidth.or(measured_bandwidth), true),
    ] {
        let Some(bandwidth) = bandwidth.filter(|bandwidth| *bandwidth > 0.0) else { continue };
        for (name, peak) in peaks.into_iter().filter(|(_, peak)| *peak > 0.0 && peak.is_finite()) {
            let alike =
                |roof: &&mut Roof| roof.book == book && (roof.peak / peak - 1.0).abs() < ALIKE;
            match roofs.iter_mut().find(alike) {
                Some(roof) => roof.names.push(name.to_owned()),
                None => roofs.push(Roof { book, names: vec![name.to_owned()], peak, bandwidth }),
            }
        }
    }
    roofs
}

impl Roof {
    fn source(&self) -> &'static str {
        if self.book { "book" } else { "measured" }
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
        let from = if self.book { " book" } else { "" };
        Series {
            color: "var(--roof)".to_owned(),
            line: if self.book { Line::Dashed } else { Line::Solid },
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

/// The families in the order of their names.
fn families(on_it: &[(&RowAnalysis<'_>, f64, f64)]) -> Vec<Series> {
    let mut families: BTreeMap<String, Series> = BTreeMap::new();
    for (row, x, y) in on_it {
        let name = color::family(row.record);
        let title =
            format!("{}: {}, {} FLOP/B", row.record.id, FlopsPerSecond(*y), plain::trimmed(*x));
        let point = Point { x: *x, y: *y, title };
        let series = families.entry(name).or_insert_with_key(|name| Series {
            color: color::of_family(name),
            line: Line::None,
            marker: Marker::Dot,
            label: None,
            points: Vec::new(),
        });
        series.points.push(point);
    }
    families.into_values().collect()
}

fn legend(on_it: &[(&RowAnalysis<'_>, f64, f64)]) -> Vec<(String, String)> {
    let names: BTreeSet<String> =
        on_it.iter().map(|(row, _, _)| color::family(row.record)).collect();
    names.into_iter().map(|name| (name.clone(), color::of_family(&name))).collect()
}

/// The fastest and the slowest row of every subject and phase, the fastest first.
fn named(on_it: &[(&RowAnalysis<'_>, f64, f64)]) -> Vec<Label> {
    let mut groups: BTreeMap<String, Vec<(&RowAnalysis<'_>, f64, f64)>> = BTreeMap::new();
    for entry in on_it {
        let id = &entry.0.record.id;
        let key = id.segments().iter().skip(1).take(2).cloned().collect::<Vec<_>>().join(" ");
        groups.entry(key).or_default().push(*entry);
    }
    let mut labels: Vec<Label> = Vec::new();
    for (key, mut rows) in groups {
        rows.sort_by(|a, b| b.2.total_cmp(&a.2));
        let ends = [rows.first(), rows.last().filter(|_| rows.len() > 1)];
        for (row, x, y) in ends.into_iter().flatten() {
            let batch = plain::count(row.record, "batch");
            let batch = batch.map_or_else(String::new, |batch| format!(" b{batch}"));
            labels.push(Label { x: *x, y: *y, text: format!("{key}{batch}") });
        }
    }
    labels.sort_by(|a, b| b.y.total_cmp(&a.y));
    let mut seen = BTreeSet::new();
    labels.retain(|label| seen.insert(label.text.clone()));
    labels.truncate(NAMED);
    labels
}
