//! A folder of the user's own, measured without an entry.

#![allow(clippy::unwrap_used, reason = "what the tests call may panic as they may")]

use std::path::PathBuf;

use crate::support::World;

/// A tiny checkpoint as transformers saved it.
fn folder(kind: &str) -> String {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folder = fixtures.join("crates/models/tests/fixtures/decoders").join(kind).join("weights");
    folder.display().to_string()
}

#[test]
fn a_folder_is_planned_by_its_configuration_and_nothing_else_with_it() {
    let world = World::new();
    for (kind, dtype) in [("gpt2", "f32"), ("opt", "f32"), ("qwen3_moe", "f32")] {
        let ran = world.run(&["run", "--dry-run", "--device", "cpu", "--model", &folder(kind)]);
        ran.exits(0);
        for row in [
            format!("load/weights/{dtype}/cold@warpmark"),
            format!("text/weights/decode/{dtype}/b1/c32@warpmark"),
            format!("text/weights/generate/{dtype}/b1/p32+32@warpmark"),
        ] {
            assert!(ran.stdout.contains(&row), "{kind}: {}", ran.stdout);
        }
        assert!(!ran.stdout.contains("micro/"), "{kind}: {}", ran.stdout);
    }
}

#[test]
fn the_answers_of_a_folder_are_checked_on_its_own_weights() {
    let world = World::new();
    for kind in ["gemma3_text", "mixtral"] {
        let filter = "load,prefill,decode/f32/b2";
        let model = folder(kind);
        let options = ["verify", "--device", "cpu", "--filter", filter, "--model", &model];
        world.run(&options).exits(0);
    }
}

#[test]
fn a_folder_that_is_no_model_is_refused_before_anything_runs() {
    let world = World::new();
    let adapter = world.write("adapter_config.json", "{}");
    let folder = adapter.parent().unwrap().to_str().unwrap().to_owned();
    let ran = world.run(&["run", "--device", "cpu", "--model", &folder]);
    ran.exits(70);
    assert!(ran.stderr.contains("LoRA adapter"), "{}", ran.stderr);
}
