//! What of a model is loaded, and how it is stored.

use candle_core::Device;
use warpmark_record::Bytes;

use super::gguf::{self, StoredTensor};
use super::{Cache, Loaded, Progress, Source, TensorSpec, WeightFiles, WeightsError};
use crate::{Checkpoint, Dtype, Quantisation};

/// What of a model is loaded, and how it is stored.
#[derive(Debug, Clone)]
pub enum WeightSpec {
    /// Plain tensors, in this dtype.
    Plain(Vec<TensorSpec>, Dtype),
    /// A quantised file's.
    Quantised(Vec<StoredTensor>, Quantisation),
}

impl WeightSpec {
    /// Bytes that they take on the device.
    pub fn held(&self) -> Bytes {
        match self {
            Self::Plain(tensors, dtype) => {
                let elements: f64 = tensors.iter().map(count).sum();
                Bytes(elements * dtype.bytes() as f64)
            }
            Self::Quantised(tensors, _) => gguf::held(tensors),
        }
    }

    /// Bytes in the model's own files, plain ones in this dtype: of all tensors, and of the largest.
    pub fn stored(&self, dtype: Dtype) -> (Bytes, Bytes) {
        let of = |sizes: Vec<f64>| {
            (Bytes(sizes.iter().sum()), Bytes(sizes.into_iter().fold(0.0, f64::max)))
        };
        match self {
            Self::Plain(tensors, _) => {
                let size = dtype.bytes() as f64;
                of(tensors.iter().map(|tensor| size * count(tensor)).collect())
            }
            Self::Quantised(tensors, _) => {
                of(tensors.iter().map(|tensor| tensor.bytes() as f64).collect())
            }
        }
    }

    /// Bytes of one of them on the device; 0 of a tensor that is not among them.
    pub fn bytes_of(&self, name: &str) -> f64 {
        match self {
            Self::Plain(tensors, dtype) => {
                let tensor = tensors.iter().find(|tensor| tensor.name == name);
                tensor.map_or(0.0, |tensor| count(tensor) * dtype.bytes() as f64)
            }
            Self::Quantised(tensors, _) => {
                let tensor = tensors.iter().find(|tensor| tensor.spec.name == name);
                tensor.map_or(0.0, |tensor| gguf::held(std::slice::from_ref(tensor)).0)
            }
        }
    }

    /// Finds the files, fetching or writing them where the source says so.
    pub fn locate(
        &self,
        checkpoint: &Checkpoint,
        source: &Source,
        cache: &Cache,
        progress: &dyn Progress,
    ) -> Result<WeightFiles, WeightsError> {
        match self {
            Self::Plain(tensors, _) => super::locate(checkpoint, tensors, source, cache, progress),
            Self::Quantised(tensors, quantisation) => {
                gguf::locate(checkpoint, tensors, *quantisation, (source, cache), progress)
            }
        }
    }

    /// Loads them onto a device. Every tensor is held against its shape and every weight must be
    /// finite; that check is in none of the phases.
    pub fn load(
        &self,
        checkpoint: &Checkpoint,
        files: &WeightFiles,
        device: &Device,
    ) -> Result<Loaded, WeightsError> {
        match self {
            Self::Plain(tensors, dtype) => files.load(tensors, dtype.candle(), device),
            Self::Quantised(tensors, quantisation) => {
                gguf::load(checkpoint, files, (tensors, *quantisation), device, true)
            }
        }
    }

    /// As [`WeightSpec::load`] without looking at the values: for timing a load, of files that were loaded
    /// and checked before.
    pub fn load_trusted(
        &self,
        checkpoint: &Checkpoint,
        files: &WeightFiles,
        device: &Device,
    ) -> Result<Loaded, WeightsError> {
        match self {
            Self::Plain(tensors, dtype) => files.load_trusted(tensors, dtype.candle(), device),
            Self::Quantised(tensors, quantisation) => {
                gguf::load(checkpoint, files, (tensors, *quantisation), device, false)
            }
        }
    }

    /// What a load reads: the headers and these tensors.
    pub fn read_by_load(&self, files: &WeightFiles) -> Result<Bytes, WeightsError> {
        match self {
            Self::Plain(tensors, _) => files.read_by_load(tensors),
            Self::Quantised(tensors, _) => gguf::read_by_load(files, tensors),
        }
    }
}

fn count(tensor: &TensorSpec) -> f64 {
    tensor.elements().unwrap_or(0) as f64
}
