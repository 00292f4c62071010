//! Several devices, workload by workload: who is first, by how much, and how sure that is.
//!
//! A device's time for a workload is the median of its runs' medians. The mean over workloads is the
//! geometric mean over those that **every** device measured, so that no device is better for having
//! skipped what it is bad at; what is missing is listed. Its interval is a bootstrap: where a device was
//! run several times, runs are drawn first, one drawing for all workloads because a run's clock and
//! neighbours touch all of them, and samples within them after. With one run a device the interval knows
//! nothing of what changes from run to run, and the ranking says so.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use warpmark_record::stats::{self, Bootstrap, Interval, Resampler};
use warpmark_record::store::Recording;
use warpmark_record::{BenchmarkId, DeviceKind, Outcome, Record, Run, RunId, Seconds};

use crate::compare::unlike;
use crate::holdings;
use crate::scaling::at_once;

/// A device's place in a workload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placing {
    /// Its time.
    pub time: Seconds,
    /// Its time over the best one's.
    pub ratio: f64,
    /// Its rank, from 1; equal times share one.
    pub rank: usize,
    /// How many runs it rests on.
    pub runs: usize,
}

/// A workload with the place of each device, in the order of [`Ranking::devices`].
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Which.
    pub id: BenchmarkId,
    /// The places; `None` where a device has no time for it.
    pub places: Vec<Option<Placing>>,
}

/// A device over all common workloads.
#[derive(Debug, Clone, PartialEq)]
pub struct Mean {
    /// Its name.
    pub device: String,
    /// The geometric mean of its times over the best device's.
    pub ratio: f64,
    /// The interval of that.
    pub interval: Option<Interval>,
    /// Runs it rests on.
    pub runs: usize,
}

/// Several devices, ranked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ranking {
    /// The devices, by name.
    pub devices: Vec<String>,
    /// The workloads that at least two devices measured.
    pub workloads: Vec<Workload>,
    /// How many of them all devices measured.
    pub common: usize,
    /// The devices by their means, the best first; empty without common workloads.
    pub means: Vec<Mean>,
    /// What is missing: device, workload, and why.
    pub missing: Vec<(String, BenchmarkId, String)>,
    /// Workloads that are not the same on all devices, and why.
    pub refused: Vec<(BenchmarkId, String)>,
}

/// Why nothing can be ranked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RankError {
    /// Rows of several methods of measuring.
    #[error(
        "the rows were measured by unlike methods ({0}), so their times must not be ranked: measure again, or leave the older files out"
    )]
    Methods(String),
    /// A simulated device among real ones.
    #[error(
        "{0:?} is a simulated device: its times prove nothing about hardware and are not ranked among real ones"
    )]
    Simulated(String),
    /// Nothing to rank.
    #[error(
        "ranking takes at least 2 devices with measured rows, and there is {0}: name more results files, leave `--filter` out, or compare equal cards with `--by card`"
    )]
    TooFew(String),
}

type Times<'a> = BTreeMap<&'a RunId, (&'a Record, Vec<f64>)>;
/// By workload and device, the rows of each run.
type Board<'a> = BTreeMap<&'a BenchmarkId, BTreeMap<&'a str, Times<'a>>>;

/// The first row of each device and workload, measured or not.
type Rows<'a> = HashMap<(&'a str, &'a BenchmarkId), &'a Record>;

/// Ranks the devices of a recording.
pub fn rank(recording: &Recording, bootstrap: &Bootstrap) -> Result<Ranking, RankError> {
    check(recording)?;
    let board = board(recording);
    let devices: BTreeSet<&str> = board.values().flat_map(|of| of.keys().copied()).collect();
    if devices.len() < 2 {
        return Err(RankError::TooFew(holdings::listed(devices)));
    }
    let devices: Vec<&str> = devices.into_iter().collect();
    let mut ranking = Ranking {
        devices: devices.iter().map(|name| (*name).to_owned()).collect(),
        ..Ranking::default()
    };
    let runs = recording.runs_by_id();
    let mut rows: Rows<'_> = HashMap::new();
    for row in &recording.rows {
        if let Some(run) = runs.get(&row.run) {
            rows.entry((run.device.name.as_str(), &row.id)).or_insert(row);
        }
    }
    let mut common = Vec::new();
    for (id, of) in &board {
        if let Some(reason) = unlike_rows(of) {
            ranking.refused.push(((*id).clone(), reason));
            continue;
        }
        for device in devices.iter().filter(|device| !of.contains_key(**device)) {
            let reason = why_missing(&rows, device, id);
            ranking.missing.push(((*device).to_owned(), (*id).clone(), reason));
        }
        if of.len() == devices.len() {
            common.push(of);
        }
        if of.len() >= 2 {
            ranking.workloads.push(workload(id, of, &devices));
        }
    }
    ranking.common = common.len();
    ranking.means = means(&common, &devices, bootstrap);
    Ok(ranking)
}

pub(crate) fn check(recording: &Recording) -> Result<(), RankError> {
    let methods: BTreeSet<u32> = recording.rows.iter().map(|row| row.method).collect();
    if methods.len() > 1 {
        let names: Vec<String> = methods.iter().map(u32::to_string).collect();
        return Err(RankError::Methods(names.join(", ")));
    }
    let is_simulated = |run: &&Run| run.device.kind == DeviceKind::Simulated;
    let simulated = recording.runs.iter().find(is_simulated);
    // Among themselves they may be ranked, by names that say what they are.
    let mixed = !recording.runs.iter().all(|run| is_simulated(&run));
    let mixed = simulated.filter(|_| mixed);
    mixed.map_or(Ok(()), |run| Err(RankError::Simulated(run.device.name.clone())))
}

fn board(recording: &Recording) -> Board<'_> {
    let mut board = Board::new();
    let runs = recording.runs_by_id();
    for row in recording.rows.iter().filter(|row| row.outcome == Outcome::Measured) {
        // What cards do at once is no measure of one.
        let Some(run) = runs.get(&row.run).filter(|run| at_once(run) == 1) else { continue };
        let times = row.samples.as_ref().map(warpmark_record::Samples::per_iteration);
        let Some(times) = times.filter(|t| stats::median(t).is_some_and(|m| m > 0.0)) else {
            continue;
        };
        let device = board.entry(&row.id).or_default().entry(run.device.name.as_str()).or_default();
        device.insert(&row.run, (row, times));
    }
    board
}

/// Why the rows of a workload are not of one and the same work.
fn unlike_rows(of: &BTreeMap<&str, Times<'_>>) -> Option<String> {
    let mut rows =
        of.iter().flat_map(|(device, runs)| runs.values().map(move |(row, _)| (device, row)));
    let (_, first) = rows.next()?;
    rows.find_map(|(device, row)| {
        // Clocks may differ: a processor has no events to time by.
        let reasons: Vec<String> = unlike::rows(first, row)
            .into_iter()
            .filter(|reason| !reason.starts_with("clock"))
            .collect();
        (!reasons.is_empty()).then(|| format!("{device}: {}", reasons.join("; ")))
    })
}

fn why_missing(rows: &Rows<'_>, device: &str, id: &BenchmarkId) -> String {
    match rows.get(&(device, id)).map(|row| &row.outcome) {
        Some(Outcome::Skipped { reason }) => format!("skipped: {reason}"),
        Some(Outcome::Failed { reason }) => format!("failed: {reason}"),
        Some(Outcome::Measured) => "its times are 0".to_owned(),
        None => "no such row".to_owned(),
    }
}

fn time(runs: &Times<'_>) -> Option<f64> {
    let medians: Option<Vec<f64>> = runs.values().map(|(_, times)| stats::median(times)).collect();
    stats::median(&medians?)
}

fn workload(id: &BenchmarkId, of: &BTreeMap<&str, Times<'_>>, devices: &[&str]) -> Workload {
    let times: Vec<Option<f64>> =
        devices.iter().map(|device| of.get(device).and_then(time)).collect();
    let best = times.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let places = devices.iter().zip(&times).map(|(device, time)| {
        let time = (*time)?;
        Some(Placing {
            time: Seconds(time),
            ratio: time / best,
            rank: 1 + times.iter().flatten().filter(|other| **other < time).count(),
            runs: of.get(device).map_or(0, BTreeMap::len),
        })
    });
    Workload { id: id.clone(), places: places.collect() }
}

/// The geometric means over common workloads, each as a ratio to the best device's.
fn means(
    common: &[&BTreeMap<&str, Times<'_>>],
    devices: &[&str],
    bootstrap: &Bootstrap,
) -> Vec<Mean> {
    let plain = |device: &str| {
        let times: Option<Vec<f64>> =
            common.iter().map(|of| of.get(device).and_then(time)).collect();
        stats::geometric_mean(&times?)
    };
    let totals: Vec<(&str, f64)> =
        devices.iter().filter_map(|device| Some((*device, plain(device)?))).collect();
    let Some((best, least)) = totals.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)) else {
        return Vec::new();
    };
    let mut means: Vec<Mean> = totals
        .into_iter()
        .map(|(device, total)| Mean {
            device: device.to_owned(),
            ratio: total / least,
            interval: interval(common, device, best, bootstrap),
            runs: runs_of(common, device).len(),
        })
        .collect();
    means.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    means
}

fn interval(
    common: &[&BTreeMap<&str, Times<'_>>],
    device: &str,
    best: &str,
    bootstrap: &Bootstrap,
) -> Option<Interval> {
    if device == best {
        return Some(Interval { low: 1.0, high: 1.0, confidence: 1.0 });
    }
    let (own, other) = (Drawn::of(common, device), Drawn::of(common, best));
    bootstrap.statistic(|random| Some(own.mean(random)? / other.mean(random)?))
}

fn runs_of<'a>(common: &[&BTreeMap<&str, Times<'a>>], device: &str) -> Vec<&'a RunId> {
    let runs = common.iter().filter_map(|of| of.get(device)).flat_map(|runs| runs.keys().copied());
    runs.collect::<BTreeSet<_>>().into_iter().collect()
}

/// From so many runs on, what changes within one is nothing beside what changes between them.
const MANY_RUNS: usize = 20;

/// The times of a device, by workload, for drawing from.
struct Drawn<'a> {
    runs: usize,
    /// Of each workload: by run, its samples and their median; `None` where the run lacks it.
    workloads: Vec<Vec<Option<Measured<'a>>>>,
}

/// Samples and their median.
type Measured<'a> = (&'a [f64], f64);

impl<'a> Drawn<'a> {
    fn of(common: &'a [&BTreeMap<&str, Times<'a>>], device: &str) -> Self {
        let runs = runs_of(common, device);
        let workloads = common.iter().map(|of| {
            let measured = of.get(device);
            let of_run = |run: &&RunId| {
                let (_, samples) = measured?.get(*run)?;
                Some((samples.as_slice(), stats::median(samples)?))
            };
            runs.iter().map(of_run).collect()
        });
        Self { runs: runs.len(), workloads: workloads.collect() }
    }

    /// The geometric mean over all workloads of one drawing of runs, and of samples within them.
    fn mean(&self, random: &mut Resampler) -> Option<f64> {
        let drawn: Vec<usize> = (0..self.runs).map(|_| random.index(self.runs)).collect();
        let mut of_run = |(samples, median): Measured<'_>| {
            if self.runs >= MANY_RUNS { Some(median) } else { random.median(samples) }
        };
        let mut times = Vec::new();
        for workload in &self.workloads {
            let mut medians = Vec::new();
            for found in drawn.iter().filter_map(|run| workload[*run]) {
                medians.push(of_run(found)?);
            }
            // A workload that none of the drawn runs has is taken from all that have it.
            if medians.is_empty() {
                for found in workload.iter().flatten() {
                    medians.push(of_run(*found)?);
                }
            }
            times.push(stats::median(&medians)?);
        }
        stats::geometric_mean(&times)
    }
}

#[cfg(test)]
#[path = "rank_tests.rs"]
mod tests;
