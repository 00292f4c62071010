//! What a model is, as data: `models.toml`, read strictly, and what checkpoints' own configurations
//! say. A model variant is one entry and no code.
//!
//! What every model has is read here; `[model.architecture]`, `[model.inputs]` and
//! `[model.expected]` belong to the family, which reads them through [`Model::section`]. Every error
//! names the file, the line, the value and what to do about it.

pub mod configuration;
mod entry;
mod error;
mod location;
mod model;
pub mod tokenizer;
mod values;

use std::sync::Arc;

pub use error::CatalogError;
pub use location::Location;
pub use model::Model;
pub use warpmark_weights::{Dtype, Format, Quantisation};

use entry::Document;
use location::Text;

/// The phase that every model may list: loading. It is the first segment of its ids.
pub const LOAD: &str = "load";

/// More parameters than any model that could run here; an entry above it has a slipped digit.
pub const MAX_PARAMETERS: u64 = 10_000_000_000_000;

/// More sequences than any device runs side by side; an entry above it has a slipped digit.
pub const MAX_BATCH: usize = 1_000_000;

/// The models of `models.toml`, in its order.
#[derive(Debug, Clone)]
pub struct Catalog {
    models: Vec<Model>,
}

impl Catalog {
    /// Parses a catalog and checks what every entry has; `origin` is what errors call it, and `check`
    /// refuses what the model's family cannot mean.
    pub fn parse_with(
        text: &str,
        origin: &str,
        mut check: impl FnMut(&Model) -> Result<(), CatalogError>,
    ) -> Result<Self, CatalogError> {
        let source = Arc::new(Text { origin: origin.into(), text: text.to_owned() });
        let document: Document = toml::from_str(text).map_err(|error| source.syntax(&error))?;
        let mut models: Vec<Model> = Vec::with_capacity(document.model.len());
        for (index, entry) in document.model.into_iter().enumerate() {
            let model = entry.into_model(&source, index);
            if let Some(first) = models.iter().find(|first| first.id == model.id) {
                return Err(CatalogError::DuplicateId {
                    location: model.location("id"),
                    id: model.id,
                    first_line: first.location("id").line,
                });
            }
            model.check_values()?;
            check(&model)?;
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
