//! How far a transcript is from what was said.

use std::fmt;

use strsim::generic_levenshtein;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_script::{Script, UnicodeScript};

/// The fewest units of a text to be replaced, left out or added to get to another (Levenshtein 1966).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Errors {
    errors: usize,
    units: usize,
}

impl Errors {
    fn percent(self) -> f64 {
        100.0 * self.errors as f64 / self.units.max(1) as f64
    }
}

/// What is wrong with a transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextErrors {
    /// `None` where the reference text is written without spaces between words.
    words: Option<Errors>,
    characters: Errors,
}

/// What both rates are computed on, in the words of rows.
const NORMALISED: &str = "in lower case and without punctuation; numbers, spellings and fillers count as \
                          they are written, unlike on the open ASR leaderboard";

impl fmt::Display for TextErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let characters = self.characters;
        if let Some(words) = self.words {
            return write!(
                f,
                "word error rate {:.1} %: {} wrong, missing or added beside {} words of the reference text; \
                 character error rate {:.1} %; {NORMALISED}",
                words.percent(),
                words.errors,
                words.units,
                characters.percent()
            );
        }
        write!(
            f,
            "character error rate {:.1} %: {} wrong, missing or added beside {} characters of the reference \
             text, which is written without spaces between words, so that there is no word error rate; \
             {NORMALISED}",
            characters.percent(),
            characters.errors,
            characters.units
        )
    }
}

/// Holds a transcript against what was said.
pub fn text_errors(expected: &str, found: &str) -> TextErrors {
    let spaced = !is_unspaced(expected);
    let (expected, found) = (words(expected), words(found));
    // As in jiwer, a space is a character; not where it tells no words apart.
    let characters = |words: &[String]| -> Vec<char> {
        words.join(if spaced { " " } else { "" }).chars().collect()
    };
    let (there, here) = (characters(&expected), characters(&found));
    let characters = Errors { errors: generic_levenshtein(&there, &here), units: there.len() };
    let words = spaced
        .then(|| Errors { errors: generic_levenshtein(&expected, &found), units: expected.len() });
    TextErrors { words, characters }
}

/// Whether most letters of a text are of scripts that do not put spaces between words: those that Whisper
/// (Radford et al. 2022) is rated by characters in, and their neighbours. Korean has spaces.
fn is_unspaced(text: &str) -> bool {
    let (mut unspaced, mut letters) = (0usize, 0usize);
    for letter in text.chars().filter(|c| c.is_alphabetic()) {
        letters += 1;
        unspaced += usize::from(matches!(
            letter.script(),
            Script::Han
                | Script::Hiragana
                | Script::Katakana
                | Script::Bopomofo
                | Script::Yi
                | Script::Thai
                | Script::Lao
                | Script::Khmer
                | Script::Myanmar
                | Script::Tibetan
        ));
    }
    2 * unspaced > letters
}

/// The words of a text in one form: composed and compatible characters (NFKC), lower case, no punctuation.
/// Marks stay, which belong to their letters: vowels in Thai and Hindi, accents that were not composed.
fn words(text: &str) -> Vec<String> {
    let plain = |c: char| match c {
        '\'' | '\u{2019}' | '\u{02bc}' => '\'',
        c if c.is_alphanumeric() || is_combining_mark(c) => c,
        _ => ' ',
    };
    let text: String = text.nfkc().map(plain).collect();
    // An apostrophe within a word is part of it, one around it a quotation mark.
    let word = |word: &str| word.trim_matches('\'').to_lowercase();
    text.split_whitespace().map(word).filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(expected: &str, found: &str) -> (usize, usize) {
        let Errors { errors, units } = text_errors(expected, found).words.unwrap();
        (errors, units)
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
    fn the_same_word_in_another_form_of_writing_is_no_error() {
        assert_eq!(counted("don\u{2019}t \u{2018}go\u{2019}", "don't 'go'"), (0, 2));
        // Composed and not, full width and not, a virama and a tone mark within a word.
        assert_eq!(counted("caf\u{e9} ole", "cafe\u{301} \u{ff2f}LE"), (0, 2));
        assert_eq!(counted("हिन्दी में", "हिन्दी में"), (0, 2));
        assert_eq!(text_errors("น้ำ", "น้ำ").characters.errors, 0);
    }

    /// A sentence without a space is one word: any slip in it was an error rate of 100 %.
    #[test]
    fn texts_without_spaces_are_rated_by_characters() {
        for (expected, found, errors, units) in [
            ("今天天气很好。", "今天天汽很好", 1, 6),
            ("今日は、いい天気です", "今日はいい 天気", 2, 9),
            ("สวัสดี", "สวัสดิ", 1, 6),
        ] {
            let found = text_errors(expected, found);
            assert_eq!(found.words, None, "{expected}");
            assert_eq!(found.characters, Errors { errors, units }, "{expected}");
        }
        // A foreign name in Chinese, and a Chinese one in English; Korean has spaces.
        assert_eq!(text_errors("我用Rust写程序很开心", "").words, None);
        assert!(text_errors("The character 好 means good", "").words.is_some());
        assert_eq!(counted("오늘 날씨가 좋다", "오늘 날씨는 좋다"), (1, 3));
    }

    #[test]
    fn the_rates_are_said_in_words() {
        let text = text_errors("the quick brown fox", "the slow brown fox").to_string();
        assert!(text.starts_with("word error rate 25.0 %: 1 wrong"), "{text}");
        assert!(text.contains("character error rate 26.3 %"), "{text}");
        assert!(text.contains("unlike on the open ASR leaderboard"), "{text}");
        let text = text_errors("今天天气很好", "今天天汽很好").to_string();
        assert!(text.starts_with("character error rate 16.7 %: 1 wrong"), "{text}");
        assert!(text.contains("no word error rate"), "{text}");
    }
}
