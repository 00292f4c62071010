//! Places in the text of a catalog, for errors.

use std::fmt;
use std::sync::Arc;

use crate::CatalogError;

/// A place in a catalog file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file, or `models.toml` for the one built in.
    pub origin: Arc<str>,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.origin, self.line)
    }
}

/// A catalog as it was written, in which places are looked up.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) origin: Arc<str>,
    pub(super) text: String,
}

impl Text {
    /// The line of a byte.
    pub(super) fn location(&self, offset: usize) -> Location {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = 1 + before.matches('\n').count();
        Location { origin: Arc::clone(&self.origin), line }
    }

    /// The parser's error with its place and the text there.
    pub(super) fn syntax(&self, error: &toml::de::Error) -> CatalogError {
        let span = error.span().unwrap_or(0..0);
        let first_line = |text: &str| text.lines().next().unwrap_or_default().trim().to_owned();
        CatalogError::Syntax {
            location: self.location(span.start),
            message: error.message().replace('\n', ", "),
            snippet: self.text.get(span).map(first_line).unwrap_or_default(),
        }
    }
}
