//! Machines that give less than they seem to, and results folders that are not as they should be.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::models::{TINY, gpt2};
use crate::support::records::{decode, write};
use crate::support::{Ran, World};
use rustix::process::{Pid, Signal, kill_process};
use warpmark_record::{Outcome, store};

const DECODE: &str = "text/gpt2-124m/decode/f16/b1/c128@warpmark";

/// The command after what a shell sets first.
fn limited(world: &World, first: &str, arguments: &[&str]) -> Ran {
    let command = world.command();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{first}; exec \"$0\" \"$@\"")]).arg(command.get_program());
    shell.args(arguments).current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    Ran::of(shell.output().unwrap())
}

/// The tiny model, and one of 100 MB.
fn tiny_and_mid(world: &World) -> String {
    let mid = [
        ("phases", r#"["prefill"]"#),
        ("batches", "[1]"),
        ("vocabulary", "50257"),
        ("width", "512"),
        ("heads", "8"),
    ];
    let text = TINY.to_owned() + &gpt2("mid", &mid);
    world.write("models.toml", &text).to_str().unwrap().to_owned()
}

#[test]
fn what_a_limit_of_the_process_does_not_hold_is_skipped_and_the_rest_is_measured() {
    let world = World::new();
    let models = tiny_and_mid(&world);
    let run = ["run", "--device", "cpu", "--models", &models, "--filter", "mid,tiny/prefill"];
    limited(&world, "ulimit -v 256000", &run).exits(0);
    let recording = store::read(&world.results()[0]).unwrap();
    let outcome =
        |model: &str| &recording.rows.iter().find(|row| row.id.subject() == model).unwrap().outcome;
    assert_eq!(outcome("tiny"), &Outcome::Measured);
    let Outcome::Skipped { reason } = outcome("mid") else { panic!("{:?}", outcome("mid")) };
    assert!(reason.contains("MiB"), "{reason}");
}

#[test]
fn less_memory_than_the_program_takes_is_a_sentence_and_never_a_signal() {
    let world = World::new();
    let models = tiny_and_mid(&world);
    let run = ["run", "--device", "cpu", "--models", &models, "--filter", "tiny/prefill"];
    let specs = ["specs", "--device", "cpu"];
    // The least with which the system loads the program and its libraries at all.
    let loads = |kib: &u32| {
        let ran = limited(&world, &format!("ulimit -v {kib}"), &["--version"]);
        matches!(ran.code, Some(0 | 70))
    };
    let least = (10_000..2_000_000).step_by(2_000).find(loads).unwrap();
    for beyond in [0, 4_000, 8_000, 12_000, 16_000, 24_000, 40_000, 80_000, 120_000, 160_000] {
        for arguments in [&run[..], &specs] {
            let ran = limited(&world, &format!("ulimit -v {}", least + beyond), arguments);
            assert!(matches!(ran.code, Some(0 | 1 | 70)), "{beyond}: {ran:#?}");
            if ran.code == Some(70) {
                ran.says(&["warpmark: ", "ulimit -v"]);
            }
        }
    }
    let bare = limited(&world, &format!("ulimit -v {least}"), &specs);
    bare.exits(70).says(&["this process may map", "raise the limit"]);
}

#[test]
fn an_abort_ends_in_a_sentence_and_the_code_of_an_error() {
    let world = World::new();
    let mut run = world.tiny_run().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line.contains("(cpu)")).unwrap();
    // What the allocator does where memory is refused.
    kill_process(Pid::from_child(&run), Signal::ABORT).unwrap();
    let said = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(run.wait().unwrap().code(), Some(70), "{said}");
    assert!(said.contains("memory was refused") && said.contains("are recorded"), "{said}");
}

#[test]
fn a_service_that_does_not_fit_is_skipped_with_both_figures() {
    let world = World::new();
    let models = tiny_and_mid(&world);
    let serve = ["serve", "tiny", "--device", "cpu", "--models", &models, "--users", "1"];
    let form = ["--prompt", "8", "--tokens", "8", "--max-batch", "65536", "--duration", "1s"];
    let all = [&serve[..], &form].concat();
    let within = "ulimit -v 1000000";
    let planned = limited(&world, within, &[&all[..], &["--dry-run"]].concat());
    assert!(planned.exits(0).stdout.contains("skipped: needs "), "{}", planned.stdout);
    limited(&world, within, &all).exits(0);
    let recording = store::read(&world.results()[0]).unwrap();
    let Outcome::Skipped { reason } = &recording.rows[0].outcome else { panic!("{recording:?}") };
    assert!(reason.starts_with("needs ") && reason.contains("has "), "{reason}");
}

#[test]
fn more_threads_than_make_sense_are_not_started_and_it_is_said() {
    let world = World::new();
    let mut run = world.tiny_run();
    run.env("RAYON_NUM_THREADS", "100000");
    let ran = Ran::of(run.output().unwrap());
    ran.exits(0).says(&["RAYON_NUM_THREADS asks for 100000 threads"]);
    let threads = &store::read(&world.results()[0]).unwrap().runs[0].settings["threads"];
    assert!(threads.parse::<usize>().unwrap() < 10_000, "{threads}");
}

#[test]
fn the_newest_run_is_so_by_its_own_time_and_has_rows() {
    let world = World::new();
    let newest = write(&world, "one", "t4", &[decode(DECODE, 1, 0.005)]);
    let text = std::fs::read_to_string(&newest).unwrap();
    let older = text.replace("2026", "2025").replace("\"one\"", "\"two\"");
    let line = text.lines().next().unwrap().replace("\"one\"", "\"three\"");
    // Both are written later.
    world.write("results/t4/two.jsonl", &older);
    world.write("results/t4/three.jsonl", &(line.replace("2026", "2027") + "\n"));
    let shown = world.run(&["report"]);
    assert!(shown.exits(0).stdout.contains("run one"), "{}", shown.stdout);
    // Links in circles end.
    for name in ["a", "b"] {
        std::os::unix::fs::symlink("..", world.path("results/t4").join(name)).unwrap();
    }
    world.run(&["report"]).exits(0);
    world.run(&["baseline", "save", "main", "--baselines", "kept"]).exits(0);
    world.run(&["baseline", "--baselines", "kept", "list"]).exits(0);
    assert!(world.path("kept/main.jsonl").exists());
    std::fs::remove_file(newest).unwrap();
    std::fs::remove_file(world.path("results/t4/two.jsonl")).unwrap();
    world.run(&["report"]).exits(70).says(&["holds runs without a row alone"]);
}

#[test]
fn what_was_not_found_is_said_with_what_there_is() {
    let world = World::new();
    write(&world, "one", "t4", &[decode(&DECODE.replace("decode", "prefill"), 1, 0.005)]);
    let recommend = world.run(&["recommend", "--model", "gpt2-124m"]);
    recommend.exits(1);
    for part in ["generate, transcribe, decode or classify", "`--phase prefill` has"] {
        assert!(recommend.stdout.contains(part), "{part}: {}", recommend.stdout);
    }
    assert!(!recommend.stdout.contains("there are gpt2-124m"), "{}", recommend.stdout);
    for verb in ["cost", "tune", "report"] {
        let ran = world.run(&[verb, "--filter", "whisper"]);
        ran.exits(64).says(&["`whisper` of the filter", "text/gpt2-124m"]);
    }
    world.run(&["rank"]).exits(70).says(&["there is Test t4"]);
}
