//! The results store: one file a run, one JSON object a line, `DIR/<device slug>/<run>.jsonl`.
//!
//! The first line is the run (`{"kind":"run",...}`), every further one a row (`{"kind":"row",...}`). A
//! line is on disk in full or not at all as far as anyone can tell: it is written in one call, synced,
//! and cut off again when the disk refuses the rest of it. What a crash can leave is one line without
//! its end; readers warn of it and keep all others.
//!
//! Hostile text in names is data here. Whoever prints it escapes it.

mod listing;
mod merging;
mod reader;
mod validate;
mod writer;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::id::BenchmarkId;
use crate::row::Record;
use crate::run::{Run, RunId};

pub use listing::newest;
pub use merging::{Damaged, Merged, merge};
pub use reader::{read, read_all, recent};
pub use validate::{Invalid, validate, validate_run};
pub use writer::Writer;

/// What was read from one or more results files.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recording {
    /// The runs, in the order of their files.
    pub runs: Vec<Run>,
    /// The rows, in the order in which they were written.
    pub rows: Vec<Record>,
    /// What was left out or looks wrong.
    pub warnings: Vec<Warning>,
}

impl Recording {
    /// The run that a row belongs to; `None` when its line was lost.
    pub fn run_of(&self, row: &Record) -> Option<&Run> {
        self.runs.iter().find(|run| run.run == row.run)
    }

    /// The runs by their names, for whoever asks of many rows.
    pub fn runs_by_id(&self) -> HashMap<&RunId, &Run> {
        self.runs.iter().map(|run| (&run.run, run)).collect()
    }
}

/// Something that did not stop a reader, and that its user must hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 where the file as a whole is meant.
    pub line: u64,
    /// What is wrong with it and what became of it.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.text),
            line => write!(f, "{}:{line}: {}", self.file.display(), self.text),
        }
    }
}

/// Why a results file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Simulated figures must not be mistaken for measured ones.
    #[error(
        "{device:?} is a simulated device: its figures prove nothing about hardware and are not kept among results; open the store with `Writer::open_simulated` in a folder made for them"
    )]
    Simulated {
        /// The device's name.
        device: String,
    },
    /// The store for simulated devices was asked for a real one, or for the real results' folder.
    #[error(
        "simulated results cannot go to {folder}: {reason}",
        folder = .folder.display()
    )]
    NotForSimulated {
        /// The folder that was asked for.
        folder: PathBuf,
        /// What speaks against it.
        reason: &'static str,
    },
    /// A run id or device slug that is no plain file name.
    #[error(
        "{what} {name:?} is no plain file name: use letters, digits, `.`, `_` and `-`, not starting with `.`"
    )]
    BadName {
        /// Which name: `run id` or `device slug`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Another process is writing to the file.
    #[error(
        "{path} is being written by another process: wait for it to end, or give this run another id",
        path = .0.display()
    )]
    Busy(PathBuf),
    /// The benchmark has a row in this run already.
    #[error("{path} already holds a row for {id}: an id is unique within a run", path = .path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The benchmark.
        id: BenchmarkId,
    },
    /// The row names another run than the one whose file this is.
    #[error("the row for {id} belongs to run {found}, and {path} to run {expected}", path = .path.display())]
    OtherRun {
        /// The file.
        path: PathBuf,
        /// The benchmark.
        id: BenchmarkId,
        /// The run of the row.
        found: RunId,
        /// The run of the file.
        expected: RunId,
    },
    /// The row contradicts itself, so it was not written.
    #[error("the row for {id} was not recorded: {reason}")]
    Unwritable {
        /// The benchmark.
        id: BenchmarkId,
        /// What is wrong with it.
        reason: Invalid,
    },
    /// A line could not be turned into JSON.
    #[error("cannot write a line of {path} as JSON: {source}", path = .path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: serde_json::Error,
    },
    /// The disk did not take a line.
    #[error("{path}: a line of {bytes} bytes could not be written: {source}; {after}", path = .path.display())]
    Append {
        /// The file.
        path: PathBuf,
        /// The length of the line.
        bytes: usize,
        /// The system's reason.
        source: io::Error,
        /// The state the file was left in, and the next step.
        after: Aftermath,
    },
    /// A file or folder could not be opened, listed or read.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// There is no results file in a folder.
    #[error(
        "{path} holds no results (no .jsonl file): measure with `warpmark run` first, or name another folder",
        path = .0.display()
    )]
    NoFiles(PathBuf),
    /// There are results files in a folder, and none of them has a row.
    #[error(
        "{path} holds runs without a row alone: measure with `warpmark run`, or name another folder",
        path = .0.display()
    )]
    NoRows(PathBuf),
    /// What takes merged lines refuses one.
    #[error("a merged line could not be written: {0}")]
    Merged(io::Error),
    /// The line is in a layout that this version does not know.
    #[error(
        "{path}:{line}: the line has schema {found}, this warpmark reads schema {known}: update warpmark, or use the version that wrote it",
        path = .path.display()
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The number in the line.
        found: u64,
        /// The number that is known.
        known: u32,
    },
    /// The line is not what a results file is made of.
    #[error(
        "{path}:{line}:{column}: {reason}; fix or delete the line, or restore the file",
        path = .path.display()
    )]
    BadLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The column, from 1; 1 where the line as a whole is meant.
        column: usize,
        /// What is wrong.
        reason: String,
    },
}

/// What a failed write left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// The file is as it was before.
    CutBack,
    /// The unfinished line could not be removed; readers will warn of it.
    Torn,
}

impl fmt::Display for Aftermath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CutBack => "every earlier line is kept; make room on the disk and run again",
            Self::Torn => {
                "the unfinished line could not be removed and readers will warn of it; every earlier line is kept; make room on the disk and run again"
            }
        })
    }
}

/// A line as it is written. Read in two steps instead of as this enum, because serde loses the column
/// of an error inside a tagged enum.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Run(&'a Run),
    Row(&'a Record),
}

/// What every line has, read first: it also tells whether the line is JSON from end to end.
#[derive(Deserialize)]
struct Probe {
    kind: Option<String>,
    schema: Option<u64>,
}

#[cfg(test)]
#[path = "store/many_tests.rs"]
mod many_tests;
#[cfg(test)]
#[path = "store/store_tests.rs"]
mod tests;
