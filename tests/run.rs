//! The road from models.toml to a recorded, checked, readable result, walked as a user would.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::models::gpt2;
use crate::support::{Ran, World};
use rustix::process::{Pid, Signal, kill_process};
use warpmark_record::{Outcome, WeightsStamp, store};

/// Two loads, a prompt in one batch size, a context in two.
const ROWS: usize = 2 + 1 + 2;

#[test]
fn a_run_measures_records_and_shows_a_table() {
    let world = World::new();
    let ran = Ran::of(world.tiny_run().output().unwrap());
    ran.exits(0);
    for part in ["text/tiny @warpmark", "decode/f32/b2", "tok/s", "f32/cold"] {
        assert!(ran.stdout.contains(part), "{part:?} is missing:\n{}", ran.stdout);
    }
    let files = world.results();
    assert_eq!(files.len(), 1, "{files:?}");
    let recording = store::read(&files[0]).unwrap();
    assert!(recording.warnings.is_empty(), "{:?}", recording.warnings);
    let run = &recording.runs[0];
    assert_eq!(run.suite, "quick");
    assert!(run.build.crates.contains_key("candle-core"), "{:?}", run.build);
    assert_eq!(recording.rows.len(), ROWS);
    for row in &recording.rows {
        assert_eq!(row.outcome, Outcome::Measured, "{}", row.id);
        assert_eq!(row.weights, Some(WeightsStamp::Synthetic { seed: 7 }));
        assert!(row.check.as_ref().is_some_and(|check| check.worst_error <= check.tolerance));
        let samples = row.samples.as_ref().unwrap();
        assert!(samples.wall_s.len() >= 10 && samples.wall_s.iter().all(|time| *time > 0.0));
    }
}

#[test]
fn the_same_rows_come_out_of_report_in_every_form() {
    let world = World::new();
    Ran::of(world.tiny_run().arg("--json").output().unwrap()).exits(0);
    let terminal = world.run(&["report"]);
    terminal.exits(0);
    let markdown = world.run(&["report", "--format", "markdown"]);
    markdown.exits(0);
    let csv = world.run(&["report", "--format", "csv"]);
    csv.exits(0);
    let json = world.run(&["report", "--json"]);
    json.exits(0);
    for text in [&terminal.stdout, &markdown.stdout, &csv.stdout, &json.stdout] {
        assert!(text.contains("decode/f32/b2"), "{text}");
    }
    assert_eq!(csv.stdout.lines().count(), 1 + ROWS, "{}", csv.stdout);
    serde_json::from_str::<serde_json::Value>(&json.stdout).unwrap();
    let filtered = world.run(&["report", "--filter", "decode"]);
    assert!(!filtered.exits(0).stdout.contains("prefill"), "{}", filtered.stdout);
}

#[test]
fn a_run_compared_with_itself_is_the_same() {
    let world = World::new();
    Ran::of(world.tiny_run().output().unwrap()).exits(0);
    let file = world.results()[0].display().to_string();
    let ran = world.run(&["compare", &file, &file]);
    ran.exits(0);
    assert!(ran.stdout.contains("same"), "{}", ran.stdout);
}

#[test]
fn json_on_standard_output_is_nothing_but_json() {
    let world = World::new();
    let ran = Ran::of(world.tiny_run().args(["--json"]).output().unwrap());
    let view: serde_json::Value = serde_json::from_str(&ran.exits(0).stdout).unwrap();
    assert!(view.is_object() || view.is_array());
}

#[test]
fn a_dry_run_prints_the_plan_and_leaves_nothing_behind() {
    let world = World::new();
    let ran = world.run(&["run", "--device", "cpu", "--dry-run"]);
    ran.exits(0);
    for part in ["micro/matmul/f32", "text/gpt2-124m/decode/f32/b16", "GiB", "benchmarks, about"] {
        assert!(ran.stdout.contains(part), "{part:?} is missing:\n{}", ran.stdout);
    }
    assert!(world.results().is_empty());
}

#[test]
fn a_budget_cuts_the_plan_and_says_what_was_cut() {
    let world = World::new();
    // Each of the three rows of the model is sampled for 1.2 s at least, on any machine.
    let ran = Ran::of(world.tiny_run().args(["--budget", "3s"]).output().unwrap());
    ran.exits(0);
    let recording = store::read(&world.results()[0]).unwrap();
    let cut = recording.rows.iter().filter(
        |row| matches!(&row.outcome, Outcome::Skipped { reason } if reason.contains("budget")),
    );
    assert!(cut.count() > 0);
    assert!(ran.stdout.contains("budget"), "{}", ran.stdout);
}

#[test]
fn verify_checks_every_answer_and_records_nothing() {
    let world = World::new();
    let models = format!("{}/tests/data/tiny.toml", env!("CARGO_MANIFEST_DIR"));
    let ran = world.run(&["verify", "--device", "cpu", "--filter", "tiny", "--models", &models]);
    ran.exits(0);
    assert!(ran.stdout.contains(&format!("{ROWS} right, 0 wrong")), "{}", ran.stdout);
    assert_eq!(ran.stderr.matches("its answer is right").count(), ROWS, "{}", ran.stderr);
    assert!(!ran.stderr.contains("skipped"), "{}", ran.stderr);
    assert!(world.results().is_empty());
}

/// Interrupts a run once it has said something and `ready` finds the time right, and says how it ended.
fn interrupt(world: &World, ready: impl Fn(&str) -> bool) -> (Option<i32>, String) {
    let mut command = world.interruptible(&world.tiny_run());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut seen = String::new();
    for line in lines.by_ref() {
        seen += &(line + "\n");
        if ready(&seen) {
            break;
        }
    }
    let id = Pid::from_child(&child);
    kill_process(id, Signal::INT).unwrap();
    for line in lines {
        seen += &(line + "\n");
    }
    (child.wait().unwrap().code(), seen)
}

/// Whether criterion, which writes to a log file, is at work on a second benchmark.
fn criterion_is_at_its_second(world: &World) -> bool {
    let log = world.cached(".log").and_then(|path| std::fs::read_to_string(path).ok());
    let log = log.unwrap_or_default();
    let names = log.lines().filter_map(|line| line.strip_prefix("Benchmarking "));
    names.map(|name| name.split(": ").next()).collect::<BTreeSet<_>>().len() >= 2
}

#[test]
fn ctrl_c_while_criterion_runs_keeps_the_finished_rows_and_says_so() {
    let world = World::new();
    let (code, stderr) = interrupt(&world, |seen| {
        if !seen.lines().any(|line| line.starts_with("  ")) {
            return false;
        }
        while !criterion_is_at_its_second(&world) {
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    });
    assert_eq!(code, Some(130), "{stderr}");
    let recording = store::read(&world.results()[0]).unwrap();
    assert!(recording.warnings.is_empty(), "{:?}", recording.warnings);
    let kept = crate::support::kept(recording.rows.len());
    assert!(!recording.rows.is_empty() && stderr.contains(&kept), "{kept:?}: {stderr}");
}

#[test]
fn ctrl_c_before_the_first_row_ends_with_130_too() {
    let world = World::new();
    let (code, stderr) = interrupt(&world, |_| true);
    assert_eq!(code, Some(130), "{stderr}");
}

#[test]
fn the_warning_of_a_batch_system_ends_a_run_with_what_is_kept() {
    for signal in [Signal::USR1, Signal::XCPU] {
        let world = World::new();
        let mut run =
            world.tiny_run().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
        lines.find(|line| line.contains("(cpu)")).unwrap();
        kill_process(Pid::from_child(&run), signal).unwrap();
        let said = lines.collect::<Vec<_>>().join("\n");
        assert_eq!(run.wait().unwrap().code(), Some(130), "{said}");
        assert!(said.contains("Interrupted."), "{said}");
    }
}

#[test]
fn a_disk_that_fills_ends_the_run_and_keeps_what_was_finished() {
    let world = World::new();
    // Once without a limit, so that the cache is there and the file's size is known.
    Ran::of(world.tiny_run().output().unwrap()).exits(0);
    let whole = world.results().remove(0);
    let size = std::fs::metadata(&whole).unwrap().len();
    std::fs::remove_file(&whole).unwrap();
    // A limit on the size of every file stands for a full disk: the same error path, EFBIG for ENOSPC.
    // POSIX counts in blocks of 512 bytes.
    let blocks = (size * 7 / 10 / 512).max(1);
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let mut limited = world.launched_by(&["sh", "-c", &script], &world.tiny_run());
    let ran = Ran::of(limited.output().unwrap());
    ran.exits(70).says(&["could not be written", "every earlier line is kept"]);
    let recording = store::read(&world.results()[0]).unwrap();
    assert!(!recording.rows.is_empty() && recording.rows.len() < ROWS, "{}", recording.rows.len());
    assert!(recording.warnings.is_empty(), "{:?}", recording.warnings);
}

/// Runs a command while another one, which has begun, stands still.
fn beside(first: &Child, mut second: Command) -> Ran {
    let pid = Pid::from_child(first);
    kill_process(pid, Signal::STOP).unwrap();
    let ran = Ran::of(second.output().unwrap());
    kill_process(pid, Signal::CONT).unwrap();
    ran
}

#[test]
fn a_second_run_on_the_same_device_is_told_to_wait() {
    let world = World::new();
    let mut first = world.tiny_run().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(first.stderr.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line.starts_with("  ")).unwrap();
    let second = beside(&first, world.tiny_run());
    second.exits(70).says(&["another warpmark run is measuring"]);
    lines.for_each(drop);
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_eq!(store::read(&world.results()[0]).unwrap().rows.len(), ROWS);
}

#[test]
fn verify_and_serve_do_not_work_beside_a_run_nor_a_run_beside_verify() {
    let world = World::new();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny.toml");
    let verify = ["verify", "--device", "cpu", "--filter", "tiny", "--models"];
    let serve = [
        "serve",
        "tiny",
        "--device",
        "cpu",
        "--prompt",
        "8",
        "--tokens",
        "4",
        "--duration",
        "100ms",
        "--models",
    ];
    let command = |arguments: &[&str]| {
        let mut command = world.command();
        command.args(arguments).arg(&models);
        command
    };
    // What a run on the processor holds.
    Ran::of(
        command(&["verify", "--device", "cpu", "--filter", "tiny/decode/f32/b1", "--models"])
            .output()
            .unwrap(),
    )
    .exits(0);
    let lock = std::fs::File::open(world.cached(".lock").unwrap()).unwrap();
    lock.lock().unwrap();
    for arguments in [&verify[..], &serve] {
        let ran = Ran::of(command(arguments).output().unwrap());
        ran.exits(70).says(&["another warpmark run is measuring"]);
    }
    assert!(world.results().is_empty());
    drop(lock);
    // One that takes its time, on any machine.
    let large = world.write(
        "large.toml",
        &gpt2("large", &[("width", "512"), ("vocabulary", "50257"), ("layers", "12")]),
    );
    let mut first = world.command();
    first.args(["verify", "--device", "cpu", "--filter", "large/prefill", "--models"]).arg(large);
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(first.stderr.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line.contains("(cpu)")).unwrap();
    let second = beside(&first, world.tiny_run());
    second.exits(70).says(&["another warpmark run is measuring"]);
    lines.for_each(drop);
    assert_eq!(first.wait().unwrap().code(), Some(0));
}

/// Starts a tiny run, ends it by a signal once a row is finished, and says what it said.
fn ended_by(world: &World, signal: Signal) -> (Option<i32>, String) {
    let mut command = world.tiny_run();
    let tags = command.args(["--tag", "node=a"]).env("WARPMARK_TAGS", "zone=b,node=c");
    let mut run = tags.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line.starts_with("  ")).unwrap();
    kill_process(Pid::from_child(&run), signal).unwrap();
    let said = lines.collect::<Vec<_>>().join("\n");
    (run.wait().unwrap().code(), said)
}

#[test]
fn an_interrupted_run_is_gone_on_with_and_ends_as_if_nothing_had_been() {
    for signal in [Signal::TERM, Signal::KILL] {
        let world = World::new();
        let (code, said) = ended_by(&world, signal);
        let path = world.results().remove(0);
        let before = store::read(&path).unwrap();
        assert!((1..ROWS).contains(&before.rows.len()), "{said}");
        assert_eq!(before.runs[0].planned.len(), ROWS);
        let tags: Vec<&str> = before.runs[0].tags.values().map(String::as_str).collect();
        assert_eq!(tags, ["a", "b"]);
        if signal == Signal::TERM {
            assert_eq!(code, Some(130), "{said}");
            let left = ROWS - before.rows.len();
            let here = path.strip_prefix(world.path("")).unwrap().display();
            let go_on = format!("left: `warpmark run --resume {here}` goes on");
            assert!(said.contains(&go_on) && said.contains(&format!("{left} benchmark")), "{said}");
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let ran = world.run(&["run", "--resume", name]);
        ran.exits(0);
        assert_eq!(world.results(), std::slice::from_ref(&path));
        let after = store::read(&path).unwrap();
        assert_eq!((after.runs.len(), after.rows.len()), (1, ROWS), "{ran:#?}");
        assert_eq!(after.rows[..before.rows.len()], before.rows[..]);
        let again = world.run(&["run", "--resume", path.to_str().unwrap()]);
        again.exits(0).says(&["lacks nothing"]);
        assert_eq!(store::read(&path).unwrap(), after);
    }
}

#[test]
fn a_run_of_another_build_or_machine_or_question_is_not_gone_on_with() {
    let world = World::new();
    ended_by(&world, Signal::TERM);
    let path = world.results().remove(0);
    let run = path.to_str().unwrap();
    world.run(&["run", "--resume", run, "--suite", "full"]).exits(64).says(&["leave --suite out"]);
    world
        .run(&["run", "--resume", "20260101T000000Z-1"])
        .exits(70)
        .says(&["neither the file of a run"]);
    let good = std::fs::read_to_string(&path).unwrap();
    let version = format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
    for (from, to, says) in [
        (version.as_str(), "\"version\":\"0.0.1\"", "build: warpmark 0.0.1"),
        ("\"settings\":{", "\"settings\":{\"a\":\"b\",", "settings: a=b"),
        ("\"simd\":\"", "\"simd\":\"other ", "vector instructions: other"),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good);
        std::fs::write(&path, &changed).unwrap();
        let ran = world.run(&["run", "--resume", run]);
        ran.exits(70).says(&["cannot be gone on with here"]);
        assert!(ran.stderr.contains(says.trim_start_matches("build: warpmark ")), "{}", ran.stderr);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), changed);
    }
    let elsewhere = world.path("results/moved.jsonl");
    std::fs::write(&elsewhere, good).unwrap();
    world.run(&["run", "--resume", elsewhere.to_str().unwrap()]).exits(70).says(&["was moved"]);
}

#[test]
fn a_plan_is_told_to_programs_too() {
    let world = World::new();
    let ran = Ran::of(world.tiny_run().args(["--dry-run", "--json"]).output().unwrap());
    let plan: serde_json::Value = serde_json::from_str(&ran.exits(0).stdout).unwrap();
    let benchmarks = plan["benchmarks"].as_array().unwrap();
    assert_eq!(benchmarks.len(), ROWS);
    let sum: f64 = benchmarks.iter().map(|entry| entry["time_s"].as_f64().unwrap()).sum();
    assert!((sum - plan["time_s"].as_f64().unwrap()).abs() < 1e-6 && sum > 0.0, "{plan}");
    assert!(benchmarks.iter().all(|entry| entry["skip"].is_null() && entry["fits"] == true));
    assert!(world.results().is_empty());
}
