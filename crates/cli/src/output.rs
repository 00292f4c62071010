//! What the program prints: data and tables on standard output, everything else on standard error.
//!
//! Nothing but this module writes to either. Text from outside (names in files, paths, reasons of
//! libraries) can be in all of it, so plain text is made harmless here; tables and data come from the
//! report crate, which escapes them.

use std::borrow::Cow;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use console::measure_text_width;
use rustix::io::Errno;
use warpmark_record::message::{shortened, with_short_words};
use warpmark_record::store::Recording;
use warpmark_report::escape;

use crate::terminal;

/// Whether the reader of standard output has gone away.
static UNREAD: AtomicBool = AtomicBool::new(false);

/// How long a stream that takes nothing at the moment (`O_NONBLOCK`) is left alone.
const FULL: Duration = Duration::from_millis(5);

/// Prints finished text to standard output: a report with its colours, data as it is.
///
/// A reader that has gone away (`warpmark report | head`) is no error: the rest is not printed, and the
/// exit code stays the one of the verb.
///
/// # Errors
/// A full disk, or whatever else keeps standard output from taking all of the text.
pub(crate) fn show(text: &str) -> anyhow::Result<()> {
    if UNREAD.load(Ordering::Relaxed) {
        return Ok(());
    }
    match put(rustix::stdio::stdout(), text.as_bytes()) {
        Err(error) if has_gone(error) => {
            UNREAD.store(true, Ordering::Relaxed);
            Ok(())
        }
        result => result.map_err(io::Error::from).context(
            "standard output cannot be written, and what stands there is not whole; make room, or \
             write elsewhere",
        ),
    }
}

/// Prints plain text to standard output: nothing in it but line ends acts on a screen.
///
/// # Errors
/// Those of [`show`].
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    show(&folded(&plain(text), terminal::width()))
}

/// Prints data as JSON, a line break at the end.
///
/// # Errors
/// Those of [`show`].
pub(crate) fn show_json(data: &impl serde::Serialize) -> anyhow::Result<()> {
    show(&(escape::json(&serde_json::to_string_pretty(data)?) + "\n"))
}

/// Tells what a user must hear of on standard error: errors, warnings. Where nobody can hear it, that
/// ends nothing.
pub(crate) fn warn(text: &str) {
    // Lines of a message stand after its first one, so that none can be taken for another message.
    let text = plain(&shortened(text.trim_end())).replace('\n', "\n  ");
    tell(&format!("warpmark: {text}\n"));
}

/// Tells what a reader of records had to leave out.
pub(crate) fn left_out(recording: &Recording) {
    for warning in &recording.warnings {
        warn(&warning.to_string());
    }
}

/// Tells what is nice to know on standard error, unless the user wants it quiet.
pub(crate) fn remark(text: &str) {
    if !terminal::quiet() {
        tell(&(plain(text) + "\n"));
    }
}

/// Writes to standard error as it is. A standard error that is closed, gone or full is no reason to lose
/// what is being done.
pub(crate) fn tell(text: &str) {
    tell_on(rustix::stdio::stderr(), text);
}

/// The same on a stream of one's own that leads to standard error.
pub(crate) fn tell_on(stream: impl AsFd, text: &str) {
    let _ = put(stream, text.as_bytes());
}

/// Text in which nothing but line ends acts on a screen, in the characters that the locale has; what others
/// wrote in it without a blank is cut where it is very long.
pub(crate) fn plain(text: &str) -> String {
    let text = with_short_words(text);
    let lines: Vec<Cow<'_, str>> = text.split('\n').map(escape::terminal).collect();
    let text = lines.join("\n");
    if terminal::is_ascii() { escape::ascii(&text).into_owned() } else { text }
}

/// Plain text whose lines are no longer than the terminal is wide, as far as words allow (one that is cut
/// could not be copied); what is left of a line stands a little further in.
fn folded(text: &str, width: Option<u16>) -> Cow<'_, str> {
    let Some(width) = width.map(usize::from) else { return Cow::Borrowed(text) };
    let lines = text.split('\n').map(|line| fold(line, width));
    Cow::Owned(lines.collect::<Vec<_>>().join("\n"))
}

fn fold(line: &str, width: usize) -> String {
    if measure_text_width(line) <= width {
        return line.to_owned();
    }
    let indent = line.len() - line.trim_start_matches(' ').len();
    let further = "\n".to_owned() + &" ".repeat((indent + 2).min(width / 2));
    let mut folded = String::with_capacity(line.len());
    // Columns of this line, and the blanks before the next word.
    let (mut columns, mut blanks) = (0, 0);
    for word in line.split(' ') {
        let letters = measure_text_width(word);
        if letters > 0 && !folded.trim_end().is_empty() && columns + blanks + letters > width {
            folded.push_str(&further);
            columns = further.len() - 1;
        } else if letters > 0 {
            folded.extend(std::iter::repeat_n(' ', blanks));
            columns += blanks;
        }
        if letters > 0 {
            folded.push_str(word);
            columns += letters;
            blanks = 0;
        }
        blanks += 1;
    }
    folded
}

/// Writes all of it, past the buffer of the standard library, which takes a closed stream for written.
fn put(to: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(&to, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => thread::sleep(FULL),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the error says that nobody reads standard output any more: a closed pipe or connection, a
/// terminal that was hung up.
fn has_gone(error: Errno) -> bool {
    let is_device = || {
        rustix::fs::fstat(rustix::stdio::stdout()).is_ok_and(|stat| {
            rustix::fs::FileType::from_raw_mode(stat.st_mode)
                == rustix::fs::FileType::CharacterDevice
        })
    };
    matches!(error, Errno::PIPE | Errno::CONNRESET) || (error == Errno::IO && is_device())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_folded_between_words_and_go_on_a_little_further_in() {
        assert_eq!(folded("a line\n  of  its own\n", Some(40)), "a line\n  of  its own\n");
        let long = "  one  two three four\nfive";
        assert_eq!(folded(long, Some(14)), "  one  two\n    three four\nfive");
        assert_eq!(folded(long, None), long);
        assert_eq!(folded("/a/path/that/is/long", Some(10)), "/a/path/that/is/long");
        assert_eq!(folded("at /a/path/that/is/long", Some(10)), "at\n  /a/path/that/is/long");
    }

    #[test]
    fn plain_text_does_nothing_to_a_screen() {
        assert_eq!(
            plain("a\u{1b}]0;b\u{7}\n\u{202e}c\u{61c}"),
            "a\\u{1b}]0;b\\u{7}\n\\u{202e}c\\u{61c}"
        );
    }
}
