//! How long a model takes from its files to its first answer, by phase, from a cold page cache and
//! from a warm one.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use warpmark_device::{CudaDevice, Device, pool, resident};
use warpmark_measure::workload::checked;
use warpmark_measure::{
    Clock, Description, Entry, Group, Sampling, Session, WallClock, Workload, WorkloadError,
};
use warpmark_record::{
    BenchmarkId, Bytes, Check, Field, ItemUnit, Items, Memory, Seconds, Value, Work,
};

use crate::catalog::{Catalog, CatalogError, Dtype, Model};
use crate::engine::{candle_device, unsupported};
use crate::request::Request;
use crate::weights::{self, Loaded, Residency, TensorSpec, WeightFiles};

/// The name of this phase in `models.toml`, and the first segment of the ids.
const PHASE: &str = "load";

/// The share of a file that a cold cache may still hold: the probing itself brings a little in.
const COLD: f64 = 0.05;

/// The share of a file that a warm cache must hold.
const WARM: f64 = 0.95;

/// Whether the page cache holds the files when a load begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageCache {
    Cold,
    Warm,
}

impl PageCache {
    const ALL: [Self; 2] = [Self::Cold, Self::Warm];

    fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
        }
    }
}

/// The load workloads of every model that the request takes in: `load/<model>/<dtype>/cold@candle`
/// and `.../warm@candle`, a group for each model and dtype.
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
    BenchmarkId::new(segments, "candle")
        .map_err(|error| model.invalid("id", format!("{:?}", model.id), error.to_string()))
}

/// A model's files, located once for both states of the page cache.
struct LoadSession {
    model: Model,
    dtype: Dtype,
    tensors: Vec<TensorSpec>,
    files: WeightFiles,
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
        Ok(Self { model, dtype, tensors, files, device: candle, marks: Marks::of(device) })
    }
}

impl LoadSession {
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
        let worst = found.iter().zip(&stored).map(difference).fold(0.0, f64::max);
        let worst = if found.len() == stored.len() { worst } else { f64::NAN };
        checked(
            format!("{there} tensors by shape, {} by value, with the file", sample.name),
            worst,
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
        let verified = settle(&self.files, cache)?;
        Ok(Box::new(Load {
            id: entry.id.clone(),
            session: self,
            cache,
            verified,
            loaded: None,
            phases: BTreeMap::new(),
        }))
    }
}

/// Brings the page cache into the state asked for, and says whether that could be seen.
///
/// A cache that will not be emptied, or is too small to be warm, makes the benchmark unsupported here:
/// it would measure something else than its name says.
fn settle(files: &WeightFiles, cache: PageCache) -> Result<bool, WorkloadError> {
    match cache {
        PageCache::Cold => files.evict()?,
        PageCache::Warm => files.warm()?,
    }
    let residency = files.residency()?;
    if cache == PageCache::Cold {
        // The look brought a few pages in.
        files.evict()?;
    }
    match (cache, residency) {
        (_, Residency::Unknown) => Ok(false),
        (PageCache::Cold, Residency::Share(share)) if share > COLD => {
            Err(WorkloadError::Unsupported(format!(
                "the page cache could not be emptied: it still holds {:.0} % of the weights; \
                 keep them on a disk, not in a memory file system",
                share * 100.0
            )))
        }
        (PageCache::Warm, Residency::Share(share)) if share < WARM => {
            Err(WorkloadError::Unsupported(format!(
                "the page cache holds only {:.0} % of the weights right after they were read: \
                 there is not enough free memory for them",
                share * 100.0
            )))
        }
        _ => Ok(true),
    }
}

/// One model, loaded again and again.
struct Load<'a> {
    id: BenchmarkId,
    session: &'a mut LoadSession,
    cache: PageCache,
    /// Whether the state of the page cache was seen and not only asked for.
    verified: bool,
    loaded: Option<Loaded>,
    phases: BTreeMap<String, f64>,
}

impl Workload for Load<'_> {
    fn describe(&self) -> Description {
        let session = &*self.session;
        let text = |value: &str| Value::Text(value.to_owned());
        let mut caveats = Vec::new();
        if !self.verified {
            caveats.push(format!(
                "the page cache was asked to be {}; whether it was cannot be seen on this file system",
                self.cache.name()
            ));
        }
        if self.cache == PageCache::Cold {
            caveats.push(
                "cold is this kernel's page cache; a hypervisor or the disk may still hold the file"
                    .to_owned(),
            );
        }
        Description {
            id: self.id.clone(),
            parameters: BTreeMap::from([
                ("model".to_owned(), text(&session.model.id)),
                ("dtype".to_owned(), text(&session.dtype.to_string())),
                ("checkpoint".to_owned(), text(&session.model.checkpoint.to_string())),
                ("page_cache".to_owned(), text(self.cache.name())),
            ]),
            work: Work {
                flops: None,
                bytes: session.files.bytes().ok(),
                items: Some(Items { count: 1.0, unit: ItemUnit::Load }),
            },
            data: None,
            weights: Some(session.files.stamp()),
            caveats,
        }
    }

    fn prepare(&mut self, iterations: u64) -> Result<(), WorkloadError> {
        if iterations != 1 {
            return Err(WorkloadError::Failed(format!(
                "{iterations} loads in one sample: only the first would find the page cache {}",
                self.cache.name()
            )));
        }
        self.loaded = None;
        self.verified &= settle(&self.session.files, self.cache)?;
        self.session.marks.begin();
        Ok(())
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        let session = &*self.session;
        let dtype = session.dtype.candle();
        let loaded = session.files.load_trusted(&session.tensors, dtype, &session.device)?;
        let mut clock = WallClock::default();
        clock.start().map_err(WorkloadError::failed)?;
        let family = session.model.family().map_err(WorkloadError::failed)?;
        family.first_run(&session.model, &loaded)?;
        let first_run = clock.finish().map_err(WorkloadError::failed)?.wall;
        self.phases = BTreeMap::from([
            ("open_s".to_owned(), loaded.phases.open.0),
            ("read_s".to_owned(), loaded.phases.read.0),
            ("host_to_device_s".to_owned(), loaded.phases.host_to_device.0),
            ("first_run_s".to_owned(), first_run.0),
        ]);
        // Kept until the next `prepare`: giving memory back is no part of a load.
        self.loaded = Some(loaded);
        Ok(())
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        self.session.device.synchronize().map_err(WorkloadError::failed)
    }

    /// Holds a load (the last timed one, or before that one whose every weight is looked at) against
    /// the files: the number of tensors, their shapes, and all values of one of them.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        let session = &*self.session;
        let loaded = if let Some(loaded) = self.loaded.take() {
            loaded
        } else {
            let dtype = session.dtype.candle();
            session.files.load(&session.tensors, dtype, &session.device)?
        };
        session.check(&loaded)
    }

    fn phases(&mut self) -> BTreeMap<String, f64> {
        self.phases.clone()
    }

    fn memory(&mut self) -> Option<Memory> {
        let loaded = self.loaded.as_ref()?;
        let bytes = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        let weights = Bytes::from_count(loaded.tensors.values().map(bytes).sum());
        Some(self.session.marks.read(weights))
    }
}

/// Where the marks of held memory are read.
///
/// The figures are whole ones, not differences: what an earlier load gave back may still be resident and
/// be used again, so that a difference would come out too small.
enum Marks {
    /// The resident set of this process, everything it holds included.
    Host { reset: Result<(), String> },
    /// The pool of a GPU.
    Pool { device: CudaDevice, reset: Result<(), String> },
}

impl Marks {
    fn of(device: &Device) -> Self {
        let reset = Err("no load was begun".to_owned());
        match device {
            Device::Cpu(_) => Self::Host { reset },
            Device::Cuda(device) => Self::Pool {
                device: CudaDevice {
                    spec: device.spec.clone(),
                    ordinal: device.ordinal,
                    context: device.context.clone(),
                    stream: device.stream.clone(),
                    settings: device.settings.clone(),
                },
                reset,
            },
        }
    }

    /// Starts the high-water mark anew.
    fn begin(&mut self) {
        match self {
            Self::Host { reset } => {
                *reset = resident::reset_peak().map_err(|error| error.to_string());
            }
            Self::Pool { device, reset } => {
                *reset = device.reset_peak().map_err(|error| error.to_string());
            }
        }
    }

    /// The most that was held since.
    fn read(&self, weights: Bytes) -> Memory {
        let (method, peak, reset) = match self {
            Self::Host { reset } => (resident::METHOD, resident::peak(), reset),
            Self::Pool { device, reset } => (pool::METHOD, device.peak(), reset),
        };
        let peak = match reset {
            Ok(()) => peak,
            Err(reason) => {
                Field::absent(format!("the high-water mark could not be reset: {reason}"))
            }
        };
        Memory { method: method.to_owned(), weights: Field::Known(weights), peak }
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
