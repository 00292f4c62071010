//! Tables that sort at a click on a column's head.

use maud::{Markup, PreEscaped, html};

/// A cell.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    /// Text.
    Text(String),
    /// An id. A table whose first column holds some sets that column in letters of one width.
    Code(String),
    /// A share with a bar behind it, 0 to 1.
    Share(String, f64),
    /// A share of the best of its line, 0 to 1, as the cell's colour.
    Heat(String, f64),
    /// A word that has a colour of its own, as what bounds a row.
    Word(String),
    /// Anything that is no text.
    Drawn(Markup),
}

impl Cell {
    /// The cell without its end, which HTML does not ask for: of ten thousand rows they would be half a
    /// megabyte.
    fn write(&self) -> Markup {
        let (start, content) = match self {
            Self::Text(text) | Self::Code(text) => ("<td>".to_owned(), html! { (text) }),
            Self::Share(text, share) => {
                (format!("<td style=\"--s:{:.2}\">", share.clamp(0.0, 1.0)), html! { (text) })
            }
            Self::Heat(text, share) => {
                let share = share.clamp(0.0, 1.0) * 100.0;
                (format!("<td style=\"--h:{share:.0}%\">"), html! { (text) })
            }
            Self::Word(word) => {
                let class = html! { (word) }.into_string();
                (format!("<td class=\"{class}\">"), html! { (word) })
            }
            Self::Drawn(markup) => ("<td class=\"drawn\">".to_owned(), markup.clone()),
        };
        html! { (PreEscaped(start)) (content) }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// The head of a column.
#[derive(Debug, Clone)]
pub(super) struct Head {
    title: String,
    right: bool,
}

/// A column of words.
pub(super) fn words(title: &str) -> Head {
    Head { title: title.to_owned(), right: false }
}

/// A column of numbers.
pub(super) fn numbers(title: &str) -> Head {
    Head { title: title.to_owned(), right: true }
}

/// From so many rows on, a table is laid out only when it comes into view.
const LONG: usize = 40;

/// A table. Which columns hold numbers is said once, as a class of the table: a class on every cell of ten
/// thousand rows would be half a megabyte.
pub(super) fn table(heads: &[Head], rows: impl Iterator<Item = Vec<Cell>>) -> Markup {
    let right = heads.iter().enumerate().filter(|(_, head)| head.right);
    let mut classes: Vec<String> = right.map(|(at, _)| format!("r{}", at + 1)).collect();
    let rows: Vec<Vec<Cell>> = rows.collect();
    let ids = rows.first().is_some_and(|row| matches!(row.first(), Some(Cell::Code(_))));
    classes.extend(ids.then(|| "ids".to_owned()));
    let long = rows.len() >= LONG;
    html! {
        div.scroll.long[long] tabindex="0" style=[long.then(|| format!("--n:{}", rows.len()))] {
            table class=(classes.join(" ")) {
                thead {
                    tr {
                        @for head in heads {
                            th scope="col" { button type="button" { (head.title) } }
                        }
                    }
                }
                tbody {
                    @for row in rows {
                        (PreEscaped("<tr>")) @for cell in row { (cell.write()) }
                    }
                }
            }
        }
    }
}
