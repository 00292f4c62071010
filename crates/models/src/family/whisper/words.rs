//! How far a transcript is from what was said.

use std::fmt;

/// Words that are wrong, missing or too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WordErrors {
    errors: usize,
    words: usize,
}

impl fmt::Display for WordErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = 100.0 * self.errors as f64 / self.words.max(1) as f64;
        write!(
            f,
            "word error rate {rate:.1} %: {} wrong, missing or added beside {} words of the reference \
             text, case and punctuation left out",
            self.errors, self.words
        )
    }
}

/// The fewest words to be replaced, left out or added to get from one text to the other (Levenshtein
/// 1966), in lower case and without punctuation.
pub(super) fn word_errors(expected: &str, found: &str) -> WordErrors {
    let (expected, found) = (words(expected), words(found));
    // Distances of all beginnings of `expected` from the words of `found` so far.
    let mut distances: Vec<usize> = (0..=expected.len()).collect();
    for (count, word) in found.iter().enumerate() {
        let mut diagonal = distances[0];
        distances[0] = count + 1;
        for (index, other) in expected.iter().enumerate() {
            let replaced = diagonal + usize::from(word != other);
            diagonal = distances[index + 1];
            distances[index + 1] = replaced.min(diagonal + 1).min(distances[index] + 1);
        }
    }
    WordErrors { errors: distances[expected.len()], words: expected.len() }
}

fn words(text: &str) -> Vec<String> {
    let plain = |c: char| if c.is_alphanumeric() || c == '\'' { c } else { ' ' };
    let text: String = text.chars().map(plain).collect();
    text.split_whitespace().map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(expected: &str, found: &str) -> (usize, usize) {
        let WordErrors { errors, words } = word_errors(expected, found);
        (errors, words)
    }

    /// The figures are jiwer 4's on lower-case words without punctuation.
    #[test]
    fn words_that_differ_are_missing_or_added_count_once_each() {
        assert_eq!(counted("The quick, brown fox.", "the quick brown fox"), (0, 4));
        assert_eq!(counted("the quick brown fox", "the slow brown fox jumps"), (2, 4));
        assert_eq!(counted("the quick brown fox", "quick fox"), (2, 4));
        assert_eq!(counted("a b c d", "d c b a"), (4, 4));
        assert_eq!(counted("a b", ""), (2, 2));
        assert_eq!(counted("", "a b"), (2, 0));
    }

    #[test]
    fn the_rate_is_said_in_words() {
        let text = word_errors("the quick brown fox", "the slow brown fox").to_string();
        assert!(text.starts_with("word error rate 25.0 %: 1 wrong"), "{text}");
    }
}
