//! Ctrl-C, at any moment.
//!
//! Every finished row is on disk before the next benchmark begins, so an interrupted run has nothing
//! to save: it says what is kept and ends.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Mutex;

use crate::exit;
use crate::progress::own_stderr;

/// The results file of the run in progress and how many rows it has.
static KEPT: Mutex<Option<(PathBuf, usize)>> = Mutex::new(None);

/// Makes Ctrl-C, SIGTERM and SIGHUP end the process with code 130 and a word on what is kept.
pub fn install() {
    let mut terminal: Box<dyn Write + Send> = match own_stderr() {
        Ok(own) => Box::new(own),
        Err(_) => Box::new(io::stderr()),
    };
    let handler = move || {
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
        // Whoever listened may be gone; the code of the end says it too.
        let _ = terminal.write_all(format!("\nInterrupted. {words}\n").as_bytes());
        std::process::exit(i32::from(exit::INTERRUPTED));
    };
    // It fails only where a handler is installed already, and then that one does the same.
    let _ = ctrlc::set_handler(handler);
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
