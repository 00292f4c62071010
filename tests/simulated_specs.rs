//! What `specs` and `doctor` print of each simulated card, word for word: `tests/golden/specs-*.txt`, which
//! were read against the published figures of the real ones.

use std::path::Path;

use crate::support::machine::Machine;
use serde_json::Value;
use warpmark_simgpu::profile::Profile;

const PROFILES: [&str; 6] = ["t4", "l4", "a10g", "a100-40", "h100", "h200"];

/// What belongs to the card: without the host, and without the one figure that differs each time.
fn of_the_card(text: &str) -> String {
    let lines = text.lines().take_while(|line| *line != "host");
    let lines = lines.filter(|line| !line.trim_start().starts_with("energy since"));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn specs_print_each_card_as_its_documents_have_it() {
    for name in PROFILES {
        let ran = Machine::with(name).run(&["specs", "--device", "cuda"]);
        let said = of_the_card(&ran.exits(0).stdout);
        let path = format!("tests/golden/specs-{name}.txt");
        let expected =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path)).unwrap();
        assert!(said == expected, "{path} is not what is printed:\n{said}");
    }
}

#[test]
fn the_doctor_finds_each_card_in_order_and_says_what_to_build_for_it() {
    for name in PROFILES {
        let card = Profile::named(name);
        let ran = Machine::with(name).run(&["doctor", "--json"]);
        let findings: Vec<Value> = serde_json::from_str(&ran.exits(0).stdout).unwrap();
        let state = |what: &str| {
            let finding = findings.iter().find(|finding| finding["what"] == what);
            finding.unwrap_or_else(|| panic!("{what} is not in {findings:?}"))["state"].clone()
        };
        for what in [
            "CUDA driver",
            "NVRTC",
            "cuBLASLt",
            "NVML",
            "sensors of cuda:0",
            "persistence mode of cuda:0",
            "other processes on cuda:0",
        ] {
            assert_eq!(state(what), "ok", "{name}: {what}");
        }
        let (major, minor) = card.compute_capability;
        let build = format!("CUDA_COMPUTE_CAP={major}{minor} ");
        let models = findings.iter().find(|finding| finding["what"] == "models on cuda:0").unwrap();
        let there = models["state"] == "ok";
        assert!(there || models["mend"].as_str().unwrap().contains(&build), "{name}: {models}");
    }
}

#[test]
fn libraries_newer_than_the_driver_and_falsifying_variables_break_the_doctors_verdict() {
    let machine = Machine::with("t4").set(|simulator| simulator.driver(12_040));
    let mut command = machine.command(&["doctor"]);
    let ran = crate::support::Ran::of(command.env("CUDA_LAUNCH_BLOCKING", "1").output().unwrap());
    let said = ran.exits(1).stdout.clone();
    for part in [
        "BROKEN   NVRTC: libnvrtc.so is of CUDA 13.0 and the driver is for CUDA 12.4",
        "which loads nothing of a newer major version",
        "BROKEN   cuBLASLt: libcublasLt.so is of CUDA 13.0",
        "BROKEN   CUDA_LAUNCH_BLOCKING: is \"1\": each launch waits until its kernel is done",
        "to fix: unset CUDA_LAUNCH_BLOCKING",
    ] {
        assert!(said.contains(part), "{part:?} is missing in {said}");
    }
}

/// Seconds of `3 min 5 s` or `42 s`.
fn seconds(text: &str) -> u64 {
    let number = |text: &str| text.trim().trim_end_matches(" s").parse::<u64>().unwrap();
    match text.split_once(" min ") {
        Some((minutes, rest)) => 60 * number(minutes) + number(rest),
        None => number(text),
    }
}

#[test]
fn the_quick_suite_of_every_card_is_planned_for_less_than_twelve_minutes() {
    for card in ["t4", "l4", "a10g", "a100-40", "h100"] {
        let ran = Machine::with(card).run(&["run", "--dry-run", "--device", "cuda"]);
        let plan = ran.exits(0).stdout.clone();
        let told = plan.lines().find_map(|line| line.split_once(" benchmarks, about ")).unwrap().1;
        let time = told.split([',', ';']).next().unwrap();
        assert!((30..720).contains(&seconds(time)), "{card}: {told}");
    }
}
