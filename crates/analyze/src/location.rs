//! Where in a file something stands, so that an error can name the line.

use std::fmt;
use std::ops::Range;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The file, as a person would name it.
    pub origin: String,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.origin, self.line)
    }
}

/// A file's text and its name.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    pub(crate) origin: &'a str,
    pub(crate) text: &'a str,
}

impl Text<'_> {
    /// The line on which a range of bytes begins.
    pub(crate) fn location(&self, span: &Range<usize>) -> Location {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        Location { origin: self.origin.to_owned(), line: 1 + before.matches('\n').count() }
    }

    /// The line of a fault in the TOML, and the fault without the excerpt that TOML adds.
    pub(crate) fn fault(&self, error: &toml::de::Error) -> (Location, String) {
        let location = self.location(&error.span().unwrap_or(0..0));
        (location, error.message().trim().chars().flat_map(escaped).collect())
    }
}

/// Control characters that a file smuggled into a message are escaped: errors end on terminals.
fn escaped(c: char) -> Vec<char> {
    if c.is_control() { c.escape_default().collect() } else { vec![c] }
}
