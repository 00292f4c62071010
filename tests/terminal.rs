//! What the command does with its terminal, arguments, environment, signals and output files.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::records::{decode, write};
use crate::support::{Ran, World};
use warpmark_record::store;

/// What a run of [`prefill`] measures.
const ROWS: usize = 1;

/// A run of one benchmark.
fn prefill(world: &World) -> Command {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny.toml");
    let mut command = world.command();
    command.args(["run", "--device", "cpu", "--filter", "text/tiny/prefill", "--models"]);
    command.arg(models);
    command
}

/// Two runs of a card, the second one twice as slow.
fn two_runs(world: &World) -> [PathBuf; 2] {
    let row = |seconds| [decode("text/gpt2-124m/decode/f16/b1@warpmark", 1, seconds)];
    [write(world, "a", "l4", &row(0.001)), write(world, "b", "l4", &row(0.002))]
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// A pipe that nobody reads any more.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A name that is Latin-1.
fn latin(name: &[u8]) -> OsString {
    OsString::from_vec(name.to_vec())
}

#[test]
fn a_standard_error_that_is_gone_or_full_ends_nothing() {
    let world = World::new();
    for (at, stderr) in [unread(), full().into(), unread()].into_iter().enumerate() {
        let mut command = prefill(&world);
        if at == 2 {
            // criterion's own report goes there, too.
            command.arg("--verbose");
        }
        let results = world.path(&format!("r{at}"));
        command.arg("--results").arg(&results).stdout(Stdio::null()).stderr(stderr);
        assert_eq!(command.status().unwrap().code(), Some(0), "{at}");
        assert_eq!(store::read(&results).unwrap().rows.len(), ROWS, "{at}");
    }
}

#[test]
fn a_signal_that_is_ignored_from_the_start_stays_ignored() {
    let world = World::new();
    let run = prefill(&world);
    let mut shell = world.command_of("sh");
    shell.args(["-c", "trap '' HUP INT TERM; exec \"$0\" \"$@\""]).arg(run.get_program());
    let mut child =
        shell.args(run.get_args()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut seen = lines.next().unwrap();
    for signal in
        [rustix::process::Signal::HUP, rustix::process::Signal::INT, rustix::process::Signal::TERM]
    {
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
    }
    lines.for_each(|line| seen += &line);
    assert_eq!(child.wait().unwrap().code(), Some(0), "{seen}");
    assert!(!seen.contains("Interrupted"), "{seen}");
}

#[test]
fn the_exit_code_of_a_verdict_outlives_a_closed_pipe_and_not_a_full_disk() {
    let world = World::new();
    let [a, b] = two_runs(&world);
    let other = [decode("text/gpt2-124m/decode/f16/b1@warpmark", 1, 0.003)];
    let other = write(&world, "c", "t4", &other);
    let [a, b, other] = [&a, &b, &other].map(|path| path.to_str().unwrap());
    let verbs: &[&[&str]] = &[
        &["compare", a, b],
        &["compare", b, a],
        &["compare", a, b, "--format", "json"],
        &["report", a, "--format", "html"],
        &["report", "--index"],
        &["recommend", "--model", "none", a],
        &["rank", a, other],
        &["cost", a],
        &["tune", a],
        &["reference"],
        &["models", "--device", "cpu"],
        &["specs", "--device", "cpu"],
        &["doctor"],
        &["completions", "bash"],
        &["run", "--device", "cpu", "--dry-run"],
        &["--help"],
        &["--version"],
    ];
    for verb in verbs {
        let code = |stdout: Stdio| {
            let mut command = world.command();
            let ran = command.args(*verb).stdout(stdout).stderr(Stdio::null()).status();
            ran.unwrap().code().unwrap()
        };
        let plain = code(Stdio::null());
        assert!(plain < 64, "{verb:?}: {plain}");
        assert_eq!(code(unread()), plain, "{verb:?}");
        assert_eq!(code(full().into()), 70, "{verb:?}");
    }
    world.run(&["compare", a, b]).exits(1);
}

#[test]
fn a_report_is_never_written_over_recorded_runs() {
    let world = World::new();
    let [a, b] = two_runs(&world);
    let before = fs::read(&a).unwrap();
    let (link, hard, other) = (world.path("link.csv"), world.path("hard.csv"), world.path("b.csv"));
    std::os::unix::fs::symlink(&a, &link).unwrap();
    fs::hard_link(&a, &hard).unwrap();
    fs::hard_link(&b, &other).unwrap();
    let a = a.to_str().unwrap();
    for output in [Path::new(a), &link, &hard, &other] {
        let output = output.to_str().unwrap();
        let ran = world.run(&["report", a, "--format", "csv", "--output", output]);
        ran.exits(64).says(&[output, "another"]);
    }
    world.run(&["report", a, "--output", "new.jsonl"]).exits(64).says(&["new.jsonl"]);
    let prices = world.write("p.md", "version = 1\n");
    let prices = prices.to_str().unwrap();
    world.run(&["report", a, "--prices", prices, "--output", prices]).exits(64).says(&["p.md"]);
    assert_eq!(fs::read(a).unwrap(), before);
}

#[test]
fn a_disk_that_is_full_leaves_the_older_page() {
    let world = World::new();
    let [a, _] = two_runs(&world);
    let page = world.write("page.html", "an older page");
    let mut shell = world.command_of("sh");
    let script = "ulimit -f 2; exec \"$0\" report \"$1\" --output page.html";
    shell.args(["-c", script]).arg(env!("CARGO_BIN_EXE_warpmark")).arg(&a);
    Ran::of(shell.output().unwrap()).exits(70).says(&["page.html cannot be written"]);
    assert_eq!(fs::read_to_string(page).unwrap(), "an older page");
    let left: Vec<_> =
        fs::read_dir(world.path("")).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("draft")), "{left:?}");
    world
        .run(&["report", a.to_str().unwrap(), "--output", "/dev/full", "--format", "csv"])
        .exits(70);
}

#[test]
fn the_name_of_the_output_chooses_the_form() {
    let world = World::new();
    two_runs(&world);
    for (name, start) in [
        ("r.csv", "run,"),
        ("r.md", "## "),
        ("r.json", "{"),
        ("R.HTML", "<!DOCTYPE html>"),
        ("r.sqlite", "SQLite format 3"),
        ("r.prom", "# TYPE warpmark_failed gauge"),
        ("r.txt", "Test l4"),
        ("r", "Test l4"),
    ] {
        world.run(&["report", "--output", name]).exits(0);
        let text = fs::read(world.path(name)).unwrap();
        assert!(text.starts_with(start.as_bytes()), "{name}: {:?}", text.get(..40));
    }
    for (name, form) in [("x.csv", "html"), ("x.html", "json"), ("x.sqlite", "csv")] {
        let ran = world.run(&["report", "--output", name, "--format", form]);
        ran.exits(64).says(&[name, form]);
    }
    world.run(&["report", "--output", "x.html", "--json"]).exits(64).says(&["json"]);
    world.run(&["report", "--output", "x.xlsx"]).exits(64).says(&["x.xlsx", ".csv"]);
    world.run(&["report", "--output", "x.xlsx", "--format", "csv"]).exits(0);
    let ran = world.run(&["report", "--output", "-", "--format", "csv"]);
    assert!(ran.exits(0).stdout.starts_with("run,"), "{ran:?}");
    assert!(!world.path("-").exists());
    world.run(&["report", "--output", "-", "--format", "sqlite"]).exits(64);
}

#[test]
fn names_in_other_encodings_are_taken_for_files_and_refused_for_text() {
    let world = World::new();
    let results = latin(b"r\xe9sultats");
    let ran = prefill(&world).arg("--results").arg(&results).stderr(Stdio::null()).status();
    assert_eq!(ran.unwrap().code(), Some(0));
    let recording = store::read(&world.path("").join(&results)).unwrap();
    assert!(recording.runs[0].command.contains(&"r\u{fffd}sultats".to_owned()));
    let mut report = world.command();
    let output = latin(b"p\xe9.csv");
    report.arg("report").arg("--results").arg(&results).arg("--output").arg(&output);
    Ran::of(report.output().unwrap()).exits(0);
    assert!(world.path("").join(&output).exists());
    let none = |words: &[&OsStr], code| {
        let ran = Ran::of(world.command().args(words).output().unwrap());
        ran.exits(code).says(&["\u{fffd}"]);
    };
    let name = latin(b"\xe9");
    none(&["report".as_ref(), name.as_ref()], 70);
    none(&["run".as_ref(), "--models".as_ref(), name.as_ref()], 70);
    none(&["run".as_ref(), "--audio".as_ref(), name.as_ref()], 70);
    for option in ["--weights", "--filter", "--budget", "--device"] {
        let mut command = world.command();
        let ran = command.args(["run", "--dry-run", option]).arg(&name).output().unwrap();
        Ran::of(ran).exits(64).says(&["UTF-8"]);
    }
    let mut command = world.command();
    command.args(["run", "--dry-run"]).env("WARPMARK_WEIGHTS", &name);
    Ran::of(command.output().unwrap()).exits(64).says(&["UTF-8"]);
}

#[test]
fn an_empty_variable_is_an_unset_one_and_a_switch_takes_a_word() {
    let world = World::new();
    let plan = |variables: &[(&str, &str)]| {
        let mut command = world.command();
        command.args(["run", "--device", "cpu", "--dry-run", "--filter", "!micro"]);
        Ran::of(command.envs(variables.iter().copied()).output().unwrap())
    };
    let empty = [
        "SUITE",
        "BUDGET",
        "AUDIO",
        "WEIGHTS",
        "HANG_LIMIT",
        "EXHAUSTIVE",
        "MODELS",
        "RESULTS",
        "DEVICE",
        "FILTER",
        "REFERENCE_TEXT",
        "PRICES",
        "BASELINES",
        "CACHE",
    ];
    for name in empty {
        plan(&[(&format!("WARPMARK_{name}"), "")]).exits(0);
    }
    for word in ["1", "true", "yes", "on", "0", "false", "no", "off"] {
        plan(&[("WARPMARK_EXHAUSTIVE", word)]).exits(0);
    }
    plan(&[("WARPMARK_EXHAUSTIVE", "perhaps")]).exits(64).says(&["perhaps"]);
    // What is set does count, and the command line goes before it.
    plan(&[("WARPMARK_SUITE", "fast")]).exits(64).says(&["fast", "quick"]);
    plan(&[("WARPMARK_DEVICE", "cuda:9")]).exits(0);
}

/// Runs a command on a terminal of its own, and gives what it writes there.
fn on_a_terminal(mut command: Command) -> (Option<i32>, String) {
    let (mut main, mut side) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: both numbers are there to be written to, and null asks for nothing else.
    let opened =
        unsafe { libc::openpty(&raw mut main, &raw mut side, none, none.cast(), none.cast()) };
    assert_eq!(opened, 0);
    // SAFETY: `openpty` has just made both, and nobody else has them.
    let (main, side) = unsafe { (File::from_raw_fd(main), OwnedFd::from_raw_fd(side)) };
    let copy = || Stdio::from(side.try_clone().unwrap());
    let mut child = command.stdin(copy()).stdout(copy()).stderr(copy()).spawn().unwrap();
    drop((side, command));
    let mut text = Vec::new();
    // Linux says EIO once nobody holds the other end.
    let _ = (&main).read_to_end(&mut text);
    (child.wait().unwrap().code(), String::from_utf8(text).unwrap())
}

#[test]
fn a_terminal_gets_escapes_only_where_it_understands_them_and_its_user_wants_them() {
    let world = World::new();
    let [a, b] = two_runs(&world);
    let compare = |variables: &[(&str, &str)], options: &[&str]| {
        let mut command = world.command();
        command.arg("compare").args([&a, &b]).args(options).env("TERM", "xterm-256color");
        let (code, text) = on_a_terminal({
            command.envs(variables.iter().copied());
            command
        });
        assert_eq!(code, Some(1), "{text}");
        text.contains('\u{1b}')
    };
    assert!(compare(&[], &[]));
    assert!(!compare(&[("TERM", "dumb")], &[]));
    assert!(!compare(&[("TERM", "")], &[]));
    assert!(!compare(&[("NO_COLOR", "1")], &[]));
    assert!(!compare(&[], &["--color", "never"]));
    assert!(compare(&[("TERM", "dumb")], &["--color", "always"]));
    let piped = |variables: &[(&str, &str)], options: &[&str]| {
        let mut command = world.command();
        command.arg("compare").args([&a, &b]).args(options).envs(variables.iter().copied());
        Ran::of(command.output().unwrap()).stdout.contains('\u{1b}')
    };
    assert!(!piped(&[], &[]));
    assert!(piped(&[("CLICOLOR_FORCE", "1")], &[]));
    assert!(piped(&[], &["--color=always"]));
}

#[test]
fn a_dumb_terminal_gets_lines_and_a_capable_one_bars() {
    let world = World::new();
    let run = |term| {
        let mut command = prefill(&world);
        command.env("TERM", term);
        let (code, text) = on_a_terminal(command);
        assert_eq!(code, Some(0), "{text}");
        text
    };
    let dumb = run("dumb");
    assert!(!dumb.contains('\u{1b}') && dumb.contains("an iteration"), "{dumb}");
    let capable = run("xterm");
    assert!(capable.contains('\u{1b}') && capable.contains("warming up"), "{capable}");
}

#[test]
fn a_locale_without_utf_8_gets_ascii_and_quiet_is_quiet() {
    let world = World::new();
    let mut run = prefill(&world);
    let ran = Ran::of(run.env("LC_ALL", "C").output().unwrap());
    ran.exits(0);
    assert!(ran.stdout.is_ascii() && ran.stderr.is_ascii(), "{ran:#?}");
    assert!(ran.stdout.contains("+/-"), "{ran:#?}");
    let mut help = world.command();
    let help = Ran::of(help.arg("--help").env("LANG", "POSIX").output().unwrap());
    assert!(help.exits(0).stdout.is_ascii(), "{help:#?}");
    let page = world.run(&["report", "--format", "html"]).exits(0).stdout.clone();
    assert!(page.contains('±'), "data are in UTF-8, whatever the locale");
    let ran = Ran::of(prefill(&world).arg("--quiet").output().unwrap());
    ran.exits(0);
    assert!(ran.stderr.is_empty() && ran.stdout.contains("prefill"), "{ran:#?}");
}

#[test]
fn a_slip_in_a_filter_is_told_of_and_one_that_leaves_nothing_is_an_error() {
    let world = World::new();
    let [a, b] = two_runs(&world);
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let plan = ["run", "--device", "cpu", "--dry-run", "--filter"];
    let ran = world.run(&[&plan[..], &["gpt2-124m/prefil,gpt2-124m/decode"]].concat());
    ran.exits(0).says(&["`gpt2-124m/prefil`", "is it `gpt2-124m/prefill`?"]);
    world.run(&[&plan[..], &["whispr"]].concat()).exits(64).says(&["is it `whisper`?"]);
    world.run(&[&plan[..], &["decode,!decode"]].concat()).exits(64).says(&["leaves out"]);
    for verb in [
        &["report", a][..],
        &["compare", a, b],
        &["cost", a],
        &["tune", a],
        &["rank", a, b],
        &["recommend", "--model", "gpt2-124m", a],
        &["verify", "--device", "cpu"],
    ] {
        let ran = world.run(&[verb, &["--filter", "decod/zzz"]].concat());
        ran.exits(64).says(&["`decod/zzz`"]);
    }
    world.run(&["report", a, "--filter", "decode,zzz"]).exits(0).says(&["`zzz`"]);
    let stars = "*a".repeat(200);
    world.run(&[&plan[..], &[&stars]].concat()).exits(64).says(&["matches"]);
}

#[test]
fn a_pipe_named_like_results_is_passed_over_with_a_word() {
    let world = World::new();
    let [a, _] = two_runs(&world);
    let pipe = a.with_file_name("pipe.jsonl");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    world.run(&["cost", "results"]).exits(0).says(&["pipe.jsonl", "left out"]);
    world.run(&["report"]).exits(0);
}

#[test]
fn text_from_outside_does_nothing_to_a_terminal() {
    let world = World::new();
    let tiny = crate::support::models::TINY;
    let evil = "title = \"\\u001b]0;owned\\u0007\\u202e\\u061c";
    let models = world.write("models.toml", &tiny.replacen("title = \"", evil, 1));
    let listed = world.run(&["models", "--device", "cpu", "--models", models.to_str().unwrap()]);
    let listed = listed.exits(0).stdout.clone();
    let named = world.run(&["report", "\u{1b}[31m\u{202e}\u{61c}none.jsonl"]);
    named.exits(70).says(&["\\u{1b}[31m\\u{202e}\\u{61c}none.jsonl"]);
    let typed = world.run(&["report", "--\u{1b}[31mform"]);
    let verb = world.run(&["\u{1b}]0;x\u{7}"]);
    for text in [&listed, &named.stderr, &typed.exits(64).stderr, &verb.exits(64).stderr] {
        for c in ['\u{1b}', '\u{7}', '\u{202e}', '\u{61c}'] {
            assert!(!text.contains(c), "{c:?} in {text:?}");
        }
    }
    assert!(listed.contains("\\u{1b}]0;owned"), "{listed}");
}

#[test]
fn times_that_no_clock_holds_are_refused() {
    let world = World::new();
    for option in
        ["--warm-up", "--duration", "--timeout", "--max-queue-delay", "--target", "--hang-limit"]
    {
        let long =
            ["serve", "gpt2-124m", "--device", "cpu", "--dry-run", option, "9223372036854775807s"];
        world.run(&long).exits(64).says(&["longer than a year"]);
    }
    let year = ["--warm-up", "24h", "--duration", "24h", "--timeout", "24h"];
    let serve = ["serve", "gpt2-124m", "--device", "cpu", "--dry-run"];
    world.run(&[&serve[..], &year].concat()).exits(0);
}

#[test]
fn the_log_of_criterion_empties_nothing_that_a_link_leads_to() {
    let world = World::new();
    let victim = world.write("victim", "worth keeping");
    Ran::of(prefill(&world).output().unwrap()).exits(0);
    let log = world.cached(".log").unwrap();
    fs::remove_file(&log).unwrap();
    std::os::unix::fs::symlink(&victim, &log).unwrap();
    Ran::of(prefill(&world).output().unwrap()).exits(0);
    assert_eq!(fs::read_to_string(victim).unwrap(), "worth keeping");
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.contains("Benchmarking"), "{log}");
}

#[test]
fn tables_are_no_wider_than_the_terminal() {
    let world = World::new();
    let [a, b] = two_runs(&world);
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    for verb in [
        &["models", "--device", "cpu"][..],
        &["report", a],
        &["compare", a, b],
        &["cost", a],
        &["tune", a],
        &["reference"],
        &["specs", "--device", "cpu"],
    ] {
        for columns in ["40", "60", "80", "120"] {
            let mut command = world.command();
            let ran = Ran::of(command.args(verb).env("COLUMNS", columns).output().unwrap());
            let width: usize = columns.parse().unwrap();
            let longest = ran.stdout.lines().max_by_key(|line| line.chars().count()).unwrap();
            assert!(longest.chars().count() <= width, "{verb:?} at {columns}: {longest}");
        }
    }
    // Into a pipe, each model has a line of its own.
    let whole = world.run(&["models", "--device", "cpu"]).stdout;
    assert!(
        whole.lines().any(|line| line.contains("gpt2-124m") && line.contains("openai-community"))
    );
}

#[test]
fn a_slip_in_a_word_of_the_command_line_gets_the_nearest_one() {
    let world = World::new();
    world.run(&["reprot"]).exits(64).says(&["similar", "'report'"]);
    world.run(&["run", "--filtr", "x"]).exits(64).says(&["--filter"]);
    world.run(&["run", "--suite", "ful"]).exits(64).says(&["full"]);
    world.run(&["report", "--format", "htm"]).exits(64).says(&["html"]);
}
