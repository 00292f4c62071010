//! Memory that the program itself cannot do without: too little of it ends in a sentence and an exit code, not in
//! a signal.

use anyhow::bail;
use warpmark_record::Bytes;

use crate::exit;

/// What the smallest verb takes beside the program's own code.
const LEAST: Bytes = Bytes(12.0 * 1024.0 * 1024.0);

/// Refuses to begin where the process's own limits leave less than the smallest verb takes.
///
/// # Errors
/// The limit, and what it leaves.
pub fn check() -> anyhow::Result<()> {
    match warpmark_device::memory::own_limit() {
        Some((most, left)) if left < LEAST => bail!(
            "this process may map {} (`ulimit -v`, `ulimit -d`), of which {} are left when the program is \
             loaded, and it takes {} at least; raise the limit",
            most.binary(),
            left.binary(),
            LEAST.binary()
        ),
        _ => Ok(()),
    }
}

/// Makes an abort end the process with a word and the code of an error. Memory that is refused where nobody
/// asked whether it is there aborts, and so do libraries that give up. Not for workers: whoever started
/// one says how it ended.
pub fn heed_aborts() {
    let handler: extern "C" fn(libc::c_int) = aborted;
    // SAFETY: the handler calls nothing but what may be called in one.
    unsafe { libc::signal(libc::SIGABRT, handler as libc::sighandler_t) };
}

extern "C" fn aborted(_signal: libc::c_int) {
    const WORDS: &str = "warpmark: memory was refused (`ulimit -v` or `-s`, a container's limit), or a library gave \
                         up; \
                         rows that were finished are recorded. Allow more memory, or else please report it \
                         with the command\n";
    // SAFETY: `write` and `_exit` may be called in a handler; the words are there for ever.
    unsafe {
        let _ = libc::write(libc::STDERR_FILENO, WORDS.as_ptr().cast(), WORDS.len());
        libc::_exit(i32::from(exit::ERROR))
    }
}
