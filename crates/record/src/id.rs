//! Benchmark ids: `text/gpt2-124m/decode/f16/b8/c128@warpmark`.
//!
//! The first segment names the bench target (`micro`, `load`, `text`, ...), the next ones go from the
//! general to the particular, and behind `@` stands the engine: two programs never share one name.

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

/// Why a text is no benchmark id or filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// No engine behind `@`.
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
    /// An empty filter would silently select nothing or everything.
    #[error("the filter {0:?} has an empty part; leave the option out to select everything")]
    EmptyFilter(String),
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

/// A selection of ids: alternatives separated by commas, each one a run of neighbouring segments,
/// with `!` in front to leave its matches out.
///
/// `decode` or `gpt2/decode` or `@warpmark` or `matmul/f16/*,!4096*`. A pattern stands for a segment
/// that equals it or goes on with something other than a letter or digit: `gpt2` selects `gpt2-124m`,
/// and `f16` does not select `bf16`. `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    chosen: Vec<Pattern>,
    refused: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    segments: Vec<String>,
    engine: Option<String>,
}

impl Filter {
    /// Whether the filter selects an id. The empty filter selects every id.
    pub fn selects(&self, id: &BenchmarkId) -> bool {
        let chosen = self.chosen.is_empty() || self.chosen.iter().any(|p| p.matches(id));
        chosen && !self.refused.iter().any(|pattern| pattern.matches(id))
    }
}

impl FromStr for Filter {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut filter = Self::default();
        for part in text.split(',').map(str::trim) {
            let (list, pattern) = match part.strip_prefix('!') {
                Some(rest) => (&mut filter.refused, rest),
                None => (&mut filter.chosen, part),
            };
            list.push(Pattern::parse(text, pattern)?);
        }
        Ok(filter)
    }
}

impl Pattern {
    fn parse(filter: &str, text: &str) -> Result<Self, IdError> {
        let (path, engine) = match text.split_once('@') {
            Some((path, engine)) => (path, Some(engine.to_owned())),
            None => (text, None),
        };
        let segments: Vec<String> =
            if path.is_empty() { vec![] } else { path.split('/').map(str::to_owned).collect() };
        let mut parts = segments.iter().chain(&engine);
        if parts.any(String::is_empty) || (segments.is_empty() && engine.is_none()) {
            return Err(IdError::EmptyFilter(filter.to_owned()));
        }
        Ok(Self { segments, engine })
    }

    fn matches(&self, id: &BenchmarkId) -> bool {
        if self.engine.as_ref().is_some_and(|engine| !segment_matches(engine, &id.engine)) {
            return false;
        }
        self.segments.is_empty()
            || id.segments.windows(self.segments.len()).any(|window| {
                window.iter().zip(&self.segments).all(|(s, pattern)| segment_matches(pattern, s))
            })
    }
}

fn segment_matches(pattern: &str, segment: &str) -> bool {
    if pattern.contains('*') {
        return glob_matches(pattern, segment);
    }
    segment
        .strip_prefix(pattern)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

fn glob_matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| glob_matches(tail, &rest[at..]))
        }),
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
    fn a_filter_selects_whole_segments_and_their_variants() {
        let decode = id("text/gpt2-124m/decode/bf16/b1@warpmark");
        let selects = |filter: &str| filter.parse::<Filter>().unwrap().selects(&decode);
        assert!(selects("gpt2/decode"));
        assert!(selects("@warpmark"));
        assert!(selects("b*16"));
        assert!(selects("prefill,decode"));
        assert!(!selects("f16"));
        assert!(!selects("gpt2/bf16"));
        assert!(!selects("decode,!b1"));
        assert!(selects("!b2"));
    }

    #[test]
    fn an_empty_filter_part_is_an_error() {
        for text in ["", "a,,b", "!", "a//b", "@"] {
            assert!(text.parse::<Filter>().is_err(), "{text:?}");
        }
    }
}
