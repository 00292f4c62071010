//! The located files of a model: opened, held against what the model expects, and loaded.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::PathBuf;

use candle_core::{DType, Device};
use safetensors::tensor::TensorInfo;
use warpmark_measure::{Clock, WallClock};
use warpmark_record::{Bytes, Seconds, WeightsStamp, source};

use super::checkpoint::TensorNames;
use super::component;
use super::copies::{Pair, Stored};
use super::header::Header;
use super::read::{Placed, Reader};
use super::{LoadStages, Loaded, TensorSpec, WeightsError};
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

/// Where everything is.
#[derive(Debug)]
struct Layout<'a> {
    /// The expected tensors, in the order in which they are stored: a disk reads that best.
    placed: Vec<Placed<'a>>,
    /// Copies of some of them, which must be equal.
    copies: Vec<Pair<'a>>,
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
    /// dtype; that check is in none of the [`LoadStages`].
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
        let Layout { placed, copies } = self.place(&opened, expected)?;
        let bytes = bytes_read(&opened, &placed);
        let open = clock.finish()?.wall;
        if finite == Finite::Checked {
            copies.iter().try_for_each(Pair::compare)?;
        }

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
            stages: LoadStages {
                open,
                read: Seconds(reader.read_s),
                host_to_device: Seconds(reader.host_to_device_s),
            },
        })
    }

    /// Opens the files and holds them against what is expected, without loading anything.
    pub fn check(&self, expected: &[TensorSpec]) -> Result<(), WeightsError> {
        let opened = self.open()?;
        self.place(&opened, expected)?.copies.iter().try_for_each(Pair::compare)
    }

    /// What a load of the expected tensors reads: the headers and those tensors. What the family passes
    /// over is not read.
    pub fn read_by_load(&self, expected: &[TensorSpec]) -> Result<Bytes, WeightsError> {
        let opened = self.open()?;
        Ok(bytes_read(&opened, &self.place(&opened, expected)?.placed))
    }

    /// The values of one stored tensor, taken from the file one by one: what a load is held against.
    pub fn stored(&self, expected: &[TensorSpec], name: &str) -> Result<Vec<f32>, WeightsError> {
        let opened = self.open()?;
        let Layout { placed, .. } = self.place(&opened, expected)?;
        let tensor = placed
            .iter()
            .find(|tensor| tensor.spec.name == name)
            .ok_or_else(|| WeightsError::NotLoaded { name: name.to_owned() })?;
        tensor.stored.values(0, tensor.stored.elements)
    }

    fn open(&self) -> Result<Vec<Opened>, WeightsError> {
        let open = |path: &PathBuf| {
            let file = source::open(path).map_err(WeightsError::io("open", path))?;
            let header = Header::read(&file, path)?;
            Ok(Opened { file, header })
        };
        self.paths.iter().map(open).collect()
    }

    /// Every stored tensor by the name that the nets have for it.
    fn contents<'a>(
        &self,
        opened: &'a [Opened],
    ) -> Result<BTreeMap<String, (usize, &'a TensorInfo)>, WeightsError> {
        let mut stored = BTreeMap::new();
        for (index, file) in opened.iter().enumerate() {
            let component = self.components.get(index).and_then(Option::as_deref);
            for (name, info) in file.header.tensors() {
                let own = self.names.called(component, &name);
                if let Some((first, _)) = stored.insert(own, (index, info)) {
                    return Err(WeightsError::Duplicate {
                        name,
                        first: self.paths[first].clone(),
                        second: self.paths[index].clone(),
                    });
                }
            }
        }
        Ok(stored)
    }

    /// Finds every expected tensor, and refuses what is neither expected nor passed over by the family.
    fn place<'a>(
        &'a self,
        opened: &'a [Opened],
        expected: &'a [TensorSpec],
    ) -> Result<Layout<'a>, WeightsError> {
        let all = self.contents(opened)?;
        let mut placed = Vec::with_capacity(expected.len());
        let mut missing = Vec::new();
        for spec in expected {
            let Some((index, info)) = all.get(&spec.name) else {
                missing.push(spec.name.clone());
                continue;
            };
            if info.shape != spec.shape {
                self.refuse_not_computed(&spec.name, *index)?;
                return Err(WeightsError::Shape {
                    name: spec.name.clone(),
                    path: self.paths[*index].clone(),
                    expected: spec.shape.clone(),
                    found: info.shape.clone(),
                });
            }
            placed.push((
                *index,
                Placed { spec, stored: self.at(opened, &spec.name, all[&spec.name])? },
            ));
        }
        if !missing.is_empty() {
            let count = missing.len();
            missing.truncate(LISTED);
            return Err(WeightsError::Missing { count, names: missing, place: self.describe() });
        }
        let known: HashSet<&str> = expected.iter().map(|spec| spec.name.as_str()).collect();
        let left =
            all.keys().filter(|name| !known.contains(name.as_str()) && !self.names.ignores(name));
        let (mut copies, mut extra) = (Vec::new(), Vec::new());
        for name in left {
            match self.names.copied(name).and_then(|rule| Some((rule, all.get(rule.of)?))) {
                Some((rule, of)) => copies.push(Pair {
                    rule,
                    copy: self.at(opened, name, all[name])?,
                    of: self.at(opened, rule.of, *of)?,
                }),
                None => extra.push(name.clone()),
            }
        }
        if !extra.is_empty() {
            for name in &extra {
                self.refuse_not_computed(name, all[name].0)?;
            }
            let count = extra.len();
            extra.truncate(LISTED);
            return Err(WeightsError::Unexpected { count, names: extra, place: self.describe() });
        }
        placed.sort_by_key(|(index, tensor)| (*index, tensor.stored.offset));
        let placed = placed.into_iter().map(|(_, tensor)| tensor).collect();
        Ok(Layout { placed, copies })
    }

    /// Refuses a tensor that shows what the family does not compute.
    fn refuse_not_computed(&self, name: &str, index: usize) -> Result<(), WeightsError> {
        match self.names.not_computed(name) {
            Some(what) => Err(WeightsError::NotComputed {
                name: name.to_owned(),
                path: self.paths[index].clone(),
                what,
            }),
            None => Ok(()),
        }
    }

    /// Where a tensor's values are, refused where its dtype cannot be loaded.
    fn at<'a>(
        &'a self,
        opened: &'a [Opened],
        name: &str,
        (index, info): (usize, &TensorInfo),
    ) -> Result<Stored<'a>, WeightsError> {
        let path = &self.paths[index];
        let dtype = stored_dtype(info.dtype).ok_or_else(|| WeightsError::Dtype {
            name: name.to_owned(),
            path: path.clone(),
            dtype: format!("{:?}", info.dtype),
        })?;
        let Opened { file, header } = &opened[index];
        let elements = info.shape.iter().product();
        Ok(Stored { file, path, dtype, offset: header.offset(info), elements })
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
    let tensors: usize =
        placed.iter().map(|tensor| tensor.stored.elements * tensor.stored.dtype.bytes()).sum();
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
