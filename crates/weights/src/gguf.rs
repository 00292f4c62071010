//! Quantised weights: blocks of small integers with scales, in a GGUF file.
//!
//! The blocks are loaded as they are stored; norms, which GGUF keeps in f32, and matrices whose rows no
//! block divides become plain f32 tensors. The format: `docs/gguf.md` of ggml.

mod open;
mod read;
mod split;
mod synthetic;

use std::path::Path;

use candle_core::quantized::GgmlDType;
use warpmark_record::{Bytes, WeightsStamp};

use super::{Cache, Progress, Source, TensorSpec, WeightFiles, WeightsError, hub};
use crate::{Checkpoint, Quantisation};

pub use open::{ROPE_FACTORS, metadata};
pub use read::blocks;
pub(super) use read::{load, read_by_load};
pub(super) use synthetic::examine;

/// A tensor as a quantised file has it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredTensor {
    /// The tensor, under its name among the plain ones.
    pub spec: TensorSpec,
    /// Its name in the file.
    pub name: String,
    /// How llama.cpp stores it in a file of this quantisation. A file may do so otherwise.
    pub kind: GgmlDType,
}

impl StoredTensor {
    /// Its bytes in the file; 0 where they do not fit into 64 bits, which the catalog has ruled out.
    pub fn bytes(&self) -> u64 {
        bytes(self.kind, self.spec.elements().unwrap_or(0)).unwrap_or(0)
    }

    /// Whether it is quantised at all: matrices whose rows no block divides are not.
    pub fn is_blocks(&self) -> bool {
        is_blocks(self.kind)
    }
}

/// Bytes of so many elements; `None` where they are no whole number of blocks, or too many.
fn bytes(kind: GgmlDType, elements: u64) -> Option<u64> {
    let size = kind.block_size() as u64;
    if !elements.is_multiple_of(size) {
        return None;
    }
    (elements / size).checked_mul(kind.type_size() as u64)
}

/// Whether a tensor of this kind stays blocks on the device.
fn is_blocks(kind: GgmlDType) -> bool {
    kind.block_size() > 1
}

/// llama.cpp's number of a quantisation, in a file's `general.file_type`.
fn file_type(quantisation: Quantisation) -> u32 {
    match quantisation {
        Quantisation::Q8_0 => 7,
        Quantisation::Q4KM => 15,
    }
}

/// Finds the file of a model's quantised weights, fetching or writing it where the source says so.
pub(super) fn locate(
    checkpoint: &Checkpoint,
    tensors: &[StoredTensor],
    quantisation: Quantisation,
    (source, cache): (&Source, &Cache),
    progress: &dyn Progress,
) -> Result<WeightFiles, WeightsError> {
    let files = match source {
        Source::Synthetic { seed } => {
            synthetic::locate(checkpoint, tensors, (quantisation, *seed), cache, progress)
        }
        Source::Hub(options) => {
            if checkpoint.files.is_empty() {
                let model = checkpoint.id.clone();
                return Err(WeightsError::Unpublished { model, quantisation });
            }
            let bytes = Bytes(tensors.iter().map(|tensor| tensor.bytes() as f64).sum());
            hub::locate(checkpoint, bytes, options, progress)
        }
        Source::Folder(path) => in_folder(path, quantisation),
    };
    Ok(files?.with_names(checkpoint.names))
}

/// The one checkpoint of a folder, whole or in parts, that is named after the quantisation, else its only GGUF
/// file.
fn in_folder(path: &Path, quantisation: Quantisation) -> Result<WeightFiles, WeightsError> {
    let problem = |problem: String| WeightsError::Folder { path: path.to_owned(), problem };
    let entries = std::fs::read_dir(path).map_err(|error| {
        problem(format!("{error}; give the folder that holds the {quantisation} file"))
    })?;
    let found = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "gguf"))
        .collect();
    let found = split::together(found);
    let word = quantisation.to_string();
    let named = |whole: &&split::Whole| whole.name.to_lowercase().contains(&word);
    let by_name: Vec<_> = found.iter().filter(named).cloned().collect();
    let mut chosen = if by_name.is_empty() { found } else { by_name };
    match chosen.len() {
        1 => {
            let whole = chosen.swap_remove(0);
            if let Some(missing) = whole.missing() {
                return Err(problem(format!(
                    "it has no {missing}, and the checkpoint is cut into parts: fetch it too"
                )));
            }
            let name = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok(WeightFiles::new(whole.parts, WeightsStamp::Folder { name }))
        }
        0 => Err(problem(format!("no .gguf file in it; {word} weights are read from one"))),
        count => Err(problem(format!(
            "{count} .gguf files could be the one of {word}; leave one, or put {word} into its name"
        ))),
    }
}

/// Bytes that the tensors take on the device.
pub(super) fn held(tensors: &[StoredTensor]) -> Bytes {
    let on_device = |tensor: &StoredTensor| {
        if is_blocks(tensor.kind) {
            tensor.bytes() as f64
        } else {
            tensor.spec.elements().unwrap_or(0) as f64 * 4.0
        }
    };
    Bytes(tensors.iter().map(on_device).sum())
}

#[cfg(test)]
#[path = "gguf_tests.rs"]
mod tests;
