//! What others published: tables of figures with their sources, `results/reference/*.toml`, and how a run
//! stands to them.
//!
//! A figure is kept as it was printed, in the unit it was printed in, and nobody's word is taken for it:
//! every row is held against itself and against the card's datasheet, and what cannot be stands beside it
//! ([`warnings`]). Only a figure that a card alone decides may judge a card ([`DependsOn::Card`]); one that
//! another program made is shown beside ours without a verdict.

pub mod cards;
pub mod column;
pub mod judge;
mod parse;
pub mod warnings;

use warpmark_record::Filter;

pub use cards::{Card, Cards};
pub use column::Column;
pub use judge::{Judged, Standing, Verdict};
pub use parse::ReferenceError;
pub use warnings::{Kind, Warning};

use crate::location::Location;

/// The files that the program carries, as name and text.
const BUILTIN: [(&str, &str); 6] = [
    ("results/reference/matmul.toml", include_str!("../../../results/reference/matmul.toml")),
    ("results/reference/memory.toml", include_str!("../../../results/reference/memory.toml")),
    ("results/reference/llm.toml", include_str!("../../../results/reference/llm.toml")),
    ("results/reference/requests.toml", include_str!("../../../results/reference/requests.toml")),
    ("results/reference/module-4.toml", include_str!("../../../results/reference/module-4.toml")),
    ("results/reference/stacks.toml", include_str!("../../../results/reference/stacks.toml")),
];

/// What decides a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DependsOn {
    /// The card: a kernel of which every good version comes out alike.
    Card,
    /// The program as well: another engine on the same card.
    Software,
    /// The service around it too: a network, a queue, several replicas.
    Service,
}

/// A table that somebody published.
#[derive(Debug, Clone)]
pub struct Table {
    /// A name for it, unique among all tables.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// Document and table, or address.
    pub source: String,
    /// How the figures came about, as far as the source says so.
    pub method: String,
    /// What decides its figures.
    pub depends_on: DependsOn,
    /// Which of our benchmarks measure the same; `None` where none does.
    pub benchmark: Option<(String, Filter)>,
    /// The price list's name for this source, where it states prices too.
    pub prices: Option<String>,
    /// Whether the source calls its figures approximate.
    pub approximate: bool,
    /// What holds for every row.
    pub fixed: Vec<(Column, Cell)>,
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows, each with as many cells as there are columns.
    pub rows: Vec<Row>,
    /// Where it stands.
    pub location: Location,
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Where it stands.
    pub location: Location,
    /// Its cells, in the order of the columns.
    pub cells: Vec<Cell>,
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A figure in the column's unit.
    Number(f64),
    /// A name or a remark.
    Text(String),
    /// The source leaves it out.
    Missing,
}

/// All tables that were read.
#[derive(Debug, Clone, Default)]
pub struct PublishedTables {
    /// The tables, in the order of their files.
    pub tables: Vec<Table>,
}

impl PublishedTables {
    /// The tables that the program carries.
    ///
    /// # Errors
    /// Never in a build whose tests passed.
    pub fn builtin(cards: &Cards) -> Result<Self, ReferenceError> {
        Self::parse(&BUILTIN, cards)
    }

    /// Reads files, each as name and text, strictly: an unknown key, column or card, a figure that is
    /// negative or no finite number, a row of another length and a table that stands twice are errors
    /// with their line. What a row claims is not judged here; see [`warnings::of`].
    pub fn parse(files: &[(&str, &str)], cards: &Cards) -> Result<Self, ReferenceError> {
        let mut tables = Vec::new();
        for (origin, text) in files {
            parse::file(origin, text, cards, &mut tables)?;
        }
        Ok(Self { tables })
    }
}

impl Table {
    /// A figure of a row, from its cell or from what holds for every row.
    pub fn number(&self, row: &Row, column: Column) -> Option<f64> {
        match self.cell(row, column)? {
            Cell::Number(value) => Some(*value),
            Cell::Text(_) | Cell::Missing => None,
        }
    }

    /// A word of a row, from its cell or from what holds for every row.
    pub fn text<'a>(&'a self, row: &'a Row, column: Column) -> Option<&'a str> {
        match self.cell(row, column)? {
            Cell::Text(text) => Some(text),
            Cell::Number(_) | Cell::Missing => None,
        }
    }

    /// The cards that a row may be of: one, or several where the source does not say which variant.
    pub fn cards<'a>(&'a self, row: &'a Row) -> Vec<&'a str> {
        let names = self.text(row, Column::Card).unwrap_or_default();
        names.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
    }

    fn cell<'a>(&'a self, row: &'a Row, column: Column) -> Option<&'a Cell> {
        let at = self.columns.iter().position(|known| *known == column);
        let fixed = || self.fixed.iter().find(|(known, _)| *known == column).map(|(_, cell)| cell);
        at.and_then(|at| row.cells.get(at)).or_else(fixed)
    }
}

#[cfg(test)]
#[path = "reference/reference_tests.rs"]
mod tests;
