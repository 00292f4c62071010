//! What a user says of a run: `--tag provider=lambda --tag node=gpu-17`.

use std::str::FromStr;

/// The longest key, in characters.
const LONGEST_KEY: usize = 63;
/// The longest value, in characters.
const LONGEST_VALUE: usize = 255;

/// A key and its value. Keys are of letters, digits and `. _ - /`, as labels of clusters are; values are any
/// text of one line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

impl Tag {
    /// A tag, or what is wrong with it.
    ///
    /// # Errors
    /// The key is no key, or the value is empty, longer than 255 characters or of several lines.
    pub fn new(key: &str, value: &str) -> Result<Self, String> {
        check_key(key)?;
        if value.is_empty() {
            return Err(format!("the tag {key:?} has no value: write {key}=VALUE"));
        }
        if value.chars().count() > LONGEST_VALUE || value.chars().any(char::is_control) {
            return Err(format!(
                "the value of the tag {key:?} must be of one line and {LONGEST_VALUE} characters at most"
            ));
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// Says whether a text can be the key of a tag.
///
/// # Errors
/// It cannot, and what a key is made of.
pub fn check_key(key: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if !key.is_empty() && key.len() <= LONGEST_KEY && key.chars().all(plain) {
        return Ok(());
    }
    let start: String = key.chars().take(LONGEST_KEY).collect();
    Err(format!(
        "{start:?} is no key of a tag: use letters, digits and . _ - / ({LONGEST_KEY} at most), as in node=gpu-17"
    ))
}

impl FromStr for Tag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            format!("{text:?} is no tag: write it as KEY=VALUE, such as node=gpu-17")
        })?;
        Self::new(key.trim(), value.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_key_and_a_value_of_one_line() {
        let tag: Tag = "provider = lambda=cloud".parse().unwrap();
        assert_eq!((tag.key.as_str(), tag.value.as_str()), ("provider", "lambda=cloud"));
        for text in [
            "",
            "x",
            "=x",
            "a b=c",
            "a=",
            "a=b\u{1b}[31m",
            "é=x",
            &format!("a={}", "x".repeat(256)),
        ] {
            assert!(text.parse::<Tag>().is_err(), "{text:?}");
        }
        assert!(format!("{}=x", "k".repeat(64)).parse::<Tag>().is_err());
    }
}
