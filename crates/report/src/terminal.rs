//! Tables for a person at a terminal.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use warpmark_record::store::Warning;

use crate::Style;
use crate::comparison::ComparisonView;
use crate::decision::{Decision, Grid, Note, Tone};
use crate::load_test::LoadSection;
use crate::specs::Sheet;
use crate::view::{Column, RunView, Section};

/// From this width on, columns stand two blanks apart.
const WIDE: u16 = 100;
/// Blanks before a table's first column.
pub(crate) const INDENT: usize = 2;

/// Escape sequences of the few things that are set off.
#[derive(Clone, Copy)]
enum Ink {
    Bold,
    Yellow,
    Red,
}

/// A cell that says more is cut: tables take their time by the length of words, and nobody reads on.
const LONGEST_CELL: usize = 300;

impl Style {
    /// Text for a cell of a table.
    pub(crate) fn cell(self, text: &str) -> String {
        let text = self.text(text);
        match text.char_indices().nth(LONGEST_CELL) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text.into_owned(),
        }
    }
}

/// The parts of a word that are no longer than a line; ids and paths are parted after a slash.
fn parts(word: &str, width: usize) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut length = 0;
    for c in word.chars() {
        if length == width {
            // A slash in the first half would leave more lines than it is worth.
            let at = part.rfind('/').map(|at| at + 1).filter(|at| *at > part.len() / 2);
            let rest = part.split_off(at.unwrap_or(part.len()));
            parts.push(std::mem::replace(&mut part, rest));
            length = part.chars().count();
        }
        part.push(c);
        length += 1;
    }
    parts.push(part);
    parts
}

/// A page under construction.
pub(crate) struct Page {
    text: String,
    style: Style,
}

impl Page {
    pub(crate) fn new(style: Style) -> Self {
        Self { text: String::new(), style }
    }

    pub(crate) fn finish(self) -> String {
        self.text
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// A line that is set off. `line` is escaped here.
    fn inked(&mut self, ink: Ink, line: &str) {
        let line = self.style.text(line);
        if !self.style.color {
            return self.line(&line);
        }
        let code = match ink {
            Ink::Bold => "1",
            Ink::Yellow => "33",
            Ink::Red => "31",
        };
        self.line(&format!("\u{1b}[{code}m{line}\u{1b}[0m"));
    }

    /// What stands above a part of the page.
    fn title(&mut self, title: &str) {
        self.paragraph(Some(Ink::Bold), "", title);
    }

    /// Text after a label, in lines no longer than the page is wide; further lines stand under the
    /// first one's text. Escapes the text.
    fn paragraph(&mut self, ink: Option<Ink>, label: &str, text: &str) {
        let indent = label.chars().count();
        let width = usize::from(self.style.width).saturating_sub(indent).max(20);
        let mut lines: Vec<String> = vec![String::new()];
        let mut length = 0;
        let text = self.style.text(text);
        for word in text.split_whitespace().flat_map(|word| parts(word, width)) {
            let word_length = word.chars().count();
            if length > 0 && length + 1 + word_length > width {
                lines.push(String::new());
                length = 0;
            }
            if let Some(line) = lines.last_mut() {
                if length > 0 {
                    line.push(' ');
                    length += 1;
                }
                line.push_str(&word);
                length += word_length;
            }
        }
        for (at, line) in lines.iter().enumerate() {
            let label = if at == 0 { label.to_owned() } else { " ".repeat(indent) };
            match ink {
                Some(ink) => self.inked(ink, &format!("{label}{line}")),
                None => self.line(&format!("{label}{line}")),
            }
        }
    }

    pub(crate) fn table(&mut self, mut table: Table) {
        table
            .force_no_tty()
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(self.style.width);
        let gap = gap(self.style.width) as u16;
        for (at, column) in table.column_iter_mut().enumerate() {
            column.set_padding(if at == 0 { (INDENT as u16, gap) } else { (0, gap) });
        }
        if let Some(first) = table.column_mut(0) {
            // Ids break between their parts.
            first.set_delimiter('/');
        }
        for line in table.lines() {
            self.line(&line);
        }
    }
}

/// The report of a recording.
pub fn run(runs: &[RunView], warnings: &[Warning], style: Style) -> String {
    let mut page = Page::new(style);
    for (at, view) in runs.iter().enumerate() {
        if at > 0 {
            page.line("");
        }
        one_run(&mut page, view);
    }
    if runs.is_empty() {
        page.line("No rows were recorded.");
    }
    if !warnings.is_empty() {
        page.line("");
    }
    for warning in warnings {
        page.paragraph(Some(Ink::Yellow), "warning: ", &warning.to_string());
    }
    page.text
}

fn one_run(page: &mut Page, view: &RunView) {
    page.title(&view.title);
    for (name, value) in &view.facts {
        page.paragraph(None, &format!("  {name:<9} "), value);
    }
    for caveat in &view.caveats {
        page.paragraph(Some(Ink::Yellow), "  caution   ", caveat);
    }
    for part in &view.sections {
        page.line("");
        section(page, part);
    }
    for part in &view.attribution {
        page.line("");
        grid(page, part);
    }
    for part in &view.loads {
        page.line("");
        load(page, part);
    }
    if !view.unmeasured.is_empty() {
        page.line("");
        page.title("not measured");
    }
    for row in &view.unmeasured {
        let ink = (row.outcome == "failed").then_some(Ink::Red);
        page.paragraph(
            ink,
            &format!("  {:<8}", row.outcome),
            &format!("{}: {}", row.id, row.reason),
        );
    }
    if !view.footnotes.is_empty() {
        page.line("");
    }
    for (at, note) in view.footnotes.iter().enumerate() {
        page.paragraph(None, &format!("  [{}] ", at + 1), note);
    }
}

fn section(page: &mut Page, section: &Section) {
    let style = page.style;
    let engine = section.engine.as_ref().map_or_else(String::new, |engine| format!(" @{engine}"));
    page.title(&format!("{}{engine}", section.title));
    if !section.best.is_empty() {
        page.paragraph(None, "  best: ", &section.best.join("; "));
    }
    let columns = fitting(section, style);
    let mut table = Table::new();
    let align = |right| {
        if right { CellAlignment::Right } else { CellAlignment::Left }
    };
    table.set_header(
        columns
            .iter()
            .map(|column| Cell::new(style.cell(&column.title)).set_alignment(align(column.right))),
    );
    for row in &section.rows {
        table.add_row(columns.iter().map(|column| {
            Cell::new(style.cell(&(column.cell)(row))).set_alignment(align(column.right))
        }));
    }
    page.table(table);
    for row in &section.rows {
        if let Some(stages) = &row.stages {
            page.paragraph(None, &format!("  {} stages: ", style.cell(&row.name)), stages);
        }
        for (what, figures) in &row.distributions {
            page.paragraph(None, "  ", &format!("{} {what}: {figures}", row.name));
        }
    }
    if let Some(memory) = &section.memory {
        page.paragraph(None, "  ", memory);
    }
}

fn load(page: &mut Page, section: &LoadSection) {
    let style = page.style;
    page.title(&section.title);
    for fact in &section.facts {
        page.paragraph(None, "  ", fact);
    }
    let columns = section.columns(usize::from(page.style.width), gap(page.style.width), INDENT);
    let align = |at: usize| if at == 0 { CellAlignment::Left } else { CellAlignment::Right };
    let cells = |cells: &[String]| -> Vec<Cell> {
        let chosen = columns.iter().filter_map(|column| cells.get(*column));
        let cell =
            |(at, text): (usize, &String)| Cell::new(style.cell(text)).set_alignment(align(at));
        chosen.enumerate().map(cell).collect()
    };
    let mut table = Table::new();
    table.set_header(cells(&section.header));
    for row in &section.rows {
        table.add_row(cells(row));
    }
    page.table(table);
    for remark in &section.remarks {
        page.paragraph(None, "  ", remark);
    }
}

/// The columns of a section that fit beside each other; if need be, those that can be spared go.
fn fitting(section: &Section, style: Style) -> Vec<Column> {
    let width = style.width;
    let mut columns = section.columns();
    let width_of = |column: &Column| {
        let cells = section.rows.iter().map(|row| style.cell(&(column.cell)(row)).chars().count());
        cells.chain([style.cell(&column.title).chars().count()]).max().unwrap_or(0) + gap(width)
    };
    while columns.iter().map(width_of).sum::<usize>() + INDENT > usize::from(width) {
        let most = columns.iter().map(|column| column.spare).max().unwrap_or(0);
        if most == 0 {
            break;
        }
        columns.retain(|column| column.spare < most);
    }
    columns
}

/// Blanks between columns.
pub(crate) fn gap(width: u16) -> usize {
    if width >= WIDE { 2 } else { 1 }
}

/// What a machine said of itself.
pub fn specs(sheets: &[Sheet], style: Style) -> String {
    let mut page = Page::new(style);
    for (at, sheet) in sheets.iter().enumerate() {
        if at > 0 {
            page.line("");
        }
        page.title(sheet.title);
        let names = sheet.facts.iter().map(|fact| style.cell(&fact.name).chars().count());
        let width = names.max().unwrap_or(0);
        for fact in &sheet.facts {
            let label = format!("  {:<width$}  ", style.cell(&fact.name));
            match &fact.value {
                Ok(value) => page.paragraph(None, &label, value),
                Err(reason) => page.paragraph(None, &label, &format!("unknown ({reason})")),
            }
        }
    }
    page.text
}

/// A comparison.
pub fn comparison(view: &ComparisonView, style: Style) -> String {
    let mut page = Page::new(style);
    if !view.pairs.is_empty() {
        let align = |at| {
            if (1..=3).contains(&at) { CellAlignment::Right } else { CellAlignment::Left }
        };
        let mut table = Table::new();
        let header = view.header.iter().enumerate();
        table.set_header(
            header.map(|(at, title)| Cell::new(style.cell(title)).set_alignment(align(at))),
        );
        for pair in &view.pairs {
            let cells = pair.iter().enumerate();
            table.add_row(
                cells.map(|(at, cell)| Cell::new(style.cell(cell)).set_alignment(align(at))),
            );
        }
        page.table(table);
        page.line("");
    }
    for (label, texts, ink) in [
        ("refused: ", &view.refused, Some(Ink::Red)),
        ("unmatched: ", &view.unmatched, None),
        ("note: ", &view.notes, Some(Ink::Yellow)),
    ] {
        for text in texts {
            page.paragraph(ink, label, text);
        }
    }
    page.paragraph(Some(Ink::Bold), "", &view.summary);
    page.text
}

/// A page that helps to decide.
pub fn decision(view: &Decision, style: Style) -> String {
    let mut page = Page::new(style);
    page.title(&view.title);
    let width = view.facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in &view.facts {
        page.paragraph(None, &format!("  {name:<width$}  "), value);
    }
    for part in &view.grids {
        page.line("");
        grid(&mut page, part);
    }
    if !view.notes.is_empty() {
        page.line("");
    }
    view.notes.iter().for_each(|remark| note(&mut page, "", remark));
    if !view.summary.is_empty() {
        page.line("");
        page.paragraph(Some(Ink::Bold), "", &view.summary);
    }
    page.text
}

fn grid(page: &mut Page, grid: &Grid) {
    let style = page.style;
    if !grid.title.is_empty() {
        page.title(&grid.title);
    }
    let align = |at: usize| {
        let right = grid.columns.get(at).is_some_and(|(_, right)| *right);
        if right { CellAlignment::Right } else { CellAlignment::Left }
    };
    let cell = |at: usize, text: &str| Cell::new(style.cell(text)).set_alignment(align(at));
    let mut table = Table::new();
    let titles = grid.columns.iter().enumerate();
    table.set_header(titles.map(|(at, (title, _))| cell(at, title)));
    for row in &grid.rows {
        table.add_row(row.iter().enumerate().map(|(at, text)| cell(at, text)));
    }
    if !grid.rows.is_empty() {
        page.table(table);
    }
    grid.notes.iter().for_each(|remark| note(page, "  ", remark));
}

fn note(page: &mut Page, indent: &str, note: &Note) {
    let ink = match note.tone {
        Tone::Plain => None,
        Tone::Caution => Some(Ink::Yellow),
        Tone::Bad => Some(Ink::Red),
    };
    page.paragraph(ink, &format!("{indent}{}", note.label), &note.text);
}
