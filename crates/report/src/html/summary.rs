//! The head of a run's page: which device, and the few figures that say most.

use maud::{Markup, html};
use warpmark_analyze::{Limit, MainRate, Resource, RowAnalysis, RunAnalysis};
use warpmark_record::BytesPerSecond;

use crate::format::percent;
use crate::view::{RunView, own_share};

/// So many figures of models are shown at most; the tables have all.
const MODELS: usize = 16;

/// A figure that stands for much.
struct Key {
    name: String,
    value: String,
    note: String,
}

/// Device, run and how it was measured.
pub(super) fn header(run: &RunAnalysis<'_>, view: &RunView) -> Markup {
    let name = run.run.map_or("unknown device", |line| line.device.name.as_str());
    let kind = run.run.map(|line| line.device.kind.to_string());
    html! {
        header {
            h1 { (name) }
            p.lead {
                @if let Some(kind) = kind { (kind) " · " }
                "run " code { (run.id) }
            }
            dl.facts {
                @for (name, value) in view.facts.iter().filter(|(name, _)| *name != "measured") {
                    dt { (name) } dd { (value) }
                }
            }
        }
    }
}

/// The key figures of a run.
pub(super) fn figures(run: &RunAnalysis<'_>) -> Option<Markup> {
    let mut keys = peaks(run);
    keys.extend(bandwidth(run));
    keys.extend(reading_and_transfer(run));
    keys.extend(models(run));
    (!keys.is_empty()).then(|| {
        html! {
            dl.keys {
                @for key in &keys {
                    div { dt { (key.name) } dd { (key.value) } dd.note { (key.note) } }
                }
            }
        }
    })
}

/// The share of the datasheet that the best row of a limit has.
fn of_datasheet<'a>(
    rows: impl Iterator<Item = &'a RowAnalysis<'a>>,
    resource: Resource,
) -> Option<f64> {
    let shares = rows.filter_map(|row| row.placement.as_ref()).flat_map(|place| &place.shares);
    let datasheet = shares.filter(|s| s.limit == Limit::Datasheet && s.resource == resource);
    datasheet.map(|share| share.share).max_by(f64::total_cmp)
}

fn peaks(run: &RunAnalysis<'_>) -> Vec<Key> {
    let peaks = run.limits.measured_peaks().map(|(name, peak)| {
        let of = |row: &&RowAnalysis<'_>| {
            warpmark_analyze::roofline::arithmetic(row.record).as_deref() == Some(name)
        };
        let rows = super::plain::micro(run, "matmul").filter(of);
        let share = of_datasheet(rows, Resource::Compute);
        Key {
            name: format!("matmul {name}"),
            value: peak.to_string(),
            note: share.map_or_else(String::new, |s| format!("{} of the datasheet", percent(s))),
        }
    });
    peaks.collect()
}

fn bandwidth(run: &RunAnalysis<'_>) -> Option<Key> {
    let best = run.limits.measured_bandwidth()?;
    let share = of_datasheet(super::plain::micro(run, "memory"), Resource::Bandwidth);
    let note = share.map_or_else(String::new, |s| format!("{} of the datasheet", percent(s)));
    Some(Key { name: "memory".to_owned(), value: best.to_string(), note })
}

/// What models and loads are read against, where it was measured.
fn reading_and_transfer(run: &RunAnalysis<'_>) -> Vec<Key> {
    let best = run.limits.measured_bandwidth();
    let of_best = |rate: BytesPerSecond| {
        best.map_or_else(String::new, |best| {
            format!(
                "{} of the best memory row; models are read against it",
                percent(rate.ratio(best))
            )
        })
    };
    let reading = run.limits.measured_reading().map(|rate| Key {
        name: "reading memory".to_owned(),
        value: rate.to_string(),
        note: of_best(rate),
    });
    let transfer = run.limits.measured_transfer().map(|rate| Key {
        name: "host to device".to_owned(),
        value: rate.to_string(),
        note: "loads are read against it".to_owned(),
    });
    reading.into_iter().chain(transfer).collect()
}

/// The best rate of every model and phase.
fn models(run: &RunAnalysis<'_>) -> Vec<Key> {
    let mut best: Vec<(String, MainRate, String)> = Vec::new();
    for row in &run.rows {
        let id = &row.record.id;
        if matches!(id.group(), "micro" | "load") {
            continue;
        }
        let Some(rate) = row.rates.as_ref().and_then(|rates| rates.main(row.record)) else {
            continue;
        };
        let segments = id.segments();
        let name = segments.iter().take(3).skip(1).cloned().collect::<Vec<_>>().join(" ");
        let rest = segments.iter().skip(3).cloned().collect::<Vec<_>>().join("/");
        let share = own_share(row).map_or_else(String::new, |share| format!("{share}, "));
        let entry = (name, rate, format!("{share}{rest} @{}", id.engine()));
        match best.iter_mut().find(|(known, _, _)| *known == entry.0) {
            Some(known) if entry.1.get() > known.1.get() => *known = entry,
            Some(_) => {}
            None => best.push(entry),
        }
        if best.len() > MODELS {
            best.truncate(MODELS);
        }
    }
    let key = |(name, rate, note): (String, MainRate, String)| Key {
        name,
        value: rate.to_string(),
        note,
    };
    best.into_iter().map(key).collect()
}
