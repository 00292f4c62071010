//! What helps to decide, free of any format: costs, standings to published figures, ranks, advice. Each
//! kind is made in a file of its own and written by the formats' common hand.

pub mod cost;
pub mod fleet;
pub mod machine;
pub mod rank;
pub mod recommend;
pub mod reference;
pub mod tune;

use serde_json::Value;
use warpmark_analyze::holdings;
use warpmark_record::store::Recording;
use warpmark_record::{Outcome, Record};

/// Name and value of figures, in SI units.
pub type Fields = Vec<(&'static str, Value)>;

/// How a note is set off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Not at all.
    Plain,
    /// Something to beware of.
    Caution,
    /// Something that is wrong.
    Bad,
}

/// A remark under the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// How it is set off.
    pub tone: Tone,
    /// A word in front.
    pub label: &'static str,
    /// The remark; unescaped.
    pub text: String,
}

impl Note {
    /// A remark that is not set off.
    pub fn plain(label: &'static str, text: impl Into<String>) -> Self {
        Self { tone: Tone::Plain, label, text: text.into() }
    }

    /// Something to beware of.
    pub fn caution(label: &'static str, text: impl Into<String>) -> Self {
        Self { tone: Tone::Caution, label, text: text.into() }
    }

    /// Something that is wrong.
    pub fn bad(label: &'static str, text: impl Into<String>) -> Self {
        Self { tone: Tone::Bad, label, text: text.into() }
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grid {
    /// What it shows; may be empty.
    pub title: String,
    /// The columns' titles, and whether their cells stand to the right as numbers do.
    pub columns: Vec<(String, bool)>,
    /// The rows; unescaped cells, as many as there are columns.
    pub rows: Vec<Vec<String>>,
    /// Remarks on its rows.
    pub notes: Vec<Note>,
}

impl Grid {
    /// An empty table; a title that begins with `>` heads a column of numbers.
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|title| match title.strip_prefix('>') {
            Some(title) => (title.to_owned(), true),
            None => ((*title).to_owned(), false),
        });
        Self { title: title.into(), columns: columns.collect(), ..Self::default() }
    }
}

/// A page that helps to decide.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// What it is about.
    pub title: String,
    /// Facts that hold for all of it: where a price is from.
    pub facts: Vec<(&'static str, String)>,
    /// The tables.
    pub grids: Vec<Grid>,
    /// Remarks.
    pub notes: Vec<Note>,
    /// What follows, in a sentence; may be empty.
    pub summary: String,
    /// What JSON says before the lines.
    pub head: Fields,
    /// Every line with its figures, for CSV and JSON; all have the same names in the same order.
    pub lines: Vec<Fields>,
}

/// What the selected rows of a recording are, where nothing came of them; without any, what would be
/// there.
fn held(recording: &Recording, selected: impl Fn(&Record) -> bool) -> String {
    let ids = |rows: &[&Record]| holdings::of(rows.iter().map(|row| &row.id));
    let all: Vec<&Record> = recording.rows.iter().collect();
    let chosen: Vec<&Record> = all.iter().copied().filter(|row| selected(row)).collect();
    if chosen.is_empty() && !all.is_empty() {
        return format!("nothing that `--filter` selects; without it there is {}", ids(&all));
    }
    let measured = chosen.iter().filter(|row| row.outcome == Outcome::Measured).count();
    format!("{} ({measured} of {} rows measured)", ids(&chosen), chosen.len())
}

#[cfg(test)]
#[path = "decision/decision_tests.rs"]
mod tests;
