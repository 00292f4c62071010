//! Ctrl-C, at any moment.
//!
//! Every finished row is on disk before the next benchmark begins, so an interrupted run has nothing
//! to save: it says what is kept and ends.

use std::ffi::c_int;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, mpsc};
use std::thread;

use libc::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::exit;
use crate::output::{plain, tell_on};
use crate::progress::own_stderr;

/// The results file of the run in progress and how many rows it has.
static KEPT: Mutex<Option<(PathBuf, usize)>> = Mutex::new(None);

/// What ends a process: a person, a system that shuts down, a terminal that goes, a limit on processor time
/// (`ulimit -t`), and what batch systems warn of the end of a job with.
const HEEDED: [c_int; 6] = [SIGINT, SIGTERM, SIGHUP, SIGXCPU, SIGUSR1, SIGUSR2];

/// Makes Ctrl-C, SIGTERM and the like end the process with code 130 and a word on what is kept. One that
/// whoever started the process has it ignore (`nohup`, `trap '' INT`) stays ignored.
///
/// A limit on the size of files (`ulimit -f`) is met as a full disk is, by an error that says so.
pub fn install() {
    // SAFETY: to ignore a signal runs no code of ours.
    unsafe { libc::signal(SIGXFSZ, libc::SIG_IGN) };
    let heeded = HEEDED.into_iter().filter(|signal| !is_ignored(*signal));
    let heeded: Vec<c_int> = heeded.collect();
    let terminal = own_stderr();
    let (ready, listening) = mpsc::sync_channel(1);
    // Registered by the thread that waits for them: where there is no thread left, or no pipe, they end the
    // process as they always do.
    let wait = move || {
        let signals = Signals::new(heeded);
        // Whoever started this thread waits.
        let _ = ready.send(());
        let Ok(mut signals) = signals else { return };
        if signals.forever().next().is_some() {
            end(terminal.as_ref().ok());
        }
    };
    if thread::Builder::new().name("signals".to_owned()).spawn(wait).is_ok() {
        // It fails only where the thread has ended, and nothing is left to wait for.
        let _ = listening.recv();
    }
}

fn end(terminal: Option<&File>) {
    // A row that is being appended holds the lock: it is finished before the end.
    let kept = KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let words = match kept.as_ref() {
        Some((path, 1)) => format!("1 finished row is in {}", path.display()),
        Some((path, 0)) => {
            let _ = std::fs::remove_file(path);
            "No row was finished.".to_owned()
        }
        Some((path, rows)) => format!("{rows} finished rows are in {}", path.display()),
        None => "No row was finished.".to_owned(),
    };
    if let Some(terminal) = terminal {
        tell_on(terminal, &format!("\n{}\n", plain(&format!("Interrupted. {words}"))));
    }
    std::process::exit(i32::from(exit::INTERRUPTED));
}

/// Whether the process was started with a signal ignored.
fn is_ignored(signal: c_int) -> bool {
    // SAFETY: a `sigaction` of zeros is a valid one, and is only written to here.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action the call changes nothing, and `action` is there to be written to.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Notes a results file that was made and has no row yet, which an interrupt does not leave behind.
pub fn made(path: &std::path::Path) {
    let mut kept = KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    kept.get_or_insert_with(|| (path.to_path_buf(), 0));
}

/// Runs an append that an interrupt waits for, and notes that `path` has one row more.
pub fn appending<T, E>(
    path: &std::path::Path,
    append: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let mut kept = KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let result = append()?;
    let rows = kept.as_ref().map_or(0, |(_, rows)| *rows);
    *kept = Some((path.to_path_buf(), rows + 1));
    Ok(result)
}
