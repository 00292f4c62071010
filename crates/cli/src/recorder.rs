//! The results of a run on their way to the disk: each row is there before the next benchmark begins.

use std::path::{Path, PathBuf};

use anyhow::Context;
use warpmark_record::store::Writer;
use warpmark_record::{DeviceKind, Outcome, Record, Run};

use crate::{interrupt, resume};

/// What became of a campaign.
pub struct Results {
    /// The file that the rows are in.
    pub path: PathBuf,
    /// The stamp of the run.
    pub run: Run,
    /// The rows of this process, in order.
    pub rows: Vec<Record>,
}

impl Results {
    /// How many benchmarks failed.
    pub fn failures(&self) -> usize {
        self.rows.iter().filter(|row| matches!(row.outcome, Outcome::Failed { .. })).count()
    }
}

/// The one place that appends rows to a run's file.
pub(crate) struct Recorder {
    writer: Writer,
    run: Run,
    rows: Vec<Record>,
}

impl Recorder {
    /// Opens the run's file in a results folder.
    ///
    /// # Errors
    /// The file is of a run on another device, or by another build. Those of the store, which refuses figures of a simulated device below a folder named `results`; and
    /// a program whose CUDA kernels are simulated records those alone.
    pub(crate) fn open(results: &Path, run: Run) -> anyhow::Result<Self> {
        let open = match run.device.kind {
            DeviceKind::Simulated => Writer::open_simulated,
            _ if warpmark_models::engine::simulated_kernels() => anyhow::bail!(
                "this program is built with the simulated nvcc, for tests alone, and records nothing of a \
                 real device; build it with a toolkit, or without `--features cuda`"
            ),
            DeviceKind::Cpu | DeviceKind::Cuda => Writer::open,
        };
        let writer = open(results, &run)?;
        if let Some(earlier) = writer.joined() {
            resume::same(earlier, &run)?;
        }
        let planned = &run.planned;
        let lacking = planned.iter().filter(|id| !writer.has(id)).count();
        let go_on = match run.command.first().map(String::as_str) {
            Some("warpmark") => "warpmark run",
            _ => "cargo bench --",
        };
        interrupt::begins(writer.path(), writer.is_new(), lacking, go_on);
        Ok(Self { writer, run, rows: Vec::new() })
    }

    /// Keeps a row; it is on the disk when this returns it.
    ///
    /// # Errors
    /// The disk's refusal, which ends a run.
    pub(crate) fn keep(&mut self, row: Record) -> anyhow::Result<&Record> {
        let path = self.writer.path().to_path_buf();
        interrupt::appending(&path, || self.writer.append(&row))
            .with_context(|| format!("{} could not be recorded", row.id))?;
        Ok(self.rows.push_mut(row))
    }

    /// Everything that was kept.
    pub(crate) fn finish(self) -> Results {
        Results { path: self.writer.path().to_path_buf(), run: self.run, rows: self.rows }
    }
}
