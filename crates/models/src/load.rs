//! How long a model takes from its files to its first answer, by phase, from a cold page cache and
//! from a warm one.

mod page_cache;
mod workload;

use candle_core::DType;
use warpmark_device::Device;
use warpmark_measure::workload::checked;
use warpmark_measure::{Entry, Group, Sampling, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, Check, Seconds};

use page_cache::PageCache;
use workload::Load;

use crate::catalog::{Catalog, CatalogError, Dtype, Model};
use crate::engine::{candle_device, check_host_memory, unsupported};
use crate::family::OWN;
use crate::marks::Marks;
use crate::request::Request;
use crate::weights::{self, Loaded, TensorSpec, WeightFiles};
use crate::worst::worst;

/// The name of this phase in `models.toml`, and the first segment of the ids.
pub(crate) const PHASE: &str = "load";

/// The load workloads of every model that the request takes in: `load/<model>/<dtype>/cold@warpmark`
/// and `.../warm@warpmark`, a group for each model and dtype.
pub fn groups(catalog: &Catalog, request: &Request) -> Result<Vec<Group>, CatalogError> {
    let mut groups = Vec::new();
    for model in catalog.models().iter().filter(|model| model.has_phase(PHASE)) {
        for dtype in request.dtypes(model) {
            groups.push(group(model, *dtype, request)?);
        }
    }
    Ok(groups)
}

fn group(model: &Model, dtype: Dtype, request: &Request) -> Result<Group, CatalogError> {
    let tensors = model.family()?.tensors(model)?;
    let parameters = model.count_parameters()? as f64;
    let stored = Bytes(parameters * model.checkpoint.bytes() as f64);
    let largest = tensors.iter().filter_map(TensorSpec::elements).max().unwrap_or(0) as f64;
    // A GPU holds the largest tensor twice while it is converted; a CPU a staging buffer.
    let memory = parameters * dtype.bytes() as f64 + largest * model.checkpoint.bytes() as f64;
    let mut entries = Vec::with_capacity(PageCache::ALL.len());
    for cache in PageCache::ALL {
        // Guesses for the plan only: a disk at 0.5 GB/s, memory at 2 GB/s, half a second to wake up.
        let rate = if cache == PageCache::Cold { 0.5e9 } else { 2e9 };
        let estimate = Seconds(stored.0 / rate + 0.5);
        entries.push(Entry {
            id: id(model, dtype, cache)?,
            sampling: Sampling {
                samples: 10,
                target: estimate * 10.0,
                warm_up: Seconds(0.0),
                single: true,
            },
            iteration_estimate: estimate,
            preparation_estimate: Seconds(0.0),
            memory_estimate: Bytes(memory),
            sweep: None,
            skip: unsupported(&request.spec, dtype),
        });
    }
    let (model, request) = (model.clone(), request.clone());
    Ok(Group {
        name: format!("load {} {dtype}", model.id),
        entries,
        open: Box::new(move |device| {
            Ok(Box::new(LoadSession::open(model, dtype, &request, device)?))
        }),
    })
}

fn id(model: &Model, dtype: Dtype, cache: PageCache) -> Result<BenchmarkId, CatalogError> {
    let segments = [PHASE, &model.id, &dtype.to_string(), cache.name()].map(str::to_owned);
    BenchmarkId::new(segments, OWN)
        .map_err(|error| model.invalid("id", format!("{:?}", model.id), error.to_string()))
}

/// A model's files, located once for both states of the page cache.
struct LoadSession {
    model: Model,
    dtype: Dtype,
    tensors: Vec<TensorSpec>,
    files: WeightFiles,
    /// What a load reads of them.
    bytes: Bytes,
    device: candle_core::Device,
    marks: Marks,
}

impl LoadSession {
    fn open(
        model: Model,
        dtype: Dtype,
        request: &Request,
        device: &Device,
    ) -> Result<Self, WorkloadError> {
        let candle = candle_device(device)?;
        let tensors = model
            .family()
            .and_then(|family| family.tensors(&model))
            .map_err(WorkloadError::failed)?;
        let progress = request.progress.as_ref();
        let files = weights::locate(&model, &tensors, &request.source, &request.cache, progress)?;
        let bytes = files.read_by_load(&tensors)?;
        let marks = Marks::of(device);
        Ok(Self { model, dtype, tensors, files, bytes, device: candle, marks })
    }

    /// The tensor whose values are compared: the largest that takes no more than a moment.
    fn sample(&self) -> Option<&TensorSpec> {
        const MOMENT: u64 = 1 << 24;
        let size = |tensor: &&TensorSpec| tensor.elements().unwrap_or(u64::MAX);
        self.tensors.iter().filter(|tensor| size(tensor) <= MOMENT).max_by_key(size)
    }

    fn check(&self, loaded: &Loaded) -> Result<Check, WorkloadError> {
        let whole = |spec: &&TensorSpec| {
            loaded.tensor(&spec.name).is_ok_and(|tensor| tensor.dims() == spec.shape)
        };
        let there = self.tensors.iter().filter(whole).count();
        if there != self.tensors.len() || loaded.tensors.len() != there {
            return Err(WorkloadError::Failed(format!(
                "{there} of {} tensors were loaded in their shape, among {}",
                self.tensors.len(),
                loaded.tensors.len()
            )));
        }
        let Some(sample) = self.sample() else {
            return Err(WorkloadError::Failed("no tensor is small enough to compare".to_owned()));
        };
        let tensor = loaded.tensor(&sample.name)?;
        let found =
            tensor.flatten_all().and_then(|flat| flat.to_dtype(DType::F32)?.to_vec1::<f32>());
        let found = found.map_err(WorkloadError::failed)?;
        let stored = self.files.stored(&self.tensors, &sample.name)?;
        // Both roundings are to the nearest, so that not a bit may differ.
        let difference =
            |(found, stored): (&f32, &f32)| f64::from((found - self.dtype.round(*stored)).abs());
        let error = if found.len() == stored.len() {
            worst(found.iter().zip(&stored).map(difference))
        } else {
            f64::NAN
        };
        checked(
            format!("{there} tensors by shape, {} by value, with the file", sample.name),
            error,
            0.0,
        )
    }
}

impl Session for LoadSession {
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
