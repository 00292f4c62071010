//! How a progress bar is drawn.

use indicatif::ProgressStyle;

use crate::terminal;

/// The style of a template; a fault in one shows in any test that draws.
pub(crate) fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    // What turns otherwise is Braille.
    if terminal::is_ascii() { style.tick_chars("|/-\\ ") } else { style }
}
