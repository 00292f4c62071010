//! How long a model takes from its files to its first answer, by phase, from a cold page cache and
//! from a warm one.

mod workload;

use std::borrow::Cow;

use candle_core::DType;
use warpmark_device::Device;
use warpmark_measure::workload::checked;
use warpmark_measure::{Entry, Group, Sampling, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, Check, DeviceKind, Seconds};

use workload::Load;

use crate::bench::PeakMemory;
use crate::catalog::{CatalogError, Dtype, Format, LOAD, Model};
use crate::configuration;
use crate::engine::{
    OWN, candle_device, check_host_memory, check_sticky_error, unsupported, unsupported_quantised,
};
use crate::examined::examined;
use crate::options::RunOptions;
use crate::shipped::Catalog;
use crate::weights::gguf::StoredTensor;
use crate::weights::{self, Checkpoint, Loaded, PageCache, TensorSpec, WeightFiles, WeightSpec};
use warpmark_record::agreement::max_error;

/// The load workloads of every model that the run takes in: `load/<model>/<format>/cold@warpmark`
/// and `.../warm@warpmark`, a group for each model and format.
pub fn groups(catalog: &Catalog, options: &RunOptions) -> Result<Vec<Group>, CatalogError> {
    let mut groups = Vec::new();
    for model in catalog.models().iter().filter(|model| model.has_phase(LOAD)) {
        for format in options.formats(model) {
            groups.push(group(model, format, options)?);
        }
    }
    Ok(groups)
}

fn group(model: &Model, format: Format, options: &RunOptions) -> Result<Group, CatalogError> {
    let wanted = model.weight_spec(format)?;
    let (stored, largest) = wanted.stored(model.checkpoint);
    // A GPU holds the largest tensor twice while it is converted; a CPU a staging buffer.
    let memory = wanted.held() + largest;
    let mut entries = Vec::with_capacity(PageCache::ALL.len());
    for cache in PageCache::ALL {
        // Guesses for the plan only: a disk at 0.5 GB/s, memory at 2 GB/s, and what a load takes however
        // small it is. A GPU wakes up once.
        let rate = if cache == PageCache::Cold { 0.5e9 } else { 2e9 };
        let (least, wake_up) = match options.spec.kind {
            DeviceKind::Cpu => (0.002, 0.0),
            DeviceKind::Cuda | DeviceKind::Simulated => (0.02, 0.5),
        };
        let estimate = Seconds(stored.0 / rate + least);
        entries.push(Entry {
            id: id(model, format, cache)?,
            sampling: Sampling {
                samples: 10,
                target: estimate * 10.0,
                warm_up: Seconds(0.0),
                single: true,
                may_end_early: false,
            },
            iteration_estimate: estimate,
            preparation_estimate: Seconds(wake_up),
            memory_estimate: memory,
            sweep: None,
            skip: match format {
                Format::Plain(dtype) => unsupported(&options.spec, dtype),
                Format::Quantised(_) => unsupported_quantised(&options.spec),
            },
        });
    }
    let name = format!("load {} {format}", model.id);
    let (of, with) = (model.clone(), options.clone());
    let open = Box::new(move |device: &Device| {
        let session = LoadSession::open(of, (format, wanted), &with, device)?;
        Ok(Box::new(session) as Box<dyn Session>)
    });
    Ok(examined(Group { name, entries, open }, model, options))
}

fn id(model: &Model, format: Format, cache: PageCache) -> Result<BenchmarkId, CatalogError> {
    let segments = [LOAD, &model.id, &format.to_string(), cache.name()].map(str::to_owned);
    BenchmarkId::new(segments, OWN)
        .map_err(|error| model.invalid("id", format!("{:?}", model.id), error.to_string()))
}

/// A model's files, located once for both states of the page cache.
struct LoadSession {
    model: Model,
    format: Format,
    wanted: WeightSpec,
    checkpoint: Checkpoint,
    files: WeightFiles,
    /// What a load reads of them.
    bytes: Bytes,
    device: candle_core::Device,
    marks: PeakMemory,
}

impl LoadSession {
    fn open(
        model: Model,
        (format, wanted): (Format, WeightSpec),
        options: &RunOptions,
        device: &Device,
    ) -> Result<Self, WorkloadError> {
        let candle = candle_device(device)?;
        let checkpoint = model.checkpoint_in(format).map_err(WorkloadError::failed)?;
        let files = configuration::locate(&model, &wanted, &checkpoint, options)?;
        let bytes = wanted.read_by_load(&files)?;
        let marks = PeakMemory::of(device);
        Ok(Self { model, format, wanted, checkpoint, files, bytes, device: candle, marks })
    }

    /// What the files hold.
    fn stored_as(&self) -> String {
        match self.format {
            Format::Plain(_) => self.model.checkpoint.to_string(),
            Format::Quantised(quantisation) => quantisation.to_string(),
        }
    }

    /// By how much a loaded tensor's values are off those of its file, rounded as they should be; not a number where there
    /// are more or fewer.
    fn largest_error(
        &self,
        loaded: &Loaded,
        tensors: &[TensorSpec],
        (name, dtype): (&str, Dtype),
    ) -> Result<f64, WorkloadError> {
        let tensor = loaded.tensor(name)?;
        let found = tensor
            .flatten_all()
            .and_then(|flat| flat.to_dtype(DType::F32)?.to_vec1::<f32>())
            .map_err(WorkloadError::failed)?;
        let stored = self.files.stored(tensors, name)?;
        // Both roundings are to the nearest, so that not a bit may differ.
        let difference =
            |(found, stored): (&f32, &f32)| f64::from((found - dtype.round(*stored)).abs());
        if found.len() != stored.len() {
            return Ok(f64::NAN);
        }
        Ok(max_error(found.iter().zip(&stored).map(difference)))
    }

    fn check(&self, loaded: &Loaded) -> Result<Check, WorkloadError> {
        match &self.wanted {
            WeightSpec::Plain(tensors, dtype) => {
                let shape = |spec: &TensorSpec| {
                    loaded.tensors.get(&spec.name).is_some_and(|found| found.dims() == spec.shape)
                };
                complete(loaded, tensors, shape)?;
                let samples = samples(tensors)?;
                let errors: Vec<f64> = samples
                    .iter()
                    .map(|sample| self.largest_error(loaded, tensors, (&sample.name, *dtype)))
                    .collect::<Result<_, _>>()?;
                let names: Vec<&str> = samples.iter().map(|sample| sample.name.as_str()).collect();
                verdict(tensors.len(), &names.join(", "), "value", max_error(errors))
            }
            WeightSpec::Quantised(tensors, _) => {
                let shape = |tensor: &StoredTensor| loaded.has(&tensor.spec);
                complete(loaded, tensors, shape)?;
                let blocks: Vec<&StoredTensor> = tensors
                    .iter()
                    .filter(|tensor| loaded.blocks.contains_key(&tensor.spec.name))
                    .collect();
                let sample = sample(&blocks, |tensor| &tensor.spec)?;
                let stored = weights::gguf::blocks(&self.files, sample)?;
                let found = match loaded.blocks.get(&sample.spec.name) {
                    Some(blocks) => blocks.data().map_err(WorkloadError::failed)?,
                    None => Cow::default(),
                };
                // The blocks are copied and nothing else.
                let error = if *found == *stored { 0.0 } else { f64::INFINITY };
                verdict(tensors.len(), &sample.spec.name, "byte", error)
            }
        }
    }
}

/// The tensors whose values are compared: the largest that takes no more than a moment, and of those that take a part of
/// one the first, the one in the middle and the last.
fn samples(tensors: &[TensorSpec]) -> Result<Vec<&TensorSpec>, WorkloadError> {
    const PART: u64 = 1 << 22;
    let mut samples = vec![sample(tensors, |spec| spec)?];
    let small: Vec<&TensorSpec> =
        tensors.iter().filter(|spec| spec.elements().is_some_and(|count| count <= PART)).collect();
    for at in [0, small.len() / 2, small.len().saturating_sub(1)] {
        if let Some(spec) =
            small.get(at).filter(|spec| samples.iter().all(|one| one.name != spec.name))
        {
            samples.push(spec);
        }
    }
    Ok(samples)
}

/// Refuses a load that lacks a tensor, or has one more.
fn complete<T>(
    loaded: &Loaded,
    expected: &[T],
    is_there: impl Fn(&T) -> bool,
) -> Result<(), WorkloadError> {
    let there = expected.iter().filter(|tensor| is_there(tensor)).count();
    let among = loaded.tensors.len() + loaded.blocks.len();
    if there == expected.len() && among == there {
        return Ok(());
    }
    Err(WorkloadError::Failed(format!(
        "{there} of {} tensors were loaded in their shape, among {among}",
        expected.len()
    )))
}

/// The tensor whose values are compared: the largest that takes no more than a moment.
fn sample<T>(tensors: &[T], spec: impl Fn(&T) -> &TensorSpec) -> Result<&T, WorkloadError> {
    const MOMENT: u64 = 1 << 24;
    let size = |tensor: &&T| spec(tensor).elements().unwrap_or(u64::MAX);
    tensors
        .iter()
        .filter(|tensor| size(tensor) <= MOMENT)
        .max_by_key(size)
        .ok_or_else(|| WorkloadError::Failed("no tensor is small enough to compare".to_owned()))
}

fn verdict(count: usize, sample: &str, by: &str, error: f64) -> Result<Check, WorkloadError> {
    checked(format!("{count} tensors by shape, {sample} by {by}, with the file"), error, 0.0)
}

impl Session for LoadSession {
    fn check_sticky_error(&mut self) -> Result<(), WorkloadError> {
        check_sticky_error(&self.device)
    }

    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let cache = PageCache::ALL
            .into_iter()
            .find(|cache| entry.id.segments().last().is_some_and(|last| last == cache.name()))
            .ok_or_else(|| WorkloadError::Failed(format!("{} is no load", entry.id)))?;
        if self.device.is_cpu() {
            check_host_memory("the weights", entry.memory_estimate)?;
        }
        Ok(Box::new(Load::new(entry.id.clone(), self, cache)?))
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
