//! Making text harmless, whoever wrote it.

use std::borrow::Cow;
use std::fmt::Write;

/// Characters that do something to a screen instead of standing on it: control characters, marks that
/// turn the direction of writing, line separators, and those that nobody sees.
fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
                | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Text in ASCII, for a locale that has no more: signs of this program as others write them, all else as
/// `\u{e9}`.
pub fn ascii(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut raised = false;
    let spelt = text.chars().fold(String::with_capacity(text.len()), |mut spelt, c| {
        let before = std::mem::replace(&mut raised, superscript(c).is_some());
        if let Some(c) = superscript(c) {
            if !before {
                spelt.push('^');
            }
            spelt.push(c);
            return spelt;
        }
        match c {
            '±' => spelt.push_str("+/-"),
            'µ' | 'μ' => spelt.push('u'),
            'Ω' => spelt.push_str("Ohm"),
            '×' => spelt.push('x'),
            '·' | '•' | '–' | '—' | '─' | '−' => spelt.push('-'),
            '│' => spelt.push('|'),
            '…' | '┆' => spelt.push_str("..."),
            '→' => spelt.push_str("->"),
            '←' => spelt.push_str("<-"),
            '≥' => spelt.push_str(">="),
            '≤' => spelt.push_str("<="),
            '≈' => spelt.push('~'),
            '≠' => spelt.push_str("!="),
            '√' => spelt.push_str("sqrt "),
            'π' => spelt.push_str("pi"),
            '°' => spelt.push_str("deg "),
            '€' => spelt.push_str("EUR"),
            '“' | '”' => spelt.push('"'),
            '‘' | '’' => spelt.push('\''),
            '\u{a0}' | '\u{202f}' => spelt.push(' '),
            c if c.is_ascii() => spelt.push(c),
            c => spelt.extend(c.escape_unicode()),
        }
        spelt
    });
    Cow::Owned(spelt)
}

/// What a raised sign stands for.
fn superscript(c: char) -> Option<char> {
    const RAISED: &str = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿᵀ";
    let at = RAISED.chars().position(|raised| raised == c)?;
    "0123456789-nT".chars().nth(at)
}

/// Text for a terminal: what could move the cursor, colour or hide text is written as `\u{1b}`.
pub fn terminal(text: &str) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().fold(String::new(), |mut escaped, c| {
        if is_active(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
        escaped
    });
    Cow::Owned(escaped)
}

/// Text for Markdown: cannot end a table's cell, start HTML, markup or a link, or call a GitHub user.
pub fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in terminal(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' => {
                escaped.push('\\');
                escaped.push(c);
            }
            // The invisible space keeps `@name` from notifying someone.
            '@' => escaped.push_str("@\u{200b}"),

            _ => escaped.push(c),
        }
    }
    if escaped.starts_with("- ") || escaped.starts_with("+ ") {
        escaped.insert(0, '\\');
    }
    // GitHub makes links of bare addresses, too.
    let escaped = escaped.replace("://", ":&#47;&#47;");
    without(&escaped, "www.", "&#46;")
}

/// Text with another end wherever a word stands in it, in whatever letters.
fn without(text: &str, word: &str, end: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut changed = String::with_capacity(text.len());
    let mut from = 0;
    for (at, _) in lower.match_indices(word) {
        let to = at + word.len();
        changed.push_str(&text[from..to - 1]);
        changed.push_str(end);
        from = to;
    }
    changed + &text[from..]
}

/// A path for the parentheses of a Markdown link: everything but its own letters and slashes in percents.
pub fn link(path: &str) -> String {
    path.bytes().fold(String::with_capacity(path.len()), |mut link, byte| {
        if byte.is_ascii_alphanumeric() || b"._~/-".contains(&byte) {
            link.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(link, "%{byte:02X}");
        }
        link
    })
}

/// Text for a cell of CSV: a spreadsheet takes it for text and not for a formula. Quoting is left to
/// the CSV writer; a spreadsheet that parts cells at semicolons heeds none of its quotes, so what stands
/// after one counts as a cell.
pub fn csv(text: &str) -> String {
    let text = terminal(text);
    let neutral = |cell: &str| {
        if starts_a_formula(cell) { format!("'{cell}") } else { cell.to_owned() }
    };
    text.split(';').map(neutral).collect::<Vec<_>>().join(";")
}

/// Full-width signs count: there are spreadsheets that take them for what they look like.
fn starts_a_formula(cell: &str) -> bool {
    let cell = cell.trim_start_matches(|c: char| c.is_whitespace() || c == '"');
    cell.starts_with([
        '=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}', '\u{2212}',
    ])
}

/// A finished JSON text in which no character acts on a screen. JSON escapes most of them itself; the
/// rest can only stand inside strings, where an escape means the same.
pub fn json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_active(c) && c != '\n' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// A finished page of HTML, whose text maud has escaped: the characters that do something wherever they
/// stand are written as `\u{1b}`. The page's own line ends stay.
pub fn html(page: String) -> String {
    if !page.contains(|c| is_active(c) && c != '\n') {
        return page;
    }
    page.chars().fold(String::with_capacity(page.len()), |mut escaped, c| {
        if is_active(c) && c != '\n' {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_show_what_they_stand_for() {
        assert_eq!(terminal("a\u{1b}[31mb\u{9b}\n\u{202e}"), "a\\u{1b}[31mb\\u{9b}\\n\\u{202e}");
        assert_eq!(terminal("Größe µs"), "Größe µs");
        assert_eq!(markdown("a|b<i>`c`@d\n"), "a\\|b&lt;i&gt;\\`c\\`@\u{200b}d\\\\n");
        assert_eq!(markdown("http://x"), "http:&#47;&#47;x");
        assert_eq!(csv("=1+1"), "'=1+1");
        assert_eq!(csv("  -2"), "'  -2");
        assert_eq!(csv("x;=1"), "x;'=1");
        assert_eq!(csv("\u{ff1d}1"), "'\u{ff1d}1");
        assert_eq!(csv("\t=1"), "\\t=1");
        assert_eq!(markdown("see WWW.example.org"), "see WWW&#46;example.org");
        assert_eq!(markdown("- x"), "\\- x");
        assert_eq!(link("x) <b>/\u{1b}a_1.jsonl"), "x%29%20%3Cb%3E/%1Ba_1.jsonl");
        assert_eq!(ascii("5 µs ± 2 %, 10⁻⁹ m², é"), "5 us +/- 2 %, 10^-9 m^2, \\u{e9}");
        assert_eq!(terminal("a\u{61c}b\u{e0041}"), "a\\u{61c}b\\u{e0041}");
        assert_eq!(csv("f16 = half"), "f16 = half");
        assert_eq!(json("\"\u{9b}\u{2028}\"\n"), "\"\\u009b\\u2028\"\n");
    }

    proptest! {
        #[test]
        fn no_text_stays_active(text in any::<String>()) {
            prop_assert!(!terminal(&text).contains(is_active));
            let spaced = markdown(&text).replace("@\u{200b}", "");
            prop_assert!(!spaced.contains(is_active));
            prop_assert!(!spaced.contains(['<', '>', '@']));
            prop_assert!(!csv(&text).split(';').any(starts_a_formula));
            prop_assert!(ascii(&text).is_ascii());
        }

        #[test]
        fn escaped_json_means_the_same(text in any::<String>()) {
            let json_text = serde_json::to_string(&text).unwrap();
            let escaped = json(&json_text);
            prop_assert!(!escaped.contains(is_active));
            prop_assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
        }
    }
}
