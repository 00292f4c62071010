//! The catalog: `models.toml`, read strictly. A model variant is one stanza of it and no code.
//!
//! What every model has is read here; `[model.architecture]`, `[model.inputs]` and
//! `[model.expected]` belong to the family, which reads them through [`Model::section`]. Every error
//! names the file, the line, the value and what to do about it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use warpmark_record::{DeviceKind, DeviceSpec};

use crate::family::Family;
use crate::weights::TensorSpec;

/// More parameters than any model that could run here; a stanza above it has a slipped digit.
pub const MAX_PARAMETERS: u64 = 10_000_000_000_000;

/// The models of `models.toml`, in its order.
#[derive(Debug, Clone)]
pub struct Catalog {
    models: Vec<Model>,
}

/// One model variant, as its stanza gives it.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its name in benchmark ids, `gpt2-124m`.
    pub id: String,
    /// The name of its family, one of [`crate::family::FAMILIES`].
    pub family: String,
    /// Its name in tables.
    pub title: String,
    /// `owner/name` on the hub.
    pub repo: String,
    /// The pinned commit, forty lower-case hex digits.
    pub revision: String,
    /// The weight files in the repo.
    pub files: Vec<String>,
    /// The SHA-256 of each of the files, in hex; empty where the stanza does not pin them.
    pub sha256: Vec<String>,
    /// The tokenizer file in the repo.
    pub tokenizer: Option<String>,
    /// The dtype of the repo's weight files, in which synthetic weights are written too.
    pub checkpoint: Dtype,
    /// What is measured apart: `load`, and the family's own.
    pub phases: Vec<String>,
    /// Batch sizes in rising order.
    pub batches: Vec<usize>,
    suites: Suites,
    source: Arc<Text>,
    index: usize,
}

/// A number format of weights and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of `f32`.
    Bf16,
}

impl Dtype {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The nearest value of this format.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => half::f16::from_f32(value).to_f32(),
            Self::Bf16 => half::bf16::from_f32(value).to_f32(),
        }
    }

    /// candle's name for it.
    pub fn candle(self) -> candle_core::DType {
        match self {
            Self::F32 => candle_core::DType::F32,
            Self::F16 => candle_core::DType::F16,
            Self::Bf16 => candle_core::DType::BF16,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// A place in a catalog file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, or `models.toml` for the one built in.
    pub origin: Arc<str>,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.origin, self.line)
    }
}

/// Why a catalog could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file could not be read.
    #[error("cannot read the catalog {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No TOML, a wrong type, an unknown or a missing key.
    #[error("{place}: {message}{}; see the head of models.toml for what a stanza holds",
        if snippet.is_empty() { String::new() } else { format!(", at `{snippet}`") })]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong.
        message: String,
        /// The text at that place.
        snippet: String,
    },
    /// No such family.
    #[error("{place}: model {model:?} has the unknown family {family:?}; known: {}", known.join(", "))]
    UnknownFamily {
        /// Where.
        place: Place,
        /// Whose.
        model: String,
        /// The value.
        family: String,
        /// The families there are.
        known: Vec<&'static str>,
    },
    /// Two stanzas with one id.
    #[error(
        "{place}: the id {id:?} is taken since line {first_line}; give one of the two another id"
    )]
    DuplicateId {
        /// The second stanza.
        place: Place,
        /// The id.
        id: String,
        /// The line of the first stanza's id.
        first_line: usize,
    },
    /// A revision that pins nothing.
    #[error(
        "{place}: model {model:?} has the revision {value:?}, which is not 40 lower-case hex digits; \
         take the commit from the history of the repo's files on the hub, not a branch or a tag"
    )]
    Revision {
        /// Where.
        place: Place,
        /// Whose.
        model: String,
        /// The value.
        value: String,
    },
    /// A value that cannot be meant.
    #[error("{place}: model {model:?}: {field} = {value}: {advice}")]
    Invalid {
        /// Where.
        place: Place,
        /// Whose.
        model: String,
        /// The dotted name of the key.
        field: String,
        /// The value.
        value: String,
        /// What is wrong with it, and what would be right.
        advice: String,
    },
    /// No model of that name.
    #[error("there is no model {id:?}; known: {}", known.join(", "))]
    UnknownModel {
        /// The name asked for.
        id: String,
        /// The names there are.
        known: Vec<String>,
    },
}

#[derive(Debug)]
struct Text {
    origin: Arc<str>,
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    model: Vec<Stanza>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stanza {
    id: Spanned<String>,
    family: Spanned<String>,
    title: String,
    repo: String,
    revision: Spanned<String>,
    #[serde(default = "single_file")]
    files: Vec<String>,
    #[serde(default)]
    sha256: Vec<String>,
    tokenizer: Option<String>,
    checkpoint: Dtype,
    phases: Vec<String>,
    batches: Vec<usize>,
    suites: Suites,
    // The family's own sections; read again, with their places, by `Model::section`.
    #[serde(rename = "architecture")]
    _architecture: toml::Table,
    #[serde(rename = "inputs")]
    _inputs: toml::Table,
    #[serde(rename = "expected")]
    _expected: Option<toml::Table>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suites {
    #[serde(default)]
    quick: BTreeMap<Kind, Vec<Dtype>>,
    #[serde(default)]
    full: BTreeMap<Kind, Vec<Dtype>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Cpu,
    Cuda,
}

/// Whether a text is so many lower-case hex digits.
fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

fn single_file() -> Vec<String> {
    vec!["model.safetensors".to_owned()]
}

impl Catalog {
    /// The catalog that was compiled in.
    pub fn builtin() -> Result<Self, CatalogError> {
        Self::parse(include_str!("../../../models.toml"), "models.toml")
    }

    /// Reads a catalog file.
    pub fn read(path: &Path) -> Result<Self, CatalogError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| CatalogError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses a catalog; `origin` is what errors call it.
    ///
    /// Every stanza is checked to the end, its family's sections included, so that a catalog that
    /// parses can be planned from.
    pub fn parse(text: &str, origin: &str) -> Result<Self, CatalogError> {
        let source = Arc::new(Text { origin: origin.into(), text: text.to_owned() });
        let document: Document = toml::from_str(text).map_err(|error| source.syntax(&error))?;
        let mut models: Vec<Model> = Vec::with_capacity(document.model.len());
        for (index, stanza) in document.model.into_iter().enumerate() {
            let model = stanza.check(&models, &source, index)?;
            model.count_parameters()?;
            models.push(model);
        }
        Ok(Self { models })
    }

    /// All models, in the order of the file.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The model of that id.
    pub fn model(&self, id: &str) -> Result<&Model, CatalogError> {
        self.models.iter().find(|model| model.id == id).ok_or_else(|| CatalogError::UnknownModel {
            id: id.to_owned(),
            known: self.models.iter().map(|model| model.id.clone()).collect(),
        })
    }
}

impl Stanza {
    fn check(
        self,
        earlier: &[Model],
        source: &Arc<Text>,
        index: usize,
    ) -> Result<Model, CatalogError> {
        let id = self.id.get_ref().clone();
        if let Some(first) = earlier.iter().find(|model| model.id == id) {
            let first_line = first.place("id").line;
            return Err(CatalogError::DuplicateId {
                place: source.place(self.id.span().start),
                id,
                first_line,
            });
        }
        let known = || crate::family::FAMILIES.iter().map(|family| family.name());
        if !known().any(|name| name == self.family.get_ref()) {
            return Err(CatalogError::UnknownFamily {
                place: source.place(self.family.span().start),
                model: id,
                family: self.family.into_inner(),
                known: known().collect(),
            });
        }
        if !is_hex(self.revision.get_ref(), 40) {
            return Err(CatalogError::Revision {
                place: source.place(self.revision.span().start),
                model: id,
                value: self.revision.into_inner(),
            });
        }
        let model = Model {
            id,
            family: self.family.into_inner(),
            title: self.title,
            repo: self.repo,
            revision: self.revision.into_inner(),
            files: self.files,
            sha256: self.sha256,
            tokenizer: self.tokenizer,
            checkpoint: self.checkpoint,
            phases: self.phases,
            batches: self.batches,
            suites: self.suites,
            source: Arc::clone(source),
            index,
        };
        model.check_values()?;
        Ok(model)
    }
}

impl Model {
    /// The family that knows how to build it.
    pub fn family(&self) -> Result<&'static dyn Family, CatalogError> {
        crate::family::FAMILIES
            .iter()
            .copied()
            .find(|family| family.name() == self.family)
            .ok_or_else(|| CatalogError::UnknownFamily {
                place: self.place("family"),
                model: self.id.clone(),
                family: self.family.clone(),
                known: crate::family::FAMILIES.iter().map(|family| family.name()).collect(),
            })
    }

    /// One of the family's own sections (`architecture`, `inputs`, `expected`) as the family's type,
    /// which should be `deny_unknown_fields`. An error names the line.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T, CatalogError> {
        let document =
            DeTable::parse(&self.source.text).map_err(|error| self.source.syntax(&error))?;
        let stanza =
            document.get_ref().get("model").and_then(|models| models.get_ref().get(self.index));
        let section = stanza.and_then(|stanza| stanza.get_ref().get(name));
        let Some(section) = section else {
            return Err(self.invalid(name, "(absent)", format!("add a [model.{name}] table")));
        };
        T::deserialize(ValueDeserializer::from(section.clone())).map_err(|mut error| {
            error.set_input(Some(&self.source.text));
            self.source.syntax(&error)
        })
    }

    /// Whether the stanza has that section.
    pub fn has_section(&self, name: &str) -> bool {
        self.span_of(name).is_some()
    }

    /// The dtypes in which a suite measures this model on a device; empty where it leaves it out.
    ///
    /// A simulated GPU counts as a GPU.
    pub fn dtypes(&self, full: bool, device: &DeviceSpec) -> &[Dtype] {
        let suite = if full { &self.suites.full } else { &self.suites.quick };
        let kind = match device.kind {
            DeviceKind::Cpu => Kind::Cpu,
            DeviceKind::Cuda | DeviceKind::Simulated => Kind::Cuda,
        };
        suite.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// Whether the stanza lists that phase.
    pub fn has_phase(&self, phase: &str) -> bool {
        self.phases.iter().any(|name| name == phase)
    }

    /// The number of parameters, summed over the family's tensors.
    pub fn count_parameters(&self) -> Result<u64, CatalogError> {
        let tensors = self.family()?.tensors(self)?;
        let mut total: u64 = 0;
        for tensor in &tensors {
            total = tensor
                .elements()
                .and_then(|count| total.checked_add(count))
                .filter(|total| *total <= MAX_PARAMETERS)
                .ok_or_else(|| self.too_large(tensor))?;
        }
        Ok(total)
    }

    /// An error about one of this stanza's values. `field` is the dotted key below `[[model]]`,
    /// `architecture.layers`; `advice` says what is wrong and what would be right.
    pub fn invalid(
        &self,
        field: &str,
        value: impl fmt::Display,
        advice: impl Into<String>,
    ) -> CatalogError {
        CatalogError::Invalid {
            place: self.place(field),
            model: self.id.clone(),
            field: field.to_owned(),
            value: value.to_string(),
            advice: advice.into(),
        }
    }

    /// The line of a dotted key of this stanza, or of its `[[model]]` where the key is not there.
    pub fn place(&self, field: &str) -> Place {
        let mut field = field;
        loop {
            if let Some(start) = self.span_of(field) {
                return self.source.place(start);
            }
            match field.rsplit_once('.') {
                Some((parent, _)) => field = parent,
                None => break,
            }
        }
        self.source.place(self.span_of("id").unwrap_or(0))
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

    fn too_large(&self, tensor: &TensorSpec) -> CatalogError {
        self.invalid(
            "architecture",
            format!("{} of shape {:?}", tensor.name, tensor.shape),
            format!(
                "the model would have more than {MAX_PARAMETERS:e} parameters; check the digits"
            ),
        )
    }

    fn check_values(&self) -> Result<(), CatalogError> {
        if !is_segment(&self.id) {
            let advice = "an id is part of benchmark ids: use letters, digits and any of . _ + = -";
            return Err(self.invalid("id", format!("{:?}", self.id), advice));
        }
        let is_repo = self
            .repo
            .split_once('/')
            .is_some_and(|(owner, name)| is_segment(owner) && is_segment(name));
        if !is_repo {
            return Err(self.invalid("repo", format!("{:?}", self.repo), "write owner/name"));
        }
        self.check_files()?;
        let rising = self.batches.windows(2).all(|pair| pair[0] < pair[1]);
        if self.batches.is_empty() || self.batches[0] == 0 || !rising {
            let advice = "list at least one batch size, from 1 up, in rising order";
            return Err(self.invalid("batches", format!("{:?}", self.batches), advice));
        }
        if self.phases.is_empty() {
            return Err(self.invalid("phases", "[]", "name at least one phase, such as \"load\""));
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
            if file.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
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
}

/// Whether a text can stand in a benchmark id.
fn is_segment(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._+=-".contains(c))
}

impl Text {
    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = 1 + before.matches('\n').count();
        Place { origin: Arc::clone(&self.origin), line }
    }

    fn syntax(&self, error: &toml::de::Error) -> CatalogError {
        let span = error.span().unwrap_or(0..0);
        let first_line = |text: &str| text.lines().next().unwrap_or_default().trim().to_owned();
        CatalogError::Syntax {
            place: self.place(span.start),
            message: error.message().replace('\n', ", "),
            snippet: self.text.get(span).map(first_line).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
