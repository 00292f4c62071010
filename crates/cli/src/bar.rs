//! How a progress bar is drawn.

use indicatif::ProgressStyle;

/// The style of a template; a fault in one shows in any test that draws.
pub(crate) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
