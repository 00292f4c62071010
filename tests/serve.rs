//! Load on a model inside the process, from the command line to the report.

use std::path::Path;

use crate::support::{Ran, World};
use warpmark_record::load_test::{Arrivals, Batching};
use warpmark_record::store;
use warpmark_record::{LoadTest, Outcome, Record};

/// The command on a model that answers in a debug build.
fn serve(world: &World, arguments: &[&str]) -> Ran {
    let few = ["--prompt", "8", "--tokens", "6", "--max-batch", "4"];
    // Long against a request, which takes a millisecond where nothing else is at work.
    let short = ["--duration", "2s", "--warm-up", "50ms"];
    bare(world, &[&few[..], &short[..], arguments].concat())
}

/// The command with nothing but these options.
fn bare(world: &World, arguments: &[&str]) -> Ran {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny.toml");
    let mut command = world.command();
    command.args(["serve", "tiny", "--device", "cpu", "--models"]).arg(models).args(arguments);
    Ran::of(command.output().unwrap())
}

fn rows(world: &World) -> Vec<Record> {
    let recording = store::read_all(world.results()).unwrap();
    assert_eq!(recording.warnings, Vec::new());
    recording.rows
}

fn load(row: &Record) -> &LoadTest {
    assert_eq!(row.outcome, Outcome::Measured, "{}", row.id);
    row.load_test.as_deref().unwrap()
}

#[test]
fn levels_of_load_are_checked_recorded_and_reported() {
    let world = World::new();
    let ran = serve(&world, &["--users", "1,6", "--rate", "20", "--target", "5s"]);
    ran.exits(0);
    let rows = rows(&world);
    let ids: Vec<String> = rows.iter().map(|row| row.id.to_string()).collect();
    let id = |level: &str| format!("serve/tiny/generate/f32/p8+6/s4/{level}@warpmark");
    assert_eq!(ids, [id("closed-1"), id("closed-6"), id("open-20")]);
    for row in &rows {
        let load = load(row);
        assert_eq!(load.batching, Batching::Continuous { slots: 4 });
        assert_eq!((load.tokens_per_request, load.target_s), (Some(6), Some(5.0)));
        let requests = load.requests;
        assert!(requests.completed > 0, "{}: {requests:?}", row.id);
        let ended = requests.completed + requests.failed + requests.timed_out;
        let ended = ended + requests.cancelled + requests.rejected + requests.unfinished;
        assert_eq!(ended, requests.asked, "{}", row.id);
        // The first token comes once for a request, the five others each after a gap.
        let count = |times: &Option<warpmark_record::load_test::Histogram>| {
            times.as_ref().map_or(0, warpmark_record::load_test::Histogram::count)
        };
        assert_eq!(count(&load.first_token), requests.completed);
        assert_eq!(count(&load.between_tokens), 5 * requests.completed);
        let check = row.check.as_ref().unwrap();
        assert!(check.worst_error > 0.0 && check.worst_error < check.tolerance, "{check:?}");
        assert!(row.memory.is_some() && row.weights.is_some());
    }
    // Six users on four slots: somebody waits, and passes are fuller than with one.
    assert!(load(&rows[1]).queue.mean > load(&rows[0]).queue.mean);
    assert!(load(&rows[1]).batch_efficiency() > load(&rows[0]).batch_efficiency());
    assert!(
        matches!(load(&rows[2]).arrivals, Arrivals::Open { rate, .. } if (rate - 20.0).abs() < 1e-9)
    );

    for part in ["1 user", "6 users", "20.0/s", "TTFT", "within 5.00 s"] {
        assert!(ran.stdout.contains(part), "{part}:\n{}", ran.stdout);
    }
    let page = world.run(&["report", "--format", "html"]);
    for part in ["Latency against concurrency", "users at once", "closed-6"] {
        assert!(page.exits(0).stdout.contains(part), "{part}");
    }
    // Levels of load are compared with nobody by time of iteration, and the verbs take them in.
    world.run(&["report", "--format", "csv"]).exits(0);
    world.run(&["tune"]).exits(0);
}

#[test]
fn whole_requests_are_answered_in_dynamic_batches() {
    let world = World::new();
    let options =
        ["--phase", "prefill", "--users", "8", "--max-queue-delay", "2ms", "--timeout", "10s"];
    serve(&world, &options).exits(0);
    let rows = rows(&world);
    assert_eq!(rows[0].id.to_string(), "serve/tiny/prefill/f32/p8/b4/closed-8@warpmark");
    let load = load(&rows[0]);
    assert_eq!(load.batching, Batching::Dynamic { max_batch: 4, max_queue_delay_s: 0.002 });
    assert!(load.first_token.is_none() && load.tokens_per_request.is_none());
    // Eight users fill batches of four.
    assert!(load.batch_efficiency().unwrap() > 0.9, "{:?}", load.passes);
}

#[test]
fn callers_who_take_back_or_give_up_are_counted() {
    let world = World::new();
    // An answer is 48 passes, one after another: no machine makes them before its caller is gone.
    let long = ["--prompt", "8", "--tokens", "48", "--duration", "400ms", "--warm-up", "50ms"];
    let users = ["--users", "6", "--max-batch", "4", "--cancel", "1", "--cancel-after", "50us"];
    bare(&world, &[&long[..], &users].concat()).exits(0);
    let requests = load(&rows(&world)[0]).requests;
    assert!(requests.cancelled > 0 && requests.completed == 0, "{requests:?}");
    assert_eq!(requests.error_rate(), Some(0.0), "what was taken back is no error");
}

#[test]
fn a_dry_run_names_every_level_and_leaves_nothing_behind() {
    let world = World::new();
    let ran = serve(&world, &["--dry-run"]);
    for users in [1, 4, 8, 16, 32, 64, 128, 192, 256, 512] {
        assert!(ran.exits(0).stdout.contains(&format!("/closed-{users}@")), "{}", ran.stdout);
    }
    assert!(ran.stdout.contains("10 levels, about 20.5s"), "{}", ran.stdout);
    assert_eq!(world.results(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn the_old_names_of_options_work_and_no_help_shows_them() {
    let world = World::new();
    let plan = |phase: &str, options: &[&str]| {
        let more =
            ["--prompt", "8", "--tokens", "6", "--phase", phase, "--users", "2", "--dry-run"];
        bare(&world, &[&more[..], options].concat()).exits(0).stdout.clone()
    };
    for phase in ["generate", "prefill"] {
        let default = plan(phase, &[]);
        let new =
            plan(phase, &["--max-batch", "3", "--duration", "5m", "--max-queue-delay", "7ms"]);
        assert_eq!(plan(phase, &["--most", "3", "--for", "5m", "--delay", "7ms"]), new);
        assert_ne!(default, new);
    }
    let help = world.run(&["serve", "--help"]).exits(0).stdout.clone();
    assert!(help.contains("--max-queue-delay"), "{help}");
    assert!(["--most", "--for ", "--delay"].iter().all(|old| !help.contains(old)), "{help}");
}

#[test]
fn what_cannot_be_served_is_refused_with_the_reason() {
    let world = World::new();
    for (arguments, says) in [
        (["--users", "0"], "0"),
        (["--rate", "-1"], "requests a second"),
        (["--rate", "nan"], "requests a second"),
        (["--dtype", "int3"], "none of f32"),
        (["--max-batch", "0"], "0"),
        (["--duration", "0s"], "no time"),
        (["--cancel", "0.5"], "cancel-after"),
    ] {
        bare(&world, &arguments).exits(64).says(&[says]);
    }
    for (arguments, says) in [
        // More users than the queue has room for, an unknown phase.
        (["--users", "5000"], "room for every user"),
        (["--phase", "paint"], "answers no requests for \"paint\""),
    ] {
        serve(&world, &arguments).exits(70).says(&[says]);
    }
    bare(&world, &["--prompt", "60"]).exits(70).says(&["64 positions"]);
    world.run(&["serve", "none"]).exits(70).says(&["none"]);
    // In no suite of a CPU: not served by default, and served where a dtype is named.
    let large = ["serve", "llama-2-70b", "--device", "cpu", "--dry-run"];
    world.run(&large).exits(70).says(&["--dtype f16"]);
    world.run(&[&large[..], &["--dtype", "f16"]].concat()).exits(0);
    assert_eq!(world.results(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn what_is_named_twice_is_refused_before_anything_is_measured() {
    let world = World::new();
    serve(&world, &["--users", "1,2,2"]).exits(64).says(&["closed-2 stands twice"]);
    serve(&world, &["--rate", "5,5.0"]).exits(64).says(&["open-5 stands twice"]);
    serve(&world, &["--users", "1", "tiny"]).exits(64).says(&["tiny stands twice"]);
    assert!(world.results().is_empty());
}
