//! Appending to a results file.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use super::{Aftermath, Line, StoreError, reader, validate};
use crate::id::BenchmarkId;
use crate::machine::DeviceKind;
use crate::row::Record;
use crate::run::{Run, RunId};

/// The one writer of a run's file, for as long as it lives.
///
/// An advisory lock keeps other writers out. Several processes may write one run after the other, as
/// the bench targets of `cargo bench` do: who finds the file there joins it. A file that was made and got no
/// row does not stay.
#[derive(Debug)]
pub struct Writer {
    run: RunId,
    ids: HashSet<BenchmarkId>,
    /// Whether this writer made the file.
    made: bool,
    /// The run's line that stood in the file.
    joined: Option<Box<Run>>,
    appender: Appender<File>,
}

impl Writer {
    /// Opens `folder/<device slug>/<run>.jsonl`, creating folders and file, and writes the run's line
    /// unless the file has it.
    ///
    /// Refused for a simulated device ([`StoreError::Simulated`]), when another process is writing the
    /// file ([`StoreError::Busy`]), and when the file cannot be read to its end.
    pub fn open(folder: &Path, run: &Run) -> Result<Self, StoreError> {
        if run.device.kind == DeviceKind::Simulated {
            return Err(StoreError::Simulated { device: run.device.name.clone() });
        }
        Self::open_any(folder, run)
    }

    /// The same for a simulated device alone, in a folder that is not named `results` and does not lie
    /// below one.
    pub fn open_simulated(folder: &Path, run: &Run) -> Result<Self, StoreError> {
        let refused = |reason| StoreError::NotForSimulated { folder: folder.to_owned(), reason };
        if run.device.kind != DeviceKind::Simulated {
            return Err(refused("the device is a real one; open the store with `Writer::open`"));
        }
        create_folder(folder)?;
        // Resolved, so that neither `..` nor a link leads there.
        let resolved = fs::canonicalize(folder).map_err(io_error("resolve", folder))?;
        if resolved.components().any(|part| part == Component::Normal("results".as_ref())) {
            return Err(refused("measured results live below a folder of the name `results`"));
        }
        Self::open_any(folder, run)
    }

    /// Appends a row and syncs it to disk. On an error the row is not in the file, all others are, and
    /// the writer can be used further.
    pub fn append(&mut self, row: &Record) -> Result<(), StoreError> {
        let id = &row.id;
        if row.run != self.run {
            return Err(StoreError::OtherRun {
                path: self.appender.path.clone(),
                id: id.clone(),
                found: row.run.clone(),
                expected: self.run.clone(),
            });
        }
        validate(row).map_err(|reason| StoreError::Unwritable { id: id.clone(), reason })?;
        if self.ids.contains(id) {
            let path = self.appender.path.clone();
            return Err(StoreError::Duplicate { path, id: id.clone() });
        }
        self.appender.append(&Line::Row(row))?;
        self.ids.insert(id.clone());
        Ok(())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.appender.path
    }

    /// Whether the file was made by this writer and has no row yet.
    pub fn is_new(&self) -> bool {
        self.made && self.ids.is_empty()
    }

    /// The line of the run that the file had already: another process began it.
    pub fn joined(&self) -> Option<&Run> {
        self.joined.as_deref()
    }

    /// Whether the benchmark has a row.
    pub fn has(&self, id: &BenchmarkId) -> bool {
        self.ids.contains(id)
    }

    fn open_any(folder: &Path, run: &Run) -> Result<Self, StoreError> {
        plain_name("device slug", &run.device.slug)?;
        plain_name("run id", &run.run.0)?;
        let folder = folder.join(&run.device.slug);
        create_folder(&folder)?;
        let path = folder.join(format!("{}.jsonl", run.run));
        let (file, made) = open_locked(&path)?;
        // Only now: before the lock, another process might have been in the middle of a line.
        let found = reader::read(&path)?;
        let length = file.metadata().map_err(io_error("examine", &path))?.len();
        let unfinished = !reader::ends_a_line(&file).map_err(io_error("read", &path))?;
        let joined = found.runs.into_iter().find(|known| known.run == run.run).map(Box::new);
        let mut writer = Self {
            run: run.run.clone(),
            joined,
            ids: found.rows.into_iter().map(|row| row.id).collect(),
            made,
            appender: Appender { path, sink: file, length, unfinished },
        };
        if writer.joined.is_none() {
            writer.appender.append(&Line::Run(run))?;
            // A file that survives a crash needs its folder's entry on disk as well.
            let synced = File::open(&folder).and_then(|folder| folder.sync_all());
            synced.map_err(io_error("sync", &folder))?;
        }
        Ok(writer)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.is_new() {
            // It is still locked, so that nobody has joined it.
            let _ = fs::remove_file(&self.appender.path);
        }
    }
}

/// Opens and locks a file, and says whether it is a new one.
fn open_locked(path: &Path) -> Result<(File, bool), StoreError> {
    loop {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        let file = file.map_err(io_error("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Busy(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(io_error("lock", path)(error)),
        }
        // Who held the lock until now may have taken the file away; then there is another one, or none.
        if is_still(&file, path).map_err(io_error("examine", path))? {
            let made = file.metadata().map_err(io_error("examine", path))?.len() == 0;
            return Ok((file, made));
        }
    }
}

/// Whether an open file is the one that its path leads to.
#[cfg(unix)]
fn is_still(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let open = file.metadata()?;
    match fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn is_still(_file: &File, _path: &Path) -> io::Result<bool> {
    Ok(true)
}

fn create_folder(folder: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(folder).map_err(io_error("create folder", folder))
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { action, path: path.to_owned(), source }
}

/// Run ids and slugs become file names; one with a slash in it would write outside the folder.
fn plain_name(what: &'static str, name: &str) -> Result<(), StoreError> {
    let plain = !name.is_empty()
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if plain { Ok(()) } else { Err(StoreError::BadName { what, name: name.to_owned() }) }
}

/// What lines are appended to: a file, or in tests a disk that is full.
pub(super) trait Sink {
    /// One write call; may take less than it is given.
    fn write_once(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Waits until the bytes are on the disk.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts off everything beyond `length` bytes.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

impl Sink for File {
    fn write_once(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// Appends whole lines or nothing.
#[derive(Debug)]
pub(super) struct Appender<S> {
    pub(super) path: PathBuf,
    pub(super) sink: S,
    /// Bytes in the file.
    pub(super) length: u64,
    /// Whether the file ends inside a line, which the next line must not be glued to.
    pub(super) unfinished: bool,
}

impl<S: Sink> Appender<S> {
    pub(super) fn append(&mut self, line: &Line<'_>) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        if self.unfinished {
            bytes.push(b'\n');
        }
        serde_json::to_writer(&mut bytes, line)
            .map_err(|source| StoreError::Encode { path: self.path.clone(), source })?;
        bytes.push(b'\n');
        match self.write(&bytes) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                self.unfinished = false;
                Ok(())
            }
            Err(source) => {
                let after = self.cut_back();
                let path = self.path.clone();
                Err(StoreError::Append { path, bytes: bytes.len(), source, after })
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = loop {
            match self.sink.write_once(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        if written < bytes.len() {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("the disk took {written} bytes of it"),
            ));
        }
        self.sink.sync()
    }

    fn cut_back(&mut self) -> Aftermath {
        if self.sink.truncate(self.length).is_ok() {
            return Aftermath::CutBack;
        }
        self.unfinished = true;
        Aftermath::Torn
    }
}
