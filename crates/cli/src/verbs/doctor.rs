//! `warpmark doctor`: what is missing on this machine, and how to fix it.

use std::path::{Path, PathBuf};

use warpmark_device::{Finding, FindingState};
use warpmark_record::{Bytes, DeviceSpec};

use crate::arguments::Doctor;
use crate::output::{say, show, show_json};
use crate::{exit, libraries, sources};

/// Room for the synthetic weights of the quick suites on a CPU and on a GPU, and for records.
const ROOM: Bytes = Bytes(8e9);

/// Looks at everything that a run may need. A GPU that is not there is no fault of the machine, so the
/// exit code tells only whether something that is there is broken.
pub fn run(options: &Doctor) -> anyhow::Result<u8> {
    if options.environment {
        show(&libraries::shell_command(libraries::search_path()?.as_ref()))?;
        return Ok(exit::OK);
    }
    let mut findings = warpmark_device::findings();
    findings.extend(candle());
    findings.push(hub_cache());
    findings.push(weights_cache());
    findings.push(disk(&options.results));
    if options.json {
        show_json(&findings)?;
    } else {
        for finding in &findings {
            say(&line(finding))?;
        }
    }
    let broken = findings.iter().any(|finding| finding.state == FindingState::Broken);
    Ok(if broken { exit::FAILED } else { exit::OK })
}

fn line(finding: &Finding) -> String {
    let state = match finding.state {
        FindingState::Ok => "ok",
        FindingState::Missing => "missing",
        FindingState::Broken => "BROKEN",
    };
    let fix = finding.fix.as_ref().map(|fix| format!("{:9}to fix: {fix}\n", ""));
    format!("{state:<9}{}: {}\n{}", finding.what, finding.detail, fix.unwrap_or_default())
}

fn finding(what: &str, state: FindingState, detail: String, fix: Option<String>) -> Finding {
    Finding { what: what.to_owned(), state, detail, fix }
}

/// Whether this build can run models on the cards that are there.
fn candle() -> Vec<Finding> {
    let what = |index| format!("models on cuda:{index}");
    let kernels = match warpmark_models::engine::compiled_kernels() {
        Some(Ok(kernels)) => format!("candle's kernels are compiled for {kernels}"),
        Some(Err(error)) => error,
        None => "this build has no candle kernels for a GPU".to_owned(),
    };
    let cards = warpmark_device::list().unwrap_or_default();
    if cards.is_empty() {
        let fix = "`eval \"$(scripts/cuda-toolkit 13.0)\"` where nvcc is missing, then \
                    `CUDA_COMPUTE_CAP=NN cargo build --release --features cuda` (T4 75, A100 80, H100 90)";
        let built = cfg!(feature = "cuda");
        let state = if built { FindingState::Ok } else { FindingState::Missing };
        return vec![finding("models on a GPU", state, kernels, (!built).then(|| fix.to_owned()))];
    }
    let look = |card: &DeviceSpec| match warpmark_models::engine::refusal(card) {
        None => finding(&what(card.index), FindingState::Ok, kernels.clone(), None),
        Some(reason) => {
            // The reason ends in what to do.
            let (detail, fix) =
                reason.split_once("; ").unwrap_or((&reason, "measure the micro suite"));
            finding(
                &what(card.index),
                FindingState::Missing,
                detail.to_owned(),
                Some(fix.to_owned()),
            )
        }
    };
    cards.iter().map(look).collect()
}

/// The hub's own cache, shared with Python's `huggingface_hub`.
fn hub_cache() -> Finding {
    match warpmark_models::weights::hub::cache_folder() {
        Some(folder) => writable("hub cache", &folder, "HF_HOME"),
        None => finding(
            "hub cache",
            FindingState::Missing,
            "neither HF_HOME nor HOME is set".to_owned(),
            Some("export HF_HOME=/a/folder/with/room".to_owned()),
        ),
    }
}

fn weights_cache() -> Finding {
    match sources::cache() {
        Ok(cache) => writable("weights cache", cache.root(), "WARPMARK_CACHE"),
        Err(error) => finding(
            "weights cache",
            FindingState::Missing,
            exit::words(&error),
            Some("export WARPMARK_CACHE=/a/folder/with/room".to_owned()),
        ),
    }
}

/// Whether a folder, or the nearest one above it that exists, can be written to.
fn writable(what: &str, folder: &Path, variable: &str) -> Finding {
    let existing = nearest(folder);
    match rustix::fs::access(&existing, rustix::fs::Access::WRITE_OK) {
        Ok(()) if existing.is_dir() => {
            finding(what, FindingState::Ok, folder.display().to_string(), None)
        }
        result => {
            let why = result.err().map_or("not a folder".to_owned(), |error| error.to_string());
            finding(
                what,
                FindingState::Broken,
                format!("{} cannot be written: {why}", existing.display()),
                Some(format!("export {variable}=/a/folder/you/may/write")),
            )
        }
    }
}

/// Room for weights and results.
fn disk(results: &Path) -> Finding {
    let folder =
        sources::cache().map_or_else(|_| results.to_path_buf(), |c| c.root().to_path_buf());
    let folder = nearest(&folder);
    match rustix::fs::statvfs(&folder) {
        Ok(disk) => {
            let free = Bytes(disk.f_bavail as f64 * disk.f_frsize as f64);
            let detail = format!("{} free at {}", free.binary(), folder.display());
            if free >= ROOM {
                finding("disk", FindingState::Ok, detail, None)
            } else {
                let fix = format!(
                    "free {}, or export WARPMARK_CACHE=/a/folder/with/room",
                    (ROOM - free).binary()
                );
                finding("disk", FindingState::Missing, detail, Some(fix))
            }
        }
        Err(error) => finding(
            "disk",
            FindingState::Broken,
            format!("{} cannot be examined: {error}", folder.display()),
            Some("export WARPMARK_CACHE=/a/folder/with/room".to_owned()),
        ),
    }
}

fn nearest(folder: &Path) -> PathBuf {
    let mut folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    while !folder.exists() && folder.pop() {}
    folder
}
