//! Standard output: data and tables; and standard error, where everything else goes.

use std::io::{self, IsTerminal, Write};

use warpmark_record::store::Recording;
use warpmark_report::Style;

/// Prints to standard output as it is.
///
/// A reader that has gone away (`warpmark report | head`) ends the program quietly, as it does every
/// other filter.
pub(crate) fn show(text: &str) {
    let mut out = io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(i32::from(crate::exit::OK));
    }
}

/// Prints data as JSON, a line break at the end.
pub(crate) fn show_json(data: &impl serde::Serialize) -> anyhow::Result<()> {
    show(&(serde_json::to_string_pretty(data)? + "\n"));
    Ok(())
}

/// How tables are drawn: as wide as the terminal, or 100 columns into a file, in colour only for a
/// person who has not said otherwise (<https://no-color.org>).
pub(crate) fn style() -> Style {
    let terminal = io::stdout().is_terminal();
    let columns = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_col);
    let told = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let colourless = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Style {
        width: told.unwrap_or(if columns > 0 { columns } else { 100 }).max(40),
        color: terminal && !colourless,
    }
}

/// Says on standard error what a reader had to leave out.
#[expect(clippy::print_stderr, reason = "warnings are no part of the report's data")]
pub(crate) fn warn(recording: &Recording) {
    for warning in &recording.warnings {
        eprintln!("warpmark: {warning}");
    }
}
