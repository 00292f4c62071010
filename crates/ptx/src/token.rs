//! PTX text as words.

use super::refusal::Refusal;

/// A word, a string or a sign, and the line of the text that it stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    pub(super) line: u32,
}

fn of_a_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_$%.".contains(&byte)
}

/// Cuts a text into its tokens; comments and white space are left out.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Refusal> {
    let bytes = text.as_bytes();
    let (mut at, mut line, mut found) = (0, 1, Vec::new());
    while at < bytes.len() {
        let rest = &text.as_bytes()[at..];
        let len = match bytes[at] {
            byte if byte.is_ascii_whitespace() => {
                line += u32::from(byte == b'\n');
                at += 1;
                continue;
            }
            b'/' if rest.starts_with(b"//") => {
                at += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
                continue;
            }
            b'/' if rest.starts_with(b"/*") => {
                let end = rest.windows(2).position(|pair| pair == b"*/");
                let end = end.ok_or_else(|| Refusal::new(line, "a comment has no end"))? + 2;
                line += text[at..at + end].matches('\n').count() as u32;
                at += end;
                continue;
            }
            b'"' => {
                let end = rest[1..].iter().position(|b| *b == b'"');
                end.ok_or_else(|| Refusal::new(line, "a string has no end"))? + 2
            }
            byte if of_a_word(byte) => word_len(rest),
            byte if byte.is_ascii() => 1,
            _ => return Err(Refusal::new(line, "a character that is not ASCII")),
        };
        found.push(Token { text: &text[at..at + len], line });
        at += len;
    }
    Ok(found)
}

/// A word may have `::` inside, as `.shared::cta` has.
fn word_len(rest: &[u8]) -> usize {
    let mut len = 0;
    loop {
        len += rest[len..].iter().take_while(|byte| of_a_word(**byte)).count();
        let goes_on =
            rest[len..].starts_with(b"::") && rest.get(len + 2).is_some_and(|b| of_a_word(*b));
        if !goes_on {
            return len;
        }
        len += 2;
    }
}

/// A place in a list of tokens.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'t, 'a> {
    tokens: &'t [Token<'a>],
    pub(super) at: usize,
}

impl<'t, 'a> Cursor<'t, 'a> {
    pub(super) fn new(tokens: &'t [Token<'a>]) -> Self {
        Self { tokens, at: 0 }
    }

    /// The same text, from another place on.
    pub(super) fn from(&self, at: usize) -> Self {
        Self { tokens: self.tokens, at }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// The next word; empty at the end.
    pub(super) fn peek(&self) -> &'a str {
        self.tokens.get(self.at).map_or("", |token| token.text)
    }

    pub(super) fn line(&self) -> u32 {
        let last = self.tokens.len().saturating_sub(1);
        self.tokens.get(self.at.min(last)).map_or(0, |token| token.line)
    }

    pub(super) fn refuse(&self, what: impl Into<String>) -> Refusal {
        Refusal::new(self.line(), what)
    }

    pub(super) fn next(&mut self) -> Result<&'a str, Refusal> {
        let token = self.tokens.get(self.at);
        let token = token.ok_or_else(|| self.refuse("the text ends in the middle"))?;
        self.at += 1;
        Ok(token.text)
    }

    pub(super) fn eat(&mut self, word: &str) -> bool {
        let there = self.peek() == word;
        self.at += usize::from(there);
        there
    }

    pub(super) fn expect(&mut self, word: &str) -> Result<(), Refusal> {
        let found = self.next()?;
        if found == word {
            return Ok(());
        }
        self.at -= 1;
        Err(self.refuse(format!("\"{found}\" where \"{word}\" belongs")))
    }

    pub(super) fn skip_past(&mut self, word: &str) -> Result<(), Refusal> {
        while self.next()? != word {}
        Ok(())
    }

    /// Steps over a block in braces, from its opening one on.
    pub(super) fn skip_block(&mut self) -> Result<(), Refusal> {
        self.expect("{")?;
        let mut depth = 1;
        while depth > 0 {
            match self.next()? {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// A whole number that fits into a `u32`.
    pub(super) fn count(&mut self) -> Result<u32, Refusal> {
        let word = self.next()?;
        let number = number(word).and_then(|number| u32::try_from(number).ok());
        number.ok_or_else(|| self.refuse(format!("\"{word}\" where a count belongs")))
    }
}

/// The bits of a literal: whole numbers in all three bases, and `0f` and `0d` with the bits in hex.
pub(super) fn number(word: &str) -> Option<u64> {
    let digits = word.trim_end_matches('U');
    let lower = digits.get(..2).map(str::to_ascii_lowercase);
    match lower.as_deref() {
        Some("0f" | "0d" | "0x") => u64::from_str_radix(&digits[2..], 16).ok(),
        Some("0b") => u64::from_str_radix(&digits[2..], 2).ok(),
        _ if digits.len() > 1 && digits.starts_with('0') => {
            u64::from_str_radix(&digits[1..], 8).ok()
        }
        _ => digits.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_signs_and_strings_are_told_apart_with_their_lines() {
        let text =
            "ld.shared::cta.u32 %r1, [a+4]; // end\n/* x\n */ @!%p1 bra $L_1;\n.file 1 \"a b\"";
        let found = tokens(text).unwrap();
        let words: Vec<&str> = found.iter().map(|token| token.text).collect();
        let expected = [
            "ld.shared::cta.u32",
            "%r1",
            ",",
            "[",
            "a",
            "+",
            "4",
            "]",
            ";",
            "@",
            "!",
            "%p1",
            "bra",
            "$L_1",
            ";",
            ".file",
            "1",
            "\"a b\"",
        ];
        assert_eq!(words, expected);
        assert_eq!((found[0].line, found[9].line, found[17].line), (1, 3, 4));
    }

    #[test]
    fn literals_are_read_in_every_base() {
        let read =
            ["10", "0x1F", "017", "0b101", "0f3F800000", "0dBFF0000000000000", "5U", "%r1", "0"];
        let read = read.map(number);
        let f64 = Some((-1.0_f64).to_bits());
        assert_eq!(
            read,
            [Some(10), Some(31), Some(15), Some(5), Some(0x3F80_0000), f64, Some(5), None, Some(0)]
        );
    }

    #[test]
    fn torn_texts_are_refused_where_they_end() {
        assert_eq!(tokens("a\n/* b").unwrap_err().to_string(), "PTX line 2: a comment has no end");
        assert_eq!(tokens("\"b").unwrap_err().to_string(), "PTX line 1: a string has no end");
        let found = tokens("{ { }").unwrap();
        let torn = Cursor::new(&found).skip_block().unwrap_err();
        assert_eq!(torn.to_string(), "PTX line 1: the text ends in the middle");
    }
}
