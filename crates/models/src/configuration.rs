//! Weights held against the entry that they are measured as, by what their own configuration says.

use std::cell::Cell;

pub use warpmark_catalog::configuration::*;

use crate::catalog::Model;
use crate::options::RunOptions;
use crate::weights::{self, Checkpoint, Progress, Source, WeightFiles, WeightSpec};

/// Refuses weights whose configuration says that they are of another net than the entry's.
///
/// # Errors
/// [`ConfigurationError::Unsupported`] and [`ConfigurationError::Differs`] with the key and both values.
pub fn check(
    model: &Model,
    source: &Source,
    progress: &dyn Progress,
) -> Result<(), ConfigurationError> {
    if !source.is_real() {
        return Ok(());
    }
    let checkpoint = model.checkpoint_in(model.checkpoint)?;
    let find = |name: &str| {
        let path = weights::locate_file(&checkpoint, name, source, progress)?;
        path.map(|path| Configuration::read(&path)).transpose()
    };
    model.family().check_configuration(model, &find)
}

/// Whether weights come with a configuration that is the entry's: `None` where they have none of its family.
pub fn fits(model: &Model, source: &Source, progress: &dyn Progress) -> Option<bool> {
    let found = Cell::new(false);
    let checkpoint = model.checkpoint_in(model.checkpoint).ok()?;
    let find = |name: &str| {
        let path = weights::locate_file(&checkpoint, name, source, progress)?;
        found.set(found.get() || path.is_some());
        path.map(|path| Configuration::read(&path)).transpose()
    };
    let checked = model.family().check_configuration(model, &find);
    found.get().then_some(checked.is_ok())
}

/// Finds what is wanted of a model, and refuses it where its own configuration is another model's:
/// before it is fetched, where the configuration is a file of its own.
pub(crate) fn locate(
    model: &Model,
    wanted: &WeightSpec,
    checkpoint: &Checkpoint,
    options: &RunOptions,
) -> Result<WeightFiles, ConfigurationError> {
    let (source, progress) = (&options.source, options.progress.as_ref());
    if matches!(wanted, WeightSpec::Plain(..)) {
        check(model, source, progress)?;
    }
    let files = wanted.locate(checkpoint, source, &options.cache, progress)?;
    if matches!(wanted, WeightSpec::Quantised(..)) && source.is_real() {
        check_quantised(model, &files)?;
    }
    Ok(files)
}

/// As [`check`], for the metadata of a quantised file.
pub fn check_quantised(model: &Model, files: &WeightFiles) -> Result<(), ConfigurationError> {
    let Some(path) = files.paths().first() else { return Ok(()) };
    let values = weights::gguf::metadata(files)?;
    model.family().check_metadata(model, &Configuration::of(path.clone(), values))
}

#[cfg(test)]
#[path = "configuration_tests.rs"]
mod tests;
