//! Quantised weights from the command line to the record.

#![allow(clippy::unwrap_used, reason = "what the tests call may panic as they may")]

use crate::support::models::llama;
use crate::support::{Ran, World};
use warpmark_record::{Outcome, Record};

/// A Llama with so wide a hidden layer.
fn small(hidden: &str) -> String {
    let changes = [
        ("phases", r#"["load", "prefill", "decode"]"#),
        ("batches", "[1, 2]"),
        ("cpu", r#"["f32", "q8_0", "q4_k_m"]"#),
    ];
    llama("small", &[&changes[..], &[("hidden", hidden)]].concat())
}

fn run(world: &World, filter: &str, more: &[&str]) -> Ran {
    let models = world.write("models.toml", &small("128"));
    let models = models.to_str().unwrap();
    let always = ["run", "--device", "cpu", "--filter", filter, "--models", models];
    world.run(&[&always[..], more].concat())
}

fn rows(world: &World) -> Vec<Record> {
    let newest = world.results().pop().unwrap();
    warpmark_record::store::read(&newest).unwrap().rows
}

fn of<'a>(rows: &'a [Record], id: &str) -> &'a Record {
    rows.iter().find(|row| row.id.to_string() == id).unwrap_or_else(|| panic!("no {id}"))
}

#[test]
fn each_format_is_loaded_answers_right_and_is_recorded_with_the_bytes_that_it_takes() {
    let world = World::new();
    run(&world, "decode/f32/b1,q8_0/b1,q4_k_m/b1,load/small/q4_k_m", &[]).exits(0);
    let rows = rows(&world);
    let weights = |format: &str| {
        let row = of(&rows, &format!("text/small/decode/{format}/b1/c16@warpmark"));
        assert_eq!(row.outcome, Outcome::Measured, "{format}");
        let check = row.check.as_ref().unwrap();
        assert!(check.worst_error <= check.tolerance, "{format}");
        row.memory.as_ref().unwrap().weights.known().unwrap().0
    };
    let (plain, eight, four) = (weights("f32"), weights("q8_0"), weights("q4_k_m"));
    // 8.5 bits for 32; rows of 64 have blocks of 5.5 and of 8.5 bits where larger ones would have fewer.
    assert!((0.26..0.28).contains(&(eight / plain)), "{eight} of {plain}");
    assert!((0.17..0.25).contains(&(four / plain)), "{four} of {plain}");
    for state in ["cold", "warm"] {
        let row = of(&rows, &format!("load/small/q4_k_m/{state}@warpmark"));
        // A file system in memory cannot be made cold.
        assert!(row.check.as_ref().is_none_or(|check| check.worst_error == 0.0), "{state}");
    }
}

#[test]
fn rows_of_an_odd_number_of_blocks_are_measured_too() {
    let world = World::new();
    // Down projections have rows of three blocks of 32, which Q4_K_M stores as Q5_0 and Q8_0.
    let models = world.write("odd.toml", &small("96"));
    let ran = world.run(&[
        "verify",
        "--device",
        "cpu",
        "--filter",
        "prefill/q8_0/b1,prefill/q4_k_m/b1",
        "--models",
        models.to_str().unwrap(),
    ]);
    assert!(ran.exits(0).stdout.contains("2 right, 0 wrong"), "{}", ran.stdout);
}

#[test]
fn a_folder_without_a_format_fails_its_rows_alone() {
    let world = World::new();
    run(&world, "prefill/q8_0/b1", &[]).exits(0);
    let cache = world.path("cache");
    let folder = world.path("weights");
    std::fs::create_dir(&folder).unwrap();
    let written = std::fs::read_dir(cache).unwrap().flatten().map(|entry| entry.path());
    for path in written.filter(|path| path.extension().is_some_and(|end| end == "gguf")) {
        std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let weights = folder.to_str().unwrap();
    run(&world, "b1/p16", &["--weights", weights]).exits(1);
    let rows = rows(&world);
    let outcome = |format: &str| {
        let row = of(&rows, &format!("text/small/prefill/{format}/b1/p16@warpmark"));
        serde_json::to_string(&row.outcome).unwrap()
    };
    assert_eq!(outcome("q8_0"), "\"measured\"");
    let failed = outcome("q4_k_m");
    assert!(failed.contains("file type is 7"), "{failed}");
    assert!(outcome("f32").contains("safetensors"), "{}", outcome("f32"));
}

#[test]
fn a_quantised_file_is_fetched_by_its_format() {
    let world = World::new();
    let models = world.write("models.toml", &small("128"));
    let fetch = |format: &str| {
        let source = ["--weights", "synthetic", "--models", models.to_str().unwrap()];
        world.run(&[&["fetch", "small", "--quantised", format][..], &source].concat())
    };
    let ran = fetch("q4_k_m");
    assert!(ran.exits(0).stdout.contains("small-q4_k_m-seed7.gguf"), "{}", ran.stdout);
    fetch("q5_k").exits(64).says(&["q5_k", "neither q8_0 nor q4_k_m"]);
    let hub = ["fetch", "gpt2-124m", "--quantised", "q8_0"];
    world.run(&hub).exits(70).says(&["gpt2", "f32, f16 and bf16"]);
    let unpinned = ["fetch", "llama-2-70b", "--quantised", "q4_k_m", "--offline"];
    world.run(&unpinned).exits(70).says(&["TheBloke/Llama-2-70B-GGUF", "no revision"]);
    let pinned = ["fetch", "tinyllama-1.1b", "--quantised", "q8_0", "--offline"];
    world.run(&pinned).exits(70).says(&["TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF", "cache"]);
}
