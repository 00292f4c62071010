//! criterion's own report, out of the way.
//!
//! criterion prints its progress to standard error and its figures to standard output, and its library
//! interface has no option to keep it from that. Our rows come from the same samples, and `--json` must
//! be nothing but JSON, so while criterion runs both go to a log file; the user can ask to see them.
//!
//! Where printing fails, criterion panics, and its samples are lost. So it prints into pipes, and a thread
//! hands on what comes out of them for as long as anybody takes it: a reader that has gone away or a full
//! disk cost the report and no measurement. criterion prints before and after its samples, never between
//! them.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// Where criterion's own report goes.
#[derive(Debug)]
pub enum CriterionOutput {
    /// To the terminal, for those who ask for it.
    Shown,
    /// To a file.
    Diverted(File),
}

/// How long is waited for the last words to be handed on. A program that criterion's benchmark started, and
/// that outlives it, may hold a pipe open for ever.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl CriterionOutput {
    /// Diverts to a new file at `path`.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        Ok(Self::Diverted(File::create(path)?))
    }

    /// Runs `f` with standard output and standard error diverted, also where `f` panics.
    ///
    /// Where they cannot be diverted they are shown: a report too many is no reason to lose a
    /// measurement.
    pub(crate) fn divert<R>(&self, f: impl FnOnce() -> R) -> R {
        let diverted = match self {
            Self::Shown => Diverted::to(None),
            Self::Diverted(file) => Diverted::to(Some(file)),
        };
        let result = f();
        drop(diverted);
        result
    }
}

/// The real standard output and error, put back when dropped.
struct Diverted {
    output: Option<(OwnedFd, Hose)>,
    error: Option<(OwnedFd, Hose)>,
}

impl Diverted {
    /// Diverts both to a file, or through pipes to where they go anyway. A stream that could not be kept
    /// is left where it is, since it could not be put back.
    fn to(file: Option<&File>) -> Self {
        let _ = io::stdout().flush();
        let output = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).ok();
        let error = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3).ok();
        let hose = |real: OwnedFd| {
            let end = file.map_or_else(|| real.as_fd(), AsFd::as_fd).try_clone_to_owned().ok()?;
            Some((real, Hose::into(end.into())?))
        };
        let output = output.and_then(hose);
        let error = error.and_then(hose);
        Self {
            output: output.filter(|(_, hose)| rustix::stdio::dup2_stdout(&hose.mouth).is_ok()),
            error: error.filter(|(_, hose)| rustix::stdio::dup2_stderr(&hose.mouth).is_ok()),
        }
    }
}

impl Drop for Diverted {
    fn drop(&mut self) {
        let _ = io::stdout().flush();
        if let Some((output, hose)) = self.output.take() {
            let _ = rustix::stdio::dup2_stdout(&output);
            hose.close();
        }
        if let Some((error, hose)) = self.error.take() {
            let _ = rustix::stdio::dup2_stderr(&error);
            hose.close();
        }
    }
}

/// A pipe that never refuses, whatever becomes of what it leads to.
struct Hose {
    mouth: PipeWriter,
    /// Closed once all is handed on.
    done: Receiver<()>,
}

impl Hose {
    fn into(end: File) -> Option<Self> {
        let (reader, mouth) = io::pipe().ok()?;
        let (doing, done) = sync_channel(0);
        let pump = move || pump(reader, end, doing);
        thread::Builder::new().name("report".to_owned()).spawn(pump).ok()?;
        Some(Self { mouth, done })
    }

    fn close(self) {
        drop(self.mouth);
        // Nothing is ever sent: the channel is closed when the thread has ended.
        let _ = self.done.recv_timeout(LAST_WORDS);
    }
}

fn pump(mut from: PipeReader, mut to: File, _doing: SyncSender<()>) {
    let mut text = [0; 4096];
    let mut taken = true;
    loop {
        match from.read(&mut text) {
            Ok(0) => return,
            Ok(read) => taken = taken && to.write_all(text.get(..read).unwrap_or_default()).is_ok(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_nobody_takes_is_read_to_its_end() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut hose = Hose::into(full).unwrap();
        // More than a pipe holds.
        hose.mouth.write_all(&vec![b'x'; 300_000]).unwrap();
        hose.close();
    }

    #[test]
    fn a_report_reaches_its_file_whole() {
        let mut file = tempfile::tempfile().unwrap();
        let mut hose = Hose::into(file.try_clone().unwrap()).unwrap();
        hose.mouth.write_all(b"a report\n").unwrap();
        hose.close();
        let mut text = String::new();
        io::Seek::rewind(&mut file).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "a report\n");
    }
}
