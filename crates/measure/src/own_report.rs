//! criterion's own report, out of the way.
//!
//! criterion prints its progress to standard error and its figures to standard output, and its library
//! interface has no option to keep it from that. Our rows come from the same samples, and `--json` must
//! be nothing but JSON, so while criterion runs both go to a log file; the user can ask to see them.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Where criterion's own report goes.
#[derive(Debug)]
pub enum OwnReport {
    /// To the terminal, for those who ask for it.
    Shown,
    /// To a file.
    Diverted(File),
}

impl OwnReport {
    /// Diverts to a new file at `path`.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        Ok(Self::Diverted(File::create(path)?))
    }

    /// Runs `f` with standard output and standard error diverted, also where `f` panics.
    ///
    /// Where they cannot be diverted they are shown: a report too many is no reason to lose a
    /// measurement.
    pub(crate) fn divert<R>(&self, f: impl FnOnce() -> R) -> R {
        let Self::Diverted(file) = self else { return f() };
        let diverted = Diverted::to(file);
        let result = f();
        drop(diverted);
        result
    }
}

/// The real standard output and error, put back when dropped.
struct Diverted {
    output: Option<OwnedFd>,
    error: Option<OwnedFd>,
}

impl Diverted {
    fn to(file: &File) -> Self {
        let _ = io::stdout().flush();
        let output = rustix::io::dup(rustix::stdio::stdout()).ok();
        let error = rustix::io::dup(rustix::stdio::stderr()).ok();
        // A stream that could not be kept is left where it is, since it could not be put back.
        Self {
            output: output.filter(|_| rustix::stdio::dup2_stdout(file).is_ok()),
            error: error.filter(|_| rustix::stdio::dup2_stderr(file).is_ok()),
        }
    }
}

impl Drop for Diverted {
    fn drop(&mut self) {
        let _ = io::stdout().flush();
        if let Some(output) = &self.output {
            let _ = rustix::stdio::dup2_stdout(output);
        }
        if let Some(error) = &self.error {
            let _ = rustix::stdio::dup2_stderr(error);
        }
    }
}
