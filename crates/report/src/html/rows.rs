//! All rows in tables, one for each subject, and those without times.

use maud::{Markup, html};

use super::plain::trimmed;
use super::table::{Cell, numbers, table, words};
use crate::view::{RowView, RunView, Section};

/// The tables of a run; `anchor` begins the names of their places in the page.
pub(super) fn tables(view: &RunView, anchor: &str) -> Markup {
    html! {
        @for (at, section) in view.sections.iter().enumerate() {
            section.rows id=(format!("{anchor}-table-{at}")) {
                h4 {
                    code { (section.title) }
                    @if let Some(engine) = &section.engine { " " code { "@" (engine) } }
                }
                @if !section.best.is_empty() { p.best { "best: " (section.best.join("; ")) } }
                (rows(section))
                (distributions(section))
            }
        }
    }
}

/// The times of what happened within iterations.
fn distributions(section: &Section) -> Markup {
    let lines = section.rows.iter().flat_map(|row| {
        let named = row.distributions.iter();
        named.map(|(what, figures)| {
            vec![Cell::Code(row.name.clone()), what.as_str().into(), figures.as_str().into()]
        })
    });
    let mut lines = lines.peekable();
    html! {
        @if lines.peek().is_some() {
            (table(&[words("benchmark"), words("within it"), words("times")], lines))
        }
    }
}

fn rows(section: &Section) -> Markup {
    let columns = section.columns();
    let intensity = section.rows.iter().any(|row| row.intensity.is_some());
    let mut heads: Vec<_> = columns
        .iter()
        .map(|column| if column.right { numbers(&column.title) } else { words(&column.title) })
        .collect();
    if intensity {
        heads.push(numbers("FLOP/B"));
    }
    let cells = |row: &RowView| {
        let mut cells: Vec<Cell> = columns
            .iter()
            .map(|column| {
                let text = (column.cell)(row);
                match column.title.as_str() {
                    "benchmark" => Cell::Code(text),
                    "bound" => Cell::Word(text),
                    title if title.starts_with("of ") => row
                        .share_of_limit
                        .map_or(Cell::Text(text.clone()), |s| Cell::Share(text, s)),
                    _ => Cell::Text(text),
                }
            })
            .collect();
        if intensity {
            cells.push(row.intensity.map_or_else(|| "-".to_owned(), trimmed).into());
        }
        cells
    };
    table(&heads, section.rows.iter().map(cells))
}

/// The rows without times, with the reason.
pub(super) fn unmeasured(view: &RunView) -> Option<Markup> {
    let heads = [words("benchmark"), words("outcome"), words("reason")];
    let lines = view.unmeasured.iter().map(|row| {
        vec![
            Cell::Code(row.id.clone()),
            Cell::Word(row.outcome.to_owned()),
            row.reason.as_str().into(),
        ]
    });
    (!view.unmeasured.is_empty()).then(|| table(&heads, lines))
}

/// What single rows have warnings for; a row's notes are these numbers.
pub(super) fn footnotes(view: &RunView) -> Option<Markup> {
    (!view.footnotes.is_empty()).then(|| {
        html! { ol.footnotes { @for note in &view.footnotes { li { (note) } } } }
    })
}
