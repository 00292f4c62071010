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

/// The run in progress.
struct Kept {
    /// Its results file.
    path: PathBuf,
    /// Whether this process made the file.
    made: bool,
    /// The rows that this process has kept.
    rows: usize,
    /// Benchmarks that had no row when it began.
    lacking: usize,
    /// The command that goes on with a run.
    go_on: &'static str,
}

/// The runs of this process; several where there are several cards.
static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

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

/// Leaves interrupts to the process that started this one, and that ends it. Batch systems signal every
/// process of a job at once: a worker that ended first would look like a failure.
pub fn leave_to_parent() {
    for signal in HEEDED.into_iter().filter(|signal| *signal != SIGXCPU) {
        // SAFETY: to ignore a signal runs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

fn end(terminal: Option<&File>) {
    // A row that is being appended holds the lock: it is finished before the end.
    let kept = KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let words: Vec<String> = kept.iter().map(Kept::end).collect();
    let words = if words.is_empty() { "No row was finished.".to_owned() } else { words.join("\n") };
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

impl Kept {
    /// What is left of a run, whose file goes where it has no row.
    fn end(&self) -> String {
        if self.rows == 0 && self.made {
            let _ = std::fs::remove_file(&self.path);
            return "No row was finished.".to_owned();
        }
        self.words()
    }

    fn words(&self) -> String {
        let path = self.path.display();
        let finished = match self.rows {
            0 => format!("No further row was finished, and those before are in {path}"),
            1 => format!("1 finished row is in {path}"),
            rows => format!("{rows} finished rows are in {path}"),
        };
        let left = match self.lacking.saturating_sub(self.rows) {
            0 => return finished,
            1 => "1 benchmark is left".to_owned(),
            left => format!("{left} benchmarks are left"),
        };
        format!("{finished}; {left}: `{} --resume {path}` goes on", self.go_on)
    }
}

/// Notes the results file of a run that begins: whether it was made for it and has no row yet, which an
/// interrupt does not leave behind; how many benchmarks it lacks; and the command that goes on with it.
pub fn begins(path: &std::path::Path, made: bool, lacking: usize, go_on: &'static str) {
    let mut kept = KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = path.to_path_buf();
    kept.push(Kept { path, made, rows: 0, lacking, go_on });
}

/// Runs an append that an interrupt waits for, and notes that the run has one row more.
pub fn appending<T, E>(
    path: &std::path::Path,
    append: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let mut kept = KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let result = append()?;
    if let Some(kept) = kept.iter_mut().rfind(|kept| kept.path == path) {
        kept.rows += 1;
    }
    Ok(result)
}
