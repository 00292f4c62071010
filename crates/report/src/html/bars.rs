//! Bars: parts of a whole beside each other, as wide as the page allows.

use maud::{Markup, html};

/// A part of a bar.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// How long it is, as a share of the longest possible bar.
    pub(super) share: f64,
    /// A colour of the page.
    pub(super) color: String,
}

/// Parts of less than this, of 100, would be drawn with no width.
const LEAST: f64 = 0.05;

/// A bar of its parts, 100 wide. It is hidden from those who cannot see it: its numbers stand beside it.
pub(super) fn bar(parts: &[Part]) -> Markup {
    let mut at = 0.0;
    let placed: Vec<(f64, f64, &Part)> = parts
        .iter()
        .filter(|part| part.share.is_finite() && part.share > 0.0)
        .map(|part| {
            let start = at;
            at = (at + part.share * 100.0).min(100.0);
            (start, at - start, part)
        })
        .filter(|(_, width, _)| *width >= LEAST)
        .collect();
    html! {
        svg.bar viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
            @for (x, width, part) in placed {
                rect x=(short(x)) width=(short(width)) height="6" fill=(part.color) {}
            }
        }
    }
}

/// What the colours of bars mean.
pub(super) fn legend(entries: &[(String, String)]) -> Markup {
    html! {
        ul.legend {
            @for (name, color) in entries {
                li { span style=(format!("background:{color}")) {} (name) }
            }
        }
    }
}

fn short(value: f64) -> String {
    format!("{value:.1}")
}
