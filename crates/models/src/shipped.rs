//! The catalog held against the families: what their entries must say.

use std::path::Path;

use warpmark_catalog::Catalog as Entries;
use warpmark_record::source;

use crate::catalog::{CatalogError, Format, LOAD, Model};
use crate::family::{FAMILIES, Family};
use crate::weights::gguf::StoredTensor;

/// The models of a catalog, each with its family.
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
        let text = source::text(path, source::LONGEST_TEXT)
            .map_err(|source| CatalogError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses a catalog; `origin` is what errors call it.
    ///
    /// Every entry is checked to the end, its family's sections included, so that a catalog that
    /// parses can be planned from.
    pub fn parse(text: &str, origin: &str) -> Result<Self, CatalogError> {
        let mut models = Vec::new();
        Entries::parse_with(text, origin, |entry| {
            let model = Model::new(entry.clone(), family(entry)?);
            check_phases(&model, model.family())?;
            check_formats(&model, model.family())?;
            model.count_parameters()?;
            model.family().check(&model)?;
            models.push(model);
            Ok(())
        })?;
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

/// The family that an entry names.
fn family(entry: &warpmark_catalog::Model) -> Result<&'static dyn Family, CatalogError> {
    FAMILIES.iter().copied().find(|family| family.name() == entry.family).ok_or_else(|| {
        CatalogError::UnknownFamily {
            location: entry.location("family"),
            model: entry.id.clone(),
            family: entry.family.clone(),
            known: FAMILIES.iter().map(|family| family.name()).collect(),
        }
    })
}

/// Quantised weights are only of use to a family that can compute with them.
fn check_formats(model: &Model, family: &dyn Family) -> Result<(), CatalogError> {
    for quantisation in model.quantisations() {
        let format = Format::Quantised(quantisation);
        let Some(tensors) = family.quantised(model, quantisation)? else {
            let advice = format!("a {} is measured in f32, f16 and bf16", model.family);
            return Err(model.invalid("suites", format, advice));
        };
        if !tensors.iter().any(StoredTensor::is_blocks) {
            let advice = "no row of its matrices is a multiple of 32 weights, the smallest block: \
                          nothing would be quantised; leave it out";
            return Err(model.invalid("suites", format, advice));
        }
    }
    Ok(())
}

/// A phase that nobody knows would be left out without a word.
fn check_phases(model: &Model, family: &dyn Family) -> Result<(), CatalogError> {
    let known = [&[LOAD][..], family.phases()].concat();
    let known = || known.join(", ");
    if model.phases.is_empty() {
        let advice = format!("name at least one phase of {}", known());
        return Err(model.invalid("phases", "[]", advice));
    }
    let unknown = |phase: &&String| **phase != LOAD && !family.phases().contains(&phase.as_str());
    match model.phases.iter().find(unknown) {
        Some(phase) => {
            let advice = format!("a {} has the phases {}", model.family, known());
            Err(model.invalid("phases", format!("{phase:?}"), advice))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
