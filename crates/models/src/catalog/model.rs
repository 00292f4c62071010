//! One model variant, and what its values must be.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use warpmark_record::DeviceSpec;

use super::place::Text;
use super::stanza::Suites;
use super::{CatalogError, Dtype, Format, MAX_BATCH, MAX_PARAMETERS, Place, Quantisation};
use crate::family::{FAMILIES, Family};
use crate::load;
use crate::weights::TensorSpec;

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
    /// The pinned commit, forty lower-case hex digits; without one nothing is fetched from the hub.
    pub revision: Option<String>,
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
    pub(super) suites: Suites,
    pub(super) sections: BTreeMap<&'static str, toml::Table>,
    pub(super) source: Arc<Text>,
    pub(super) index: usize,
}

impl Model {
    /// The family that knows how to build it.
    pub fn family(&self) -> Result<&'static dyn Family, CatalogError> {
        FAMILIES.iter().copied().find(|family| family.name() == self.family).ok_or_else(|| {
            CatalogError::UnknownFamily {
                place: self.place("family"),
                model: self.id.clone(),
                family: self.family.clone(),
                known: FAMILIES.iter().map(|family| family.name()).collect(),
            }
        })
    }

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

    /// The same model as it is published in quantised files: their repository, revision and file.
    ///
    /// # Errors
    /// Where the stanza has no `gguf` section, or that one no file of this quantisation.
    pub(crate) fn quantised(&self, quantisation: Quantisation) -> Result<Self, CatalogError> {
        let gguf: Gguf = self.section("gguf")?;
        let file = match quantisation {
            Quantisation::Q8_0 => &gguf.q8_0,
            Quantisation::Q4KM => &gguf.q4_k_m,
        };
        let Some(file) = file else {
            let advice = "name the file of that quantisation in the repo";
            return Err(self.invalid(&format!("gguf.{quantisation}"), "(absent)", advice));
        };
        Ok(Self {
            repo: gguf.repo,
            revision: gguf.revision,
            files: vec![file.clone()],
            sha256: Vec::new(),
            tokenizer: None,
            ..self.clone()
        })
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
}

/// Where the weights are published as GGUF files.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Gguf {
    repo: String,
    revision: Option<String>,
    q8_0: Option<String>,
    q4_k_m: Option<String>,
}

/// What a stanza's values must be.
impl Model {
    /// Refuses every value that cannot be meant, the family's own sections included.
    pub(super) fn check(&self) -> Result<(), CatalogError> {
        let family = self.family()?;
        self.check_names()?;
        self.check_files()?;
        self.check_batches()?;
        self.check_phases(family)?;
        self.check_formats(family)?;
        self.count_parameters()?;
        family.check(self)
    }

    fn check_names(&self) -> Result<(), CatalogError> {
        if let Some(revision) = self.revision.as_ref().filter(|revision| !is_hex(revision, 40)) {
            return Err(CatalogError::Revision {
                place: self.place("revision"),
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

    /// Quantised weights are only of use to a family that can compute with them.
    fn check_formats(&self, family: &dyn Family) -> Result<(), CatalogError> {
        for format in self.suites.all() {
            let Format::Quantised(quantisation) = format else { continue };
            if family.quantised(self, quantisation)?.is_none() {
                let advice = format!("a {} is measured in f32, f16 and bf16", self.family);
                return Err(self.invalid("suites", format!("{format:?}"), advice));
            }
        }
        if self.has_section("gguf") {
            self.check_gguf(&self.section("gguf")?)?;
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
                place: self.place("gguf.revision"),
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

    /// A phase that nobody knows would be left out without a word.
    fn check_phases(&self, family: &dyn Family) -> Result<(), CatalogError> {
        let known = [&[load::PHASE][..], family.phases()].concat();
        let known = || known.join(", ");
        if self.phases.is_empty() {
            let advice = format!("name at least one phase of {}", known());
            return Err(self.invalid("phases", "[]", advice));
        }
        let unknown =
            |phase: &&String| **phase != load::PHASE && !family.phases().contains(&phase.as_str());
        match self.phases.iter().find(unknown) {
            Some(phase) => {
                let advice = format!("a {} has the phases {}", self.family, known());
                Err(self.invalid("phases", format!("{phase:?}"), advice))
            }
            None => Ok(()),
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
