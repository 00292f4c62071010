//! `warpmark merge`: runs of several machines in one file.

use std::fs::File;
use std::io::{BufWriter, Write};

use anyhow::{Context, bail};
use warpmark_record::{DeviceKind, store};

use crate::arguments::Merge;
use crate::output::{left_out, say};
use crate::{exit, files};

/// Writes all runs of some files into a new one.
pub fn run(options: &Merge) -> anyhow::Result<u8> {
    let recording = store::read_all(&options.paths)?;
    left_out(&recording);
    let simulated = |kind| kind == DeviceKind::Simulated;
    if let Some(run) = recording.runs.iter().find(|run| simulated(run.device.kind)) {
        bail!("run {} is of a simulated device, which is kept apart from real ones", run.run);
    }
    let path = &options.output;
    files::create(path, |draft| {
        let mut to = BufWriter::new(File::create(draft)?);
        store::write_lines(&recording, &mut to)
            .and_then(|()| to.flush())
            .with_context(|| format!("{} cannot be written", path.display()))
    })?;
    let (runs, rows) = (recording.runs.len(), recording.rows.len());
    say(&format!("{}: {runs} runs, {rows} rows\n", path.display()))?;
    Ok(exit::OK)
}
