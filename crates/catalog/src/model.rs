//! One model variant, and what its values must be.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use warpmark_record::DeviceSpec;

use crate::entry::Suites;
use crate::location::Text;
use crate::{CatalogError, Dtype, Format, Location, Quantisation};
use warpmark_weights::{Checkpoint, TensorNames};

/// One model variant, as its entry gives it.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its name in benchmark ids, `gpt2-124m`.
    pub id: String,
    /// The name of its family, which the catalog does not know.
    pub family: String,
    /// Its name in tables.
    pub title: String,
    /// `owner/name` on the hub.
    pub repo: String,
    /// The pinned commit, forty lower-case hex digits; without one nothing is fetched from the hub.
    pub revision: Option<String>,
    /// The weight files in the repo.
    pub files: Vec<String>,
    /// The SHA-256 of each of the files, in hex; empty where the entry does not pin them.
    pub sha256: Vec<String>,
    /// The tokenizer file in the repo.
    pub tokenizer: Option<String>,
    /// The dtype of the repo's weight files, in which synthetic weights are written too.
    pub checkpoint: Dtype,
    /// What is measured apart: `load`, and the family's own.
    pub phases: Vec<String>,
    /// Batch sizes in rising order.
    pub batches: Vec<usize>,
    pub(super) suites: Suites,
    pub(super) sections: BTreeMap<&'static str, toml::Table>,
    pub(super) source: Arc<Text>,
    pub(super) index: usize,
}

impl Model {
    /// One of the family's own sections (`architecture`, `inputs`, `expected`) as the family's type,
    /// which should be `deny_unknown_fields`. An error names the line.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T, CatalogError> {
        if let Some(table) = self.sections.get(name)
            && let Ok(section) = T::deserialize(table.clone())
        {
            return Ok(section);
        }
        self.section_with_places(name)
    }

    /// The section out of the file's text, for the error that names the line. Parsing the whole text
    /// is far too slow for every look-up.
    fn section_with_places<T: DeserializeOwned>(&self, name: &str) -> Result<T, CatalogError> {
        let document =
            DeTable::parse(&self.source.text).map_err(|error| self.source.syntax(&error))?;
        let entry =
            document.get_ref().get("model").and_then(|models| models.get_ref().get(self.index));
        let section = entry.and_then(|entry| entry.get_ref().get(name));
        let Some(section) = section else {
            return Err(self.invalid(name, "(absent)", format!("add a [model.{name}] table")));
        };
        T::deserialize(ValueDeserializer::from(section.clone())).map_err(|mut error| {
            error.set_input(Some(&self.source.text));
            self.source.syntax(&error)
        })
    }

    /// Whether the entry has that section.
    pub fn has_section(&self, name: &str) -> bool {
        self.sections.contains_key(name)
    }

    /// The formats in which a suite measures this model on a device; empty where it leaves it out.
    ///
    /// A simulated GPU counts as a GPU.
    pub fn formats(&self, full: bool, device: &DeviceSpec) -> &[Format] {
        self.suites.formats(full, device)
    }

    /// The plain ones of [`Model::formats`].
    pub fn dtypes(&self, full: bool, device: &DeviceSpec) -> Vec<Dtype> {
        self.formats(full, device).iter().filter_map(|format| format.plain()).collect()
    }

    /// The quantised formats that any of the suites measures, each once.
    pub fn quantisations(&self) -> Vec<Quantisation> {
        let mut all = Vec::new();
        for format in self.suites.all() {
            match format {
                Format::Quantised(quantisation) if !all.contains(&quantisation) => {
                    all.push(quantisation);
                }
                Format::Quantised(_) | Format::Plain(_) => {}
            }
        }
        all
    }

    /// Where the weights are published as GGUF files, where the entry says so.
    pub(super) fn gguf(&self) -> Result<Option<Gguf>, CatalogError> {
        if self.has_section("gguf") { self.section("gguf").map(Some) } else { Ok(None) }
    }

    /// The model's files in a format, as the entry pins them: none of a quantisation that it names none of.
    pub fn checkpoint(
        &self,
        format: Format,
        names: TensorNames,
    ) -> Result<Checkpoint, CatalogError> {
        let plain = Checkpoint {
            id: self.id.clone(),
            repo: self.repo.clone(),
            revision: self.revision.clone(),
            files: self.files.clone(),
            sha256: self.sha256.clone(),
            tokenizer: self.tokenizer.clone(),
            dtype: self.checkpoint,
            architecture: self.family.clone(),
            names,
        };
        let Format::Quantised(quantisation) = format else { return Ok(plain) };
        let unpinned =
            Checkpoint { files: Vec::new(), sha256: Vec::new(), tokenizer: None, ..plain };
        let Some(gguf) = self.gguf()? else { return Ok(unpinned) };
        let file = match quantisation {
            Quantisation::Q8_0 => gguf.q8_0,
            Quantisation::Q4KM => gguf.q4_k_m,
        };
        let files = file.into_iter().collect();
        Ok(Checkpoint { repo: gguf.repo, revision: gguf.revision, files, ..unpinned })
    }

    /// Whether the entry lists that phase.
    pub fn has_phase(&self, phase: &str) -> bool {
        self.phases.iter().any(|name| name == phase)
    }

    /// An error about one of this entry's values. `field` is the dotted key below `[[model]]`,
    /// `architecture.layers`; `advice` says what is wrong and what would be right.
    pub fn invalid(
        &self,
        field: &str,
        value: impl fmt::Display,
        advice: impl Into<String>,
    ) -> CatalogError {
        CatalogError::Invalid {
            location: self.location(field),
            model: self.id.clone(),
            field: field.to_owned(),
            value: value.to_string(),
            advice: advice.into(),
        }
    }

    /// The line of a dotted key of this entry, or of its `[[model]]` where the key is not there.
    pub fn location(&self, field: &str) -> Location {
        let mut field = field;
        loop {
            if let Some(start) = self.span_of(field) {
                return self.source.location(start);
            }
            match field.rsplit_once('.') {
                Some((parent, _)) => field = parent,
                None => break,
            }
        }
        self.source.location(self.span_of("id").unwrap_or(0))
    }

    fn span_of(&self, field: &str) -> Option<usize> {
        let document = DeTable::parse(&self.source.text).ok()?;
        let mut value: &Spanned<DeValue<'_>> =
            document.get_ref().get("model")?.get_ref().get(self.index)?;
        for key in field.split('.') {
            value = value.get_ref().get(key)?;
        }
        Some(value.span().start)
    }
}

/// Where the weights are published as GGUF files.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gguf {
    pub(super) repo: String,
    pub(super) revision: Option<String>,
    pub(super) q8_0: Option<String>,
    pub(super) q4_k_m: Option<String>,
}
