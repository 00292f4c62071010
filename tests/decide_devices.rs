//! The verbs that look at several devices or builds at once.

use crate::support::records::{decode, write};
use crate::support::{Ran, World};
use serde_json::Value;

const ONE: &str = "text/gpt2-124m/decode/f16/b1/c128@warpmark";
const EIGHT: &str = "text/gpt2-124m/decode/f16/b8/c128@warpmark";

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap()
}

/// A T4 of 0.5 $/h and an A10G of 1 $/h that is twice as fast with a batch of eight.
fn two_cards() -> World {
    let world = World::new();
    write(&world, "one", "t4", &[decode(ONE, 1, 0.010), decode(EIGHT, 8, 0.040)]);
    write(&world, "two", "a10g", &[decode(ONE, 1, 0.008), decode(EIGHT, 8, 0.016)]);
    world
}

#[test]
fn the_cheapest_card_within_latency_and_budget_is_recommended_with_the_reason() {
    let world = two_cards();
    let model = ["recommend", "--model", "gpt2-124m"];
    let wish = |more: &[&str]| world.run(&[&model[..], more].concat());
    let free = wish(&["--json"]);
    assert_eq!(json(free.exits(0))["recommended"], "Test a10g");
    let tight = wish(&["--latency", "9ms", "--budget", "2usd/h"]);
    assert!(tight.exits(0).stdout.contains("take Test a10g"), "{}", tight.stdout);
    assert!(tight.stdout.contains("above the 9.00 ms that are wanted"), "{}", tight.stdout);
    let poor = wish(&["--budget", "0.6usd/h", "--json"]);
    assert_eq!(json(poor.exits(0))["recommended"], "Test t4");
    let none = wish(&["--budget", "0.1usd/h"]);
    assert!(none.exits(1).stdout.contains("$1.01/h is above the budget"), "{}", none.stdout);
    let unknown = world.run(&["recommend", "--model", "gpt9"]);
    assert!(unknown.exits(1).stdout.contains("there are gpt2-124m"), "{}", unknown.stdout);
    for budget in ["2", "0usd/h", "-2usd/h", "2eur/h", "nan usd/h"] {
        wish(&[&format!("--budget={budget}")]).exits(64);
    }
}

#[test]
fn devices_are_ranked_and_what_is_missing_is_said() {
    let world = two_cards();
    let ranked = world.run(&["rank"]);
    assert!(ranked.exits(0).stdout.contains("Test a10g is first"), "{}", ranked.stdout);
    let found = json(world.run(&["rank", "--json"]).exits(0));
    // The square root of 1.25 times 2.5.
    let ratio = found["means"][1]["ratio"].as_f64().unwrap();
    assert!((ratio - 1.7678).abs() < 1e-3, "{ratio}");
    write(&world, "three", "l4", &[decode(ONE, 1, 0.009)]);
    let missing = world.run(&["rank"]);
    assert!(missing.exits(0).stdout.contains("on Test l4: no such row"), "{}", missing.stdout);
    world.run(&["rank", "results/l4"]).exits(70).says(&["at least 2"]);
}

#[test]
fn rows_of_unlike_methods_are_not_ranked() {
    let world = two_cards();
    let path = world.path("results/t4/one.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"method\":1", "\"method\":2")).unwrap();
    world.run(&["rank"]).exits(3).says(&["unlike methods (1, 2)"]);
}

#[test]
fn runs_of_several_machines_become_one_file_that_reads_alike() {
    let world = two_cards();
    let merge = ["merge", "results/t4", "results/a10g", "--output", "all.jsonl"];
    let merged = world.run(&merge);
    assert!(merged.exits(0).stdout.contains("2 runs, 4 rows"), "{}", merged.stdout);
    world.run(&merge).exits(70).says(&["all.jsonl is there already"]);
    let apart = world.run(&["rank", "--json"]).exits(0).stdout.clone();
    assert_eq!(world.run(&["rank", "all.jsonl", "--json"]).exits(0).stdout, apart);
}

#[test]
fn two_builds_run_in_turn_and_all_rounds_count() {
    let world = World::new();
    let build = env!("CARGO_BIN_EXE_warpmark");
    let models = format!("{}/tests/data/tiny.toml", env!("CARGO_MANIFEST_DIR"));
    let arguments = ["--device", "cpu", "--filter", "tiny/decode/f32/b1", "--models", &models];
    let ab = ["ab", build, build, "--rounds", "2", "--threshold", "400", "--"];
    let ran = world.run(&[&ab[..], &arguments].concat());
    // One build against itself: no machine is five times slower than itself, but a busy one may not know.
    assert!(ran.code == Some(0) || ran.code == Some(2), "{ran:#?}");
    assert!(ran.stdout.contains("tiny/decode/f32/b1"), "{}", ran.stdout);
    assert!(ran.stdout.contains("A holds several runs: all of them count"), "{}", ran.stdout);
    let order: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("round ")).collect();
    assert_eq!(order.len(), 4, "{}", ran.stderr);
    let again = world.run(&["ab", build, build]);
    again.exits(70).says(&["--output"]);
    let gone = world.run(&["ab", "no-such-build", build, "--output", "other"]);
    gone.exits(70).says(&["no-such-build cannot be started"]);
    world.run(&["ab", "no-such-build", build, "--rounds", "1"]).exits(64);
}
