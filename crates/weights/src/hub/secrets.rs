//! What must not be shown: tokens and passwords, wherever text from outside repeats them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What stands in a secret's place.
const HIDDEN: &str = "***";

/// Shorter ones are words of any text.
const SHORTEST: usize = 4;

/// Texts that must not be shown.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    pub(super) fn add(&mut self, secret: &str) {
        if secret.len() >= SHORTEST {
            self.0.push(secret.to_owned());
            // What contains another goes first, or its rest would be left standing.
            self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        }
    }

    /// Adds `user:password` of an address, in each spelling that it is sent or written in.
    pub(super) fn add_user(&mut self, written: &str, plain: &str) {
        for text in [written, plain] {
            self.add(text);
            if let Some((_, password)) = text.split_once(':') {
                self.add(password);
            }
        }
        self.add(&STANDARD.encode(plain));
    }

    /// Whether a text shows one of them.
    pub(super) fn are_in(&self, text: &str) -> bool {
        self.0.iter().any(|secret| text.contains(secret))
    }

    /// The text without them.
    pub(super) fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_in_every_spelling() {
        let mut secrets = Secrets::default();
        secrets.add("hf_token");
        secrets.add_user("me:p%40ss", "me:p@ss");
        let said = format!("Bearer hf_token, me:p%40ss, p@ss, {}", STANDARD.encode("me:p@ss"));
        assert!(secrets.are_in(&said));
        assert_eq!(secrets.hide(&said), "Bearer ***, ***, ***, ***");
        assert!(!secrets.are_in("nothing of the kind"));
    }

    #[test]
    fn a_secret_that_contains_another_goes_whole() {
        let mut secrets = Secrets::default();
        secrets.add("word");
        secrets.add("password");
        assert_eq!(secrets.hide("password word"), "*** ***");
    }
}
