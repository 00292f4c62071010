//! Making text harmless, whoever wrote it.

use std::borrow::Cow;
use std::fmt::Write;

/// Characters that do something to a screen instead of standing on it: control characters, marks that
/// turn the direction of writing, line separators.
fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
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
    escaped.replace("://", ":&#47;&#47;")
}

/// Text for a cell of CSV: a spreadsheet takes it for text and not for a formula. Quoting is left to
/// the CSV writer.
pub fn csv(text: &str) -> String {
    let text = terminal(text);
    if text.trim_start().starts_with(['=', '+', '-', '@']) {
        return format!("'{text}");
    }
    text.into_owned()
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
            prop_assert!(!csv(&text).trim_start().starts_with(['=', '+', '-', '@']));
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
