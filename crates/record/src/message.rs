//! Messages that quote what others wrote: however long that is, a message stays readable.

use std::borrow::Cow;
use std::fmt::Write;

/// The longest word of a message, in characters. Paths have no blanks and may be long; this is longer than
/// any that was made by hand.
const LONGEST_WORD: usize = 1000;

/// What is left at either end of a longer one.
const KEPT: usize = 200;

/// The longest message, in characters: a list of a hundred names has room.
const LONGEST: usize = 10_000;

/// The text with what is longer than a thousand characters without a blank cut in the middle.
pub fn with_short_words(text: &str) -> Cow<'_, str> {
    // No word has more characters than bytes.
    if text.split_whitespace().all(|word| word.len() <= LONGEST_WORD) {
        return Cow::Borrowed(text);
    }
    let mut short = String::new();
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end();
        let length = word.chars().count();
        if length > LONGEST_WORD {
            short.extend(word.chars().take(KEPT));
            // A text takes whatever is written to it.
            let _ = write!(short, "…({length} characters)…");
            short.extend(word.chars().skip(length - KEPT));
            short.push_str(&piece[word.len()..]);
        } else {
            short.push_str(piece);
        }
    }
    Cow::Owned(short)
}

/// The message with short words, and with its end left out beyond ten thousand characters.
pub fn shortened(message: &str) -> Cow<'_, str> {
    let short = with_short_words(message);
    let Some((end, _)) = short.char_indices().nth(LONGEST) else { return short };
    let left_out = short[end..].chars().count();
    Cow::Owned(format!("{}… (and {left_out} more characters)", &short[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ordinary_stays_as_it_is() {
        for text in ["", "a b\n  c", &"word ".repeat(1500), &"é".repeat(500)] {
            assert_eq!(shortened(text), text);
        }
    }

    #[test]
    fn a_long_word_keeps_its_ends_and_says_how_long_it_was() {
        let long = format!("the id {:?} is taken\n", "é".repeat(99_998));
        let short = shortened(&long);
        assert!(short.starts_with("the id \"éé") && short.ends_with("é\" is taken\n"), "{short}");
        assert!(short.contains("(100000 characters)"), "{short}");
        assert!(short.chars().count() < 500, "{short}");
    }

    #[test]
    fn a_long_message_ends_with_how_much_is_left_out() {
        let short = shortened(&"é ".repeat(6000)).into_owned();
        assert!(
            short.ends_with("é … (and 2000 more characters)"),
            "{}",
            &short[short.len() - 60..]
        );
    }
}
