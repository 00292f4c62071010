//! `warpmark ab`: two builds in turn, so that what drifts meets both alike.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use warpmark_analyze::compare::{Options, compare};
use warpmark_record::store;
use warpmark_report::render_comparison;

use crate::arguments::Ab;
use crate::exit;
use crate::output::{left_out, remark, show};
use crate::terminal::style;

/// Runs two builds A, B, A, B, ... and compares all runs of the one with all of the other.
pub fn run(options: &Ab) -> anyhow::Result<u8> {
    let threshold = options.threshold;
    if !(threshold.is_finite() && threshold >= 0.0) {
        bail!("--threshold {threshold} is no percentage; write 1 for 1 %");
    }
    let folder = &options.output;
    if folder.exists() {
        bail!("{} is there already: name a new folder with --output", folder.display());
    }
    let sides = [(&options.old, folder.join("a")), (&options.new, folder.join("b"))];
    for round in 1..=options.rounds {
        for (build, into) in &sides {
            one(build, into, round, options)?;
        }
    }
    let [a, b] = [&sides[0].1, &sides[1].1].map(|folder| store::read(folder));
    let (a, b) = (a?, b?);
    left_out(&a);
    left_out(&b);
    let settings = Options { threshold: threshold / 100.0, all_runs: true, ..Options::default() };
    let comparison = compare(&a, &b, &settings);
    show(&render_comparison(&comparison, options.form.form(), style())?)?;
    Ok(comparison.overall().exit_code())
}

fn one(build: &Path, into: &PathBuf, round: u32, options: &Ab) -> anyhow::Result<()> {
    remark(&format!("warpmark: round {round} of {}: {}", options.rounds, build.display()));
    let status = Command::new(build)
        .arg("run")
        .args(&options.arguments)
        .arg("--results")
        .arg(into)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("{} cannot be started", build.display()))?;
    match status.code() {
        // A failed benchmark is a row, and the comparison says what follows from it.
        Some(code) if code == i32::from(exit::OK) || code == i32::from(exit::FAILED) => {
            if !into.is_dir() {
                bail!("{} recorded nothing in round {round}: is it a warpmark?", build.display());
            }
            Ok(())
        }
        _ => bail!(
            "{} ended with {status} in round {round}; what was measured so far is in {}",
            build.display(),
            options.output.display()
        ),
    }
}
