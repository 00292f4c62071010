//! Equal devices against each other: which of many nodes is slow, by how much, and by which row.
//!
//! Runs are gathered into *members* by card, host or a tag, and members are compared with those whose device
//! bears the same name. A member's time for a workload is the median of its runs' medians, and what is normal is
//! the median over the members; of two nobody can say which is normal, so the faster one shows what is
//! possible. A member is slow by a row where the lower end of its time lies beyond the normal one by more than
//! [`SPREAD`], which is what cards of one name differ by, and by more than five robust standard deviations of
//! all members: of sixty rows on a thousand equal nodes less than one in a hundred then is taken for slow by
//! chance.
//!
//! Set-ups are compared, too: a member whose ECC, clocks' power limit or link differs from what most have is told
//! of, since that is why most slow nodes are slow.

mod members;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

use warpmark_record::stats::{self, MAD_TO_SIGMA};
use warpmark_record::store::Recording;
use warpmark_record::{BenchmarkId, Outcome, Record, Run, RunId, Seconds, tag};

use crate::compare::unlike;
use crate::rank::{self, RankError};
use crate::reference::judge::SPREAD;

/// So many robust standard deviations beyond the others are no chance.
const SIGMAS: f64 = 5.0;

/// From so many members on their spread is known well enough to count.
const ENOUGH: usize = 5;

/// The confidence of a run's median.
const CONFIDENCE: f64 = 0.95;

/// What makes runs one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// The card, by its UUID.
    Card,
    /// The host, by its name.
    Host,
    /// The value of a tag.
    Tag(String),
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "card" => Ok(Self::Card),
            None if text == "host" => Ok(Self::Host),
            Some(("tag", key)) => tag::check_key(key).map(|()| Self::Tag(key.to_owned())),
            _ => Err(format!("{text:?} is nothing to group by: write card, host or tag:KEY")),
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Card => f.write_str("card"),
            Self::Host => f.write_str("host"),
            Self::Tag(key) => write!(f, "tag {key}"),
        }
    }
}

/// A member's time for a workload, against what is normal.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Which workload, as a place in [`Kind::workloads`].
    pub workload: usize,
    /// Its time.
    pub time: Seconds,
    /// Its time over the normal one.
    pub ratio: f64,
    /// Whether it is certainly slower than the others.
    pub slow: bool,
}

/// The runs of one card, host or tag.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// What it is told by.
    pub name: String,
    /// How many runs it has.
    pub runs: usize,
    /// Its times, in the order of the workloads.
    pub standings: Vec<Standing>,
    /// The geometric mean of its times over the normal ones; `None` without any.
    pub ratio: Option<f64>,
    /// How its set-up differs from what most members have.
    pub unlike: Vec<String>,
    /// Benchmarks that failed.
    pub failed: Vec<BenchmarkId>,
    /// Benchmarks that its runs set out to measure and have no row of.
    pub lacking: usize,
}

impl Member {
    /// The row by which it stands worst.
    pub fn worst(&self) -> Option<&Standing> {
        let of_these = |slow: bool| self.standings.iter().filter(move |s| s.slow || !slow);
        let slowest = |slow| of_these(slow).max_by(|a, b| a.ratio.total_cmp(&b.ratio));
        slowest(true).or_else(|| slowest(false))
    }

    /// By how many rows it is slow.
    pub fn slow_rows(&self) -> usize {
        self.standings.iter().filter(|standing| standing.slow).count()
    }
}

/// A workload over all members.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Which.
    pub id: BenchmarkId,
    /// How many members measured it.
    pub members: usize,
    /// The normal time.
    pub normal: Seconds,
    /// The shortest and the longest.
    pub range: (Seconds, Seconds),
    /// The member of the longest, as a place in [`Kind::members`].
    pub slowest: usize,
    /// The robust standard deviation between members, as a share; `None` with too few of them.
    pub spread: Option<f64>,
    /// Beyond so much of the normal time a member is slow.
    pub edge: f64,
}

/// The members whose devices bear one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// The name.
    pub device: String,
    /// The members: those that are slow first, then those of which rows failed or are lacking, then by their mean
    /// ratios, the slowest first.
    pub members: Vec<Member>,
    /// What at least two of them measured.
    pub workloads: Vec<Workload>,
    /// Rows that are not of the same work as the others of their id, and why.
    pub refused: Vec<(BenchmarkId, String)>,
}

impl Kind {
    /// The members that are slow.
    pub fn slow(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.slow_rows() > 0)
    }
}

/// Many devices.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    /// What makes a member.
    pub by: By,
    /// The kinds, by name.
    pub kinds: Vec<Kind>,
    /// Runs that do not tell what they would be gathered by.
    pub unplaced: Vec<RunId>,
}

impl Fleet {
    /// Whether any member is slow, has failures or lacks rows.
    pub fn has_faults(&self) -> bool {
        let mut members = self.kinds.iter().flat_map(|kind| &kind.members);
        members
            .any(|member| member.slow_rows() > 0 || !member.failed.is_empty() || member.lacking > 0)
    }
}

/// Gathers the runs of a recording into members and compares them, kind by kind.
///
/// # Errors
/// Rows of several methods, simulated devices among real ones, or no run that tells what it would be gathered
/// by.
pub fn compare(recording: &Recording, by: &By) -> Result<Fleet, FleetError> {
    rank::check(recording)?;
    let (gathered, unplaced) = members::gather(recording, by);
    if gathered.is_empty() {
        return Err(FleetError::NoMembers(by.clone()));
    }
    let kinds = gathered.into_iter().map(|(device, members)| kind(device, &members)).collect();
    Ok(Fleet { by: by.clone(), kinds, unplaced })
}

/// Why nothing can be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    /// Rows that must not be compared.
    #[error(transparent)]
    Rank(#[from] RankError),
    /// No run is of any member.
    #[error("no run tells its {0}: group by something else, or measure with `--tag`")]
    NoMembers(By),
}

/// The runs of a member and their rows.
pub(crate) struct Gathered<'a> {
    pub name: String,
    pub runs: Vec<&'a Run>,
    pub rows: Vec<&'a Record>,
}

/// A member's time for a workload.
struct Time {
    member: usize,
    /// The median.
    middle: f64,
    /// The lower end of its interval.
    low: f64,
}

fn kind(device: &str, gathered: &[Gathered<'_>]) -> Kind {
    let (times, refused) = times(gathered);
    let set_ups = members::set_ups(gathered);
    let mut members: Vec<Member> = gathered
        .iter()
        .zip(set_ups)
        .map(|(member, unlike)| Member {
            name: member.name.clone(),
            runs: member.runs.len(),
            standings: Vec::new(),
            ratio: None,
            unlike,
            failed: member
                .rows
                .iter()
                .filter(|row| failed(row))
                .map(|row| row.id.clone())
                .collect(),
            lacking: lacking(member),
        })
        .collect();
    let mut workloads = Vec::new();
    for (id, of) in times.into_iter().filter(|(_, of)| of.len() >= 2) {
        let (workload, standings) = workload(id, &of, workloads.len());
        workloads.push(workload);
        for (member, standing) in standings {
            members[member].standings.push(standing);
        }
    }
    for member in &mut members {
        let ratios: Vec<f64> = member.standings.iter().map(|standing| standing.ratio).collect();
        member.ratio = stats::geometric_mean(&ratios);
    }
    in_order(&mut members, &mut workloads);
    Kind { device: device.to_owned(), members, workloads, refused }
}

/// Puts the slow ones first, then those of which rows failed or are lacking, and the slowest of the others after
/// them.
fn in_order(members: &mut Vec<Member>, workloads: &mut [Workload]) {
    let mut order: Vec<(usize, Member)> = members.drain(..).enumerate().collect();
    order.sort_by(|(_, a), (_, b)| {
        let ratio = |member: &Member| member.ratio.unwrap_or(0.0);
        let is_slow = |member: &Member| member.slow_rows() > 0;
        let is_partial = |member: &Member| member.lacking > 0 || !member.failed.is_empty();
        let rank = |member: &Member| (is_slow(member), is_partial(member));
        let by_ratio = ratio(b).total_cmp(&ratio(a));
        rank(b).cmp(&rank(a)).then(by_ratio).then_with(|| a.name.cmp(&b.name))
    });
    let places: HashMap<usize, usize> =
        order.iter().enumerate().map(|(place, (before, _))| (*before, place)).collect();
    for workload in workloads {
        workload.slowest = places.get(&workload.slowest).copied().unwrap_or_default();
    }
    members.extend(order.into_iter().map(|(_, member)| member));
}

fn failed(row: &Record) -> bool {
    matches!(row.outcome, Outcome::Failed { .. })
}

/// Benchmarks that the runs of a member set out to measure and have no row of.
fn lacking(member: &Gathered<'_>) -> usize {
    let planned: usize = member.runs.iter().map(|run| run.planned.len()).sum();
    let with_plan = |row: &&&Record| {
        member.runs.iter().any(|run| run.run == row.run && run.planned.contains(&row.id))
    };
    planned.saturating_sub(member.rows.iter().filter(with_plan).count())
}

type Times<'a> = BTreeMap<&'a BenchmarkId, Vec<Time>>;

/// The times of each workload, and rows that are not of the same work as the others of their id.
fn times<'a>(gathered: &[Gathered<'a>]) -> (Times<'a>, Vec<(BenchmarkId, String)>) {
    let mut first: HashMap<&BenchmarkId, &Record> = HashMap::new();
    let (mut all, mut refused) = (Times::new(), Vec::new());
    for (member, of) in gathered.iter().enumerate() {
        let mut own: BTreeMap<&BenchmarkId, Vec<(f64, f64)>> = BTreeMap::new();
        for &row in of.rows.iter().filter(|row| row.outcome == Outcome::Measured) {
            let reasons = unlike::rows(first.entry(&row.id).or_insert(row), row);
            if !reasons.is_empty() {
                refused.push((row.id.clone(), format!("{}: {}", of.name, reasons.join("; "))));
                continue;
            }
            let samples = row.samples.as_ref().map(warpmark_record::Samples::per_iteration);
            let Some(samples) = samples else { continue };
            let Some(time) = stats::median(&samples).filter(|time| *time > 0.0) else { continue };
            let low = stats::median_interval(&samples, CONFIDENCE).map_or(time, |found| found.low);
            own.entry(&row.id).or_default().push((time, low));
        }
        for (id, runs) in own {
            let median = |of: fn(&(f64, f64)) -> f64| {
                stats::median(&runs.iter().map(of).collect::<Vec<_>>())
            };
            if let (Some(time), Some(low)) = (median(|run| run.0), median(|run| run.1)) {
                all.entry(id).or_default().push(Time { member, middle: time, low });
            }
        }
    }
    (all, refused)
}

/// A workload that at least two members measured, and how each stands.
fn workload(id: &BenchmarkId, of: &[Time], place: usize) -> (Workload, Vec<(usize, Standing)>) {
    let seconds: Vec<f64> = of.iter().map(|time| time.middle).collect();
    let least = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let normal = match of.len() {
        2 => least,
        _ => stats::median(&seconds).unwrap_or(least),
    };
    let ratios: Vec<f64> = seconds.iter().map(|time| (time / normal).ln()).collect();
    let spread = stats::mad(&ratios).filter(|_| of.len() >= ENOUGH).map(|mad| mad * MAD_TO_SIGMA);
    let edge = spread.map_or(SPREAD, |spread| (SIGMAS * spread).exp_m1().max(SPREAD));
    let slowest = of.iter().max_by(|a, b| a.middle.total_cmp(&b.middle));
    let workload = Workload {
        id: id.clone(),
        members: of.len(),
        normal: Seconds(normal),
        range: (Seconds(least), Seconds(slowest.map_or(normal, |time| time.middle))),
        slowest: slowest.map_or(0, |time| time.member),
        spread,
        edge,
    };
    let standings = of.iter().map(|time| {
        let (ratio, slow) = (time.middle / normal, time.low / normal > 1.0 + edge);
        (time.member, Standing { workload: place, time: Seconds(time.middle), ratio, slow })
    });
    (workload, standings.collect())
}

#[cfg(test)]
#[path = "fleet/fleet_tests.rs"]
mod tests;
