//! The verbs that measure nothing.

use std::path::Path;

use crate::support::World;

#[test]
fn specs_say_what_the_processor_is() {
    let world = World::new();
    let ran = world.run(&["specs", "--device", "cpu"]);
    ran.exits(0);
    assert!(ran.stdout.contains("cpu"), "{}", ran.stdout);
    let json = world.run(&["specs", "--device", "cpu", "--json"]);
    let specs: serde_json::Value = serde_json::from_str(&json.exits(0).stdout).unwrap();
    assert_eq!(specs["device"]["kind"], "cpu");
    assert!(specs["device"]["memory"].as_f64().unwrap() > 0.0);
    assert!(specs["host"]["cores"].as_u64().unwrap() > 0);
}

#[test]
fn models_lists_every_entry() {
    let world = World::new();
    let ran = world.run(&["models", "--device", "cpu"]);
    ran.exits(0);
    let line = |id: &str| {
        let found = ran.stdout.lines().find(|line| line.split_whitespace().next() == Some(id));
        found.unwrap_or_else(|| panic!("{id} is missing:\n{}", ran.stdout))
    };
    for id in ["gpt2-124m", "gpt2-1.5b", "llama-3-8b", "sdxl-1.0", "whisper-large-v3-turbo"] {
        assert!(line(id).contains("synthetic hub folder"), "{}", ran.stdout);
    }
    // Nobody may fetch what is not pinned: this one was never published.
    assert!(line("sd-small").contains("synthetic folder"), "{}", ran.stdout);
    let fits = ran.stdout.lines().next().unwrap().find("fits").unwrap();
    // 260 GiB in f32: more than any host that runs these tests.
    assert_eq!(line("llama-2-70b")[fits..].split_whitespace().next(), Some("no"));
    assert_eq!(line("gpt2-124m")[fits..].split_whitespace().next(), Some("yes"));
    let json = world.run(&["models", "--device", "cpu", "--json"]);
    let models: serde_json::Value = serde_json::from_str(&json.exits(0).stdout).unwrap();
    let listed = models.as_array().unwrap();
    let small = listed.iter().find(|model| model["id"] == "llama-3-8b").unwrap();
    let quantised = &small["quantised"][1];
    assert_eq!(quantised["format"], "q4_k_m");
    // 4.9 GB is what its published files are large.
    let bytes = quantised["weights_bytes"].as_f64().unwrap();
    assert!((bytes / 4.92e9 - 1.0).abs() < 0.01, "{bytes}");
    assert_eq!(models[0]["id"], "gpt2-124m");
    // The published count of the smallest GPT-2.
    assert_eq!(models[0]["parameters"], 124_439_808);
    assert_eq!(models[0]["weights_sources"], serde_json::json!(["synthetic", "hub"]));
}

#[test]
fn doctor_names_what_is_missing_with_the_way_to_mend_it() {
    let world = World::new();
    let ran = world.run(&["doctor", "--json"]);
    ran.exits(0);
    let findings: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let findings = findings.as_array().unwrap();
    let what: Vec<&str> = findings.iter().map(|f| f["what"].as_str().unwrap()).collect();
    for name in ["driver", "NVRTC", "cuBLASLt", "NVML", "hub cache", "disk"] {
        assert!(
            what.iter().any(|what| what.to_lowercase().contains(&name.to_lowercase())),
            "{name} is missing in {what:?}"
        );
    }
    for finding in findings.iter().filter(|finding| finding["state"] != "ok") {
        assert!(finding["mend"].is_string(), "{finding}");
    }
}

#[test]
fn fetch_writes_synthetic_weights_once() {
    let world = World::new();
    let models = format!("{}/tests/data/tiny.toml", env!("CARGO_MANIFEST_DIR"));
    let arguments = ["fetch", "tiny", "--weights", "synthetic", "--models", &models];
    let first = world.run(&arguments);
    let path = first.exits(0).stdout.lines().nth(1).unwrap().trim().to_owned();
    let written = std::fs::metadata(&path).unwrap().modified().unwrap();
    assert!(Path::new(&path).starts_with(world.path("cache")), "{path}");
    assert_eq!(world.run(&arguments).exits(0).stdout, first.stdout);
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), written);
}

#[test]
fn completions_are_printed_for_every_shell() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(world.run(&["completions", shell]).exits(0).stdout.contains("warpmark"));
    }
}
