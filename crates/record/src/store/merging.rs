//! Many results files as one: line by line, so that thousands of runs take little memory.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::reader::{Reading, files_of};
use super::{StoreError, Warning};
use crate::run::Run;

/// What became of a merge.
#[derive(Debug)]
pub struct Merged {
    /// The runs, in the order of their files.
    pub runs: Vec<Run>,
    /// How many rows were passed on.
    pub rows: usize,
    /// What was left out or looks wrong and is no damage: rows that stand twice, clocks, lines that a kill has
    /// torn, runs that were kept apart.
    pub warnings: Vec<Warning>,
    /// The files that could not be read to the end, or not in every line.
    pub damaged: Vec<Damaged>,
}

/// A file with lines that cannot be read, or that cannot be read at all.
#[derive(Debug)]
pub struct Damaged {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it, the first fault.
    pub error: Option<StoreError>,
    /// Lines that were left out, as far as it could be read.
    pub bad: usize,
    /// Lines that were good, and were passed on or stood elsewhere already.
    pub good: usize,
}

impl Damaged {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), error: None, bad: 0, good: 0 }
    }

    /// Counts a line that cannot be read.
    pub(super) fn note(&mut self, error: StoreError) {
        self.bad += 1;
        self.error.get_or_insert(error);
    }

    /// With what ended its reading.
    pub(super) fn with(mut self, error: StoreError) -> Self {
        self.error.get_or_insert(error);
        self
    }

    pub(super) fn has_faults(&self) -> bool {
        self.error.is_some()
    }
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => write!(f, "{error}")?,
            None => write!(f, "{} is damaged", self.file.display())?,
        }
        match (self.good, self.bad) {
            (0, _) => f.write_str("; the file was passed over"),
            (good, 0) => write!(f, "; {good} lines before it were taken"),
            (good, bad) => write!(f, "; {good} lines of the file were taken, {bad} left out"),
        }
    }
}

/// Hands the lines of files and folders to `take`, each without its line end: runs and rows, every row once,
/// as they stand in their files. Two runs of one name that are not the same run are kept apart: the later one
/// gets a name of its own.
///
/// What is damaged is passed over and told of. Nothing but the runs' lines is held.
///
/// # Errors
/// A folder cannot be listed or holds no results; `take` refuses a line.
pub fn merge<P: AsRef<Path>>(
    paths: impl IntoIterator<Item = P>,
    take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<Merged, StoreError> {
    let (files, passed_over) = files_of(paths)?;
    let mut reading = Reading::passing_on(take);
    reading.recording.warnings.extend(passed_over);
    let mut damaged = Vec::new();
    for file in files {
        damaged.extend(reading.file_with_faults(&file)?);
    }
    let rows = reading.rows;
    let found = reading.finish();
    Ok(Merged { runs: found.runs, rows, warnings: found.warnings, damaged })
}
