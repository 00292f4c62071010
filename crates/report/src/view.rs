//! The report of a recording, free of any format: sections of rows, each cell as unescaped text.

use std::collections::BTreeMap;

use crate::attribution;
use crate::decision::Grid;
use crate::format::percent;
use crate::load_test::{self, LoadSection};
use crate::memory;
use crate::specs;
use warpmark_analyze::{
    Caveat, Distribution, Limit, Rates, Rounds, RowAnalysis, RunAnalysis, SpeechRates,
};
use warpmark_record::stats::StatsError;
use warpmark_record::{Outcome, Record, Run, Seconds};

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunView {
    /// Device and run.
    pub title: String,
    /// What was measured where and with what, as name and value.
    pub facts: Vec<(&'static str, String)>,
    /// Warnings about all rows.
    pub caveats: Vec<String>,
    /// The measured rows.
    pub sections: Vec<Section>,
    /// Steps that several engines took, engine by engine.
    pub attribution: Vec<Grid>,
    /// The rows of load.
    pub loads: Vec<LoadSection>,
    /// The other rows.
    pub unmeasured: Vec<Unmeasured>,
    /// Warnings about single rows; a row's `notes` count from 1.
    pub footnotes: Vec<String>,
}

/// The measured rows of one subject: `micro/matmul`, `text/gpt2-124m`.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Bench target and subject.
    pub title: String,
    /// The engine, if all rows have the same.
    pub engine: Option<String>,
    /// The best rate of each dtype.
    pub best: Vec<String>,
    /// The limit that the shares are of, if all rows have the same.
    pub limit: Option<Limit>,
    /// The rows.
    pub rows: Vec<RowView>,
    /// What held the memory of the row that held most, on a GPU.
    pub memory: Option<String>,
}

/// A measured row.
#[derive(Debug, Clone, PartialEq)]
pub struct RowView {
    /// What the section's title leaves of the id.
    pub name: String,
    /// The median time of an iteration.
    pub time: String,
    /// Half the width of its interval.
    pub half_width: String,
    /// Samples.
    pub samples: String,
    /// The rate that matters.
    pub rate: String,
    /// The share of the limit, with the limit's name where the section has several.
    pub share: String,
    /// The same as a number, not clipped.
    pub share_of_limit: Option<f64>,
    /// Operations per byte of memory traffic, where the row counts both.
    pub intensity: Option<f64>,
    /// What bounds it.
    pub bound: String,
    /// The change from the first third of the samples to the last, where it is worth a warning.
    pub drift: String,
    /// The most memory it held.
    pub memory: String,
    /// Its stages, if it has any.
    pub stages: Option<String>,
    /// What happened within it, each as name and figures: its pace through audio, its distributions.
    pub distributions: Vec<(String, String)>,
    /// Its footnotes.
    pub notes: Vec<usize>,
}

/// A row without times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmeasured {
    /// Its id.
    pub id: String,
    /// `skipped` or `failed`.
    pub outcome: &'static str,
    /// Why.
    pub reason: String,
}

/// A column of a section's table.
pub struct Column {
    /// Its title.
    pub title: String,
    /// Whether its cells stand to the right, as numbers do.
    pub right: bool,
    /// How readily it is left out where the page is too narrow: 0 never, the highest first.
    pub spare: u8,
    /// Its cell in a row.
    pub cell: fn(&RowView) -> String,
}

impl Section {
    /// The columns that have anything to say.
    pub fn columns(&self) -> Vec<Column> {
        let share = match self.limit {
            Some(limit) => format!("of {limit}"),
            None => "of limit".to_owned(),
        };
        let spared = |title: &str, spare, right, cell| Column {
            title: title.to_owned(),
            right,
            spare,
            cell,
        };
        let column = |title, right, cell| spared(title, 0, right, cell);
        let mut columns = vec![
            column("benchmark", false, |row| row.name.clone()),
            column("time", true, |row| row.time.clone()),
            column("±", true, |row| row.half_width.clone()),
            column("n", true, |row| row.samples.clone()),
        ];
        if self.rows.iter().any(|row| !row.drift.is_empty()) {
            columns.push(spared("drift", 2, true, |row| row.drift.clone()));
        }
        columns.extend([
            column("rate", true, |row| row.rate.clone()),
            column(&share, true, |row| row.share.clone()),
            column("bound", false, |row| row.bound.clone()),
        ]);
        if self.rows.iter().any(|row| !row.memory.is_empty()) {
            columns.push(spared("memory", 3, true, |row| row.memory.clone()));
        }
        if self.rows.iter().any(|row| !row.notes.is_empty()) {
            columns.push(column("notes", false, |row| {
                let numbers: Vec<String> = row.notes.iter().map(usize::to_string).collect();
                if numbers.is_empty() { String::new() } else { format!("[{}]", numbers.join(",")) }
            }));
        }
        columns
    }
}

/// The views of all runs.
pub fn of(runs: &[RunAnalysis<'_>]) -> Vec<RunView> {
    runs.iter().map(run_view).collect()
}

fn run_view(analysis: &RunAnalysis<'_>) -> RunView {
    let mut footnotes = Footnotes::default();
    let mut sections: Vec<(String, Vec<&RowAnalysis<'_>>)> = Vec::new();
    let mut loads = Vec::new();
    let mut unmeasured = Vec::new();
    for row in &analysis.rows {
        let id = &row.record.id;
        let outcome = match row.record.outcome {
            Outcome::Measured if row.record.load_test.is_some() => {
                loads.push(row);
                continue;
            }
            Outcome::Measured => {
                let title = format!("{}/{}", id.group(), id.subject());
                match sections.iter_mut().find(|(known, _)| *known == title) {
                    Some((_, rows)) => rows.push(row),
                    None => sections.push((title, vec![row])),
                }
                continue;
            }
            Outcome::Skipped { .. } => "skipped",
            Outcome::Failed { .. } => "failed",
        };
        let reason = row.reason().unwrap_or_default().to_owned();
        unmeasured.push(Unmeasured { id: id.to_string(), outcome, reason });
    }
    let sections =
        sections.into_iter().map(|(title, rows)| section(title, &rows, &mut footnotes)).collect();
    RunView {
        title: title(analysis),
        facts: facts(analysis),
        caveats: analysis.caveats.iter().map(ToString::to_string).collect(),
        sections,
        attribution: attribution::grids(analysis),
        loads: load_test::sections(&loads, |caveat| footnotes.number(caveat.without_figure())),
        unmeasured,
        footnotes: footnotes.texts,
    }
}

/// Footnotes of a run, each text once.
#[derive(Default)]
struct Footnotes {
    numbers: BTreeMap<String, usize>,
    texts: Vec<String>,
}

impl Footnotes {
    fn number(&mut self, text: String) -> usize {
        if let Some(number) = self.numbers.get(&text) {
            return *number;
        }
        self.texts.push(text.clone());
        self.numbers.insert(text, self.texts.len());
        self.texts.len()
    }
}

fn section(title: String, rows: &[&RowAnalysis<'_>], footnotes: &mut Footnotes) -> Section {
    let engine = only(rows.iter().map(|row| row.record.id.engine())).map(str::to_owned);
    let limit = only(rows.iter().filter_map(|row| Some(row.placement.as_ref()?.headline()?.limit)));
    Section {
        best: best(rows),
        rows: rows
            .iter()
            .map(|row| row_view(row, engine.is_some(), limit.is_some(), footnotes))
            .collect(),
        memory: memory::most(rows, |row| name(row.record, engine.is_some())),
        title,
        engine,
        limit,
    }
}

/// The value that all are equal to.
fn only<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

fn row_view(
    row: &RowAnalysis<'_>,
    one_engine: bool,
    one_limit: bool,
    footnotes: &mut Footnotes,
) -> RowView {
    let rates = row.rates.as_ref();
    let share = row.placement.as_ref().and_then(|placement| placement.headline());
    let memory = row.record.memory.as_ref();
    let dash = || "-".to_owned();
    RowView {
        name: name(row.record, one_engine),
        time: rates.map_or_else(dash, |rates| rates.time.to_string()),
        half_width: rates.and_then(Rates::relative_half_width).map_or_else(dash, percent),
        samples: row.record.samples.as_ref().map_or(0, |samples| samples.wall_s.len()).to_string(),
        rate: rates
            .and_then(|rates| rates.main(row.record))
            .map_or_else(dash, |rate| rate.to_string()),
        share: share.map_or_else(dash, |share| {
            let number = percent(share.share);
            if one_limit { number } else { format!("{number} {}", share.limit) }
        }),
        share_of_limit: share.map(|share| share.share),
        intensity: row.placement.as_ref().and_then(|placement| placement.intensity),
        bound: row.placement.as_ref().map_or_else(dash, |placement| placement.bound.to_string()),
        drift: drift(&row.caveats),
        memory: memory
            .and_then(|memory| memory.peak.known())
            .map_or_else(String::new, |peak| peak.binary()),
        stages: rates.filter(|rates| !rates.stages.is_empty()).map(stages),
        distributions: within(row),
        notes: row.caveats.iter().map(|caveat| footnotes.number(caveat.without_figure())).collect(),
    }
}

fn within(row: &RowAnalysis<'_>) -> Vec<(String, String)> {
    let speech = row.rates.as_ref().and_then(|rates| SpeechRates::of(row.record, rates));
    let pace = speech.map(|speech| ("pace".to_owned(), speech.to_string()));
    let rounds = Rounds::of(row.record).map(|rounds| ("rounds".to_owned(), rounds.to_string()));
    pace.into_iter().chain(rounds).chain(row.distributions.iter().map(distribution)).collect()
}

fn drift(caveats: &[Caveat]) -> String {
    let drift = caveats.iter().find_map(|caveat| match caveat {
        Caveat::Drift(by) => Some(*by),
        _ => None,
    });
    drift.map_or_else(String::new, |by| format!("{:+.0} %", by * 100.0))
}

/// The stages of a load in the order in which they happen, others after them, in words.
pub(crate) fn ordered_stages(rates: &Rates) -> Vec<(String, Seconds)> {
    const ORDER: [&str; 4] = ["open_s", "read_s", "host_to_device_s", "first_run_s"];
    let place = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
    let mut stages: Vec<_> = rates.stages.iter().collect();
    stages.sort_by_key(|(name, _)| place(name));
    let words =
        |(name, time): (&String, &Seconds)| (name.trim_end_matches("_s").replace('_', " "), *time);
    stages.into_iter().map(words).collect()
}

fn stages(rates: &Rates) -> String {
    let stages = ordered_stages(rates).into_iter();
    stages.map(|(name, time)| format!("{name} {time}")).collect::<Vec<_>>().join(", ")
}

/// A distribution's name in words, and its percentiles; those that it has too few times for are named
/// with the number that they need.
fn distribution(found: &Distribution) -> (String, String) {
    let percentile = |(quantile, time): &(f64, Result<Seconds, StatsError>)| {
        let name = format!("p{}", quantile * 100.0);
        match time {
            Ok(time) => format!("{name} {time}"),
            Err(StatsError::TooFew { needed, .. }) => format!("{name} needs n {needed}"),
            Err(_) => format!("{name} unknown"),
        }
    };
    let percentiles: Vec<String> = found.quantiles.iter().map(percentile).collect();
    let spread = found.deviation.map_or_else(String::new, |deviation| format!(" ± {deviation}"));
    let figures = format!("{}, mean {}{spread}, n {}", percentiles.join(", "), found.mean, found.n);
    (found.words(), figures)
}

fn name(record: &Record, one_engine: bool) -> String {
    let rest = record.id.segments()[2..].join("/");
    let rest = if rest.is_empty() { record.id.subject().to_owned() } else { rest };
    if one_engine { rest } else { format!("{rest}@{}", record.id.engine()) }
}

/// A row's share of its limit in words. The best micro row of a run is all of the measured limit, mostly because
/// it set it, and is given none of that.
pub(crate) fn own_share(row: &RowAnalysis<'_>) -> Option<String> {
    let share = row.placement.as_ref()?.headline()?;
    let set_it = share.limit == Limit::Measured && row.record.id.group() == "micro";
    (!set_it).then(|| format!("{} of {}", percent(share.share), share.limit))
}

/// The best rate of each dtype, in the order in which dtypes appear.
fn best(rows: &[&RowAnalysis<'_>]) -> Vec<String> {
    let mut best: Vec<(String, &RowAnalysis<'_>, f64)> = Vec::new();
    for row in rows {
        let Some(rate) = row.rates.as_ref().and_then(|rates| rates.main(row.record)) else {
            continue;
        };
        let dtype =
            row.record.parameters.get("dtype").map_or_else(String::new, ToString::to_string);
        match best.iter_mut().find(|(known, _, _)| *known == dtype) {
            Some(entry) if rate.get() > entry.2 => *entry = (dtype, row, rate.get()),
            Some(_) => {}
            None => best.push((dtype, row, rate.get())),
        }
    }
    best.into_iter()
        .filter_map(|(dtype, row, _)| {
            let rate = row.rates.as_ref()?.main(row.record)?;
            let share = own_share(row).map_or_else(String::new, |share| format!(", {share}"));
            let dtype = if dtype.is_empty() { dtype } else { format!("{dtype} ") };
            Some(format!("{dtype}{rate}{share}"))
        })
        .collect()
}

fn title(analysis: &RunAnalysis<'_>) -> String {
    match analysis.run {
        Some(run) => format!("{} ({}), run {}", run.device.name, run.device.kind, run.run),
        None => format!("unknown device, run {}", analysis.id),
    }
}

fn facts(analysis: &RunAnalysis<'_>) -> Vec<(&'static str, String)> {
    let mut facts = analysis.run.map(of_run).unwrap_or_default();
    let limits = &analysis.limits;
    let mut measured: Vec<String> =
        limits.measured_peaks().map(|(name, peak)| format!("{name} {peak}")).collect();
    measured.extend(limits.measured_bandwidth().map(|bandwidth| format!("memory {bandwidth}")));
    measured.extend(limits.measured_reading().map(|rate| format!("reading {rate}")));
    measured.extend(limits.measured_transfer().map(|rate| format!("to the device {rate}")));
    if !measured.is_empty() {
        facts.push(("measured", measured.join(", ")));
    }
    facts
}

fn of_run(run: &Run) -> Vec<(&'static str, String)> {
    let host = &run.host;
    let memory = host.memory.clone().map(warpmark_record::Bytes::binary);
    let name = host.name.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
    let build = &run.build;
    let mut facts = vec![
        ("started", format!("{}, suite {}, seed {}", run.started_at, run.suite, run.seed)),
        ("host", format!("{name}{}, {} cores, {memory} memory, {}", host.cpu, host.cores, host.os)),
        ("build", format!("warpmark {} ({}), {}", build.version, build.git, build.profile)),
    ];
    if !run.tags.is_empty() {
        facts.push(("tags", specs::words(&run.tags)));
    }
    if !run.settings.is_empty() {
        let settings: Vec<String> =
            run.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        facts.push(("settings", settings.join(" ")));
    }
    if let Some(gpu) = &run.device.gpu {
        let datasheet = match (gpu.datasheet.known(), gpu.datasheet.reason()) {
            (Some(datasheet), _) => {
                let peaks: Vec<String> = datasheet
                    .peaks
                    .iter()
                    .map(|(name, peak)| format!("{name} {}", peak.value))
                    .collect();
                let bandwidth = datasheet.bandwidth.as_ref();
                let bandwidth =
                    bandwidth.map_or_else(|| "unknown".to_owned(), |b| b.value.to_string());
                format!("{}: {}, memory {bandwidth}", datasheet.name, peaks.join(", "))
            }
            (None, reason) => format!("unknown ({})", reason.unwrap_or_default()),
        };
        facts.push(("datasheet", datasheet));
    }
    facts
}
