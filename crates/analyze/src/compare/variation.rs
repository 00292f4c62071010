//! How much the median of a row changes from one run of the same program to the next.
//!
//! All of it is on a logarithmic scale, on which a share of a time is the same for short and long rows: a
//! standard deviation of 0.02 is 2 %.
//!
//! **Where runs were repeated** (several on a side, or earlier ones of the same rows on the same machine),
//! the deviations of their medians from the mean of their side, or of their build, say it. A row's variance
//! is shrunk towards that of all rows, `s² = (S + d₀ p²) / (d + d₀)`, with its sum of squares `S`, its
//! degrees of freedom `d`, the variance `p²` of the other rows together and at most three degrees `d₀` of
//! it; quantiles are those of Student's distribution with `d + d₀` degrees (Smyth, *Linear models and empirical
//! Bayes methods*, 2004).
//!
//! **Where no run was repeated** a floor stands for it, of each side `s² = max(f, 2 b)² + (c² + v²) / 100`: what
//! a quiet machine shows at least (`f`) or twice the standard deviation of the medians of five successive fifths of
//! the samples (`b`: what changes within a second changes within an hour, and by more), the share of the threads for
//! which others left no processor (`c`), the share of the time that was stolen (`v`). A row is taken to be no
//! steadier than the middle one of its side, nor than the rows' ratios among each other.
//!
//! **What others took of the two sides unequally** comes on top, `(ln 2 (c_B - c_A))² + (v_B - v_A)²`: a thread that
//! shares its processor with another takes twice as long. Where others took as much of both, most of it
//! is in both times alike and leaves their ratio as it is.

use std::collections::{BTreeMap, HashMap, HashSet};

use warpmark_record::stats;
use warpmark_record::store::Recording;
use warpmark_record::{BenchmarkId, ClockKind, HostLoad, Record, Run, RunId};

use super::matched::Matched;
use super::uncertainty::Uncertainty;
use super::{side, unlike};

/// The standard deviation between runs that a quiet machine shows at least, by the wall and by the device's
/// own clock.
const FLOOR_WALL: f64 = 0.02;
const FLOOR_DEVICE: f64 = 0.005;

/// The deviation from run to run over that of the fifths of a run's samples. On two processors on which others
/// worked all the time (16 runs of 11 rows; deviations of 0.19 to 0.34 from run to run, 0.08 to 0.24 within a
/// run, ratios of up to 3.4 between two runs of one program), twice it lets none of the 240 ordered pairs be
/// called slower; once it, 13.
const BEYOND_A_RUN: f64 = 2.0;

/// The deviation from run to run by what others take of two runs alike, over their share.
const OF_OTHERS: f64 = 0.1;

/// Degrees of freedom that a row borrows from the others at most.
const BORROWED: f64 = 3.0;

/// Degrees of freedom, all rows together, below which repeated runs say too little.
const ENOUGH: f64 = 3.0;

/// Rows from which on the scatter of their ratios is a measure.
const MANY_ROWS: usize = 6;

/// What repeated runs of one row say.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Repeated {
    squares: f64,
    freedom: f64,
}

/// The variation between runs of all rows that are compared.
#[derive(Debug)]
pub(super) struct Variation {
    repeated: Vec<Repeated>,
    /// The evidence of single runs, of A's rows and of B's.
    own: Vec<(Own, Own)>,
    /// Its deviation in the middle of all rows.
    pooled: (f64, f64),
    /// What others took of the two sides unequally, as a deviation in the middle of all rows.
    unequal: f64,
    /// A single run's standard deviation by the scatter of the rows' ratios; 0 of few rows.
    scatter: f64,
    /// Earlier runs that were used.
    pub(super) earlier: usize,
}

impl Variation {
    /// What is known of rows that are compared; `earlier` holds earlier runs, of whatever.
    pub(super) fn of(matched: &[Matched<'_>], earlier: &Recording) -> Self {
        let mut used = HashSet::new();
        let earlier = Earlier::of(earlier, matched);
        let repeated = matched.iter().map(|pair| earlier.repeated(pair, &mut used)).collect();
        let own: Vec<(Own, Own)> = matched
            .iter()
            .map(|pair| (Own::of(pair.a, pair.runs.0), Own::of(pair.b, pair.runs.1)))
            .collect();
        let together = |side: fn(&(Own, Own)) -> Own| {
            let variances: Vec<f64> = own.iter().map(|pair| side(pair).with_floor()).collect();
            stats::median(&variances).unwrap_or(0.0).sqrt()
        };
        let pooled = (together(|pair| pair.0), together(|pair| pair.1));
        let unequal: Vec<f64> = own.iter().map(|pair| unequal(pair.0, pair.1).sqrt()).collect();
        let unequal = stats::median(&unequal).unwrap_or(0.0);
        let ratios: Vec<f64> = matched.iter().filter_map(Matched::log_ratio).collect();
        let scatter = if ratios.len() < MANY_ROWS { None } else { stats::mad(&ratios) };
        let scatter = scatter.unwrap_or(0.0) / std::f64::consts::SQRT_2;
        Self { repeated, own, pooled, unequal, scatter, earlier: used.len() }
    }

    /// Whether repeated runs say what changes between them.
    pub(super) fn is_known(&self) -> bool {
        self.repeated.iter().map(|row| row.freedom).sum::<f64>() >= ENOUGH
    }

    /// The uncertainty of a pair's ratio. `within` is what the samples of two single runs leave.
    pub(super) fn of_pair(&self, at: usize, matched: &Matched<'_>, within: f64) -> Uncertainty {
        let (own_a, own_b) = self.own[at];
        let (n_a, n_b) = (matched.times.0.len() as f64, matched.times.1.len() as f64);
        if !self.is_known() {
            let least = |own: Own, pooled: f64| {
                own.with_floor().max(pooled.powi(2)).max(self.scatter.powi(2))
            };
            let between = least(own_a, self.pooled.0) + least(own_b, self.pooled.1);
            let between = between + unequal(own_a, own_b);
            return Uncertainty { deviation: (within.powi(2) + between).sqrt(), freedom: None };
        }
        let row = self.repeated[at];
        let others =
            |get: fn(&Repeated) -> f64| self.repeated.iter().map(get).sum::<f64>() - get(&row);
        let freedom = others(|row| row.freedom);
        let borrowed = freedom.min(BORROWED);
        let pool = if freedom > 0.0 { others(|row| row.squares) / freedom } else { 0.0 };
        let all = row.freedom + borrowed;
        let variance = (row.squares + borrowed * pool) / all;
        // A single run may be less steady than those that were repeated, and says so itself.
        let of_side =
            |n: f64, own: Own| if n > 1.0 { variance / n } else { variance.max(own.seen()) };
        let between = of_side(n_a, own_a) + of_side(n_b, own_b);
        let single = n_a <= 1.0 && n_b <= 1.0;
        let deviation = (between + if single { unequal(own_a, own_b) } else { 0.0 }).sqrt();
        Uncertainty { deviation, freedom: Some(all) }
    }

    /// The uncertainty of the middle of all ratios: what all rows of a run have in common is no smaller for
    /// their number, what is each row's own is.
    pub(super) fn of_all(&self) -> Uncertainty {
        /// The variance of a median over that of a mean, of normal values.
        const OF_A_MEDIAN: f64 = std::f64::consts::FRAC_PI_2;
        let common = self.pooled.0.powi(2) + self.pooled.1.powi(2) + self.unequal.powi(2);
        let own = 2.0 * self.scatter.powi(2) * OF_A_MEDIAN / self.own.len().max(1) as f64;
        Uncertainty { deviation: (common + own).sqrt(), freedom: None }
    }

    /// A typical standard deviation between two runs, as a share.
    pub(super) fn typical(&self) -> f64 {
        if self.is_known() {
            let squares: f64 = self.repeated.iter().map(|row| row.squares).sum();
            let freedom: f64 = self.repeated.iter().map(|row| row.freedom).sum();
            return (squares / freedom).sqrt();
        }
        let own = f64::midpoint(self.pooled.0.powi(2), self.pooled.1.powi(2)).sqrt();
        own.max(self.scatter)
    }
}

/// What a row that was measured once tells of its own steadiness.
#[derive(Debug, Clone, Copy, Default)]
struct Own {
    /// What a quiet machine shows at least, as a variance.
    floor: f64,
    /// That of the fifths of its samples, as a variance.
    slow: f64,
    /// The share of the threads for which others left no processor.
    crowded: f64,
    /// The share of the time that was stolen.
    stolen: f64,
}

impl Own {
    fn of(row: &Record, run: &Run) -> Self {
        let Some(samples) = &row.samples else { return Self::default() };
        let slow = slow_deviation(&samples.per_iteration()).powi(2);
        if samples.clock == ClockKind::CudaEvents {
            return Self { floor: FLOOR_DEVICE.powi(2), slow, ..Self::default() };
        }
        let (crowded, stolen) = match &row.host {
            Some(host) => (host.crowded(run.host.cores), host.stolen),
            None => (crowded_at_the_start(run), 0.0),
        };
        Self { floor: FLOOR_WALL.powi(2), slow, crowded, stolen }
    }

    /// The variance that was seen.
    fn seen(self) -> f64 {
        self.of_its_samples() + self.of_others()
    }

    fn with_floor(self) -> f64 {
        self.of_its_samples().max(self.floor) + self.of_others()
    }

    fn of_its_samples(self) -> f64 {
        BEYOND_A_RUN.powi(2) * self.slow
    }

    fn of_others(self) -> f64 {
        OF_OTHERS.powi(2) * (self.crowded.powi(2) + self.stolen.powi(2))
    }
}

/// The variance of a ratio by what others took of one side more than of the other.
fn unequal(a: Own, b: Own) -> f64 {
    let crowded = std::f64::consts::LN_2 * (b.crowded - a.crowded);
    crowded.powi(2) + (b.stolen - a.stolen).powi(2)
}

/// What the stamp of a run says of others on the host, for rows that do not.
fn crowded_at_the_start(run: &Run) -> f64 {
    let busy = run.host.busy_cores.as_ref().unwrap_or(&run.host.load_average);
    let others = busy.known().copied().filter(|busy| *busy >= 0.0).unwrap_or(0.0);
    HostLoad { cores: run.host.cores, others, stolen: 0.0 }.crowded(run.host.cores)
}

/// The standard deviation of the logarithms of the medians of five successive parts of the samples.
fn slow_deviation(times: &[f64]) -> f64 {
    const PARTS: usize = 5;
    let length = times.len().div_ceil(PARTS);
    if length < 2 {
        return 0.0;
    }
    let medians = times.chunks(length).filter_map(stats::median).filter(|time| *time > 0.0);
    let logarithms: Vec<f64> = medians.map(f64::ln).collect();
    match squares(&logarithms) {
        Repeated { freedom, squares } if freedom > 0.0 => (squares / freedom).sqrt(),
        _ => 0.0,
    }
}

/// The sum of squares about the mean, and its degrees of freedom.
fn squares(values: &[f64]) -> Repeated {
    if values.len() < 2 {
        return Repeated::default();
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares = values.iter().map(|value| (value - mean).powi(2)).sum();
    Repeated { squares, freedom: values.len() as f64 - 1.0 }
}

/// Version, revision and profile of a program.
type Build<'a> = (&'a str, &'a str, &'a str);

/// Rows of earlier runs by their id.
struct Earlier<'a> {
    recording: &'a Recording,
    rows: HashMap<&'a BenchmarkId, Vec<&'a Record>>,
}

impl<'a> Earlier<'a> {
    /// The measured rows of runs that are on neither side.
    fn of(recording: &'a Recording, matched: &[Matched<'_>]) -> Self {
        let compared: HashSet<&RunId> = matched.iter().flat_map(Matched::run_ids).collect();
        let mut rows: HashMap<&BenchmarkId, Vec<&Record>> = HashMap::new();
        for row in &recording.rows {
            if side::measured(row) && !compared.contains(&row.run) {
                rows.entry(&row.id).or_default().push(row);
            }
        }
        Self { recording, rows }
    }

    /// What repeated runs say of a pair: those on its sides, and earlier ones of each build.
    fn repeated(&self, pair: &Matched<'_>, used: &mut HashSet<&'a RunId>) -> Repeated {
        let mut groups = vec![logarithms(&pair.times.0), logarithms(&pair.times.1)];
        groups.extend(self.groups(pair.a, pair.runs.0, used));
        if pair.a.id != pair.b.id {
            groups.extend(self.groups(pair.b, pair.runs.1, used));
        }
        groups.iter().map(|group| squares(group)).fold(Repeated::default(), |sum, group| Repeated {
            squares: sum.squares + group.squares,
            freedom: sum.freedom + group.freedom,
        })
    }

    /// The medians of earlier rows like one that is compared, build by build: what two builds differ by is
    /// no noise.
    fn groups(&self, like: &Record, on: &Run, used: &mut HashSet<&'a RunId>) -> Vec<Vec<f64>> {
        let mut builds: BTreeMap<Build<'_>, Vec<(f64, &'a RunId)>> = BTreeMap::new();
        for row in self.rows.get(&like.id).into_iter().flatten().copied() {
            let Some(run) = self.recording.run_of(row) else { continue };
            if !unlike::one_machine(run, on) || !unlike::rows(row, like).is_empty() {
                continue;
            }
            let median = row.samples.as_ref().and_then(warpmark_record::Samples::median);
            if let Some(median) = median.filter(|median| median.0 > 0.0) {
                let build = (&*run.build.version, &*run.build.git, &*run.build.profile);
                builds.entry(build).or_default().push((median.0.ln(), &row.run));
            }
        }
        builds.retain(|_, runs| runs.len() > 1);
        used.extend(builds.values().flatten().map(|(_, run)| *run));
        builds.into_values().map(|runs| runs.into_iter().map(|(time, _)| time).collect()).collect()
    }
}

fn logarithms(runs: &[Vec<f64>]) -> Vec<f64> {
    let medians = runs.iter().filter_map(|run| stats::median(run)).filter(|time| *time > 0.0);
    medians.map(f64::ln).collect()
}

#[cfg(test)]
#[path = "variation_tests.rs"]
mod tests;
