//! Exit codes, the same for every verb.

use std::any::Any;
use std::io::{self, IsTerminal};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use crate::arguments::WrongUsage;
use crate::output::{plain, show, tell, warn};
use crate::terminal;

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
    let text = error.render();
    let dressed = |terminal: bool| {
        let colored = text.ansi().to_string();
        let wanted = terminal::is_colored(terminal) && has_colors_alone(&colored);
        if wanted { colored } else { plain(&text.to_string()) }
    };
    if error.use_stderr() {
        tell(&dressed(io::stderr().is_terminal()));
        return ExitCode::from(USAGE);
    }
    code(show(&dressed(io::stdout().is_terminal())).map(|()| OK))
}

/// Whether a text's escape sequences colour it and do nothing else: what was typed may stand in it.
fn has_colors_alone(text: &str) -> bool {
    let mut parts = text.split('\u{1b}');
    let is_plain = |part: &str| plain(part) == part;
    parts.next().is_none_or(is_plain)
        && parts.all(|part| {
            let sequence = part.strip_prefix('[').and_then(|part| part.split_once('m'));
            let is_color = |codes: &str| codes.bytes().all(|b| b.is_ascii_digit() || b == b';');
            sequence.is_some_and(|(codes, rest)| is_color(codes) && is_plain(rest))
        })
}

/// The code of a verb that is done, or the message of one that is not.
pub fn code(result: anyhow::Result<u8>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            warn(&words(&error));
            ExitCode::from(if error.is::<WrongUsage>() { USAGE } else { ERROR })
        }
    }
}

/// Does what a verb does. A panic, which is a fault of this program or of a library, ends in an error
/// like any other, and its message in text that does nothing to a screen.
pub fn catch_panic(verb: impl FnOnce() -> anyhow::Result<u8>) -> ExitCode {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, |place| format!(" at {place}"));
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed").to_owned();
        let words = panic_words(info.payload());
        warn(&format!("thread {thread:?} panicked{place}: {words}"));
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            tell(&plain(&trace.to_string()));
        }
    }));
    // What a panic left half done is not looked at again: the process ends.
    let result = panic::catch_unwind(AssertUnwindSafe(verb)).unwrap_or_else(|panic| {
        let words = panic_words(panic.as_ref());
        Err(anyhow::anyhow!(
            "a fault of the program ended it ({words}); rows that were finished are recorded; please \
             report it with the command"
        ))
    });
    code(result)
}

fn panic_words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without words").to_owned()
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
        let gone = || io::Error::from(io::ErrorKind::NotFound);
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

    #[test]
    fn a_message_with_anything_but_colours_in_it_is_printed_without() {
        assert!(has_colors_alone("\u{1b}[1;31merror\u{1b}[0m: no"));
        for text in ["a\u{1b}]0;title\u{7}", "\u{1b}[2J", "\u{1b}[1m\u{202e}", "\u{9b}31m"] {
            assert!(!has_colors_alone(text), "{text:?}");
        }
    }
}
