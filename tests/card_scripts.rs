//! The scripts for the day on which a card is there, run on simulated ones: `scripts/first-card`, and
//! `peers/gpu.py` with torch's side from a file.

#![allow(clippy::print_stdout, reason = "what a machine cannot test is said")]

use std::path::Path;
use std::process::Command;

use crate::support::machine::Machine;
use crate::support::{Ran, World};

/// A script of the project on a machine with simulated cards; its settings are those of the command.
fn script(machine: &Machine, program: &str, name: &str) -> Command {
    let warpmark = machine.command(&[]);
    let mut command = Command::new(program);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(name));
    command.current_dir(warpmark.get_current_dir().unwrap());
    for (name, value) in warpmark.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("WARPMARK", env!("CARGO_BIN_EXE_warpmark"));
    command
}

#[test]
fn the_first_call_on_a_card_tells_each_steps_exit_code_and_keeps_its_output() {
    let machine = Machine::with("h100");
    let out = machine.world.path("first card");
    let mut command = script(&machine, "bash", "scripts/first-card");
    let ran = Ran::of(command.arg(&out).args(["doctor", "specs", "models"]).output().unwrap());
    ran.exits(0);
    for said in
        ["-- doctor: exit code 0 after", "-- specs: exit code 0 after", "== models: left out"]
    {
        assert!(ran.stdout.contains(said), "{said:?} is missing in {}", ran.stdout);
    }
    let specs = std::fs::read_to_string(out.join("specs.txt")).unwrap();
    assert!(specs.contains("NVIDIA H100 80GB HBM3 (simulated)"), "{specs}");
    assert!(std::fs::read_to_string(out.join("specs.json")).unwrap().contains("\"sm_count\""));
}

#[test]
fn a_step_that_fails_stops_no_other_and_is_the_scripts_own_failure() {
    let machine = Machine::with("");
    let out = machine.world.path("none");
    let mut command = script(&machine, "bash", "scripts/first-card");
    let ran = Ran::of(command.arg(&out).args(["specs", "doctor"]).output().unwrap());
    ran.exits(1);
    assert!(ran.stdout.contains("-- specs: exit code 70 after"), "{}", ran.stdout);
    assert!(ran.stdout.contains("-- doctor: exit code 0 after"), "{}", ran.stdout);
    let mut command = script(&machine, "bash", "scripts/first-card");
    let ran = Ran::of(command.arg(&out).arg("spec").output().unwrap());
    ran.exits(64).says(&["there is no step \"spec\"", "doctor specs"]);
}

#[test]
fn the_action_compares_with_its_baseline_and_fails_where_it_was_told_to() {
    let run = |machine: &Machine, arguments: &[&Path], fail_on: &str| {
        let mut command = script(machine, "bash", "deploy/github/measure-and-compare");
        command.args(arguments).env("WARPMARK_DEVICE", "cuda").env("FAIL_ON", fail_on);
        command.env("WARPMARK_FILTER", "memory/copy,!sustained");
        command.env("GITHUB_STEP_SUMMARY", machine.world.path("summary.md"));
        command.env("GITHUB_OUTPUT", machine.world.path("output"));
        Ran::of(command.output().unwrap())
    };
    let good = Machine::with("l4");
    let baseline = good.world.path("baseline");
    run(&good, &[&baseline], "slower").exits(0);
    let slow = Machine::with("l4").faults("slow_card=0");
    run(&slow, &[&slow.world.path("slow"), &baseline], "slower").exits(1);
    let output = std::fs::read_to_string(slow.world.path("output")).unwrap();
    assert!(output.starts_with("record=") && output.ends_with("\nverdict=slower\n"), "{output}");
    let summary = std::fs::read_to_string(slow.world.path("summary.md")).unwrap();
    for said in ["| `copy/f32/1024MiB` |", "## Against the baseline", "Verdict: slower."] {
        assert!(summary.contains(said), "{said:?} is missing in {summary}");
    }
    let refused = run(&slow, &[&slow.world.path("slow"), &baseline], "never");
    refused.exits(70).says(&["is there already"]);
    let refused = run(&slow, &[&slow.world.path("more"), &baseline], "sometimes");
    refused.exits(64).says(&["not \"sometimes\""]);
}

/// A program that stands in for warpmark: what its doctor says and exits with; all else goes well.
fn stand_in(machine: &Machine, doctor: &str, code: i32) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in\n  \"doctor --environment\") echo \"export FOUND='a b'\" ;;\n  \
         doctor) echo '{doctor}'; exit {code} ;;\n  *) echo \"ran $* with $FOUND\" ;;\nesac\n"
    );
    let path = machine.world.write("stand-in", &text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn the_exit_code_of_the_doctor_neither_leaves_models_out_nor_lets_them_run() {
    for (said, code, left_out) in [
        ("this build has no candle kernels for a GPU", 0, true),
        ("this build has no candle kernels for a GPU", 1, true),
        ("candle kernels for sm_90", 0, false),
        ("candle kernels for sm_90", 1, false),
    ] {
        let machine = Machine::with("");
        let out = machine.world.path("out");
        let mut command = script(&machine, "bash", "scripts/first-card");
        command.env("WARPMARK", stand_in(&machine, said, code));
        let ran = Ran::of(command.arg(&out).args(["doctor", "models"]).output().unwrap());
        ran.exits(code);
        assert!(ran.stdout.contains(&format!("-- doctor: exit code {code}")), "{}", ran.stdout);
        assert_eq!(ran.stdout.contains("models: left out"), left_out, "{}", ran.stdout);
        if !left_out {
            // What the program's own rule sets reaches every step.
            let models = std::fs::read_to_string(out.join("models.txt")).unwrap();
            assert!(models.contains("--filter !micro") && models.contains("with a b"), "{models}");
        }
    }
}

/// Seconds of `2 min 21 s`.
fn seconds(text: &str) -> f64 {
    let words: Vec<&str> = text.split_whitespace().collect();
    let each = words.chunks(2).map(|pair| match pair {
        [count, "min"] => 60.0 * count.parse::<f64>().unwrap(),
        [count, "s"] => count.parse().unwrap(),
        other => panic!("{other:?} is no time"),
    });
    each.sum()
}

#[test]
fn each_limit_of_the_script_leaves_the_plan_of_every_card_half_as_much_again() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/first-card");
    let text = std::fs::read_to_string(path).unwrap();
    let limit = |step: &str| -> f64 {
        let line =
            text.lines().find_map(|line| line.strip_prefix(&format!("step {step} "))).unwrap();
        line.split(' ').next().unwrap().parse().unwrap()
    };
    for card in ["t4", "v100", "l4", "a10g", "a100-40", "h100", "h200"] {
        let machine = Machine::with(card);
        for (step, suite) in [("quick", "quick"), ("full", "full"), ("full-again", "full")] {
            let plan =
                ["run", "--dry-run", "--device", "cuda", "--filter", "micro", "--suite", suite];
            let ran = machine.run(&plan);
            let last = ran.exits(0).stdout.lines().last().unwrap();
            // The longer of the two, where rows may end early.
            let times = last.split_once("about ").unwrap().1.split(';').next().unwrap();
            let time = match times.split_once(", and ") {
                Some((_, longest)) => longest.split_once(" where noise").unwrap().0,
                None => times,
            };
            assert!(seconds(time) * 1.5 <= limit(step), "{step} on {card}: {last}");
            // The card itself in a quick run: short of twelve minutes, whatever card it is.
            assert!(suite == "full" || seconds(time) < 720.0, "{card}: {last}");
        }
    }
}

#[test]
fn the_scripts_are_free_of_what_shellcheck_warns_of() {
    let scripts = [
        "scripts/first-card",
        "scripts/simulated-cuda/environment",
        "scripts/deploy-checks/ladder",
        "scripts/deploy-checks/run",
        "scripts/release",
        "scripts/simulated-slurm",
        "deploy/github/measure-and-compare",
        "deploy/measure",
        "deploy/summarise",
        "deploy/skypilot/ladder",
        "deploy/slurm/fleet",
        "deploy/slurm/node.sbatch",
        "deploy/slurm/prolog",
        "deploy/slurm/report.sbatch",
        ".ci/run",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let there = scripts.iter().filter(|script| root.join(script).is_file());
    match Command::new("shellcheck").args(there).current_dir(root).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{said}");
        }
        Err(_) => println!("not tested: there is no shellcheck on this machine"),
    }
}

/// Both sides of `peers/gpu.py` replaced by notes of their turn.
const TURNS: &str = r#"
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import gpu
begun = []
gpu.peer_lines = lambda *_: begun.append("torch")
gpu.ours = lambda *_: begun.append("warpmark")
gpu.compare = gpu.repeat = gpu.profiler = lambda *_: None
gpu.Table.markdown = lambda *_: ""
sys.argv = ["gpu.py", "--rounds", "3", "--keep", sys.argv[2]]
assert gpu.main() == 0
assert begun == ["torch", "warpmark", "warpmark", "torch", "torch", "warpmark"], begun
for share, code in [(0.995, 0), (0.985, 1)]:
    table = gpu.Table()
    gpu.ratio(table, "copy", share, 1.0, "B/s", 1.0 - gpu.NOISE, ("", ""))
    assert table.exit_code() == code, share
"#;

#[test]
fn who_begins_changes_each_round_and_a_percent_is_no_gap() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("not tested: there is no python3 on this machine");
        return;
    }
    let world = World::new();
    let turns = world.write("turns.py", TURNS);
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let mut command = Command::new("python3");
    command.arg(turns).arg(peers).arg(world.path("kept"));
    Ran::of(command.output().unwrap()).exits(0);
}

/// What torch would have measured: a product faster than the simulated card's 702.2 TFLOP/s by less than
/// counts, and a copy faster than its 3082 GB/s by more.
const TORCH: &str = r#"{"name": "torch", "version": "2.9.1", "cuda": "12.8", "device": "a test"}
{"name": "matmul/f16.f32", "median_s": 0.00157, "per_s": 7.06e14, "samples": 20}
{"name": "matmul/bf16.f32", "refused": "not in this test"}
{"name": "copy", "median_s": 0.00067, "per_s": 3.2e12, "samples": 20}
{"name": "triad", "median_s": 0.00067, "per_s": 3.1e12, "samples": 20}
{"name": "profiler", "events_s": 0.001005, "cupti_s": 0.001}
"#;

#[test]
fn the_comparison_with_torch_reads_our_records_and_names_each_target() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("not tested: there is no python3 on this machine");
        return;
    }
    let machine = Machine::with("h100");
    let lines = machine.world.write("torch.jsonl", TORCH);
    let keep = machine.world.path("kept");
    let mut command = script(&machine, "python3", "peers/gpu.py");
    command.arg(env!("CARGO_BIN_EXE_warpmark")).args(["--suite", "quick", "--rounds", "2"]);
    command.args(["--device", "cuda:0", "--arithmetics", "f16.f32,bf16.f32"]);
    command.arg("--peer-lines").arg(lines).arg("--keep").arg(&keep);
    let ran = Ran::of(command.output().unwrap());
    // A target is missed: torch copies faster.
    ran.exits(1);
    for line in [
        "| `micro/matmul/f16.f32/8192x8192x8192` / torch | 702.2 TFLOP/s | 706 TFLOP/s | 0.995 | ≥ 0.99 | reached |",
        "| `micro/matmul/bf16.f32/8192x8192x8192` / torch | 702.2 TFLOP/s | None | not in this test | ≥ 0.99 | not measured |",
        "| `micro/memory/copy/f32/2048MiB` / torch's copy | 3.082 TB/s | 3.2 TB/s | 0.963 | ≥ 0.99 | MISSED |",
        "| `micro/launch/queued` repeats over 2 rounds | 2.000 µs | 2.000 µs | 0.00 % | ≤ 5 % | reached |",
        "| events around a kernel of 1 ms / CUPTI | 1.0050 ms | 1.0000 ms | +0.50 % | within 1 % | reached |",
    ] {
        assert!(ran.stdout.contains(line), "{line} is missing in {}", ran.stdout);
    }
    assert!(ran.stdout.contains("NVIDIA H100 80GB HBM3 (simulated) (simulated), driver 580.65.06"));
    assert!(keep.join("torch-1.jsonl").is_file() && keep.join("round-1/warpmark.txt").is_file());
}
