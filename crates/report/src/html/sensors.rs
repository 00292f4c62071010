//! The sensors over the run: whether clock, power and temperature held.

use jiff::Timestamp;
use maud::{Markup, html};
use warpmark_analyze::{RowAnalysis, RunAnalysis};
use warpmark_record::{Celsius, Hertz, Telemetry, Watts};

use super::chart::{Axis, Chart, Label, Line, Marker, Point, Scale, Series};
use super::figure::Figure;
use super::plain::trimmed;
use super::table::{Cell, numbers, words};

/// A row with sensors, and when it began.
struct Reading<'a> {
    row: &'a RowAnalysis<'a>,
    telemetry: &'a Telemetry,
    /// Minutes since the first of them.
    minutes: f64,
}

/// A curve over the run.
type Curve = (&'static str, &'static str, fn(&Telemetry) -> Option<f64>);

/// The figures of a run.
pub(super) fn section(run: &RunAnalysis<'_>) -> Option<Markup> {
    let readings = readings(run);
    let limit = run.run.and_then(|run| run.device.gpu.as_ref());
    let power = limit.and_then(|gpu| gpu.power_limit.known()).map(|watts| watts.0);
    let clock = limit.and_then(|gpu| gpu.sm_clock.known()).map(|hertz| hertz.0);
    let figures: Vec<Markup> = [
        figure(
            "SM clock over the run",
            Axis::new("Hz", Scale::Close, super::plain::prefixed),
            |value| Hertz(value).to_string(),
            &readings,
            &[
                ("mean", "var(--c1)", |t| t.sm_clock_mean.known().map(|clock| clock.0)),
                ("lowest", "var(--c2)", |t| t.sm_clock_min.known().map(|clock| clock.0)),
            ],
            clock.map(|clock| ("highest", clock)),
        ),
        figure(
            "Power over the run",
            Axis::new("W", Scale::Linear, trimmed),
            |value| Watts(value).to_string(),
            &readings,
            &[("mean", "var(--c1)", |t| t.power_mean.known().map(|power| power.0))],
            power.map(|power| ("limit", power)),
        ),
        figure(
            "Temperature over the run",
            Axis::new("°C", Scale::Linear, trimmed),
            |value| Celsius(value).to_string(),
            &readings,
            &[("highest", "var(--c2)", |t| t.temperature_max.known().map(|t| t.0))],
            None,
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!figures.is_empty()).then(|| html! { div.grid { @for figure in &figures { (figure) } } })
}

fn readings<'a>(run: &'a RunAnalysis<'a>) -> Vec<Reading<'a>> {
    let timed: Vec<(Timestamp, &RowAnalysis<'_>, &Telemetry)> = run
        .rows
        .iter()
        .filter_map(|row| {
            let at = row.record.started_at.parse().ok()?;
            Some((at, row, row.record.telemetry.as_ref()?))
        })
        .collect();
    let Some(start) = timed.iter().map(|(at, _, _)| *at).min() else { return Vec::new() };
    let since = |at: Timestamp| at.duration_since(start).as_secs_f64() / 60.0;
    timed
        .into_iter()
        .map(|(at, row, telemetry)| Reading { row, telemetry, minutes: since(at) })
        .collect()
}

fn figure(
    title: &str,
    y: Axis,
    show: fn(f64) -> String,
    readings: &[Reading<'_>],
    curves: &[Curve],
    limit: Option<(&str, f64)>,
) -> Option<Markup> {
    let mut series: Vec<Series> = curves.iter().map(|curve| line(curve, readings, show)).collect();
    let most = readings.iter().map(|reading| reading.minutes).fold(0.0, f64::max);
    let mut labels = Vec::new();
    if let Some((name, value)) = limit {
        let point = |x| Point { x, y: value, title: String::new() };
        labels.push(Label { x: most / 2.0, y: value, text: format!("{name} {}", show(value)) });
        series.push(Series {
            color: "var(--roof)".to_owned(),
            line: Line::Dashed,
            marker: Marker::None,
            label: None,
            points: vec![point(0.0), point(most)],
        });
    }
    let mut heads = vec![words("benchmark"), numbers("minute")];
    heads.extend(curves.iter().map(|(name, _, _)| numbers(name)));
    let rows = readings.iter().map(|reading| {
        let id = reading.row.record.id.to_string();
        let mut cells = vec![Cell::Code(id), format!("{:.2}", reading.minutes).into()];
        let values = curves.iter().map(|(_, _, value)| value(reading.telemetry));
        cells.extend(values.map(|value| value.map_or_else(|| "-".to_owned(), show).into()));
        cells
    });
    let rows = rows.collect();
    let x = Axis::new("minutes since the first row", Scale::Linear, trimmed);
    let chart = Chart { x, y, series, labels };
    Figure { title: title.to_owned(), note: None, chart, heads, rows }.half()
}

fn line((name, color, value): &Curve, readings: &[Reading<'_>], show: fn(f64) -> String) -> Series {
    let point = |reading: &Reading<'_>| {
        let y = value(reading.telemetry)?;
        let title = format!("{}: {name} {}", reading.row.record.id, show(y));
        Some(Point { x: reading.minutes, y, title })
    };
    Series {
        color: (*color).to_owned(),
        line: Line::Solid,
        marker: Marker::Dot,
        label: Some((*name).to_owned()),
        points: readings.iter().filter_map(point).collect(),
    }
}
