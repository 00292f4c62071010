//! The catalog held against the families: what their stanzas must say, and what follows from it.

use std::path::Path;

use crate::catalog::{Catalog, CatalogError, Format, LOAD, MAX_PARAMETERS, Model};
use crate::family::{FAMILIES, Family};
use warpmark_weights::gguf::StoredTensor;
use warpmark_weights::{Checkpoint, TensorSpec, Wanted};

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
        Self::parse_with(text, origin, |model| {
            let family = model.family()?;
            model.check_phases(family)?;
            model.check_formats(family)?;
            model.count_parameters()?;
            family.check(model)
        })
    }
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

    /// What of the model is loaded in a format.
    ///
    /// # Errors
    /// Where the model's family cannot compute with quantised weights.
    pub fn wanted(&self, format: Format) -> Result<Wanted, CatalogError> {
        let family = self.family()?;
        match format {
            Format::Plain(dtype) => Ok(Wanted::Plain(family.tensors(self)?, dtype)),
            Format::Quantised(quantisation) => {
                let Some(tensors) = family.quantised(self, quantisation)? else {
                    let advice = format!("a {} is measured in f32, f16 and bf16", self.family);
                    return Err(self.invalid("suites", format, advice));
                };
                Ok(Wanted::Quantised(tensors, quantisation))
            }
        }
    }

    /// The model's files in a format, with what its family knows of the tensors in them.
    pub fn checkpoint_in(&self, format: impl Into<Format>) -> Result<Checkpoint, CatalogError> {
        self.checkpoint(format.into(), self.family()?.tensor_names())
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

    /// Quantised weights are only of use to a family that can compute with them.
    fn check_formats(&self, family: &dyn Family) -> Result<(), CatalogError> {
        for format in self.suites.all() {
            let Format::Quantised(quantisation) = format else { continue };
            let Some(tensors) = family.quantised(self, quantisation)? else {
                let advice = format!("a {} is measured in f32, f16 and bf16", self.family);
                return Err(self.invalid("suites", format!("{format:?}"), advice));
            };
            if !tensors.iter().any(StoredTensor::is_blocks) {
                let advice = "no row of its matrices is a multiple of 32 weights, the smallest block: \
                              nothing would be quantised; leave it out";
                return Err(self.invalid("suites", format, advice));
            }
        }
        Ok(())
    }

    /// A phase that nobody knows would be left out without a word.
    fn check_phases(&self, family: &dyn Family) -> Result<(), CatalogError> {
        let known = [&[LOAD][..], family.phases()].concat();
        let known = || known.join(", ");
        if self.phases.is_empty() {
            let advice = format!("name at least one phase of {}", known());
            return Err(self.invalid("phases", "[]", advice));
        }
        let unknown =
            |phase: &&String| **phase != LOAD && !family.phases().contains(&phase.as_str());
        match self.phases.iter().find(unknown) {
            Some(phase) => {
                let advice = format!("a {} has the phases {}", self.family, known());
                Err(self.invalid("phases", format!("{phase:?}"), advice))
            }
            None => Ok(()),
        }
    }
}
