use warpmark_record::{Field, METHOD};

use super::*;
use crate::fixture;

const X: &str = "micro/x@nvrtc";
const Y: &str = "micro/y@nvrtc";

/// A node of a fleet whose rows take these seconds.
fn node(name: &str, rows: &[(&str, f64)]) -> Recording {
    let mut run = fixture::gpu_run();
    run.run = RunId(format!("run-{name}"));
    run.host.name = Some(name.to_owned());
    run.tags.insert("zone".to_owned(), name[..1].to_owned());
    let gpu = run.device.gpu.as_mut().unwrap();
    gpu.uuid_hash = Field::Known(format!("{name}-0123456789"));
    gpu.ecc = Field::Known(true);
    let rows = rows.iter().map(|(id, seconds)| {
        let mut row = fixture::row(id, *seconds);
        row.run = run.run.clone();
        row
    });
    let rows = rows.collect();
    fixture::recording(run, rows)
}

fn together(nodes: impl IntoIterator<Item = Recording>) -> Recording {
    let mut all = Recording::default();
    for node in nodes {
        all.runs.extend(node.runs);
        all.rows.extend(node.rows);
    }
    all
}

/// Ten nodes that differ by a percent, as cards do.
fn healthy() -> Vec<Recording> {
    let off = |at: usize| 1.0 + 0.002 * at as f64;
    let name = |at: usize| format!("{}{at}", ["a", "b"][at % 2]);
    (0..10).map(|at| node(&name(at), &[(X, off(at)), (Y, 2.0 * off((at * 7) % 10))])).collect()
}

fn fleet(recording: &Recording, by: &str) -> Fleet {
    compare(recording, &by.parse().unwrap()).unwrap()
}

#[test]
fn a_slow_node_is_named_with_the_row_and_by_how_much_and_why() {
    let mut slow = node("slow", &[(X, 1.01), (Y, 3.0)]);
    slow.runs[0].device.gpu.as_mut().unwrap().ecc = Field::Known(false);
    let found = fleet(&together(healthy().into_iter().chain([slow])), "card");
    let [kind] = found.kinds.as_slice() else { panic!("{found:?}") };
    assert_eq!(kind.slow().count(), 1);
    let first = &kind.members[0];
    assert_eq!(first.name, "slow cuda:0 (slow-012)");
    let worst = first.worst().unwrap();
    assert_eq!(kind.workloads[worst.workload].id.to_string(), Y);
    assert!((worst.ratio - 1.5).abs() < 0.02 && first.slow_rows() == 1, "{worst:?}");
    assert_eq!(first.unlike, ["ECC: off, most have on"]);
    assert!(kind.members[1..].iter().all(|member| member.unlike.is_empty()));
    assert_eq!(kind.members[kind.workloads[worst.workload].slowest].name, first.name);
    assert!(found.has_faults());
}

#[test]
fn healthy_nodes_are_not_called_slow_and_neither_are_noisy_ones() {
    let found = fleet(&together(healthy()), "host");
    assert!(!found.has_faults() && found.kinds[0].members.len() == 10);
    // A fleet whose nodes differ by a fifth calls no node slow that is a quarter off.
    let noisy = (0..10).map(|at| node(&format!("n{at}"), &[(X, 1.0 + 0.05 * f64::from(at))]));
    assert_eq!(fleet(&together(noisy), "host").kinds[0].slow().count(), 0);
    // Samples that scatter across the edge are not certainly beyond it.
    let mut unsure = node("unsure", &[(X, 1.1)]);
    let samples = unsure.rows[0].samples.as_mut().unwrap();
    for (at, time) in samples.wall_s.iter_mut().enumerate() {
        *time *= if at % 2 == 0 { 0.9 } else { 1.1 };
    }
    let found = fleet(&together(healthy().into_iter().chain([unsure])), "host");
    assert_eq!(found.kinds[0].slow().count(), 0);
}

#[test]
fn of_two_the_faster_one_shows_what_is_possible() {
    let found = fleet(&together([node("a", &[(X, 1.0)]), node("b", &[(X, 1.2)])]), "host");
    let [first, second] = found.kinds[0].members.as_slice() else { panic!("{found:?}") };
    assert_eq!((first.name.as_str(), first.slow_rows()), ("b", 1));
    assert_eq!((second.slow_rows(), second.ratio), (0, Some(1.0)));
}

#[test]
fn members_are_told_by_card_host_or_tag_and_each_kind_is_compared_with_itself() {
    let mut other = node("c", &[(X, 9.0)]);
    other.runs[0].device.name = "Another GPU".to_owned();
    other.runs[0].tags.clear();
    let all = together(healthy().into_iter().chain([other]));
    assert_eq!(fleet(&all, "host").kinds.len(), 2);
    let zones = fleet(&all, "tag:zone");
    assert_eq!((zones.kinds.len(), zones.kinds[0].members.len()), (1, 2));
    assert_eq!(zones.kinds[0].members[0].runs, 5);
    assert_eq!(zones.unplaced, [RunId("run-c".to_owned())]);
    let error = compare(&all, &By::Tag("node".to_owned())).unwrap_err().to_string();
    assert!(error.contains("no run tells its tag node"), "{error}");
    for text in ["", "cards", "tag", "tag:", "tag:a b"] {
        assert!(text.parse::<By>().is_err(), "{text:?}");
    }
}

#[test]
fn what_a_node_lacks_and_what_failed_is_told_and_unlike_work_is_left_out() {
    let mut all = together(healthy());
    all.runs[0].planned =
        vec![X.parse().unwrap(), Y.parse().unwrap(), "micro/z@nvrtc".parse().unwrap()];
    all.rows[2].outcome = Outcome::Failed { reason: "a test".to_owned() };
    all.rows[2].samples = None;
    all.rows[4].parameters.insert("dtype".to_owned(), "f16".into());
    let found = fleet(&all, "host");
    let member =
        |name: &str| found.kinds[0].members.iter().find(|member| member.name == name).unwrap();
    assert_eq!((member("a0").lacking, member("a0").failed.len()), (1, 0));
    assert_eq!((member("b1").lacking, member("b1").failed.len()), (0, 1));
    assert_eq!(found.kinds[0].refused.len(), 1);
    assert!(found.kinds[0].refused[0].1.starts_with("a2: dtype: none in A, f16 in B"), "{found:?}");
    all.rows[6].method = METHOD + 1;
    assert!(matches!(compare(&all, &By::Host), Err(FleetError::Rank(RankError::Methods(_)))));
}
