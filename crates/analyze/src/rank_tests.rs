use warpmark_record::Run;

use super::*;
use crate::fixture;

/// A run of a device whose rows take these seconds.
fn run(device: &str, run: &str, rows: &[(&str, f64)]) -> (Run, Vec<Record>) {
    let mut line = fixture::cpu_run();
    line.device.name = device.to_owned();
    line.run = RunId(run.to_owned());
    let rows = rows.iter().map(|(id, seconds)| {
        let mut row = fixture::row(id, *seconds);
        row.run = RunId(run.to_owned());
        row
    });
    (line, rows.collect())
}

fn recording(runs: Vec<(Run, Vec<Record>)>) -> Recording {
    let mut recording = Recording::default();
    for (line, rows) in runs {
        recording.runs.push(line);
        recording.rows.extend(rows);
    }
    recording
}

fn ranked(recording: &Recording) -> Ranking {
    rank(recording, &Bootstrap::default()).unwrap()
}

const X: &str = "micro/x@host";
const Y: &str = "micro/y@host";

#[test]
fn devices_are_ranked_by_workload_and_by_the_geometric_mean() {
    let found = ranked(&recording(vec![
        run("a", "1", &[(X, 1.0), (Y, 4.0)]),
        run("b", "2", &[(X, 2.0), (Y, 8.0)]),
        run("c", "3", &[(X, 0.5), (Y, 32.0)]),
    ]));
    assert_eq!(found.devices, ["a", "b", "c"]);
    let ranks: Vec<usize> = found.workloads[0].places.iter().map(|p| p.unwrap().rank).collect();
    assert_eq!(ranks, [2, 3, 1]);
    let order: Vec<&str> = found.means.iter().map(|mean| mean.device.as_str()).collect();
    // Geometric means 2, 4 and 4: b and c tie after a.
    assert_eq!(order[0], "a");
    assert!((found.means[1].ratio - 2.0).abs() < 1e-3 && (found.means[2].ratio - 2.0).abs() < 1e-3);
    let interval = found.means[1].interval.unwrap();
    assert!(interval.low > 1.99 && interval.high < 2.01, "{interval:?}");
}

#[test]
fn runs_that_differ_widen_the_interval_of_a_mean() {
    let found = ranked(&recording(vec![
        run("a", "1", &[(X, 1.0)]),
        run("b", "2", &[(X, 2.0)]),
        run("b", "3", &[(X, 2.4)]),
    ]));
    let mean = &found.means[1];
    assert_eq!((mean.device.as_str(), mean.runs), ("b", 2));
    assert!((mean.ratio - 2.2).abs() < 1e-3);
    let interval = mean.interval.unwrap();
    assert!(interval.low < 2.01 && interval.high > 2.39, "{interval:?}");
}

#[test]
fn what_a_device_lacks_is_listed_and_counts_for_nobody() {
    let mut parts = vec![
        run("a", "1", &[(X, 1.0), (Y, 1.0)]),
        run("b", "2", &[(X, 2.0)]),
        run("c", "3", &[(X, 3.0), (Y, 2.0)]),
    ];
    let mut skipped = fixture::row(Y, 1.0);
    skipped.run = RunId("2".to_owned());
    skipped.samples = None;
    skipped.outcome = Outcome::Skipped { reason: "out of memory".to_owned() };
    parts[1].1.push(skipped);
    let found = ranked(&recording(parts));
    assert_eq!((found.common, found.workloads.len()), (1, 2));
    assert_eq!(found.missing.len(), 1);
    assert_eq!(
        (found.missing[0].0.as_str(), found.missing[0].2.as_str()),
        ("b", "skipped: out of memory")
    );
    assert!((found.means[1].ratio - 2.0).abs() < 1e-3, "{:?}", found.means);
    let apart = ranked(&recording(vec![run("a", "1", &[(X, 1.0)]), run("b", "2", &[(Y, 1.0)])]));
    assert!(apart.means.is_empty() && apart.workloads.is_empty());
    assert_eq!(apart.missing.len(), 2);
}

#[test]
fn unlike_methods_simulated_devices_and_a_single_device_are_refused() {
    let two = || vec![run("a", "1", &[(X, 1.0)]), run("b", "2", &[(X, 2.0)])];
    let mut unlike = recording(two());
    unlike.rows[1].method = warpmark_record::METHOD + 1;
    let refused = |recording: &Recording| rank(recording, &Bootstrap::default()).unwrap_err();
    let own = warpmark_record::METHOD;
    assert_eq!(refused(&unlike), RankError::Methods(format!("{own}, {}", own + 1)));
    let mut simulated = recording(two());
    simulated.runs[1].device.kind = DeviceKind::Simulated;
    assert_eq!(refused(&simulated), RankError::Simulated("b".to_owned()));
    assert_eq!(
        refused(&recording(vec![run("a", "1", &[(X, 1.0)])])),
        RankError::TooFew("a".to_owned())
    );
    assert_eq!(refused(&Recording::default()), RankError::TooFew("nothing".to_owned()));
}

#[test]
fn a_workload_that_is_not_the_same_everywhere_is_refused() {
    let mut parts = vec![run("a", "1", &[(X, 1.0)]), run("b", "2", &[(X, 2.0)])];
    parts[1].1[0].parameters.insert("dtype".to_owned(), "f16".into());
    let found = ranked(&recording(parts));
    assert!(found.workloads.is_empty());
    assert!(found.refused[0].1.contains("dtype: none in A, f16 in B"), "{:?}", found.refused);
}
