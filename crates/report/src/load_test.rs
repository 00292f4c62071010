//! The rows of load tests: what requests met, a line a level.

use serde_json::{Value, json};
use warpmark_analyze::load_test::{Capacity, capacity};
use warpmark_analyze::{Caveat, RowAnalysis, load_test};
use warpmark_record::load_test::{Arrivals, Batching, Histogram, LoadTest};
use warpmark_record::stats::StatsError;
use warpmark_record::{Record, Seconds};

use crate::format::percent;

/// The levels of load on one service.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadSection {
    /// The service, without the level.
    pub title: String,
    /// What holds for all levels.
    pub facts: Vec<String>,
    /// The columns' titles; the first names the level.
    pub header: Vec<String>,
    /// The cells of each level.
    pub rows: Vec<Vec<String>>,
    /// What the levels say together.
    pub remarks: Vec<String>,
}

/// A level, and the numbers of its warnings.
type Level<'a> = (&'a LoadTest, Vec<usize>);

/// A column: its title, its cell, and how readily it is left out where the page is too narrow.
struct Column {
    title: &'static str,
    spare: u8,
    cell: fn(&LoadTest) -> String,
}

const fn column(title: &'static str, spare: u8, cell: fn(&LoadTest) -> String) -> Column {
    Column { title, spare, cell }
}

/// All columns there are, the level's name apart.
const COLUMNS: [Column; 15] = [
    column("answers/s", 0, |load| figure(load.rate())),
    column("tok/s", 0, |load| load.tokens_per_second().map_or_else(String::new, figure)),
    column("mean", 1, |load| load.latency.mean().map_or_else(dash, |time| time.to_string())),
    column("p50", 0, |load| quantile(Some(&load.latency), 0.5)),
    column("p95", 0, |load| quantile(Some(&load.latency), 0.95)),
    column("p99", 2, |load| quantile(Some(&load.latency), 0.99)),
    column("TTFT p50", 3, |load| quantile(load.first_token.as_ref(), 0.5)),
    column("TTFT p95", 1, |load| quantile(load.first_token.as_ref(), 0.95)),
    column("ITL p50", 3, |load| quantile(load.between_tokens.as_ref(), 0.5)),
    column("ITL p95", 1, |load| quantile(load.between_tokens.as_ref(), 0.95)),
    column("errors", 0, |load| load.requests.error_rate().map_or_else(dash, percent)),
    column("goodput", 1, |load| load.goodput().map_or_else(String::new, figure)),
    column("queue", 2, |load| figure(load.queue.mean)),
    column("batch", 2, |load| load.batch_efficiency().map_or_else(dash, percent)),
    column("busy", 2, |load| percent(load.passes.busy_s / load.window_s)),
];

fn dash() -> String {
    "-".to_owned()
}

fn figure(value: f64) -> String {
    warpmark_record::units::three_digits(value)
}

fn quantile(times: Option<&Histogram>, quantile: f64) -> String {
    match times.map(|times| times.percentile(quantile)) {
        Some(Ok(time)) => time.to_string(),
        Some(Err(StatsError::TooFew { needed, .. })) => format!("n<{needed}"),
        Some(Err(_)) => dash(),
        None => String::new(),
    }
}

/// The sections of a run's rows of load; `note` numbers a warning.
pub(crate) fn sections(
    rows: &[&RowAnalysis<'_>],
    mut note: impl FnMut(&Caveat) -> usize,
) -> Vec<LoadSection> {
    let mut services: Vec<(String, Vec<Level<'_>>)> = Vec::new();
    for row in rows {
        let Some(load) = load_test::of(row.record) else { continue };
        let level = (load, row.caveats.iter().map(&mut note).collect());
        let title = service(row.record);
        match services.iter_mut().find(|(known, _)| *known == title) {
            Some((_, levels)) => levels.push(level),
            None => services.push((title, vec![level])),
        }
    }
    services.into_iter().map(|(title, levels)| section(title, &levels)).collect()
}

/// A row's id without its last segment, which names the level.
pub(crate) fn service(record: &Record) -> String {
    let segments = record.id.segments();
    let kept = segments.len().saturating_sub(1).max(1);
    format!("{} @{}", segments[..kept].join("/"), record.id.engine())
}

fn section(title: String, levels: &[Level<'_>]) -> LoadSection {
    let shown = |column: &&Column| levels.iter().any(|(load, _)| !(column.cell)(load).is_empty());
    let columns: Vec<&Column> = COLUMNS.iter().filter(shown).collect();
    let has_warnings = levels.iter().any(|(_, notes)| !notes.is_empty());
    let mut header = vec!["load".to_owned()];
    header.extend(columns.iter().map(|column| column.title.to_owned()));
    header.extend(has_warnings.then(|| "notes".to_owned()));
    let rows = levels.iter().map(|(load, notes)| {
        let mut cells = vec![level(load)];
        cells.extend(columns.iter().map(|column| (column.cell)(load)));
        let notes: Vec<String> = notes.iter().map(usize::to_string).collect();
        let notes = if notes.is_empty() { String::new() } else { format!("[{}]", notes.join(",")) };
        cells.extend(has_warnings.then_some(notes));
        cells
    });
    let rows = rows.collect();
    LoadSection { title, facts: facts(levels), header, rows, remarks: remarks(levels) }
}

fn level(load: &LoadTest) -> String {
    match load.arrivals {
        Arrivals::Closed { users: 1 } => "1 user".to_owned(),
        Arrivals::Closed { users } => format!("{users} users"),
        Arrivals::Open { rate, .. } => format!("{}/s", figure(rate)),
    }
}

/// What the first level says of all: every level of a service is made alike.
fn facts(levels: &[Level<'_>]) -> Vec<String> {
    let Some((load, _)) = levels.first() else { return Vec::new() };
    let batching = match load.batching {
        Batching::Dynamic { max_batch, max_queue_delay_s } => {
            format!(
                "dynamic batches of up to {max_batch}, closed after {}",
                Seconds(max_queue_delay_s)
            )
        }
        Batching::Continuous { slots } => format!("continuous batching in {slots} slots"),
    };
    let tokens = load.tokens_per_request;
    let tokens = tokens.map_or_else(String::new, |tokens| format!(", {tokens} tokens an answer"));
    vec![format!(
        "{batching}{tokens}; {} of traffic after {} of warm-up; times from the moment a request was due",
        Seconds(load.window_s),
        Seconds(load.warm_up_s)
    )]
}

fn remarks(levels: &[Level<'_>]) -> Vec<String> {
    let loads = || levels.iter().map(|(load, _)| *load);
    let mut remarks = Vec::new();
    if let Some(target) = loads().find_map(|load| load.target_s).map(Seconds) {
        remarks.push(within(target, capacity(loads(), target)));
    }
    for load in loads() {
        let requests = load.requests;
        let counts = [
            (requests.failed, "failed"),
            (requests.timed_out, "timed out"),
            (requests.rejected, "turned away"),
            (requests.cancelled, "taken back"),
            (requests.unfinished, "unfinished"),
        ];
        let lost: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if !lost.is_empty() {
            remarks.push(format!("{}: {} of {}", level(load), lost.join(", "), requests.asked));
        }
    }
    remarks
}

fn within(target: Seconds, capacity: Capacity) -> String {
    let tail = format!("{:.0} % of answers within {target}", load_test::TAIL * 100.0);
    let unknown = match capacity.unknown {
        0 => String::new(),
        count => format!(" ({count} levels had too few answers to tell)"),
    };
    match (capacity.users, capacity.too_many) {
        (Some(users), Some(more)) => {
            format!("{tail}: {users} users, and no longer {more}{unknown}")
        }
        (Some(users), None) => format!("{tail}: {users} users at least{unknown}"),
        (None, Some(more)) => format!("{tail}: not even with {more} users{unknown}"),
        (None, None) => format!("{tail}: unknown{unknown}"),
    }
}

impl LoadSection {
    /// The positions of the columns that fit into `width`; if need be, those that can be spared go.
    pub(crate) fn columns(&self, width: usize, gap: usize, indent: usize) -> Vec<usize> {
        let spare = |at: &usize| {
            let title = self.header.get(*at).map_or("", String::as_str);
            COLUMNS.iter().find(|column| column.title == title).map_or(0, |column| column.spare)
        };
        let wide = |at: &usize| {
            let cells = self.rows.iter().chain([&self.header]).filter_map(|row| row.get(*at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + gap
        };
        let mut columns: Vec<usize> = (0..self.header.len()).collect();
        while columns.iter().map(wide).sum::<usize>() + indent > width {
            let most = columns.iter().map(spare).max().unwrap_or(0);
            if most == 0 {
                break;
            }
            columns.retain(|at| spare(at) < most);
        }
        columns
    }
}

/// The figures of a load by name, in SI units.
pub(crate) fn figures(load: &LoadTest) -> Value {
    let times = |times: Option<&Histogram>| {
        times.map(|times| {
            let at = |quantile| times.percentile(quantile).ok().map(|time| time.0);
            json!({
                "n": times.count(), "mean_s": times.mean().map(|mean| mean.0),
                "p50_s": at(0.5), "p95_s": at(0.95), "p99_s": at(0.99), "max_s": times.max_s,
            })
        })
    };
    json!({
        "arrivals": load.arrivals,
        "batching": load.batching,
        "window_s": load.window_s,
        "requests": load.requests,
        "error_rate": load.requests.error_rate(),
        "answers_per_s": load.rate(),
        "goodput_per_s": load.goodput(),
        "target_s": load.target_s,
        "tokens_per_s": load.tokens_per_second(),
        "latency": times(Some(&load.latency)),
        "waiting": times(Some(&load.waiting)),
        "first_token": times(load.first_token.as_ref()),
        "between_tokens": times(load.between_tokens.as_ref()),
        "queue_mean": load.queue.mean,
        "queue_max": load.queue.most,
        "batch_efficiency": load.batch_efficiency(),
        "busy_share": load.passes.busy_s / load.window_s,
        "generator_s_per_request": load.overhead_per_request().map(|time| time.0),
    })
}

#[cfg(test)]
#[path = "load_test_tests.rs"]
mod tests;
