//! What is committed under `results/` can still be read.

use std::path::{Path, PathBuf};
use std::process::Command;

use warpmark_record::{DeviceKind, store};

/// The committed records; outside a git checkout, as in a release, all that are there.
fn committed() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = Command::new("git").args(["ls-files", "results"]).current_dir(root).output();
    let names = listed.ok().filter(|out| out.status.success()).map(|out| out.stdout);
    let names = String::from_utf8(names.unwrap_or_default()).unwrap();
    let files = names.lines().map(|name| root.join(name));
    let files = files.filter(|file| file.extension().is_some_and(|kind| kind == "jsonl"));
    let files: Vec<PathBuf> = files.collect();
    if files.is_empty() { vec![root.join("results")] } else { files }
}

#[test]
fn every_committed_record_is_read_without_a_warning_and_none_is_simulated() {
    let recording = store::read_all(committed()).unwrap();
    assert!(recording.warnings.is_empty(), "{:?}", recording.warnings);
    assert!(!recording.rows.is_empty());
    for run in &recording.runs {
        assert_ne!(run.device.kind, DeviceKind::Simulated, "{}", run.run);
    }
}

#[test]
fn the_page_over_the_results_is_what_the_command_writes() {
    let recording = store::read_all(committed()).unwrap();
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("results/README.md"));
    let written = warpmark_report::render_index(&recording);
    let command = warpmark_report::index::COMMAND;
    assert!(page.unwrap() == written, "results/README.md is stale; run `{command}`");
}
