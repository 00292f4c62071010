//! Machines with several cards: each alone, all at once, and what lies between them.

use serde_json::Value;
use warpmark_record::store::Recording;

use warpmark_record::Outcome;
use warpmark_simgpu::harness::Library;

use crate::support::Ran;
use crate::support::machine::{Machine, assert_reason};

/// Measures all cards of a machine, and gives its page as data and what was recorded.
fn measured(machine: &Machine, options: &[&str]) -> (Value, Recording) {
    let folder = machine.world.path("simulated");
    let results = ["run", "--device", "all", "--json", "--results", folder.to_str().unwrap()];
    let ran = machine.run(&[&results[..], options].concat());
    (serde_json::from_str(&ran.exits(0).stdout).unwrap(), machine.recording())
}

fn at_once(recording: &Recording) -> Vec<&str> {
    let mut counts: Vec<&str> =
        recording.runs.iter().map(|run| run.settings["cards_at_once"].as_str()).collect();
    counts.sort_unstable();
    counts
}

#[test]
fn two_cards_are_measured_alone_and_at_once_with_what_lies_between() {
    let machine = Machine::with("h100,h100");
    let filter = ["--parallel", "--filter", "d2d,memory/copy,!sustained"];
    let (page, recording) = measured(&machine, &filter);
    assert_eq!(at_once(&recording), ["1", "1", "2", "2"]);
    let copies = page["copies"]["copies"].as_array().unwrap();
    assert_eq!(copies.len(), 2);
    for copy in copies {
        assert_eq!((copy["link"].as_str(), copy["path"].as_str()), (Some("NV18"), Some("direct")));
        let rate = copy["byte_per_s"].as_f64().unwrap();
        assert!((300e9..380e9).contains(&rate), "{copy}");
    }
    let rows = page["scaling"]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{page}");
    for row in rows {
        let step = &row["steps"][0];
        assert_eq!(step["cards"], 2);
        // Simulated cards share nothing, and their clock is their own.
        let efficiency = step["efficiency"].as_f64().unwrap();
        assert!((efficiency - 1.0).abs() < 0.05, "{row}");
        let twice = step["rate"].as_f64().unwrap() / row["rate_alone"].as_f64().unwrap();
        assert!((twice - 2.0).abs() < 0.1, "{row}");
    }
    assert_eq!(page["kinds"][0]["members"].as_array().unwrap().len(), 2);
    machine.report();
}

#[test]
fn eight_cards_show_their_matrix_and_how_they_scale() {
    let machine = Machine::with("t4,t4,t4,t4,t4,t4,t4,t4");
    let filter = ["--parallel", "--filter", "d2d/cuda1,launch/graph"];
    let (page, recording) = measured(&machine, &filter);
    assert_eq!(at_once(&recording).len(), 8 + 2 + 4 + 8);
    let copies = page["copies"]["copies"].as_array().unwrap();
    // To card 1 from all others.
    assert_eq!(copies.len(), 7);
    let link = |from: u64| {
        let found = copies.iter().find(|copy| copy["from"] == from && copy["to"] == 1);
        found.unwrap()["link"].as_str().unwrap()
    };
    assert_eq!((link(0), link(2), link(4), link(7)), ("PIX", "PHB", "SYS", "SYS"));
    // No card copies to itself, so that copies have no sum; launches have one of 2, 4 and 8 cards.
    let rows = page["scaling"]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{page}");
    let steps = rows[0]["steps"].as_array().unwrap();
    let cards: Vec<u64> = steps.iter().map(|step| step["cards"].as_u64().unwrap()).collect();
    assert_eq!(cards, [2, 4, 8]);
    machine.report();
}

#[test]
fn all_cards_are_for_verbs_that_take_several() {
    let machine = Machine::with("t4,l4");
    machine.run(&["specs", "--device", "all"]).exits(70).says(&["name one here"]);
    machine.run(&["run", "--parallel", "--dry-run"]).exits(64).says(&["`--device all`"]);
    let plan = machine.run(&["run", "--device", "all", "--dry-run", "--filter", "d2d"]);
    let text = &plan.exits(0).stdout;
    assert!(text.contains("d2d/cuda1/64MiB") && text.contains("d2d/cuda0/64MiB"), "{text}");
}

#[test]
fn collectives_go_through_nccl_and_say_so_where_there_is_none() {
    let machine = Machine::with("h100,h100,h100,h100");
    machine.measure("collective").exits(0);
    let rows = machine.rows();
    assert_eq!(rows.len(), 3);
    for (row, bytes) in rows.iter().zip([1.5, 0.75, 1.0]) {
        assert_eq!(row.outcome, Outcome::Measured, "{}", row.id);
        let size = f64::from(64 << 20);
        assert!((row.work.bytes.unwrap().get() / size - bytes).abs() < 1e-9, "{}", row.id);
        let rate = row.work.bytes.unwrap() / row.samples.as_ref().unwrap().median().unwrap();
        assert!((300e9..377e9).contains(&rate.get()), "{}: {rate}", row.id);
    }
    assert_eq!(rows[0].id.to_string(), "micro/collective/all-reduce/f32/n4/64MiB@nccl");
    machine.report();

    let without = Machine::with("t4,t4").set(|simulator| simulator.without(Library::Nccl));
    without.measure("collective").exits(0);
    for row in without.rows() {
        assert_reason(&row.outcome, false, "`pip install nvidia-nccl-cu12`");
    }
}

#[test]
fn two_jobs_on_two_cards_of_one_host_go_on_side_by_side() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    use rustix::process::{Pid, Signal, kill_process};

    let machine = Machine::with("t4,t4");
    // Both see their card as the first one, as a scheduler hands cards out.
    let job = |card: &str| {
        let mut command = machine.measuring("launch/graph");
        command.env("CUDA_VISIBLE_DEVICES", card);
        command
    };
    let mut first = job("0").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(first.stderr.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line.ends_with("(simulated)")).unwrap();
    // It has its lock, and stands still while the others try.
    let pid = Pid::from_child(&first);
    kill_process(pid, Signal::STOP).unwrap();
    let other = Ran::of(job("1").output().unwrap());
    let same = Ran::of(job("0").output().unwrap());
    kill_process(pid, Signal::CONT).unwrap();
    other.exits(0);
    same.exits(70).says(&["another warpmark run is measuring"]);
    lines.for_each(drop);
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_eq!(machine.recording().runs.len(), 2);
}

#[test]
fn unlike_cards_are_compared_with_their_own_kind_and_summed_over_all() {
    let machine = Machine::with("t4,l4");
    let (page, _) = measured(&machine, &["--parallel", "--filter", "launch/graph"]);
    assert_eq!(page["kinds"].as_array().unwrap().len(), 2);
    assert_eq!(page["scaling"]["rows"][0]["steps"][0]["cards"], 2, "{page}");
}
