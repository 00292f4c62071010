//! The catalog: `models.toml`, read strictly. A model variant is one stanza of it and no code.
//!
//! What every model has is read here; `[model.architecture]`, `[model.inputs]` and
//! `[model.expected]` belong to the family, which reads them through [`Model::section`]. Every error
//! names the file, the line, the value and what to do about it.

mod dtype;
mod error;
mod format;
mod model;
mod place;
mod stanza;

use std::path::Path;
use std::sync::Arc;

pub use dtype::Dtype;
pub use error::CatalogError;
pub use format::{Format, Quantisation};
pub use model::Model;
pub use place::Place;

use place::Text;
use stanza::Document;

/// More parameters than any model that could run here; a stanza above it has a slipped digit.
pub const MAX_PARAMETERS: u64 = 10_000_000_000_000;

/// More sequences than any device runs side by side; a stanza above it has a slipped digit.
pub const MAX_BATCH: usize = 1_000_000;

/// The models of `models.toml`, in its order.
#[derive(Debug, Clone)]
pub struct Catalog {
    models: Vec<Model>,
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
            let model = stanza.into_model(&source, index);
            if let Some(first) = models.iter().find(|first| first.id == model.id) {
                return Err(CatalogError::DuplicateId {
                    place: model.place("id"),
                    id: model.id,
                    first_line: first.place("id").line,
                });
            }
            model.check()?;
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

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
