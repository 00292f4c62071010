//! Reading results files line by line.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::listing::{self, io_error};
use super::{Probe, Recording, StoreError, Warning, validate, validate_run};
use crate::SCHEMA;
use crate::id::BenchmarkId;
use crate::row::Record;
use crate::run::{Run, RunId};
use crate::source;
use crate::units::Bytes;

/// A line longer than this is no record (the largest are some 100 kB); it bounds the memory that a
/// file without line ends can take.
const LONGEST_LINE: u64 = 64 << 20;

/// The text of all rows that are kept is no longer than this: some 200,000 rows, for which `report` takes a
/// gigabyte or two of memory. Whoever has more can name fewer files.
const MOST_KEPT: u64 = 256 << 20;

/// So many lines of a file are warned of one by one; the others are counted.
const MOST_WARNINGS: usize = 100;

/// Reads a results file, or all `.jsonl` files below a folder in the order of their names.
pub fn read(path: &Path) -> Result<Recording, StoreError> {
    read_all([path])
}

/// Reads several files and folders into one recording; a file that is named twice is read once.
///
/// Warnings name what was left out: a line that a crash left without its end, a row that stands twice. They
/// tell of clocks that cannot be right, too, since runs are put in order by them.
/// Everything else that is wrong is an error with its file and line, and so is a folder without
/// results, and so are more rows than can be held: 256 MiB of them.
pub fn read_all<P: AsRef<Path>>(
    paths: impl IntoIterator<Item = P>,
) -> Result<Recording, StoreError> {
    read_at_most(paths, MOST_KEPT)
}

/// As [`read_all`], with a limit of its own for the text of all rows that are kept, in bytes.
pub(super) fn read_at_most<P: AsRef<Path>>(
    paths: impl IntoIterator<Item = P>,
    most: u64,
) -> Result<Recording, StoreError> {
    let mut files = Vec::new();
    let mut passed_over = Vec::new();
    for path in paths {
        let path = path.as_ref();
        let before = files.len();
        if path.is_dir() {
            let listing = listing::files(path)?;
            files.extend(listing.files);
            passed_over.extend(listing.passed_over);
            if files.len() == before {
                return Err(StoreError::NoFiles(path.to_owned()));
            }
        } else {
            files.push(path.to_owned());
        }
    }
    let mut reading = Reading::new(Timestamp::now(), most);
    reading.recording.warnings.extend(passed_over.into_iter().map(|file| {
        let text =
            "this is no file (a pipe, a socket, a link to nothing) and was left out".to_owned();
        Warning { file, line: 0, text }
    }));
    let mut seen = HashSet::new();
    for file in files {
        // A pipe that a shell hands over has no place in the file system; what is not there is found at
        // its opening.
        let identity = fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
        if seen.insert(identity) {
            reading.file(&file)?;
        }
    }
    Ok(reading.finish())
}

/// The newest `most` runs below some folders, for what they teach of a machine. What cannot be read teaches
/// nothing and is no error, and of each file no more than 16 MiB of rows are held.
pub fn recent<'a>(folders: impl IntoIterator<Item = &'a Path>, most: usize) -> Recording {
    const OF_A_FILE: u64 = 16 << 20;
    let mut found: Vec<PathBuf> = folders
        .into_iter()
        .filter_map(|folder| Some(listing::files(folder).ok()?.files))
        .flatten()
        .collect();
    found.sort();
    found.dedup();
    // Those whose names are the latest, before any is opened: run ids sort by time.
    found.sort_by_key(|file| Reverse(file.file_name().map(ToOwned::to_owned)));
    found.truncate(most * 4);
    let mut all = Recording::default();
    for file in listing::by_time(found).into_iter().rev().take(most) {
        if let Ok(recording) = read_at_most([&file], OF_A_FILE)
            && !recording.runs.iter().any(|run| all.runs.iter().any(|known| known.run == run.run))
        {
            all.runs.extend(recording.runs);
            all.rows.extend(recording.rows);
        }
    }
    all
}

/// Whether a file is empty or ends with a line's end. Leaves the position anywhere.
pub(super) fn ends_a_line(mut file: &File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// What has been read so far.
struct Reading {
    now: Timestamp,
    recording: Recording,
    runs: HashSet<RunId>,
    ids: HashMap<RunId, HashSet<BenchmarkId>>,
    /// Where the first row of a run stands whose line has not come.
    orphans: HashMap<RunId, Warning>,
    /// The runs whose clock was warned of.
    odd_clocks: HashSet<RunId>,
    /// The lines of this file that were warned of.
    warned: usize,
    /// Bytes of the rows that are kept, and how many there may be.
    kept: u64,
    most: u64,
}

/// A line and where it stands.
struct SourceLine<'a> {
    file: &'a Path,
    line: u64,
    text: &'a [u8],
    /// Whether a line's end follows it.
    finished: bool,
}

impl Reading {
    fn new(now: Timestamp, most: u64) -> Self {
        Self {
            now,
            recording: Recording::default(),
            runs: HashSet::new(),
            ids: HashMap::new(),
            orphans: HashMap::new(),
            odd_clocks: HashSet::new(),
            warned: 0,
            kept: 0,
            most,
        }
    }

    fn file(&mut self, file: &Path) -> Result<(), StoreError> {
        /// What some editors put in front of a text.
        const UTF8_MARK: &[u8] = "\u{feff}".as_bytes();
        let failed = |error| io_error("read", file, error);
        let mut reader = BufReader::new(source::open(file).map_err(|e| io_error("open", file, e))?);
        let mut text = Vec::new();
        self.warned = 0;
        for line in 1.. {
            text.clear();
            let read = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut text);
            let read = read.map_err(failed)? as u64;
            if read == 0 {
                self.count_warnings(file, line - 1);
                break;
            }
            if line == 1 && text.starts_with(UTF8_MARK) {
                text.drain(..UTF8_MARK.len());
            }
            let finished = text.ends_with(b"\n");
            let source = SourceLine { file, line, text: text.trim_ascii_end(), finished };
            if read == LONGEST_LINE && !finished {
                return Err(source.bad(1, "the line is longer than 64 MiB, which no record is"));
            }
            if !source.text.is_empty() {
                self.line(&source)?;
            }
        }
        Ok(())
    }

    fn line(&mut self, source: &SourceLine<'_>) -> Result<(), StoreError> {
        let probe: Probe = match serde_json::from_slice(source.without_zeros()) {
            Ok(probe) => probe,
            Err(error) if source.is_torn(&error) => {
                self.warn(
                    source,
                    "the line is torn (its end is missing) and was left out: the run was stopped \
                     while writing it",
                );
                return Ok(());
            }
            Err(error) => return Err(source.bad_json(&error)),
        };
        match probe.schema {
            Some(found) if found == u64::from(SCHEMA) => {}
            Some(found) => {
                let (path, line) = (source.file.to_owned(), source.line);
                return Err(StoreError::Schema { path, line, found, known: SCHEMA });
            }
            None => return Err(source.bad(1, "the line has no `schema` number")),
        }
        match probe.kind.as_deref() {
            Some("run") => self.run(source),
            Some("row") => self.row(source),
            Some(other) => Err(source.bad(1, format!("{other:?} is no kind of line (run, row)"))),
            None => Err(source.bad(1, "the line has no `kind` (run, row)")),
        }
    }

    fn run(&mut self, source: &SourceLine<'_>) -> Result<(), StoreError> {
        let run: Run = source.parse()?;
        validate_run(&run).map_err(|reason| source.bad(1, format!("run {}: {reason}", run.run)))?;
        self.clock(source, &run.run, &run.started_at);
        if self.runs.insert(run.run.clone()) {
            self.recording.runs.push(run);
        } else {
            let text = format!("run {:?} has a line already; this one was left out", run.run.0);
            self.warn(source, text);
        }
        Ok(())
    }

    fn row(&mut self, source: &SourceLine<'_>) -> Result<(), StoreError> {
        let row: Record = source.parse()?;
        validate(&row).map_err(|reason| source.bad(1, format!("row {}: {reason}", row.id)))?;
        self.clock(source, &row.run, &row.started_at);
        if !self.runs.contains(&row.run) && !self.orphans.contains_key(&row.run) {
            let text = format!(
                "run {:?} has no line of its own: the device and host of its rows are unknown",
                row.run.0
            );
            self.orphans.insert(row.run.clone(), source.warning(text));
        }
        if self.ids.entry(row.run.clone()).or_default().insert(row.id.clone()) {
            self.kept += source.text.len() as u64;
            if self.kept > self.most {
                let most = Bytes(self.most as f64).binary();
                let text = format!(
                    "the rows up to this one are more than {most} together, which is too much to hold: name fewer records"
                );
                return Err(source.bad(1, text));
            }
            self.recording.rows.push(row);
        } else {
            let text = format!(
                "run {:?} has a row for {} already; this one was left out",
                row.run.0, row.id
            );
            self.warn(source, text);
        }
        Ok(())
    }

    /// Warns of a run's clock, once: of a time that is none, or has not come yet.
    fn clock(&mut self, source: &SourceLine<'_>, run: &RunId, started_at: &str) {
        let Some(problem) = listing::odd_clock(started_at, self.now) else { return };
        if self.odd_clocks.insert(run.clone()) {
            let text = format!(
                "run {:?} says {started_at:?}, {problem}: its clock was wrong, and its place among other \
                 runs is, too",
                run.0
            );
            self.warn(source, text);
        }
    }

    fn warn(&mut self, source: &SourceLine<'_>, text: impl Into<String>) {
        self.warned += 1;
        if self.warned <= MOST_WARNINGS {
            self.recording.warnings.push(source.warning(text));
        }
    }

    /// Says how many lines of a file were not warned of one by one.
    fn count_warnings(&mut self, file: &Path, line: u64) {
        let more = self.warned.saturating_sub(MOST_WARNINGS);
        if more > 0 {
            let text = format!("{more} more lines up to this one have such faults");
            self.recording.warnings.push(Warning { file: file.to_owned(), line, text });
        }
    }

    fn finish(mut self) -> Recording {
        // A run's line may stand below its rows, when the first one was torn and the run joined again.
        let runs = self.runs;
        let missing = self.orphans.into_iter().filter(|(run, _)| !runs.contains(run));
        let mut orphans: Vec<Warning> = missing.map(|(_, warning)| warning).collect();
        orphans.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        self.recording.warnings.extend(orphans);
        self.recording
    }
}

impl SourceLine<'_> {
    fn parse<T: DeserializeOwned>(&self) -> Result<T, StoreError> {
        serde_json::from_slice(self.without_zeros()).map_err(|error| self.bad_json(&error))
    }

    /// The line without zeros at its end, which a power failure leaves where text was to come.
    fn without_zeros(&self) -> &[u8] {
        let zeros = self.text.iter().rev().take_while(|byte| **byte == 0).count();
        &self.text[..self.text.len() - zeros]
    }

    /// Whether the line is the beginning of a record whose rest never reached the disk. Cut-off JSON
    /// ends too early wherever it is cut; the last line may besides have holes.
    fn is_torn(&self, error: &serde_json::Error) -> bool {
        let last = !self.finished && self.text.starts_with(b"{");
        error.classify() == Category::Eof || (last && error.classify() == Category::Syntax)
    }

    fn bad_json(&self, error: &serde_json::Error) -> StoreError {
        let text = error.to_string();
        // serde_json counts lines within what it was given, which is always the first.
        let reason = text.rsplit_once(" at line 1 column ").map_or(text.as_str(), |(head, _)| head);
        self.bad(error.column().max(1), reason)
    }

    /// Control characters that the line smuggled into the reason are escaped: errors end on terminals.
    fn bad(&self, column: usize, reason: impl AsRef<str>) -> StoreError {
        let (path, line) = (self.file.to_owned(), self.line);
        let reason = reason.as_ref().chars().fold(String::new(), |mut escaped, c| {
            if c.is_control() {
                escaped.extend(c.escape_default());
            } else {
                escaped.push(c);
            }
            escaped
        });
        StoreError::BadLine { path, line, column, reason }
    }

    fn warning(&self, text: impl Into<String>) -> Warning {
        Warning { file: self.file.to_owned(), line: self.line, text: text.into() }
    }
}
