//! Exit codes, the same for every verb.

use std::process::ExitCode;

/// All is well; for `compare`: the same or faster.
pub const OK: u8 = 0;
/// A benchmark failed; for `compare`: slower.
pub const FAILED: u8 = 1;
/// `compare`: the data do not decide.
pub const AMBIGUOUS: u8 = 2;
/// `compare`: unlike things.
pub const NOT_COMPARABLE: u8 = 3;
/// The command line is wrong (`EX_USAGE`; clap's own 2 means something else here).
pub const USAGE: u8 = 64;
/// It could not be done, and the message says why (`EX_SOFTWARE`).
pub const ERROR: u8 = 70;
/// Interrupted, as shells report SIGINT.
pub const INTERRUPTED: u8 = 130;

/// Prints what clap has to say, and the code that goes with it: help is no error.
pub fn usage(error: &clap::Error) -> ExitCode {
    // Nothing can be done about a terminal that takes no text.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { USAGE } else { OK })
}

/// The code of a verb that is done, or the message of one that is not.
#[expect(clippy::print_stderr, reason = "the one place where errors reach the user")]
pub fn code(result: anyhow::Result<u8>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("warpmark: {}", words(&error));
            ExitCode::from(ERROR)
        }
    }
}

/// An error with what lies behind it, each reason once: many errors say in their own text what their
/// source says.
pub(crate) fn words(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn each_reason_is_said_once() {
        let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let path = std::path::Path::new("x");
        let inner = warpmark_record::store::StoreError::Io {
            action: "read",
            path: path.into(),
            source: gone(),
        };
        let error = Err::<(), _>(inner).context("no run").unwrap_err();
        assert_eq!(words(&error), format!("no run: cannot read x: {}", gone()));
        let error = Err::<(), _>(gone()).context("cannot read y").unwrap_err();
        assert_eq!(words(&error), format!("cannot read y: {}", gone()));
    }
}
