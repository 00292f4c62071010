//! A picture with its name above it and its numbers below.

use maud::{Markup, html};

use super::chart::{Chart, HALF, NARROW, Size, WHOLE};
use super::table::{Cell, Head, table};

/// A figure under construction.
pub(super) struct Figure {
    /// What it shows.
    pub(super) title: String,
    /// What to see in it, or what is left out.
    pub(super) note: Option<String>,
    pub(super) chart: Chart,
    /// Its numbers.
    pub(super) heads: Vec<Head>,
    pub(super) rows: Vec<Vec<Cell>>,
}

impl Figure {
    /// Half as wide as the page where there is room; nothing where there is nothing to draw.
    pub(super) fn half(self) -> Option<Markup> {
        self.draw("half", &[("", HALF)])
    }

    /// As wide as the page. On a telephone it is another drawing, for text does not shrink.
    pub(super) fn whole(self) -> Option<Markup> {
        self.draw("whole", &[("wide", WHOLE), ("narrow", NARROW)])
    }

    fn draw(self, class: &str, sizes: &[(&str, Size)]) -> Option<Markup> {
        if self.chart.is_empty() {
            return None;
        }
        let count = self.rows.len();
        Some(html! {
            figure class=(class) {
                figcaption { (self.title) }
                @for (class, size) in sizes {
                    div class=(class) { (self.chart.svg(*size, &self.title)) }
                }
                @if let Some(note) = &self.note { p.note { (note) } }
                details {
                    summary { "numbers (" (count) ")" }
                    (table(&self.heads, self.rows.into_iter()))
                }
            }
        })
    }
}
