//! Pages that help to decide.

use maud::{Markup, html};

use super::page;
use super::table::{Cell, numbers, table, words};
use crate::decision::{Decision, Grid, Note, Tone};

/// A page that helps to decide.
pub fn decision(decision: &Decision) -> String {
    page(
        &decision.title,
        &html! {
            header {
                h1 { (decision.title) }
                @if !decision.summary.is_empty() { p.lead { (decision.summary) } }
                dl.facts { @for (name, value) in &decision.facts { dt { (name) } dd { (value) } } }
            }
            @for part in &decision.grids { (grid(part)) }
            (notes(&decision.notes))
        },
    )
}

fn grid(grid: &Grid) -> Markup {
    let head = |(title, right): &(String, bool)| if *right { numbers(title) } else { words(title) };
    let heads: Vec<_> = grid.columns.iter().map(head).collect();
    let rows =
        grid.rows.iter().map(|row| row.iter().map(|cell| Cell::Text(cell.clone())).collect());
    html! {
        section {
            @if !grid.title.is_empty() { h4 { (grid.title) } }
            @if !grid.rows.is_empty() { (table(&heads, rows)) }
            (notes(&grid.notes))
        }
    }
}

fn notes(notes: &[Note]) -> Markup {
    let class = |note: &Note| match note.tone {
        Tone::Plain => "note",
        Tone::Caution => "note ambiguous",
        Tone::Bad => "note failed",
    };
    html! { @for note in notes { p class=(class(note)) { (note.label) (note.text) } } }
}
