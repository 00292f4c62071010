//! How often runs of one program are told apart by mistake, and how often two that differ are.

use warpmark_record::stats::Bootstrap;
use warpmark_record::store::Recording;
use warpmark_record::{Field, HostLoad, RunId};

use super::Uncertainty;
use crate::compare::{Options, Overall, Verdict, compare, compare_among};
use crate::fixture;

/// Uniform and normal numbers, the same on every machine.
struct Dice(u64);

impl Dice {
    fn uniform(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let (a, b) = (self.uniform(), self.uniform());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }
}

/// How a machine varies: what all rows of a run share, what each row has of its own from run to run, and
/// from sample to sample; all as shares.
#[derive(Clone, Copy)]
struct Noise {
    shared: f64,
    row: f64,
    sample: f64,
}

const QUIET: Noise = Noise { shared: 0.01, row: 0.015, sample: 0.01 };
const WILD: Noise = Noise { shared: 0.05, row: 0.12, sample: 0.01 };
const STEADY: Noise = Noise { shared: 0.0, row: 0.002, sample: 0.002 };
const ROWS: usize = 11;

/// A run of rows that take `factor` times as long as they should.
fn run(dice: &mut Dice, name: &str, noise: Noise, factor: f64) -> Recording {
    let shared = dice.normal() * noise.shared;
    let rows = (0..ROWS).map(|at| {
        let own = dice.normal() * noise.row;
        let mut row = fixture::row(&format!("micro/row/{at}@gemm"), 1.0);
        row.run = RunId(name.to_owned());
        for time in &mut row.samples.as_mut().unwrap().wall_s {
            *time = factor * (at + 1) as f64 * (shared + own + dice.normal() * noise.sample).exp();
        }
        row
    });
    let rows = rows.collect();
    let mut stamp = fixture::cpu_run();
    stamp.run = RunId(name.to_owned());
    stamp.host.load_average = Field::Known(0.0);
    fixture::recording(stamp, rows)
}

fn joined(runs: Vec<Recording>) -> Recording {
    let mut all = Recording::default();
    for run in runs {
        all.runs.extend(run.runs);
        all.rows.extend(run.rows);
    }
    all
}

/// Several runs on one side.
fn several(dice: &mut Dice, name: &str, count: usize, noise: Noise, factor: f64) -> Recording {
    joined((0..count).map(|at| run(dice, &format!("{name}{at}"), noise, factor)).collect())
}

fn options(all_runs: bool) -> Options {
    let bootstrap = Bootstrap { resamples: 400, ..Bootstrap::default() };
    Options { bootstrap, all_runs, ..Options::default() }
}

/// How many of `pairs` comparisons say that B is slower.
fn slower(pairs: usize, mut comparison: impl FnMut(&mut Dice) -> Overall) -> usize {
    let mut dice = Dice(42);
    (0..pairs).filter(|_| comparison(&mut dice) == Overall::Slower).count()
}

#[test]
fn quantiles_are_those_of_the_tables() {
    let reach = |freedom: Option<f64>, confidence: f64| {
        Uncertainty { deviation: 1.0, freedom }.reach(confidence)
    };
    for (freedom, confidence, quantile) in [
        (None, 0.95, 1.959_964),
        (None, 0.99, 2.575_829),
        (Some(1.0), 0.95, 12.7062),
        (Some(4.0), 0.95, 2.776_445),
        (Some(7.0), 0.99, 3.499_483),
        (Some(7.0), 0.998, 4.785_290),
        (Some(30.0), 0.999, 3.645_959),
    ] {
        let found = reach(freedom, confidence);
        assert!((found / quantile - 1.0).abs() < 1e-4, "{freedom:?} {confidence}: {found}");
    }
}

#[test]
fn two_single_runs_of_one_program_are_told_apart_in_no_more_than_one_pair_of_thirty() {
    for noise in [QUIET, Noise { sample: 0.04, ..QUIET }] {
        let alarms = slower(150, |dice| {
            let (a, b) = (run(dice, "a", noise, 1.0), run(dice, "b", noise, 1.0));
            compare(&a, &b, &options(false)).overall()
        });
        assert!(alarms <= 5, "{alarms} of 150");
    }
}

#[test]
fn eleven_percent_in_all_rows_are_found_in_two_single_runs() {
    let found = slower(60, |dice| {
        let (a, b) = (run(dice, "a", QUIET, 1.0), run(dice, "b", QUIET, 1.11));
        compare(&a, &b, &options(false)).overall()
    });
    assert!(found >= 57, "{found} of 60");
}

#[test]
fn earlier_runs_teach_how_much_a_machine_varies() {
    let alarms = slower(120, |dice| {
        let earlier = several(dice, "e", 5, WILD, 1.0);
        let (a, b) = (run(dice, "a", WILD, 1.0), run(dice, "b", WILD, 1.0));
        compare_among(&a, &b, &earlier, &options(false)).overall()
    });
    assert!(alarms <= 4, "{alarms} of 120");
    // And a steady one sees more than the floor would let it.
    let mut dice = Dice(7);
    let earlier = several(&mut dice, "e", 4, STEADY, 1.0);
    let (a, b) = (run(&mut dice, "a", STEADY, 1.0), run(&mut dice, "b", STEADY, 1.04));
    let without = compare(&a, &b, &options(false));
    assert_eq!(without.overall(), Overall::Ambiguous, "{:?}", without.trend);
    let with = compare_among(&a, &b, &earlier, &options(false));
    assert_eq!(with.overall(), Overall::Slower);
    let basis = with.basis.unwrap();
    assert!(basis.repeated && basis.earlier == 4 && basis.typical < 0.005, "{basis:?}");
}

#[test]
fn what_two_builds_differ_by_is_no_noise() {
    let mut dice = Dice(3);
    let mut other = several(&mut dice, "o", 2, STEADY, 2.0);
    for run in &mut other.runs {
        "fedcba9".clone_into(&mut run.build.git);
    }
    let earlier = joined(vec![several(&mut dice, "e", 2, STEADY, 1.0), other]);
    let (a, b) = (run(&mut dice, "a", STEADY, 1.0), run(&mut dice, "b", STEADY, 1.05));
    let found = compare_among(&a, &b, &earlier, &options(false));
    assert!(found.basis.unwrap().typical < 0.005, "{:?}", found.basis);
    assert_eq!(found.overall(), Overall::Slower);
}

#[test]
fn earlier_runs_of_other_machines_and_the_compared_ones_themselves_teach_nothing() {
    let mut dice = Dice(5);
    let (a, b) = (run(&mut dice, "a", QUIET, 1.0), run(&mut dice, "b", QUIET, 1.0));
    let mut elsewhere = several(&mut dice, "e", 3, QUIET, 1.0);
    for run in &mut elsewhere.runs {
        "Another CPU".clone_into(&mut run.device.name);
    }
    let earlier = joined(vec![a.clone(), b.clone(), elsewhere]);
    let basis = compare_among(&a, &b, &earlier, &options(false)).basis.unwrap();
    assert_eq!((basis.repeated, basis.earlier), (false, 0));
}

#[test]
fn several_runs_a_side_neither_cry_wolf_nor_sleep() {
    let compared = |dice: &mut Dice, factor: f64| {
        let a = several(dice, "a", 4, QUIET, 1.0);
        let b = several(dice, "b", 4, QUIET, factor);
        compare(&a, &b, &options(true)).overall()
    };
    let alarms = slower(90, |dice| compared(dice, 1.0));
    assert!(alarms <= 3, "{alarms} of 90");
    let found = slower(40, |dice| compared(dice, 1.11));
    assert!(found >= 38, "{found} of 40");
}

#[test]
fn rows_of_a_crowded_host_do_not_accuse_a_program() {
    let mut dice = Dice(11);
    let (a, mut b) = (run(&mut dice, "a", QUIET, 1.0), run(&mut dice, "b", QUIET, 1.3));
    let overall = |b: &Recording| compare(&a, b, &options(false)).overall();
    assert_eq!(overall(&b), Overall::Slower);
    for (others, stolen) in [(2.0, 0.0), (0.0, 0.3)] {
        for row in &mut b.rows {
            row.host = Some(HostLoad { cores: 4, others, stolen });
        }
        assert_eq!(overall(&b), Overall::Ambiguous, "{others} {stolen}");
    }
    // Work for which there were processors left takes nothing from the rows.
    b.runs[0].host.cores = 2;
    b.rows.iter_mut().for_each(|row| {
        row.host = Some(HostLoad { cores: 4, others: 1.5, stolen: 0.0 });
    });
    assert_eq!(overall(&b), Overall::Slower);
}

/// Runs of one program on two processors on which others worked all the time (`scripts/fixtures/busy_host.py`).
fn busy_host() -> Vec<Recording> {
    let mut runs: Vec<Recording> = Vec::new();
    for line in include_str!("busy_host.csv").lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |at: usize| fields[at].parse::<f64>().unwrap();
        let name = format!("busy{}", fields[0]);
        if runs.last().is_none_or(|run| run.runs[0].run.0 != name) {
            let mut stamp = fixture::cpu_run();
            stamp.run = RunId(name.clone());
            stamp.host.cores = 2;
            runs.push(fixture::recording(stamp, Vec::new()));
        }
        let mut row = fixture::row(fields[1], 1.0);
        row.run = RunId(name);
        row.host = Some(HostLoad { cores: 2, others: number(2), stolen: number(3) });
        let samples = row.samples.as_mut().unwrap();
        // Each fifth by its median.
        samples.wall_s = (0..10).map(|at| number(4 + at / 2)).collect();
        samples.iterations = vec![1; 10];
        runs.last_mut().unwrap().rows.push(row);
    }
    runs
}

/// The same run, every time multiplied.
fn slowed(run: &Recording, factor: f64) -> Recording {
    let mut run = run.clone();
    run.rows.iter_mut().for_each(|row| {
        row.samples.as_mut().unwrap().wall_s.iter_mut().for_each(|time| *time *= factor);
    });
    run
}

#[test]
fn runs_of_one_program_on_a_busy_host_are_not_told_apart_and_three_times_as_slow_is_found() {
    let runs = busy_host();
    assert_eq!((runs.len(), runs[0].rows.len()), (16, 11));
    let (mut alarms, mut found) = (0, 0);
    for (a, b) in pairs(&runs) {
        let overall = |b: &Recording| compare(a, b, &options(false)).overall();
        alarms += usize::from(overall(b) == Overall::Slower);
        found += usize::from(overall(&slowed(b, 3.0)) == Overall::Slower);
    }
    // The limit is one of thirty; two runs of this program differed by up to 3.4 times.
    assert!(alarms <= 8, "{alarms} of 240");
    assert!(found >= 180, "{found} of 240");
}

/// All ordered pairs of two different runs.
fn pairs(runs: &[Recording]) -> impl Iterator<Item = (&Recording, &Recording)> {
    let all = runs.iter().enumerate().flat_map(|a| runs.iter().enumerate().map(move |b| (a, b)));
    all.filter(|((a, _), (b, _))| a != b).map(|((_, a), (_, b))| (a, b))
}

#[test]
fn twice_the_time_is_found_in_one_row_where_others_took_as_much_of_both_runs() {
    let mut dice = Dice(17);
    let noise = Noise { sample: 0.04, ..QUIET };
    let (mut a, mut b) = (run(&mut dice, "a", noise, 1.0), run(&mut dice, "b", noise, 2.0));
    for run in [&mut a, &mut b] {
        run.rows.truncate(1);
        run.runs[0].host.cores = 2;
        // Two processors, two threads, and others that would keep both busy.
        run.runs[0].host.busy_cores = Some(Field::Known(2.0));
    }
    let overall = |a: &Recording, b: &Recording| compare(a, b, &options(false)).overall();
    assert_eq!(overall(&a, &b), Overall::Slower);
    assert_eq!(overall(&b, &a), Overall::SameOrFaster);
    // Where they worked beside one of the two alone, that may be all of it.
    a.runs[0].host.busy_cores = Some(Field::Known(0.0));
    assert_eq!(overall(&a, &b), Overall::Ambiguous);
}

#[test]
fn one_row_among_steady_ones_is_found_alone() {
    let mut dice = Dice(13);
    let (a, mut b) = (run(&mut dice, "a", QUIET, 1.0), run(&mut dice, "b", QUIET, 1.0));
    for time in &mut b.rows[4].samples.as_mut().unwrap().wall_s {
        *time *= 1.5;
    }
    let found = compare(&a, &b, &options(false));
    let slower: Vec<_> =
        found.pairs.iter().filter(|pair| pair.verdict == Verdict::Slower).collect();
    assert_eq!(slower.len(), 1, "{found:?}");
    assert_eq!(slower[0].a.segments()[2], "4");
    assert_ne!(found.trend.unwrap().verdict, Verdict::Slower);
}
