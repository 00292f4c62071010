//! The located files of a model: opened, held against what the model expects, and loaded.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use candle_core::{DType, Device};
use warpmark_measure::{Clock, WallClock};
use warpmark_record::{Bytes, Seconds, WeightsStamp};

use super::checkpoint::TensorNames;
use super::component;
use super::header::Header;
use super::read::{Placed, Reader};
use super::{LoadPhases, Loaded, TensorSpec, WeightsError};
use crate::Dtype;

/// How many names an error lists.
const LISTED: usize = 5;

/// The located files of one model.
#[derive(Debug, Clone)]
pub struct WeightFiles {
    paths: Vec<PathBuf>,
    /// The component of each file, where the model comes in components.
    components: Vec<Option<String>>,
    names: TensorNames,
    stamp: WeightsStamp,
}

/// A file with its header.
#[derive(Debug)]
struct Opened {
    file: File,
    header: Header,
}

/// Whether loading looks for NaNs, infinities and overflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finite {
    Checked,
    Trusted,
}

impl WeightFiles {
    pub(super) fn new(paths: Vec<PathBuf>, stamp: WeightsStamp) -> Self {
        let components = vec![None; paths.len()];
        Self { paths, components, names: TensorNames::default(), stamp }
    }

    /// Files of a repository by their paths in it: one in a folder is a component's.
    pub(super) fn of_repo(paths: Vec<PathBuf>, files: &[String], stamp: WeightsStamp) -> Self {
        let components = files.iter().map(|file| component::of(file).map(str::to_owned)).collect();
        Self { paths, components, names: TensorNames::default(), stamp }
    }

    /// The same files with what a family knows of their tensors.
    pub(crate) fn with_names(self, names: TensorNames) -> Self {
        Self { names, ..self }
    }

    /// What the family passes over and renames.
    pub(crate) fn names(&self) -> &TensorNames {
        &self.names
    }

    /// What goes on the record.
    pub fn stamp(&self) -> WeightsStamp {
        self.stamp.clone()
    }

    /// The files.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Their sizes together.
    pub fn bytes(&self) -> Result<Bytes, WeightsError> {
        let mut total = 0;
        for path in &self.paths {
            total += std::fs::metadata(path).map_err(WeightsError::io("look at", path))?.len();
        }
        Ok(Bytes(total as f64))
    }

    /// Loads the expected tensors onto a device as `dtype`, one of f32, f16 and bf16.
    ///
    /// Every tensor is held against its expected shape, and every weight must be finite and fit the
    /// dtype; that check is in none of the [`LoadPhases`].
    pub fn load(
        &self,
        expected: &[TensorSpec],
        dtype: DType,
        device: &Device,
    ) -> Result<Loaded, WeightsError> {
        self.load_by(expected, dtype, device, Finite::Checked)
    }

    /// As [`WeightFiles::load`] without looking at the values: for timing a load, of files that were
    /// loaded and checked before.
    pub fn load_trusted(
        &self,
        expected: &[TensorSpec],
        dtype: DType,
        device: &Device,
    ) -> Result<Loaded, WeightsError> {
        self.load_by(expected, dtype, device, Finite::Trusted)
    }

    fn load_by(
        &self,
        expected: &[TensorSpec],
        dtype: DType,
        device: &Device,
        finite: Finite,
    ) -> Result<Loaded, WeightsError> {
        let target = target(dtype)?;
        let mut clock = WallClock::default();
        clock.start()?;
        let opened = self.open()?;
        let placed = self.place(&opened, expected)?;
        let bytes = bytes_read(&opened, &placed);
        let open = clock.finish()?.wall;

        let mut reader = Reader::new(device, finite == Finite::Checked);
        let mut tensors = HashMap::with_capacity(placed.len());
        for tensor in &placed {
            tensors.insert(tensor.spec.name.clone(), reader.load(tensor, target)?);
        }
        reader.finish()?;
        Ok(Loaded {
            tensors,
            blocks: HashMap::new(),
            dtype,
            device: device.clone(),
            bytes,
            phases: LoadPhases {
                open,
                read: Seconds(reader.read_s),
                host_to_device: Seconds(reader.host_to_device_s),
            },
        })
    }

    /// Opens the files and holds them against what is expected, without loading anything.
    pub fn check(&self, expected: &[TensorSpec]) -> Result<(), WeightsError> {
        let opened = self.open()?;
        self.place(&opened, expected).map(|_| ())
    }

    /// What a load of the expected tensors reads: the headers and those tensors. Buffers that nobody
    /// needs are passed over.
    pub fn read_by_load(&self, expected: &[TensorSpec]) -> Result<Bytes, WeightsError> {
        let opened = self.open()?;
        Ok(bytes_read(&opened, &self.place(&opened, expected)?))
    }

    /// The values of one stored tensor, taken from the file one by one: what a load is held against.
    pub fn stored(&self, expected: &[TensorSpec], name: &str) -> Result<Vec<f32>, WeightsError> {
        let opened = self.open()?;
        let placed = self.place(&opened, expected)?;
        let tensor = placed
            .iter()
            .find(|tensor| tensor.spec.name == name)
            .ok_or_else(|| WeightsError::NotLoaded { name: name.to_owned() })?;
        let mut bytes = vec![0; tensor.elements * tensor.dtype.bytes()];
        tensor
            .file
            .read_exact_at(&mut bytes, tensor.offset)
            .map_err(WeightsError::io("read", tensor.path))?;
        let pair = |pair: &[u8]| [pair[0], pair[1]];
        Ok(match tensor.dtype {
            Dtype::F32 => bytes
                .chunks_exact(4)
                .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]))
                .collect(),
            Dtype::F16 => bytes
                .chunks_exact(2)
                .map(|word| half::f16::from_le_bytes(pair(word)).to_f32())
                .collect(),
            Dtype::Bf16 => bytes
                .chunks_exact(2)
                .map(|word| half::bf16::from_le_bytes(pair(word)).to_f32())
                .collect(),
        })
    }

    fn open(&self) -> Result<Vec<Opened>, WeightsError> {
        let open = |path: &PathBuf| {
            let file = File::open(path).map_err(WeightsError::io("open", path))?;
            let header = Header::read(&file, path)?;
            Ok(Opened { file, header })
        };
        self.paths.iter().map(open).collect()
    }

    /// Finds every expected tensor, in the order in which they are stored: a disk reads that best.
    fn place<'a>(
        &'a self,
        opened: &'a [Opened],
        expected: &'a [TensorSpec],
    ) -> Result<Vec<Placed<'a>>, WeightsError> {
        let mut stored = BTreeMap::new();
        for (index, file) in opened.iter().enumerate() {
            for (name, info) in file.header.tensors() {
                let component = self.components.get(index).and_then(Option::as_deref);
                let short = self.names.called(component, &name);
                if let Some((first, _)) = stored.insert(short, (index, info)) {
                    return Err(WeightsError::Duplicate {
                        name,
                        first: self.paths[first].clone(),
                        second: self.paths[index].clone(),
                    });
                }
            }
        }
        let mut placed = Vec::with_capacity(expected.len());
        let mut missing = Vec::new();
        for spec in expected {
            let Some((index, info)) = stored.remove(&spec.name) else {
                missing.push(spec.name.clone());
                continue;
            };
            let path = &self.paths[index];
            if info.shape != spec.shape {
                return Err(WeightsError::Shape {
                    name: spec.name.clone(),
                    path: path.clone(),
                    expected: spec.shape.clone(),
                    found: info.shape.clone(),
                });
            }
            let dtype = stored_dtype(info.dtype).ok_or_else(|| WeightsError::Dtype {
                name: spec.name.clone(),
                path: path.clone(),
                dtype: format!("{:?}", info.dtype),
            })?;
            let file = &opened[index];
            placed.push((
                index,
                Placed {
                    spec,
                    file: &file.file,
                    path,
                    dtype,
                    offset: file.header.offset(info),
                    elements: info.shape.iter().product(),
                },
            ));
        }
        if !missing.is_empty() {
            let count = missing.len();
            missing.truncate(LISTED);
            return Err(WeightsError::Missing { count, names: missing, place: self.describe() });
        }
        let mut extra: Vec<String> =
            stored.into_keys().filter(|name| !self.names.ignores(name)).collect();
        if !extra.is_empty() {
            let count = extra.len();
            extra.truncate(LISTED);
            return Err(WeightsError::Unexpected { count, names: extra, place: self.describe() });
        }
        placed.sort_by_key(|(index, tensor)| (*index, tensor.offset));
        Ok(placed.into_iter().map(|(_, tensor)| tensor).collect())
    }

    fn describe(&self) -> String {
        match self.paths.as_slice() {
            [path] => path.display().to_string(),
            [first, ..] => format!("{} and {} more files", first.display(), self.paths.len() - 1),
            [] => "no file at all".to_owned(),
        }
    }
}

/// Headers and tensors.
fn bytes_read(opened: &[Opened], placed: &[Placed<'_>]) -> Bytes {
    let headers: u64 = opened.iter().map(|file| file.header.data_start()).sum();
    let tensors: usize = placed.iter().map(|tensor| tensor.elements * tensor.dtype.bytes()).sum();
    Bytes(headers as f64) + Bytes::from_count(tensors)
}

fn stored_dtype(dtype: safetensors::Dtype) -> Option<Dtype> {
    match dtype {
        safetensors::Dtype::F32 => Some(Dtype::F32),
        safetensors::Dtype::F16 => Some(Dtype::F16),
        safetensors::Dtype::BF16 => Some(Dtype::Bf16),
        _ => None,
    }
}

fn target(dtype: DType) -> Result<Dtype, WeightsError> {
    match dtype {
        DType::F32 => Ok(Dtype::F32),
        DType::F16 => Ok(Dtype::F16),
        DType::BF16 => Ok(Dtype::Bf16),
        other => Err(WeightsError::Target(other.as_str().to_owned())),
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
