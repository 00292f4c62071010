//! The command end to end, in one test program: each more would link the whole suite once more.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod bad_input;
#[cfg(target_os = "linux")]
mod card_scripts;
#[cfg(target_os = "linux")]
mod cases;
#[cfg(target_os = "linux")]
mod check;
mod decide;
mod decide_devices;
mod fleet;
#[cfg(feature = "hub")]
mod hub;
#[cfg(unix)]
mod limits;
mod own_model;
mod quantised;
mod recorded;
mod run;
mod serve;
#[cfg(target_os = "linux")]
mod simulated_cards;
#[cfg(target_os = "linux")]
mod simulated_drivers;
#[cfg(target_os = "linux")]
mod simulated_faults;
#[cfg(target_os = "linux")]
mod simulated_fused;
#[cfg(target_os = "linux")]
mod simulated_gpu;
#[cfg(target_os = "linux")]
mod simulated_matmul;
#[cfg(target_os = "linux")]
mod simulated_memory;
#[cfg(target_os = "linux")]
mod simulated_specs;
#[cfg(target_os = "linux")]
mod simulated_vram;
mod support;
#[cfg(unix)]
mod terminal;
mod verbs;
mod words;

/// Without `autotests` a file that nobody names would be left out in silence.
#[test]
fn every_file_beside_this_one_is_a_module_here_or_a_target_of_its_own() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let (own, manifest) = (include_str!("main.rs"), include_str!("../Cargo.toml"));
    for entry in std::fs::read_dir(root.join("tests")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") || path.ends_with("main.rs") {
            continue;
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let run = own.contains(&format!("mod {name};"))
            || manifest.contains(&format!("path = \"tests/{name}.rs\""));
        assert!(run, "tests/{name}.rs is run by nobody: name it in tests/main.rs");
    }
}
