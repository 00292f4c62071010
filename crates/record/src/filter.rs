//! Filters: which benchmarks are meant, in a few words.

use std::fmt;
use std::str::FromStr;

use crate::id::{BenchmarkId, IdError, LONGEST_FILTER};

/// A selection of ids: alternatives separated by commas, each one a run of neighbouring segments,
/// with `!` in front to leave its matches out.
///
/// `decode` or `gpt2/decode` or `@warpmark` or `matmul/f16/*,!4096*`. A pattern stands for a segment
/// that equals it or goes on with something other than a letter or digit: `gpt2` selects `gpt2-124m`,
/// and `f16` does not select `bf16`. `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    parts: Vec<FilterPart>,
}

/// What stands between two commas of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterPart {
    refuses: bool,
    segments: Vec<String>,
    engine: Option<String>,
}

impl Filter {
    /// Whether the filter selects an id. The empty filter selects every id.
    pub fn selects(&self, id: &BenchmarkId) -> bool {
        let (mut any, mut chosen) = (false, false);
        for part in &self.parts {
            if part.refuses {
                if part.matches(id) {
                    return false;
                }
            } else {
                any = true;
                chosen = chosen || part.matches(id);
            }
        }
        chosen || !any
    }

    /// Its parts, in the order in which they stand.
    pub fn parts(&self) -> &[FilterPart] {
        &self.parts
    }
}

impl FromStr for Filter {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let length = text.chars().count();
        if length > LONGEST_FILTER {
            return Err(IdError::FilterTooLong(length));
        }
        let parts = text.split(',').map(str::trim).map(|part| {
            FilterPart::parse(part).ok_or_else(|| IdError::EmptyFilter(text.to_owned()))
        });
        Ok(Self { parts: parts.collect::<Result<_, _>>()? })
    }
}

impl FilterPart {
    fn parse(text: &str) -> Option<Self> {
        let (refuses, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (path, engine) = match text.split_once('@') {
            Some((path, engine)) => (path, Some(engine.to_owned())),
            None => (text, None),
        };
        let segments: Vec<String> =
            if path.is_empty() { vec![] } else { path.split('/').map(str::to_owned).collect() };
        let empty = segments.iter().chain(&engine).any(String::is_empty);
        let nothing = segments.is_empty() && engine.is_none();
        (!empty && !nothing).then_some(Self { refuses, segments, engine })
    }

    /// Whether it leaves its matches out.
    pub fn refuses(&self) -> bool {
        self.refuses
    }

    /// Whether an id is meant, to be chosen or to be left out.
    pub fn matches(&self, id: &BenchmarkId) -> bool {
        if self.engine.as_ref().is_some_and(|engine| !segment_matches(engine, id.engine())) {
            return false;
        }
        self.segments.is_empty()
            || id.segments().windows(self.segments.len()).any(|window| {
                window.iter().zip(&self.segments).all(|(s, pattern)| segment_matches(pattern, s))
            })
    }

    /// The same part with another word for each pattern, segments first, that `other` knows one for.
    #[must_use]
    pub fn with_words(&self, other: impl Fn(&str, Word) -> Option<String>) -> Self {
        let word = |pattern: &String, kind| other(pattern, kind).unwrap_or_else(|| pattern.clone());
        Self {
            refuses: self.refuses,
            segments: self.segments.iter().map(|pattern| word(pattern, Word::Segment)).collect(),
            engine: self.engine.as_ref().map(|pattern| word(pattern, Word::Engine)),
        }
    }
}

/// What a pattern of a filter stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// A segment of an id.
    Segment,
    /// An id's engine.
    Engine,
}

impl fmt::Display for FilterPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engine = self.engine.as_ref().map_or_else(String::new, |engine| format!("@{engine}"));
        write!(f, "{}{}{engine}", if self.refuses { "!" } else { "" }, self.segments.join("/"))
    }
}

/// Whether a pattern of a filter stands for a segment, or for an engine.
pub fn segment_matches(pattern: &str, segment: &str) -> bool {
    if pattern.contains('*') {
        return glob_matches(pattern.as_bytes(), segment.as_bytes());
    }
    segment
        .strip_prefix(pattern)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

/// Each star takes as little as it can; only the last one passed ever has to take more, so that the time
/// grows with the product of both lengths at worst.
fn glob_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    // After the last star, and what of the text it has not taken.
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, read));
        } else if pattern.get(at) == text.get(read) {
            at += 1;
            read += 1;
        } else if let Some((after, taken)) = star {
            at = after;
            read = taken + 1;
            star = Some((after, read));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> BenchmarkId {
        text.parse().unwrap()
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
        assert!("a".repeat(LONGEST_FILTER + 1).parse::<Filter>().is_err());
    }

    #[test]
    fn stars_stand_for_any_run_of_characters() {
        for (pattern, text) in
            [("*", "abc"), ("a*c", "abbc"), ("*b*", "abc"), ("a**", "a"), ("*bc*bd", "abcbcbd")]
        {
            assert!(segment_matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a*b", "abc"), ("*x*", "abc"), ("b*", "abc"), ("*a", "ab")] {
            assert!(!segment_matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_longer_than_one() {
        // A matcher that tries every share of every star would not end in a lifetime.
        let pattern = "a*".repeat(60) + "b";
        assert!(!segment_matches(&pattern, &"a".repeat(280)));
    }

    #[test]
    fn a_part_is_written_as_it_was_read() {
        let filter: Filter = "gpt2/decode@warpmark, !b*,@x".parse().unwrap();
        let parts: Vec<String> = filter.parts().iter().map(ToString::to_string).collect();
        assert_eq!(parts, ["gpt2/decode@warpmark", "!b*", "@x"]);
        let other = filter.parts()[0].with_words(|word, _| (word == "gpt2").then(|| "gpt3".into()));
        assert_eq!(other.to_string(), "gpt3/decode@warpmark");
    }
}
