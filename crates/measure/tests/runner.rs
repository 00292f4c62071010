//! The runner under a clock made of numbers: what becomes of good, wrong, full and broken workloads.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use criterion::Criterion;
use warpmark_device::{CpuDevice, Device};
use warpmark_measure::workload::checked;
use warpmark_measure::{
    Clock, CriterionOutput, Description, Entry, FakeClock, Group, Mode, Runner, Sampling, Session,
    Silent, Workload, WorkloadError,
};
use warpmark_record::{
    Bytes, Check, DeviceKind, DeviceSpec, Ended, Field, Outcome, Record, RunId, Samples, Seconds,
    Work,
};

#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    Good,
    WrongAnswer,
    WrongAfterwards,
    Full,
    FailsAtLaunch(u64),
    Panics,
    LeavesAnError,
}

struct Scripted {
    entry: Entry,
    behaviour: Behaviour,
    launches: Rc<RefCell<u64>>,
    verified: u32,
}

impl Workload for Scripted {
    fn describe(&self) -> Description {
        Description {
            id: self.entry.id.clone(),
            parameters: [("batch".to_owned(), 1_u64.into())].into(),
            work: Work { bytes: Some(Bytes(8.0)), ..Work::default() },
            data: Some("none".to_owned()),
            weights: None,
            caveats: vec![],
        }
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        *self.launches.borrow_mut() += 1;
        match self.behaviour {
            Behaviour::FailsAtLaunch(n) if *self.launches.borrow() == n => {
                Err(WorkloadError::Failed("the device is gone".to_owned()))
            }
            Behaviour::Panics => panic!("index out of bounds"),
            _ => Ok(()),
        }
    }

    fn distributions(&mut self) -> BTreeMap<String, Vec<f64>> {
        // Two times of each sample, the first of which is the number of launches so far.
        let launches = *self.launches.borrow() as f64;
        [("time_between_tokens_s".to_owned(), vec![launches, 0.5])].into()
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        self.verified += 1;
        let wrong = match self.behaviour {
            Behaviour::WrongAnswer => true,
            Behaviour::WrongAfterwards => self.verified > 1,
            _ => false,
        };
        checked("one against one", if wrong { f64::NAN } else { 0.0 }, 1e-3)
    }
}

struct Script {
    /// What a context of the session's own has noted since it was asked.
    noted: Option<WorkloadError>,
    behaviours: Vec<(String, Behaviour)>,
    launches: Rc<RefCell<u64>>,
}

impl Session for Script {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let id = entry.id.to_string();
        let behaviour = self.behaviours.iter().find(|(name, _)| *name == id).unwrap().1;
        if behaviour == Behaviour::Full {
            return Err(WorkloadError::OutOfMemory {
                what: "the KV cache".to_owned(),
                needed: Some(Bytes(2.0 * 1024.0 * 1024.0 * 1024.0)),
            });
        }
        if behaviour == Behaviour::LeavesAnError {
            self.noted = Some(WorkloadError::failed("noted while it was dropped"));
        }
        let launches = Rc::clone(&self.launches);
        Ok(Box::new(Scripted { entry: entry.clone(), behaviour, launches, verified: 0 }))
    }

    fn check_sticky_error(&mut self) -> Result<(), WorkloadError> {
        self.noted.take().map_or(Ok(()), Err)
    }
}

fn device() -> Device {
    let spec = DeviceSpec {
        kind: DeviceKind::Cpu,
        index: 0,
        name: "test".to_owned(),
        slug: "cpu-test".to_owned(),
        memory: Field::absent("a test"),
        memory_bandwidth: Field::absent("a test"),
        last_level_cache: Field::absent("a test"),
        gpu: None,
        cpu: None,
    };
    Device::Cpu(CpuDevice { spec, threads: 1 })
}

fn entry(id: &str, single: bool) -> Entry {
    Entry {
        id: id.parse().unwrap(),
        sampling: Sampling {
            samples: 10,
            target: Seconds(0.01),
            warm_up: Seconds(0.001),
            single,
            may_end_early: false,
        },
        iteration_estimate: Seconds(0.001),
        preparation_estimate: Seconds(0.0),
        memory_estimate: Bytes(0.0),
        sweep: Some("sweep".to_owned()),
        skip: None,
    }
}

struct Outcomes {
    rows: Vec<Record>,
    launches: u64,
}

fn run_with(behaviours: &[Behaviour], clock: Box<dyn Clock>, mode: Mode) -> Outcomes {
    run_in(tempfile::tempdir().unwrap().path(), behaviours, clock, mode, |_| {})
}

/// With criterion's files in `folder`.
fn run_in(
    folder: &Path,
    behaviours: &[Behaviour],
    clock: Box<dyn Clock>,
    mode: Mode,
    change: impl FnOnce(&mut Runner<'_>),
) -> Outcomes {
    run_sampled(folder, behaviours, entry("text/any@test", true).sampling, clock, mode, change)
}

fn run_sampled(
    folder: &Path,
    behaviours: &[Behaviour],
    sampling: Sampling,
    clock: Box<dyn Clock>,
    mode: Mode,
    change: impl FnOnce(&mut Runner<'_>),
) -> Outcomes {
    let device = device();
    let named: Vec<(String, Behaviour)> =
        behaviours.iter().enumerate().map(|(i, b)| (format!("text/b{i}@test"), *b)).collect();
    let launches = Rc::new(RefCell::new(0));
    let behaviours = named.clone();
    let script = Script { noted: None, behaviours, launches: Rc::clone(&launches) };
    let group = Group {
        name: "scripted".to_owned(),
        entries: named.iter().map(|(id, _)| Entry { sampling, ..entry(id, true) }).collect(),
        open: Box::new(move |_| Ok(Box::new(script))),
    };
    let mut runner = Runner {
        device: &device,
        run: RunId("test".to_owned()),
        criterion: Criterion::default().without_plots().nresamples(10).output_directory(folder),
        criterion_output: CriterionOutput::Shown,
        clock,
        sensors: None,
        mode,
        admission: Box::new(|_| None),
        alarm: None,
        whole: false,
    };
    change(&mut runner);
    let mut rows = Vec::new();
    let result: Result<(), Infallible> = runner.run_group(group, &mut Silent, &mut |row| {
        rows.push(row);
        Ok(())
    });
    result.unwrap();
    let launches = *launches.borrow();
    Outcomes { rows, launches }
}

fn run(behaviours: &[Behaviour]) -> Outcomes {
    run_with(behaviours, Box::new(FakeClock::reading([1.0])), Mode::Measure)
}

/// Samples of 100 ms each, of which forty are planned.
fn samples_of_an_even_row(whole: bool) -> Samples {
    let sampling = Sampling {
        samples: 40,
        target: Seconds(3.0),
        warm_up: Seconds(0.1),
        single: false,
        may_end_early: true,
    };
    let (folder, clock) = (tempfile::tempdir().unwrap(), Box::new(FakeClock::reading([0.1])));
    let good = [Behaviour::Good];
    let outcomes =
        run_sampled(folder.path(), &good, sampling, clock, Mode::Measure, |r| r.whole = whole);
    outcomes.rows[0].samples.clone().unwrap()
}

#[test]
fn a_row_ends_as_soon_as_its_median_is_known_and_keeps_what_was_taken() {
    let samples = samples_of_an_even_row(false);
    assert_eq!(samples.ended, Some(Ended::Precise));
    // 1.2 s at least; the first may be taken for one of criterion's warm-up, and then counts besides.
    assert!((12..=13).contains(&samples.wall_s.len()), "{}", samples.wall_s.len());
    let iterations = samples.iterations[0];
    assert!(samples.iterations.iter().all(|each| *each == iterations));
    let all = samples_of_an_even_row(true);
    assert_eq!((all.ended, all.wall_s.len()), (Some(Ended::Limit), 40));
}

#[test]
fn a_good_workload_keeps_the_samples_that_criterion_saw() {
    // One timed interval of warm-up, one that criterion warms up with, ten samples.
    let intervals = (0..12).map(|i| 1.0 + f64::from(i));
    let outcomes =
        run_with(&[Behaviour::Good], Box::new(FakeClock::reading(intervals)), Mode::Measure);
    let row = &outcomes.rows[0];
    assert_eq!(row.outcome, Outcome::Measured);
    let samples = row.samples.as_ref().unwrap();
    let expected: Vec<f64> = (2..12).map(|i| 1.0 + f64::from(i)).collect();
    assert_eq!(samples.wall_s, expected);
    assert_eq!(samples.device_s.as_ref(), Some(&expected));
    assert_eq!(samples.iterations, vec![1; 10]);
    assert!((samples.warm_up_s - 3.0).abs() < 1e-12);
    let between = &samples.distributions["time_between_tokens_s"];
    let expected: Vec<f64> = (3..13).flat_map(|launches| [f64::from(launches), 0.5]).collect();
    assert_eq!(*between, expected, "those of warming up are left out");
    assert_eq!(outcomes.launches, 12);
    assert!(row.check.is_some());
}

#[test]
fn an_error_that_a_sessions_own_context_notes_is_that_of_the_benchmark_before() {
    let outcomes = run(&[Behaviour::LeavesAnError, Behaviour::Good]);
    let reason = Outcome::Failed { reason: "noted while it was dropped".to_owned() };
    assert_eq!(outcomes.rows[0].outcome, reason);
    assert_eq!(outcomes.rows[0].samples, None);
    assert_eq!(outcomes.rows[1].outcome, Outcome::Measured);
}

#[test]
fn a_wrong_answer_is_a_failure_and_never_a_number() {
    let outcomes = run(&[Behaviour::WrongAnswer, Behaviour::WrongAfterwards, Behaviour::Good]);
    for row in &outcomes.rows[..2] {
        assert!(matches!(row.outcome, Outcome::Failed { .. }), "{:?}", row.outcome);
        assert_eq!(row.samples, None);
    }
    assert_eq!(outcomes.rows[2].outcome, Outcome::Measured);
}

#[test]
fn a_full_device_ends_its_sweep_with_the_reason() {
    let outcomes = run(&[Behaviour::Good, Behaviour::Full, Behaviour::Good]);
    assert_eq!(outcomes.rows[0].outcome, Outcome::Measured);
    for row in &outcomes.rows[1..] {
        let Outcome::Skipped { reason } = &row.outcome else { panic!("{:?}", row.outcome) };
        assert!(reason.contains("the KV cache (needs 2.00 GiB)"), "{reason}");
    }
}

#[test]
fn an_error_in_the_middle_stops_the_launches_and_the_next_benchmark_runs() {
    let outcomes = run(&[Behaviour::FailsAtLaunch(5), Behaviour::Good]);
    assert!(
        matches!(&outcomes.rows[0].outcome, Outcome::Failed { reason } if reason.contains("gone"))
    );
    assert_eq!(outcomes.rows[1].outcome, Outcome::Measured);
    // Five of the first, then the second's warm-up, criterion's and ten samples.
    assert_eq!(outcomes.launches, 5 + 12);
}

/// Every file of a name below a folder.
fn files(folder: &Path, name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let found = files.into_iter().filter(|path| path.file_name().unwrap() == name);
    found.chain(folders.iter().flat_map(|folder| self::files(folder, name))).collect()
}

#[test]
fn a_damaged_file_of_criterions_costs_its_analysis_and_no_sample() {
    let folder = tempfile::tempdir().unwrap();
    let run = || {
        // Times that differ, or criterion has nothing to analyse.
        let intervals = (0..200).map(|i| 1.0 + f64::from(i % 7) * 0.01);
        let clock = Box::new(FakeClock::reading(intervals));
        let behaviours = [Behaviour::Good, Behaviour::Good];
        run_in(folder.path(), &behaviours, clock, Mode::Measure, |_| {}).rows
    };
    assert!(run().iter().all(|row| row.caveats.is_empty()));
    let damaged = files(folder.path(), "sample.json");
    assert!(!damaged.is_empty());
    for file in damaged {
        std::fs::write(file, r#"{"sampling_mode":"Flat","iters":[],"times":[]}"#).unwrap();
    }
    for row in run() {
        assert_eq!(row.outcome, Outcome::Measured, "{row:?}");
        assert_eq!(row.samples.as_ref().unwrap().wall_s.len(), 10);
        assert!(row.caveats[0].starts_with("criterion's own analysis"), "{:?}", row.caveats);
    }
}

#[test]
fn an_alarm_between_two_samples_ends_a_benchmark_as_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let asked = Rc::new(RefCell::new(0));
    let times = Rc::clone(&asked);
    let clock = Box::new(FakeClock::reading([1.0]));
    let outcomes = run_in(folder.path(), &[Behaviour::Good], clock, Mode::Measure, |runner| {
        runner.alarm = Some(Box::new(move || {
            *times.borrow_mut() += 1;
            (*times.borrow() == 5).then(|| "the budget ran out".to_owned())
        }));
    });
    let reason = "the budget ran out".to_owned();
    assert_eq!(outcomes.rows[0].outcome, Outcome::Skipped { reason });
    assert_eq!((*asked.borrow(), outcomes.rows[0].samples.is_none()), (5, true));
}

#[test]
fn a_panic_in_a_library_is_a_failure_of_its_benchmark_alone() {
    let outcomes = run(&[Behaviour::Panics, Behaviour::Good]);
    assert!(
        matches!(&outcomes.rows[0].outcome, Outcome::Failed { reason } if reason.contains("index out of bounds"))
    );
    assert_eq!(outcomes.rows[1].outcome, Outcome::Measured);
}

#[test]
fn verifying_takes_no_times_and_says_so() {
    let clock = Box::new(FakeClock::reading([1.0]));
    let outcomes = run_with(&[Behaviour::Good, Behaviour::WrongAnswer], clock, Mode::Verify);
    assert!(matches!(outcomes.rows[0].outcome, Outcome::Skipped { .. }));
    assert!(outcomes.rows[0].check.is_some());
    assert!(matches!(outcomes.rows[1].outcome, Outcome::Failed { .. }));
    assert_eq!(outcomes.launches, 0);
}
