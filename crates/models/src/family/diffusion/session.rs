//! A loaded diffusion model in one dtype, from which its workloads are made.

use std::collections::HashMap;

use candle_core::Tensor;
use warpmark_device::Device;
use warpmark_measure::{Entry, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, WeightsStamp};

use super::candle::Published;
use super::case::{Case, Engine, Phase};
use super::generation::Generation;
use super::nets::{Nets, Parts};
use super::work;
use super::workloads::{Bench, Decoding, Encoding, Step};
use crate::catalog::{Dtype, Model};
use crate::configuration;
use crate::engine::{aftermath, candle_device, check_host_memory};
use crate::family::workload_error;
use crate::marks::Marks;
use crate::request::Request;
use crate::service::kept::Kept;
use crate::weights::{self, TensorSpec};
use warpmark_nets::NetError;
use warpmark_nets::diffusion::Architecture;

/// Everything needed to load a model once the device is open.
pub(super) struct Recipe {
    pub(super) architecture: Architecture,
    pub(super) guidance: f64,
    pub(super) dtype: Dtype,
    pub(super) model: Model,
    pub(super) tensors: Vec<TensorSpec>,
    pub(super) cases: Vec<(BenchmarkId, Case)>,
    pub(super) request: Request,
}

/// What rows say of the model, and what its checks start from.
pub(super) struct About {
    pub(super) architecture: Architecture,
    pub(super) guidance: f64,
    pub(super) model: String,
    pub(super) dtype: Dtype,
    pub(super) seed: u64,
    pub(super) stamp: WeightsStamp,
    pub(super) weight_bytes: Bytes,
    pub(super) tensors: HashMap<String, Tensor>,
}

/// A loaded model.
pub(super) struct DiffusionSession {
    pub(super) nets: Nets,
    /// candle's nets on the same weights, made by the first case that asks for them.
    pub(super) candle: Option<Published>,
    pub(super) about: About,
    pub(super) marks: Marks,
    pub(super) kept: Kept,
    pub(super) cases: Vec<(BenchmarkId, Case)>,
}

impl Recipe {
    /// Finds the weights, loads them and builds the nets.
    pub(super) fn open(self, device: &Device) -> Result<DiffusionSession, WorkloadError> {
        let weight_bytes = work::weight_bytes(&self.model, &self.architecture, self.dtype)
            .map_err(WorkloadError::failed)?;
        if matches!(device, Device::Cpu(_)) {
            check_host_memory("the weights", weight_bytes)?;
        }
        let candle = candle_device(device)?;
        let request = &self.request;
        configuration::check(&self.model, &request.source, request.progress.as_ref())?;
        let checkpoint = self.model.checkpoint_in(self.dtype).map_err(WorkloadError::failed)?;
        let files = weights::locate(
            &checkpoint,
            &self.tensors,
            &request.source,
            &request.cache,
            request.progress.as_ref(),
        )?;
        let loaded = files.load(&self.tensors, self.dtype.candle(), &candle)?;
        let nets = Nets::new(&self.architecture, &loaded.tensors).map_err(workload_error)?;
        let about = About {
            architecture: self.architecture,
            guidance: self.guidance,
            model: self.model.id.clone(),
            dtype: self.dtype,
            seed: request.seed,
            stamp: files.stamp(),
            weight_bytes,
            tensors: loaded.tensors,
        };
        let marks = Marks::of(device);
        Ok(DiffusionSession {
            nets,
            candle: None,
            about,
            marks,
            kept: Kept::default(),
            cases: self.cases,
        })
    }
}

impl Session for DiffusionSession {
    fn aftermath(&mut self) -> Result<(), WorkloadError> {
        aftermath(self.nets.unet.device())
    }

    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let case = self.cases.iter().find(|(id, _)| *id == entry.id).map(|(_, case)| *case);
        let case = case.ok_or_else(|| {
            WorkloadError::Failed(format!(
                "{} is not a benchmark of {}",
                entry.id, self.about.model
            ))
        })?;
        let Self { nets, candle, about, marks, kept, .. } = self;
        if nets.unet.device().is_cpu() {
            let needed = work::activations(&about.architecture, about.dtype, case);
            check_host_memory(&format!("the activations of batch {}", case.batch), needed)?;
        }
        let parts: &dyn Parts = match case.engine {
            Engine::Own => nets,
            Engine::Candle => {
                let made = match candle.take() {
                    Some(made) => Ok(made),
                    None => Published::new(&about.architecture, &about.tensors),
                };
                candle.insert(made.map_err(workload_error)?)
            }
        };
        let bench = Bench { nets, parts, about, marks, kept, id: entry.id.clone(), case };
        let made: Result<Box<dyn Workload + 'a>, NetError> = match case.phase {
            Phase::Text => Encoding::new(bench).map(|made| Box::new(made) as _),
            Phase::Unet { size } => Step::new(bench, size).map(|made| Box::new(made) as _),
            Phase::Vae { size } => Decoding::new(bench, size).map(|made| Box::new(made) as _),
            Phase::Generate { size, steps, scheduler } => {
                let schedule = scheduler.schedule(&bench.about.architecture.scheduler, steps);
                Generation::new(bench, size, scheduler, schedule).map(|made| Box::new(made) as _)
            }
        };
        made.map_err(workload_error)
    }

    fn keep_inputs(&mut self) {
        self.kept.begin();
    }
}
