//! What an entry's own values must be.

use std::path::Path;

use crate::model::Gguf;
use crate::{CatalogError, MAX_BATCH, Model};

/// A name stands in every id of its rows, and in tables.
const LONGEST_NAME: usize = 100;

/// A repository's name is a folder's in the hub's cache.
const LONGEST_REPO: usize = 200;

/// What an entry's own values must be.
impl Model {
    /// Refuses every invalid value, whatever the family.
    pub(crate) fn check_values(&self) -> Result<(), CatalogError> {
        self.check_names()?;
        self.check_files()?;
        self.check_batches()?;
        match self.gguf()? {
            Some(gguf) => self.check_gguf(&gguf),
            None => Ok(()),
        }
    }

    fn check_names(&self) -> Result<(), CatalogError> {
        for (field, name, most) in [
            ("id", &self.id, LONGEST_NAME),
            ("title", &self.title, LONGEST_NAME),
            ("repo", &self.repo, LONGEST_REPO),
        ] {
            let length = name.chars().count();
            if length > most {
                let start: String = name.chars().take(40).collect();
                return Err(CatalogError::Invalid {
                    location: self.location(field),
                    model: self.id.chars().take(40).collect(),
                    field: field.to_owned(),
                    value: format!("{start:?} and so on, {length} characters"),
                    advice: format!("it has at most {most}"),
                });
            }
        }
        if let Some(revision) = self.revision.as_ref().filter(|revision| !is_hex(revision, 40)) {
            return Err(CatalogError::Revision {
                location: self.location("revision"),
                model: self.id.clone(),
                value: revision.clone(),
            });
        }
        if !is_segment(&self.id) {
            let advice = "an id is part of benchmark ids: use letters, digits and any of . _ + = -";
            return Err(self.invalid("id", format!("{:?}", self.id), advice));
        }
        if !is_repo(&self.repo) {
            return Err(self.invalid("repo", format!("{:?}", self.repo), "write owner/name"));
        }
        Ok(())
    }

    fn check_files(&self) -> Result<(), CatalogError> {
        if self.files.is_empty() {
            return Err(self.invalid("files", "[]", "name at least one .safetensors file"));
        }
        for (field, file) in self
            .files
            .iter()
            .map(|file| ("files", file))
            .chain(self.tokenizer.iter().map(|file| ("tokenizer", file)))
        {
            if !is_inside(file) {
                let advice = "name files by their path inside the repo";
                return Err(self.invalid(field, format!("{file:?}"), advice));
            }
        }
        let weights = |file: &&String| {
            Path::new(file).extension().is_none_or(|extension| extension != "safetensors")
        };
        if let Some(file) = self.files.iter().find(weights) {
            let advice = "weights are read from .safetensors files";
            return Err(self.invalid("files", format!("{file:?}"), advice));
        }
        let pinned = self.sha256.is_empty() || self.sha256.len() == self.files.len();
        if !pinned || !self.sha256.iter().all(|digest| is_hex(digest, 64)) {
            let advice = "give 64 lower-case hex digits for each of the files, or leave it out";
            return Err(self.invalid("sha256", format!("{:?}", self.sha256), advice));
        }
        Ok(())
    }

    fn check_gguf(&self, gguf: &Gguf) -> Result<(), CatalogError> {
        if !is_repo(&gguf.repo) {
            let value = format!("{:?}", gguf.repo);
            return Err(self.invalid("gguf.repo", value, "write owner/name"));
        }
        if let Some(revision) = gguf.revision.as_ref().filter(|revision| !is_hex(revision, 40)) {
            return Err(CatalogError::Revision {
                location: self.location("gguf.revision"),
                model: self.id.clone(),
                value: revision.clone(),
            });
        }
        let files = [("gguf.q8_0", &gguf.q8_0), ("gguf.q4_k_m", &gguf.q4_k_m)];
        for (field, file) in files {
            let Some(file) = file else { continue };
            let named = Path::new(file).extension().is_some_and(|extension| extension == "gguf");
            if !named || !is_inside(file) {
                let advice = "name a .gguf file by its path inside the repo";
                return Err(self.invalid(field, format!("{file:?}"), advice));
            }
        }
        Ok(())
    }

    fn check_batches(&self) -> Result<(), CatalogError> {
        let rising = self.batches.windows(2).all(|pair| pair[0] < pair[1]);
        if self.batches.is_empty() || self.batches[0] == 0 || !rising {
            let advice = "list at least one batch size, from 1 up, in rising order";
            return Err(self.invalid("batches", format!("{:?}", self.batches), advice));
        }
        match self.batches.last() {
            Some(batch) if *batch > MAX_BATCH => {
                let advice = format!("a batch has at most {MAX_BATCH} sequences");
                Err(self.invalid("batches", batch, advice))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a text is so many lower-case hex digits.
fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

/// Whether a text is `owner/name`.
fn is_repo(text: &str) -> bool {
    text.split_once('/').is_some_and(|(owner, name)| is_segment(owner) && is_segment(name))
}

/// Whether a path leads to a file inside of a repository.
fn is_inside(path: &str) -> bool {
    path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Whether a text can stand in a benchmark id.
fn is_segment(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._+=-".contains(c))
}
