//! Benchmark ids: `text/gpt2-124m/decode/f16/b8/c128@warpmark`.
//!
//! The first segment names the bench target (`micro`, `load`, `text`, ...), the next ones go from the
//! general to the particular, and after `@` stands the engine: two programs never share one name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a benchmark, unique within a run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BenchmarkId {
    segments: Vec<String>,
    engine: String,
}

/// The most characters that an id may have; the longest of this program has some sixty.
const LONGEST: usize = 300;
/// The most characters that a filter may have.
pub(crate) const LONGEST_FILTER: usize = 10_000;

/// Why a text is no benchmark id or filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// No engine after `@`.
    #[error("benchmark id {0:?} has no engine: expected group/subject/...@engine")]
    NoEngine(String),
    /// Fewer than two segments.
    #[error("benchmark id {0:?} has fewer than two segments: expected group/subject/...@engine")]
    TooShort(String),
    /// A segment is empty or holds a character that is not allowed.
    #[error(
        "{segment:?} in {id:?} is no segment: use letters, digits and any of . _ + = - (not empty)"
    )]
    BadSegment {
        /// The whole text.
        id: String,
        /// The offending part.
        segment: String,
    },
    /// Longer than any name, and than any table is wide.
    #[error("benchmark id {start:?}... has {length} characters: {LONGEST} at most")]
    TooLong {
        /// How it begins.
        start: String,
        /// Its characters.
        length: usize,
    },
    /// A filter that nobody writes, and that would be matched for long.
    #[error("the filter has {0} characters: {LONGEST_FILTER} at most")]
    FilterTooLong(usize),
    /// An empty filter would silently select nothing or everything.
    #[error("the filter {0:?} has an empty part; leave the option out to select everything")]
    EmptyFilter(String),
}

impl IdError {
    fn too_long(id: &str, length: usize) -> Self {
        Self::TooLong { start: id.chars().take(40).collect(), length }
    }
}

fn is_segment(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._+=-".contains(c))
}

impl BenchmarkId {
    /// An id from its parts.
    ///
    /// ```
    /// use warpmark_record::BenchmarkId;
    /// let id = BenchmarkId::new(["micro", "memory", "triad"], "host")?;
    /// assert_eq!(id.to_string(), "micro/memory/triad@host");
    /// # Ok::<(), warpmark_record::IdError>(())
    /// ```
    pub fn new<S: Into<String>>(
        segments: impl IntoIterator<Item = S>,
        engine: impl Into<String>,
    ) -> Result<Self, IdError> {
        let id = Self {
            segments: segments.into_iter().map(Into::into).collect(),
            engine: engine.into(),
        };
        let parts = id.segments.iter().chain([&id.engine]);
        let length = parts.map(|part| part.chars().count() + 1).sum::<usize>() - 1;
        if length > LONGEST {
            return Err(IdError::too_long(&id.to_string(), length));
        }
        let bad = id.segments.iter().chain([&id.engine]).find(|segment| !is_segment(segment));
        if let Some(segment) = bad {
            return Err(IdError::BadSegment { id: id.to_string(), segment: segment.clone() });
        }
        if id.segments.len() < 2 {
            return Err(IdError::TooShort(id.to_string()));
        }
        Ok(id)
    }

    /// The parts before the engine, general to particular.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// The bench target: `micro`, `load`, `text`, `speech`, `image`.
    pub fn group(&self) -> &str {
        &self.segments[0]
    }

    /// What is measured: `matmul`, `memory`, or a model's name.
    pub fn subject(&self) -> &str {
        &self.segments[1]
    }

    /// The program that did the work.
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// The id without its engine, under which implementations are compared.
    pub fn path(&self) -> String {
        self.segments.join("/")
    }
}

impl fmt::Display for BenchmarkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}", self.path(), self.engine))
    }
}

impl FromStr for BenchmarkId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // Before every other message, since those repeat the text.
        let length = text.chars().count();
        if length > LONGEST {
            return Err(IdError::too_long(text, length));
        }
        let (path, engine) =
            text.split_once('@').ok_or_else(|| IdError::NoEngine(text.to_owned()))?;
        Self::new(path.split('/'), engine)
    }
}

impl TryFrom<String> for BenchmarkId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<BenchmarkId> for String {
    fn from(id: BenchmarkId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> BenchmarkId {
        text.parse().unwrap()
    }

    #[test]
    fn an_id_prints_as_it_was_parsed() {
        let text = "text/gpt2-124m/decode/f16/b8/c128@warpmark";
        assert_eq!(id(text).to_string(), text);
        assert_eq!(id(text).group(), "text");
        assert_eq!(id(text).subject(), "gpt2-124m");
        assert_eq!(id(text).engine(), "warpmark");
    }

    #[test]
    fn a_text_that_is_no_id_is_refused_with_its_fault() {
        for text in ["micro/x", "micro@x", "a//b@c", "a/b c@d", "a/b@", "a/\u{1b}[31m@d", ""] {
            assert!(text.parse::<BenchmarkId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_id_that_is_longer_than_any_is_refused_in_few_words() {
        let long = format!("text/tiny/{}@warpmark", "A".repeat(100_000));
        let error = long.parse::<BenchmarkId>().unwrap_err().to_string();
        assert!(error.contains("100019 characters") && error.len() < 300, "{error}");
        let fits = format!("text/tiny/{}@warpmark", "A".repeat(LONGEST - 19));
        assert!(fits.parse::<BenchmarkId>().is_ok());
    }
}
