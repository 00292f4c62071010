//! `warpmark merge`: runs of several machines in one file.

use std::fs::OpenOptions;
use std::io::{BufWriter, ErrorKind, Write};

use anyhow::{Context, bail};
use warpmark_record::{DeviceKind, store};

use crate::arguments::Merge;
use crate::exit;
use crate::output::{show, warn};

/// Writes all runs of some files into a new one.
pub fn run(options: &Merge) -> anyhow::Result<u8> {
    let recording = store::read_all(&options.paths)?;
    warn(&recording);
    let simulated = |kind| kind == DeviceKind::Simulated;
    if let Some(run) = recording.runs.iter().find(|run| simulated(run.device.kind)) {
        bail!("run {} is of a simulated device, which is kept apart from real ones", run.run);
    }
    let path = &options.output;
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let file = file.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            anyhow::anyhow!(
                "{} is there already: remove it, or choose another name",
                path.display()
            )
        }
        _ => anyhow::Error::new(error).context(format!("{} cannot be made", path.display())),
    })?;
    let mut to = BufWriter::new(file);
    store::write_lines(&recording, &mut to)
        .and_then(|()| to.flush())
        .with_context(|| format!("{} cannot be written", path.display()))?;
    let (runs, rows) = (recording.runs.len(), recording.rows.len());
    show(&format!("{}: {runs} runs, {rows} rows\n", path.display()));
    Ok(exit::OK)
}
