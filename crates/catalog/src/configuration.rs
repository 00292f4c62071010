//! What a checkpoint's own configuration says of its net, held against the entry that it is measured as.
//!
//! Shapes do not show everything: two checkpoints with the same tensors can be different nets, by the
//! number of their heads, their activation, or how positions are stretched. The files that transformers
//! and diffusers write beside weights, and the metadata of a GGUF file, say so. Each family reads them
//! into its architecture and refuses what its nets do not compute; the architecture is then compared
//! with the entry's, field by field. Keys that change no answer (dropout, the version that wrote the
//! file, ids of special tokens) are not looked at. A folder without such a file is taken for what the
//! entry says.

pub mod decoder;
pub mod diffusion;
mod read;
pub mod resnet;
pub mod whisper;

use std::fmt::Debug;
use std::path::PathBuf;

use warpmark_measure::WorkloadError;

use warpmark_weights::WeightsError;

use crate::{CatalogError, Model};

pub use read::{Configuration, Unsupported};

/// Why weights are not those of the entry, or their configuration could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The file could not be had.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The file is no configuration.
    #[error("{} is malformed: {problem}; fetch it again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A net that the family does not compute.
    #[error(
        "{}: {} = {}, and what is computed here is {}; measured as {model}, it would be another net",
        path.display(), unsupported.key, unsupported.value, unsupported.computed
    )]
    Unsupported {
        /// The configuration.
        path: PathBuf,
        /// The model that it was to be measured as.
        model: String,
        /// What is not computed.
        unsupported: Unsupported,
    },
    /// A net that the family computes, and another than the entry's.
    #[error(
        "{}: {key} = {value}, and the entry of {model} has {field} = {entry}; correct the entry, or give \
         the weights of the model that it describes", path.display()
    )]
    Differs {
        /// The configuration.
        path: PathBuf,
        /// Its key.
        key: &'static str,
        /// The key's value.
        value: String,
        /// The model.
        model: String,
        /// The dotted name of the entry's field.
        field: String,
        /// The field's value.
        entry: String,
    },
    /// The entry itself.
    #[error(transparent)]
    Catalog(#[from] Box<CatalogError>),
}

impl From<CatalogError> for ConfigurationError {
    fn from(error: CatalogError) -> Self {
        Self::Catalog(Box::new(error))
    }
}

impl From<ConfigurationError> for WorkloadError {
    fn from(error: ConfigurationError) -> Self {
        match error {
            ConfigurationError::Weights(error) => error.into(),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// A checkpoint's configurations, by their paths in its repository; `None` of one that is not there.
pub type Find<'a> = dyn Fn(&str) -> Result<Option<Configuration>, ConfigurationError> + 'a;

/// An entry against which the architectures of configurations are held.
pub struct Comparison<'a> {
    model: &'a Model,
    configuration: &'a Configuration,
}

impl<'a> Comparison<'a> {
    /// Of a configuration with a model's entry.
    pub fn new(model: &'a Model, configuration: &'a Configuration) -> Self {
        Self { model, configuration }
    }

    /// What the family made of the configuration.
    pub fn read<T>(
        &self,
        read: impl FnOnce(&Configuration) -> Result<T, Unsupported>,
    ) -> Result<T, ConfigurationError> {
        read(self.configuration).map_err(|unsupported| ConfigurationError::Unsupported {
            path: self.configuration.path.clone(),
            model: self.model.id.clone(),
            unsupported,
        })
    }

    /// Refuses a value that is not the entry's.
    pub fn equal<T: PartialEq + Debug>(
        &self,
        (key, found): (&'static str, T),
        (field, entry): (&str, T),
    ) -> Result<(), ConfigurationError> {
        if found == entry { Ok(()) } else { Err(self.differs((key, &found), (field, &entry))) }
    }

    /// Refuses a number that is not the entry's, beyond what a decimal may lose.
    pub fn close(
        &self,
        (key, found): (&'static str, f64),
        (field, entry): (&str, f64),
    ) -> Result<(), ConfigurationError> {
        if read::close(found, entry) {
            Ok(())
        } else {
            Err(self.differs((key, &found), (field, &entry)))
        }
    }

    /// Refuses an entry that goes beyond what the configuration allows.
    pub fn at_most(
        &self,
        (key, found): (&'static str, usize),
        (field, entry): (&str, usize),
    ) -> Result<(), ConfigurationError> {
        if entry <= found { Ok(()) } else { Err(self.differs((key, &found), (field, &entry))) }
    }

    fn differs(
        &self,
        (key, found): (&'static str, &dyn Debug),
        (field, entry): (&str, &dyn Debug),
    ) -> ConfigurationError {
        let written = self.configuration.get(key).and_then(|_| self.configuration.shown(key));
        ConfigurationError::Differs {
            path: self.configuration.path.clone(),
            key,
            value: written.unwrap_or_else(|| format!("{found:?}, its default")),
            model: self.model.id.clone(),
            field: field.to_owned(),
            entry: format!("{entry:?}"),
        }
    }
}

#[cfg(test)]
#[path = "configuration_tests.rs"]
mod tests;
