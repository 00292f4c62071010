//! Weights: where they come from, and how they get onto the device.
//!
//! Three sources, one shape: [`locate`] finds or makes safetensors files, [`WeightFiles::load`] reads
//! them onto a device by phases. Which source it was is on every record, and none stands in for
//! another in silence.

pub mod cache;
mod checkpoint;
mod component;
mod copies;
mod damaged;
mod dtype;
mod element;
mod error;
mod examine;
pub mod file;
mod folder;
mod format;
pub mod gguf;
pub mod git_lfs;
pub mod header;
pub mod hub;
mod page_cache;
mod read;
mod synthetic;
mod weight_spec;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use warpmark_record::{Bytes, Seconds};

pub use cache::Cache;
pub use checkpoint::{Checkpoint, Copied, Renamed, TensorNames};
pub use dtype::Dtype;
pub use error::WeightsError;
pub use file::WeightFiles;
pub use format::{Format, Quantisation};
pub use hub::{HubError, HubOptions};
pub use page_cache::{PageCache, Residency};
pub use weight_spec::WeightSpec;

/// Where weights come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Random values at the true shapes, written once to the cache.
    Synthetic {
        /// The seed; each tensor's stream also depends on its name.
        seed: u64,
    },
    /// The pinned revision from the hub.
    Hub(HubOptions),
    /// A folder with safetensors files.
    Folder(PathBuf),
}

impl Source {
    /// Whether these are trained weights, whose answers mean something.
    pub fn is_real(&self) -> bool {
        !matches!(self, Self::Synthetic { .. })
    }
}

/// A tensor that a family expects.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorSpec {
    /// Its name in the checkpoint, without a prefix such as `transformer.`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How synthetic weights fill it.
    pub init: Init,
}

/// How synthetic weights fill a tensor, so that activations stay finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Independent, nearly normal values around zero, none beyond 3.5 standard deviations.
    Normal {
        /// Their standard deviation.
        std: f32,
    },
    /// Ones: the gains of normalisation layers.
    Ones,
    /// Zeros: biases.
    Zeros,
}

impl TensorSpec {
    /// The number of elements; `None` where it does not fit into 64 bits.
    pub fn elements(&self) -> Option<u64> {
        self.shape.iter().try_fold(1u64, |count, extent| count.checked_mul(*extent as u64))
    }
}

/// Hears how a download or a generation of weights gets on. Called from several threads.
pub trait Progress: Send + Sync {
    /// A file begins; `total` is its size, if known.
    fn begin(&self, file: &str, total: Option<Bytes>);
    /// So much of it is done.
    fn advance(&self, file: &str, done: Bytes);
    /// It is complete.
    fn finish(&self, file: &str);
    /// How much longer it may take; `None` where it may take as long as it takes.
    fn time_left(&self) -> Option<Duration> {
        None
    }
}

/// Nobody listens.
#[derive(Debug, Default, Clone, Copy)]
pub struct Quiet;

impl Progress for Quiet {
    fn begin(&self, _file: &str, _total: Option<Bytes>) {}
    fn advance(&self, _file: &str, _done: Bytes) {}
    fn finish(&self, _file: &str) {}
}

/// Finds the model's weight files, fetching or writing them where the source says so.
pub fn locate(
    checkpoint: &Checkpoint,
    tensors: &[TensorSpec],
    source: &Source,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<WeightFiles, WeightsError> {
    let files = match source {
        Source::Synthetic { seed } => {
            synthetic::locate(checkpoint, tensors, *seed, cache, progress)
        }
        Source::Hub(options) => {
            let elements =
                tensors.iter().map(|tensor| tensor.elements().unwrap_or(u64::MAX) as f64);
            let bytes = Bytes(elements.sum::<f64>() * checkpoint.dtype.bytes() as f64);
            hub::locate(checkpoint, bytes, options, progress)
        }
        Source::Folder(path) => folder::locate(path, &checkpoint.files),
    };
    Ok(files?.with_names(checkpoint.names))
}

/// Finds the model's tokenizer file, fetching it where the source is the hub; `None` where the entry
/// names none, the weights are synthetic, or the folder has none.
pub fn locate_tokenizer(
    checkpoint: &Checkpoint,
    source: &Source,
    progress: &dyn Progress,
) -> Result<Option<PathBuf>, WeightsError> {
    let Some(name) = &checkpoint.tokenizer else { return Ok(None) };
    match source {
        Source::Hub(options) => hub::file(checkpoint, name, options, progress).map(Some),
        Source::Synthetic { .. } | Source::Folder(_) => {
            locate_file(checkpoint, name, source, progress)
        }
    }
}

/// Finds a file that a repository may have beside its weights, fetching it where the source is the hub;
/// `None` where there is none, or where it is not in the local cache and the network is off.
pub fn locate_file(
    checkpoint: &Checkpoint,
    name: &str,
    source: &Source,
    progress: &dyn Progress,
) -> Result<Option<PathBuf>, WeightsError> {
    match source {
        Source::Synthetic { .. } => Ok(None),
        Source::Hub(options) => match hub::file(checkpoint, name, options, progress) {
            Err(WeightsError::Hub(HubError::NotFound { .. } | HubError::Offline { .. })) => {
                Ok(None)
            }
            found => found.map(Some),
        },
        Source::Folder(folder) => Ok(Some(folder.join(name)).filter(|path| path.is_file())),
    }
}

/// A model's weights on a device.
pub struct Loaded {
    /// By the names of the [`TensorSpec`]s.
    pub tensors: HashMap<String, Tensor>,
    /// Those that are blocks of a quantised file, by the same names.
    pub blocks: HashMap<String, Arc<QTensor>>,
    /// The dtype of the plain ones.
    pub dtype: DType,
    /// Where they are.
    pub device: Device,
    /// Bytes read from the files, headers included.
    pub bytes: Bytes,
    /// What the parts of the load took.
    pub stages: LoadStages,
}

/// What the parts of a load took, on the wall.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadStages {
    /// Opening the files, reading their headers and holding them against what is expected.
    pub open: Seconds,
    /// Reading the tensors into host memory.
    pub read: Seconds,
    /// Converting to the dtype asked for and copying to the device; on a CPU the conversion and the
    /// copy into the tensor's own memory.
    pub host_to_device: Seconds,
}

impl Loaded {
    /// Bytes that they hold on the device.
    pub fn held(&self) -> Bytes {
        let plain = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        let plain: usize = self.tensors.values().map(plain).sum();
        let blocks: usize = self.blocks.values().map(|blocks| blocks.storage_size_in_bytes()).sum();
        Bytes::from_count(plain + blocks)
    }

    /// Whether a tensor of that name and shape was loaded, plain or as blocks.
    pub fn has(&self, spec: &TensorSpec) -> bool {
        let plain = self.tensors.get(&spec.name).map(Tensor::dims);
        let blocks = self.blocks.get(&spec.name).map(|blocks| blocks.shape().dims());
        plain.or(blocks).is_some_and(|found| found == spec.shape)
    }

    /// The plain tensor of that name.
    pub fn tensor(&self, name: &str) -> Result<&Tensor, WeightsError> {
        self.tensors.get(name).ok_or_else(|| WeightsError::NotLoaded { name: name.to_owned() })
    }

    /// candle's view of the tensors, for nets that are built through it. Nothing is copied.
    pub fn var_builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_tensors(self.tensors.clone(), self.dtype, &self.device)
    }
}
