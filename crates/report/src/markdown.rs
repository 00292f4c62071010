//! GitHub's Markdown, ready for a pull request.

use std::fmt::Write;

use warpmark_record::store::Warning;

use crate::comparison::ComparisonView;
use crate::decision::{Decision, Grid, Note};
use crate::escape::markdown as escape;
use crate::specs::Sheet;
use crate::view::{RunView, Section};

/// A page under construction. Writing to a string cannot fail, so results of `write!` are dropped.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, line: &str) {
        let _ = writeln!(self.0, "{line}");
    }

    /// A table of cells that are escaped already; `right` tells which columns hold numbers.
    fn table(
        &mut self,
        header: &[String],
        right: &[bool],
        rows: impl Iterator<Item = Vec<String>>,
    ) {
        self.line(&format!("| {} |", header.join(" | ")));
        let rule: Vec<&str> =
            right.iter().map(|right| if *right { "--:" } else { ":--" }).collect();
        self.line(&format!("| {} |", rule.join(" | ")));
        for row in rows {
            self.line(&format!("| {} |", row.join(" | ")));
        }
        self.line("");
    }

    fn list(&mut self, items: impl Iterator<Item = String>) {
        let mut any = false;
        for item in items {
            self.line(&format!("- {item}"));
            any = true;
        }
        if any {
            self.line("");
        }
    }
}

/// The report of a recording.
pub fn run(runs: &[RunView], warnings: &[Warning]) -> String {
    let mut page = Page::default();
    for view in runs {
        one_run(&mut page, view);
    }
    if runs.is_empty() {
        page.line("No rows were recorded.");
    }
    page.list(
        warnings.iter().map(|warning| format!("**warning** {}", escape(&warning.to_string()))),
    );
    page.0
}

fn one_run(page: &mut Page, view: &RunView) {
    page.line(&format!("## {}\n", escape(&view.title)));
    page.list(view.facts.iter().map(|(name, value)| format!("{name}: {}", escape(value))));
    page.list(view.caveats.iter().map(|caveat| format!("**caution** {}", escape(caveat))));
    for part in &view.sections {
        section(page, part);
    }
    view.attribution.iter().for_each(|part| grid(page, part));
    for part in &view.loads {
        page.line(&format!("### {}\n", code(&part.title)));
        page.list(part.facts.iter().map(|fact| escape(fact)));
        let header: Vec<String> = part.header.iter().map(|title| escape(title)).collect();
        let right: Vec<bool> = (0..header.len()).map(|at| at > 0).collect();
        let rows = part.rows.iter();
        page.table(&header, &right, rows.map(|r| r.iter().map(|cell| escape(cell)).collect()));
        page.list(part.remarks.iter().map(|remark| escape(remark)));
    }
    if !view.unmeasured.is_empty() {
        page.line("### not measured\n");
        let header = ["benchmark", "outcome", "reason"].map(str::to_owned);
        let rows = view.unmeasured.iter();
        let rows = rows.map(|r| vec![code(&r.id), r.outcome.to_owned(), escape(&r.reason)]);
        page.table(&header, &[false; 3], rows);
    }
    for (at, note) in view.footnotes.iter().enumerate() {
        page.line(&format!("{}. {}", at + 1, escape(note)));
    }
    if !view.footnotes.is_empty() {
        page.line("");
    }
}

/// Ids as code, so that no `@engine` in them calls a user. They hold neither backticks nor pipes.
fn code(id: &str) -> String {
    format!("`{id}`")
}

fn section(page: &mut Page, section: &Section) {
    let engine = section.engine.as_ref().map_or_else(String::new, |engine| format!("@{engine}"));
    page.line(&format!("### {}\n", code(&format!("{}{engine}", section.title))));
    if !section.best.is_empty() {
        page.line(&format!("best: {}\n", escape(&section.best.join("; "))));
    }
    let columns = section.columns();
    let header: Vec<String> = columns.iter().map(|column| escape(&column.title)).collect();
    let right: Vec<bool> = columns.iter().map(|column| column.right).collect();
    let rows = section.rows.iter().map(|row| {
        let cells = columns.iter().enumerate();
        cells
            .map(|(at, column)| {
                let cell = (column.cell)(row);
                if at == 0 { code(&cell) } else { escape(&cell) }
            })
            .collect()
    });
    page.table(&header, &right, rows);
    page.list(section.rows.iter().filter_map(|row| {
        let stages = row.stages.as_ref()?;
        Some(format!("{} stages: {}", code(&row.name), escape(stages)))
    }));
    page.list(section.rows.iter().flat_map(|row| {
        let line = |(what, figures): &(String, String)| {
            format!("{} {}: {}", code(&row.name), escape(what), escape(figures))
        };
        row.distributions.iter().map(line).collect::<Vec<_>>()
    }));
    page.list(section.memory.iter().map(|memory| escape(memory)));
}

/// What a machine said of itself.
pub fn specs(sheets: &[Sheet]) -> String {
    let mut page = Page::default();
    for sheet in sheets {
        page.line(&format!("### {}\n", sheet.title));
        let rows = sheet.facts.iter().map(|fact| {
            let value = match &fact.value {
                Ok(value) => escape(value),
                Err(reason) => format!("unknown ({})", escape(reason)),
            };
            vec![escape(&fact.name), value]
        });
        page.table(&["property".to_owned(), "value".to_owned()], &[false, false], rows);
    }
    page.0
}

/// A comparison.
pub fn comparison(view: &ComparisonView) -> String {
    let mut page = Page::default();
    page.line(&format!("**{}**\n", escape(&view.summary)));
    if !view.pairs.is_empty() {
        let header = view.header.map(str::to_owned);
        let rows = view.pairs.iter().map(|pair| {
            let cells = pair.iter().enumerate();
            cells.map(|(at, cell)| if at == 0 { code(cell) } else { escape(cell) }).collect()
        });
        page.table(&header, &[false, true, true, true, false, false], rows);
    }
    page.list(view.refused.iter().map(|text| format!("refused: {}", escape(text))));
    page.list(view.unmatched.iter().map(|text| escape(text)));
    page.list(view.notes.iter().map(|text| format!("note: {}", escape(text))));
    page.0
}

/// A page that helps to decide.
pub fn decision(view: &Decision) -> String {
    let mut page = Page::default();
    page.line(&format!("## {}\n", escape(&view.title)));
    if !view.summary.is_empty() {
        page.line(&format!("**{}**\n", escape(&view.summary)));
    }
    page.list(view.facts.iter().map(|(name, value)| format!("{name}: {}", escape(value))));
    view.grids.iter().for_each(|part| grid(&mut page, part));
    page.list(view.notes.iter().map(note));
    page.0
}

fn grid(page: &mut Page, grid: &Grid) {
    if !grid.title.is_empty() {
        page.line(&format!("### {}\n", escape(&grid.title)));
    }
    let header: Vec<String> = grid.columns.iter().map(|(title, _)| escape(title)).collect();
    let right: Vec<bool> = grid.columns.iter().map(|(_, right)| *right).collect();
    let rows = grid.rows.iter().map(|row| row.iter().map(|cell| escape(cell)).collect());
    if !grid.rows.is_empty() {
        page.table(&header, &right, rows);
    }
    page.list(grid.notes.iter().map(note));
}

fn note(note: &Note) -> String {
    format!("{}{}", note.label, escape(&note.text))
}
