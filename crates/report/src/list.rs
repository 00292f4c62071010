//! A plain list of things, a line each, for a terminal of any width.

use comfy_table::{Cell, CellAlignment, Table};

use crate::Style;
use crate::terminal::{INDENT, Page, gap};

/// A column of a list.
#[derive(Debug, Clone, Copy)]
pub struct ListColumn {
    /// Its title.
    pub title: &'static str,
    /// Whether its cells stand to the right, as numbers do.
    pub right: bool,
    /// How readily it is left out where the terminal is too narrow: 0 never, the highest first.
    pub spare: u8,
}

/// The list as text, and the titles of the columns that there was no room for.
pub fn render_list(
    columns: &[ListColumn],
    rows: &[Vec<String>],
    style: Style,
) -> (String, Vec<&'static str>) {
    let cells = |at: usize| rows.iter().filter_map(move |row| row.get(at));
    let wide = |at: &usize| {
        let title = columns.get(*at).map_or(0, |column| column.title.len());
        let cells = cells(*at).map(|cell| style.cell(cell).chars().count());
        cells.chain([title]).max().unwrap_or(0) + gap(style.width)
    };
    let spare = |at: &usize| columns.get(*at).map_or(0, |column| column.spare);
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    while shown.iter().map(wide).sum::<usize>() + INDENT > usize::from(style.width) {
        let most = shown.iter().map(spare).max().unwrap_or(0);
        if most == 0 {
            break;
        }
        shown.retain(|at| spare(at) < most);
    }
    let align = |at: usize| {
        let right = columns.get(at).is_some_and(|column| column.right);
        if right { CellAlignment::Right } else { CellAlignment::Left }
    };
    let cell = |at: usize, text: &str| Cell::new(style.cell(text)).set_alignment(align(at));
    let mut table = Table::new();
    table.set_header(shown.iter().filter_map(|at| Some(cell(*at, columns.get(*at)?.title))));
    for row in rows {
        table.add_row(shown.iter().filter_map(|at| Some(cell(*at, row.get(*at)?))));
    }
    let mut page = Page::new(style);
    page.table(table);
    let spared = columns.iter().enumerate().filter(|(at, _)| !shown.contains(at));
    (page.finish(), spared.map(|(_, column)| column.title).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_no_wider_than_its_terminal_and_says_what_it_leaves_out() {
        let column = |title, right, spare| ListColumn { title, right, spare };
        let columns =
            [column("model", false, 0), column("size", true, 1), column("repo", false, 2)];
        let row = |id: &str| vec![id.to_owned(), "1.5 GiB".to_owned(), "r".repeat(50)];
        let rows = [row("tiny"), row("a-model-with-a-name\u{1b}[31m")];
        for (width, left_out) in
            [(u16::MAX, &[][..]), (120, &[]), (60, &["repo"]), (39, &["size", "repo"])]
        {
            let (text, spared) = render_list(&columns, &rows, Style { width, ..Style::default() });
            assert_eq!(spared, left_out, "{width}");
            assert!(text.lines().all(|line| line.chars().count() <= usize::from(width)), "{text}");
            assert!(!text.contains('\u{1b}'), "{text}");
        }
    }
}
