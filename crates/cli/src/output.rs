//! Standard output: data and tables. Everything else goes to standard error.

use std::io::{self, IsTerminal, Write};

/// Prints to standard output as it is.
///
/// A reader that has gone away (`warpmark report | head`) ends the program quietly, as it does every
/// other filter.
pub fn show(text: &str) {
    let mut out = io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(i32::from(crate::exit::OK));
    }
}

/// Prints data as JSON, a line break at the end.
pub fn show_json(data: &impl serde::Serialize) -> anyhow::Result<()> {
    show(&(serde_json::to_string_pretty(data)? + "\n"));
    Ok(())
}

/// Whether a person is looking.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Columns of the terminal, if a person is looking.
pub fn columns() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}
