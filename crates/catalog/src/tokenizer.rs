//! A model's own tokenizer, from its `tokenizer.json`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use warpmark_measure::contained;
use warpmark_record::source;

use warpmark_weights::git_lfs;

use crate::{CatalogError, Model};

/// Text to tokens and back, as a model's authors published it.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
}

/// Why a tokenizer could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// There is no such file.
    #[error(
        "there is no tokenizer at {}: fetch the model from the hub, or put the tokenizer.json of its \
         repository there", path.display()
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The file is there and is no tokenizer.
    #[error("{} is not a tokenizer: {reason}; fetch it again", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A pointer of git-lfs stands in its place.
    #[error(
        "{} is a git-lfs pointer and not the file itself: run `git lfs pull` in its folder", path.display()
    )]
    GitLfs {
        /// The file.
        path: PathBuf,
    },
    /// The tokenizer knows tokens that the model has no embedding for.
    #[error(
        "the tokenizer {} has {tokens} tokens, the model's vocabulary {vocabulary}; it belongs to \
         another model", path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Tokens of the tokenizer.
        tokens: usize,
        /// Tokens of the model.
        vocabulary: usize,
    },
    /// The model has no vocabulary to hold it against.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A text or token list that it cannot convert.
    #[error("the tokenizer {} cannot convert: {reason}", path.display())]
    Convert {
        /// The tokenizer's file.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
}

/// What every family that reads text has in its architecture.
#[derive(Deserialize)]
struct Vocabulary {
    vocabulary: usize,
}

/// The longest file that is read; those of a quarter of a million tokens have 35 MB.
const LONGEST: u64 = 256 << 20;

impl Tokenizer {
    /// Reads the `tokenizer.json` of a model and holds it against the model's vocabulary.
    pub fn of(model: &Model, path: &Path) -> Result<Self, TokenizerError> {
        let Vocabulary { vocabulary } = model.section("architecture")?;
        Self::open(path, vocabulary)
    }

    /// Reads a `tokenizer.json` for a model with so many tokens.
    ///
    /// A model may have more: vocabularies are often rounded up.
    pub fn open(path: &Path, vocabulary: usize) -> Result<Self, TokenizerError> {
        if !path.is_file() {
            return Err(TokenizerError::Missing { path: path.to_owned() });
        }
        let unreadable =
            |reason: String| TokenizerError::Unreadable { path: path.to_owned(), reason };
        let bytes = source::bytes(path, LONGEST).map_err(|error| unreadable(error.to_string()))?;
        if git_lfs::is_pointer(&bytes) {
            return Err(TokenizerError::GitLfs { path: path.to_owned() });
        }
        // Said in the words of these rather than those of a panic: tokenizers 0.23 panics on text that is no
        // JSON and on parts that it does not know.
        let text = std::str::from_utf8(&bytes).map_err(|error| unreadable(error.to_string()))?;
        serde_json::from_str::<serde::de::IgnoredAny>(text)
            .map_err(|error| unreadable(error.to_string()))?;
        let (inner, tokens) = contained(|| {
            let inner = tokenizers::Tokenizer::from_bytes(&bytes)?;
            // Ids may have gaps, so the highest one counts, not their number.
            let tokens = inner.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1);
            Ok::<_, tokenizers::Error>((inner, tokens))
        })
        .map_err(|panic| unreadable(panic.to_string()))?
        .map_err(|error| unreadable(error.to_string()))?;
        if tokens > vocabulary {
            return Err(TokenizerError::TooLarge { path: path.to_owned(), tokens, vocabulary });
        }
        Ok(Self { inner, path: path.to_owned() })
    }

    /// The tokens of a text, without any that the model's template would add.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = contained(|| self.inner.encode_fast(text, false))
            .map_err(|panic| self.cannot(&panic))?
            .map_err(|error| self.cannot(&error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens, special ones included. A token that the tokenizer does not know is an error.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        if let Some(unknown) = tokens.iter().find(|id| self.inner.id_to_token(**id).is_none()) {
            return Err(self.cannot(&format!("it has no token {unknown}")));
        }
        contained(|| self.inner.decode(tokens, false))
            .map_err(|panic| self.cannot(&panic))?
            .map_err(|error| self.cannot(&error))
    }

    fn cannot(&self, reason: &dyn std::fmt::Display) -> TokenizerError {
        TokenizerError::Convert { path: self.path.clone(), reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalog;

    /// A byte-level BPE as GPT-2's, of a handful of tokens.
    const TINY: &str = r#"{
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false,
            "vocab": {"a": 0, "b": 1, "Ġ": 2, "ab": 3, "Ġab": 4}, "merges": ["a b", "Ġ ab"]}
    }"#;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn a_text_comes_back_from_its_tokens() {
        let (_folder, path) = written(TINY);
        let tokenizer = Tokenizer::open(&path, 5).unwrap();
        assert_eq!(tokenizer.encode("ab ab b").unwrap(), [3, 4, 2, 1]);
        assert_eq!(tokenizer.decode(&[3, 4, 2, 1]).unwrap(), "ab ab b");
    }

    #[test]
    fn a_tokenizer_is_held_against_its_models_vocabulary() {
        let parse = |text: &str| Catalog::parse_with(text, "small.toml", |_| Ok(())).unwrap();
        let shipped = include_str!("../../../models.toml");
        let catalog = parse(shipped);
        let (_folder, path) = written(TINY);
        assert!(Tokenizer::of(catalog.model("gpt2-124m").unwrap(), &path).is_ok());
        let small = parse(&shipped.replace("50257", "4"));
        let error = Tokenizer::of(small.model("gpt2-124m").unwrap(), &path).err().unwrap();
        assert!(matches!(error, TokenizerError::TooLarge { vocabulary: 4, .. }), "{error}");
    }

    #[test]
    fn a_missing_file_says_where_it_should_be() {
        let error = Tokenizer::open(Path::new("/nowhere/tokenizer.json"), 5).err().unwrap();
        assert!(error.to_string().contains("/nowhere/tokenizer.json"), "{error}");
        assert!(matches!(error, TokenizerError::Missing { .. }));
    }

    #[test]
    fn a_torn_file_is_told_apart_from_a_missing_one() {
        let (_folder, path) = written(&TINY[..TINY.len() / 2]);
        let error = Tokenizer::open(&path, 5).err().unwrap();
        assert!(matches!(error, TokenizerError::Unreadable { .. }), "{error}");
    }

    fn refused(damaged: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, damaged).unwrap();
        let error = Tokenizer::open(&path, 5).err().unwrap();
        assert!(matches!(error, TokenizerError::Unreadable { .. }), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        error.to_string()
    }

    /// Each of these makes tokenizers 0.23 panic, the second within what JSON allows.
    #[test]
    fn a_tokenizer_with_a_damaged_part_is_an_error_that_names_the_file() {
        let mut no_text = TINY.as_bytes().to_vec();
        let decoder = TINY.find("\"decoder\"").unwrap();
        let at = decoder + TINY[decoder..].find("ByteLevel").unwrap() + 4;
        no_text[at] = 0xff;
        assert!(refused(&no_text).contains("utf-8"));
        let end = decoder + TINY[decoder..].find('\n').unwrap();
        let too_large = format!("{}\"decoder\": 1e999,{}", &TINY[..decoder], &TINY[end..]);
        assert!(refused(too_large.as_bytes()).contains("a library panicked"));
    }

    #[test]
    fn a_git_lfs_pointer_is_named_with_the_command_that_fetches_the_file() {
        let (_folder, path) =
            written("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n");
        let error = Tokenizer::open(&path, 5).err().unwrap();
        assert!(error.to_string().contains("run `git lfs pull`"), "{error}");
    }

    #[test]
    fn a_tokenizer_of_a_larger_model_is_refused_with_both_sizes() {
        let (_folder, path) = written(TINY);
        let error = Tokenizer::open(&path, 4).err().unwrap();
        assert!(
            matches!(error, TokenizerError::TooLarge { tokens: 5, vocabulary: 4, .. }),
            "{error}"
        );
        assert!(Tokenizer::open(&path, 64).is_ok(), "a rounded-up vocabulary is no fault");
    }

    #[test]
    fn an_unknown_token_is_an_error_and_not_left_out() {
        let (_folder, path) = written(TINY);
        let error = Tokenizer::open(&path, 64).unwrap().decode(&[0, 17]).unwrap_err();
        assert!(error.to_string().contains("17"), "{error}");
    }
}
