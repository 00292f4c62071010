//! Reading a file of published tables.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;
use warpmark_record::Filter;
use warpmark_record::units::LARGEST;

use super::{Cards, Cell, Column, DependsOn, Row, Table};
use crate::location::{Location, Text};

/// What is wrong with a file of published tables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{location}: {what}")]
pub struct ReferenceError {
    /// Where.
    pub location: Location,
    /// What, with the next step.
    pub what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    table: Vec<TableEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableEntry {
    id: Spanned<String>,
    title: String,
    source: Spanned<String>,
    method: String,
    depends_on: DependsOn,
    benchmark: Option<Spanned<String>>,
    prices: Option<String>,
    #[serde(default)]
    approximate: bool,
    #[serde(default)]
    fixed: BTreeMap<Spanned<String>, Spanned<Raw>>,
    columns: Vec<Spanned<String>>,
    rows: Vec<Spanned<Vec<Spanned<Raw>>>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Raw {
    Integer(i64),
    Number(f64),
    Text(String),
}

/// Reads a file and adds its tables.
pub(super) fn file(
    origin: &str,
    text: &str,
    cards: &Cards,
    tables: &mut Vec<Table>,
) -> Result<(), ReferenceError> {
    let text = Text { origin, text };
    let file: File = toml::from_str(text.text).map_err(|error| {
        let (location, what) = text.fault(&error);
        ReferenceError { location, what }
    })?;
    for entry in file.table {
        let table = Reader { text, cards }.table(entry)?;
        if let Some(other) = tables.iter().find(|other| other.id == table.id) {
            let what =
                format!("the id {:?} is taken at {}; choose another", table.id, other.location);
            return Err(ReferenceError { location: table.location, what });
        }
        tables.push(table);
    }
    Ok(())
}

struct Reader<'a> {
    text: Text<'a>,
    cards: &'a Cards,
}

impl Reader<'_> {
    fn fail<T>(&self, span: &std::ops::Range<usize>, what: String) -> Result<T, ReferenceError> {
        Err(ReferenceError { location: self.text.location(span), what })
    }

    fn table(&self, entry: TableEntry) -> Result<Table, ReferenceError> {
        if entry.source.get_ref().trim().is_empty() {
            return self.fail(&entry.source.span(), "a table needs its source".to_owned());
        }
        let columns = self.columns(&entry.columns)?;
        let mut fixed = Vec::new();
        for (name, raw) in &entry.fixed {
            let column = self.column(name)?;
            if columns.contains(&column) {
                let what = format!("{:?} is fixed and a column too; keep one", name.get_ref());
                return self.fail(&name.span(), what);
            }
            fixed.push((column, self.cell(column, raw)?));
        }
        let mut rows = Vec::new();
        for row in &entry.rows {
            rows.push(self.row(&columns, row)?);
        }
        let benchmark = match entry.benchmark {
            None => None,
            Some(name) => {
                let filter: Result<Filter, _> = name.get_ref().parse();
                match filter {
                    Ok(filter) => Some((name.into_inner(), filter)),
                    Err(error) => return self.fail(&name.span(), error.to_string()),
                }
            }
        };
        Ok(Table {
            location: self.text.location(&entry.id.span()),
            id: entry.id.into_inner(),
            title: entry.title,
            source: entry.source.into_inner(),
            method: entry.method,
            depends_on: entry.depends_on,
            benchmark,
            prices: entry.prices,
            approximate: entry.approximate,
            fixed,
            columns,
            rows,
        })
    }

    fn columns(&self, names: &[Spanned<String>]) -> Result<Vec<Column>, ReferenceError> {
        let mut columns = Vec::new();
        for name in names {
            let column = self.column(name)?;
            if columns.contains(&column) {
                return self.fail(&name.span(), format!("{:?} stands twice", name.get_ref()));
            }
            columns.push(column);
        }
        Ok(columns)
    }

    fn column(&self, name: &Spanned<String>) -> Result<Column, ReferenceError> {
        Column::named(name.get_ref()).map_or_else(
            || {
                let what = format!(
                    "{:?} is no column; crates/analyze/src/reference/column.rs lists them",
                    name.get_ref()
                );
                self.fail(&name.span(), what)
            },
            Ok,
        )
    }

    fn row(
        &self,
        columns: &[Column],
        row: &Spanned<Vec<Spanned<Raw>>>,
    ) -> Result<Row, ReferenceError> {
        let found = row.get_ref().len();
        if found != columns.len() {
            let what = format!("the row has {found} cells, the table {} columns", columns.len());
            return self.fail(&row.span(), what);
        }
        let cells = columns.iter().zip(row.get_ref()).map(|(column, raw)| self.cell(*column, raw));
        Ok(Row {
            location: self.text.location(&row.span()),
            cells: cells.collect::<Result<_, _>>()?,
        })
    }

    fn cell(&self, column: Column, raw: &Spanned<Raw>) -> Result<Cell, ReferenceError> {
        let value = match raw.get_ref() {
            Raw::Text(text) if text == "-" => return Ok(Cell::Missing),
            Raw::Text(text) if column.is_text() => return self.word(column, text, raw),
            Raw::Text(text) => {
                let what = format!(
                    "{text:?} is no figure for {}; write \"-\" where the source has none",
                    column.name()
                );
                return self.fail(&raw.span(), what);
            }
            Raw::Integer(value) => *value as f64,
            Raw::Number(value) => *value,
        };
        if column.is_text() {
            let what = format!("{} holds words, and {value} is a number", column.name());
            return self.fail(&raw.span(), what);
        }
        let possible = (0.0..=LARGEST).contains(&value);
        if !possible || (value == 0.0 && !column.may_be_zero()) {
            let least = if column.may_be_zero() { "at least" } else { "above" };
            let what = format!(
                "{} is {value}: expected a number {least} 0 and at most {LARGEST:e}; write \"-\" where the source \
                 has none",
                column.name()
            );
            return self.fail(&raw.span(), what);
        }
        Ok(Cell::Number(value))
    }

    fn word(&self, column: Column, text: &str, raw: &Spanned<Raw>) -> Result<Cell, ReferenceError> {
        if column == Column::Card {
            for name in text.split(',').map(str::trim) {
                if self.cards.get(name).is_none() {
                    let known: Vec<&str> = self.cards.names().collect();
                    let what = format!(
                        "{name:?} is no card with a datasheet (it has {})",
                        known.join(", ")
                    );
                    return self.fail(&raw.span(), what);
                }
            }
        }
        Ok(Cell::Text(text.to_owned()))
    }
}
