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
use super::merging::Damaged;
use super::{Line, Probe, Recording, StoreError, Warning, validate, validate_run};
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
    let (files, passed_over) = files_of(paths)?;
    let mut reading = Reading::new(Timestamp::now(), most);
    reading.recording.warnings.extend(passed_over);
    for file in files {
        reading.file(&file)?;
    }
    Ok(reading.finish())
}

/// The files that some paths name, each once, and what is warned of because it is none.
pub(super) fn files_of<P: AsRef<Path>>(
    paths: impl IntoIterator<Item = P>,
) -> Result<(Vec<PathBuf>, Vec<Warning>), StoreError> {
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
    let passed_over = passed_over.into_iter().map(|file| {
        let text =
            "this is no file (a pipe, a socket, a link to nothing) and was left out".to_owned();
        Warning { file, line: 0, text }
    });
    let mut seen = HashSet::new();
    // A pipe that a shell hands over has no place in the file system; what is not there is found at its
    // opening.
    let identity = |file: &PathBuf| fs::canonicalize(file).unwrap_or_else(|_| file.clone());
    files.retain(|file| seen.insert(identity(file)));
    Ok((files, passed_over.collect()))
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
pub(super) struct Reading<'a> {
    now: Timestamp,
    pub(super) recording: Recording,
    /// The place of each run's line in `recording.runs`.
    runs: HashMap<RunId, usize>,
    /// Names that runs of this file were given, because others bore theirs.
    renamed: HashMap<RunId, RunId>,
    /// Where lines go that are good, as they are to be written; without it rows are kept.
    pass_on: Option<PassOn<'a>>,
    /// Where lines are noted that cannot be read; without it the first one ends the reading.
    damaged: Option<Damaged>,
    /// Rows that were kept or passed on.
    pub(super) rows: usize,
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

/// What takes lines that are good.
pub(super) type PassOn<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// A line and where it stands.
struct SourceLine<'a> {
    file: &'a Path,
    line: u64,
    text: &'a [u8],
    /// Whether a line's end follows it.
    finished: bool,
}

impl<'a> Reading<'a> {
    /// Reads to pass the lines on that are good, and goes on after those that are not.
    pub(super) fn passing_on(pass_on: PassOn<'a>) -> Self {
        Self { pass_on: Some(pass_on), ..Self::new(Timestamp::now(), u64::MAX) }
    }

    /// Reads a file as far as it can be read, and says what could not.
    ///
    /// # Errors
    /// A line could not be passed on.
    pub(super) fn file_with_faults(&mut self, file: &Path) -> Result<Option<Damaged>, StoreError> {
        self.damaged = Some(Damaged::new(file));
        let read = self.file(file);
        let damaged = self.damaged.take();
        match read {
            Err(error @ StoreError::Merged(_)) => Err(error),
            Err(error) => Ok(damaged.map(|damaged| damaged.with(error))),
            Ok(()) => Ok(damaged.filter(Damaged::has_faults)),
        }
    }

    fn new(now: Timestamp, most: u64) -> Self {
        Self {
            now,
            recording: Recording::default(),
            runs: HashMap::new(),
            renamed: HashMap::new(),
            pass_on: None,
            damaged: None,
            rows: 0,
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
        self.renamed.clear();
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
            if source.text.is_empty() {
                continue;
            }
            match (self.line(&source), &mut self.damaged) {
                (Err(error @ StoreError::Merged(_)), _) | (Err(error), None) => return Err(error),
                (Err(error), Some(damaged)) => damaged.note(error),
                (Ok(()), Some(damaged)) => damaged.good += 1,
                (Ok(()), None) => {}
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
        let mut run: Run = source.parse()?;
        validate_run(&run).map_err(|reason| source.bad(1, format!("run {}: {reason}", run.run)))?;
        let name = run.run.clone();
        self.renamed.remove(&name);
        if self.runs.contains_key(&name) {
            let Some(first) = self.name_of_another(&mut run) else {
                let text = format!("run {:?} has a line already; this one was left out", run.run.0);
                self.warn(source, text);
                return Ok(());
            };
            let text = format!(
                "run {:?} of {} bears the name of one of {first}: it is kept apart as {:?}",
                name.0,
                place(&run),
                run.run.0
            );
            self.warn(source, text);
        }
        self.clock(source, &run.run, &run.started_at);
        self.pass_on(source, &Line::Run(&run), run.run != name)?;
        self.runs.insert(run.run.clone(), self.recording.runs.len());
        self.recording.runs.push(run);
        Ok(())
    }

    /// Gives a run whose name is taken by another a name of its own, as which its rows of this file go on, and
    /// says where the other was measured; `None` where it is the same run, read from another file.
    fn name_of_another(&mut self, run: &mut Run) -> Option<String> {
        let name = run.run.clone();
        let first = place(&self.recording.runs[*self.runs.get(&name)?]);
        for count in 2.. {
            let known = self.runs.get(&run.run).map(|at| &self.recording.runs[*at]);
            let is_same = known.is_some_and(|known| known == run);
            if is_same || known.is_none() {
                if run.run != name {
                    self.renamed.insert(name, run.run.clone());
                }
                return (!is_same).then_some(first);
            }
            run.run = RunId(format!("{}.{count}", name.0));
        }
        None
    }

    /// Hands a good line on, as it stands in its file unless it was changed.
    fn pass_on(
        &mut self,
        source: &SourceLine<'_>,
        line: &Line<'_>,
        changed: bool,
    ) -> Result<(), StoreError> {
        let Some(take) = &mut self.pass_on else { return Ok(()) };
        if changed {
            let path = || source.file.to_owned();
            let text = serde_json::to_vec(line)
                .map_err(|error| StoreError::Encode { path: path(), source: error })?;
            take(&text).map_err(StoreError::Merged)
        } else {
            take(source.without_zeros()).map_err(StoreError::Merged)
        }
    }

    fn row(&mut self, source: &SourceLine<'_>) -> Result<(), StoreError> {
        let mut row: Record = source.parse()?;
        validate(&row).map_err(|reason| source.bad(1, format!("row {}: {reason}", row.id)))?;
        let renamed = self.renamed.get(&row.run).cloned();
        let changed = renamed.is_some();
        row.run = renamed.unwrap_or(row.run);
        self.clock(source, &row.run, &row.started_at);
        if !self.runs.contains_key(&row.run) && !self.orphans.contains_key(&row.run) {
            let text = format!(
                "run {:?} has no line of its own: the device and host of its rows are unknown",
                row.run.0
            );
            self.orphans.insert(row.run.clone(), source.warning(text));
        }
        if !self.ids.entry(row.run.clone()).or_default().insert(row.id.clone()) {
            let text = format!(
                "run {:?} has a row for {} already; this one was left out",
                row.run.0, row.id
            );
            self.warn(source, text);
            return Ok(());
        }
        self.rows += 1;
        if self.pass_on.is_some() {
            return self.pass_on(source, &Line::Row(&row), changed);
        }
        self.kept += source.text.len() as u64;
        if self.kept > self.most {
            let most = Bytes(self.most as f64).binary();
            let text = format!(
                "the rows up to this one are more than {most} together, which is too much to hold: name fewer records"
            );
            return Err(source.bad(1, text));
        }
        self.recording.rows.push(row);
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

    pub(super) fn finish(mut self) -> Recording {
        // A run's line may stand below its rows, when the first one was torn and the run joined again.
        let runs = self.runs;
        let missing = self.orphans.into_iter().filter(|(run, _)| !runs.contains_key(run));
        let mut orphans: Vec<Warning> = missing.map(|(_, warning)| warning).collect();
        orphans.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        self.recording.warnings.extend(orphans);
        self.recording
    }
}

/// Where a run was measured, for a message.
fn place(run: &Run) -> String {
    match &run.host.name {
        Some(host) => format!("{} on {host:?}", run.device.name),
        None => format!("{} ({})", run.device.name, run.started_at),
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
