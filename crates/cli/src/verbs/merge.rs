//! `warpmark merge`: runs of several machines in one file.

use std::fs::File;
use std::io::{BufWriter, Write};

use anyhow::{Context, bail};
use warpmark_record::store::{self, Merged, StoreError};
use warpmark_record::{DeviceKind, Run};

use crate::arguments::Merge;
use crate::output::{say, warn};
use crate::{exit, files};

/// Writes all runs of some files into a new one, line by line.
pub fn run(options: &Merge) -> anyhow::Result<u8> {
    let path = &options.output;
    let mut merged = None;
    files::create(path, |draft| {
        let mut to = BufWriter::new(File::create(draft)?);
        let found = store::merge(&options.paths, &mut |line| {
            to.write_all(line)?;
            to.write_all(b"\n")
        });
        let unwritable = || format!("{} cannot be written", path.display());
        let found = match found {
            Err(StoreError::Merged(error)) => return Err(error).with_context(unwritable),
            found => found?,
        };
        to.flush().with_context(unwritable)?;
        check(&found)?;
        merged = Some(found);
        Ok(())
    })?;
    let Some(merged) = merged else { bail!("nothing was merged") };
    for warning in &merged.warnings {
        warn(&warning.to_string());
    }
    for damaged in &merged.damaged {
        warn(&damaged.to_string());
    }
    let (runs, rows) = (merged.runs.len(), merged.rows);
    say(&format!("{}: {runs} runs, {rows} rows\n", path.display()))?;
    Ok(if merged.damaged.is_empty() { exit::OK } else { exit::FAILED })
}

/// Refuses what must not be in one file: nothing at all, and simulated devices among real ones.
fn check(merged: &Merged) -> anyhow::Result<()> {
    let simulated = |run: &&Run| run.device.kind == DeviceKind::Simulated;
    let found = merged.runs.iter().find(simulated);
    if let Some(run) = found.filter(|_| !merged.runs.iter().all(|run| simulated(&run))) {
        bail!("run {} is of a simulated device, which is kept apart from real ones", run.run);
    }
    if merged.runs.is_empty() && merged.rows == 0 {
        let faults: Vec<String> = merged.damaged.iter().map(ToString::to_string).collect();
        bail!("there is nothing to merge: {}", faults.join("; "));
    }
    Ok(())
}
