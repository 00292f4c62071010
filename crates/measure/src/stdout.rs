//! criterion's own report, out of the way.
//!
//! criterion prints to the process's standard output and has no option in its library interface to
//! keep it from that. Our rows come from the same samples, and `--json` must be nothing but JSON, so
//! while criterion runs its output goes to a log file; the user can ask to see it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Where criterion's report goes.
#[derive(Debug)]
pub enum Stdout {
    /// To the terminal, for those who ask for it.
    Shown,
    /// To a file.
    Diverted(File),
}

impl Stdout {
    /// Diverts to a new file at `path`.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        Ok(Self::Diverted(File::create(path)?))
    }

    /// Runs `f` with standard output diverted.
    ///
    /// Where the output cannot be diverted it is shown: a report too many is no reason to lose a
    /// measurement.
    pub(crate) fn divert<R>(&self, f: impl FnOnce() -> R) -> R {
        let Self::Diverted(file) = self else {
            return f();
        };
        let saved = Saved::replace_with(file);
        let result = f();
        drop(saved);
        result
    }
}

/// The real standard output, put back when dropped, also by a panic that passes through.
struct Saved(Option<OwnedFd>);

impl Saved {
    fn replace_with(file: &File) -> Self {
        let _ = io::stdout().flush();
        let saved = rustix::io::dup(rustix::stdio::stdout()).ok();
        let replaced = saved.is_some() && rustix::stdio::dup2_stdout(file).is_ok();
        Self(saved.filter(|_| replaced))
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        let _ = io::stdout().flush();
        if let Some(real) = &self.0 {
            let _ = rustix::stdio::dup2_stdout(real);
        }
    }
}
