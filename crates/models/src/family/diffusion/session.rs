//! A loaded diffusion model in one dtype, from which its workloads are made.

use std::collections::HashMap;

use candle_core::{DType, Tensor};
use warpmark_device::Device;
use warpmark_measure::{Entry, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, WeightsStamp};

use super::inputs::{Case, Phase};
use super::workloads::{Bench, Decoding, Encoding, Generation, Step};
use super::{prompt, work};
use crate::catalog::{Dtype, Model};
use crate::engine::{candle_device, check_host_memory};
use crate::family::workload_error;
use crate::marks::Marks;
use crate::net::NetError;
use crate::net::diffusion::{
    Architecture, AutoEncoder, Condition, TEXT_FOLDERS, TextEncoder, Unet, Weights,
};
use crate::request::Request;
use crate::weights::{self, TensorSpec};

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

/// The nets of a model.
pub(super) struct Nets {
    pub(super) texts: Vec<TextEncoder>,
    pub(super) unet: Unet,
    pub(super) vae: AutoEncoder,
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
    pub(super) about: About,
    pub(super) marks: Marks,
    pub(super) cases: Vec<(BenchmarkId, Case)>,
}

impl Nets {
    /// Builds the nets on loaded weights. A decoder whose activations leave the range of f16 is widened.
    pub(super) fn new(
        architecture: &Architecture,
        tensors: &HashMap<String, Tensor>,
    ) -> Result<Self, NetError> {
        let weights = Weights::of(tensors);
        let texts = architecture.text.iter().zip(TEXT_FOLDERS);
        let texts = texts.map(|(numbers, name)| TextEncoder::new(numbers, &weights.at(name)));
        let unet = Unet::new(&architecture.unet, &weights.at("unet"))?;
        let latents = architecture.unet.latents;
        let vae = if architecture.vae.upcast && unet.dtype() == DType::F16 {
            let wide = widened(tensors)?;
            AutoEncoder::new(&architecture.vae, latents, &Weights::of(&wide).at("vae"))?
        } else {
            AutoEncoder::new(&architecture.vae, latents, &weights.at("vae"))?
        };
        Ok(Self { texts: texts.collect::<Result<_, _>>()?, unet, vae })
    }

    /// What so many images are to show, and behind them what no text shows: `[2 · count, ..]`.
    pub(super) fn condition(
        &self,
        architecture: &Architecture,
        tokens: &Tokens,
        size: usize,
    ) -> Result<Condition, NetError> {
        let (mut states, mut pooled) = (Vec::with_capacity(self.texts.len()), None);
        for (encoder, (tokens, ends)) in self.texts.iter().zip(&tokens.by_encoder) {
            let encoded = encoder.encode(tokens, ends)?;
            states.push(encoded.states);
            pooled = encoded.pooled;
        }
        let added = match (architecture.unet.added, pooled) {
            (Some(_), Some(pooled)) => self.unet.added(&pooled, ids(size))?,
            _ => None,
        };
        Ok(Condition { text: Tensor::cat(&states, 2)?, added })
    }

    /// The smallest pass of all of them.
    pub(super) fn smallest(&self, architecture: &Architecture) -> Result<(), NetError> {
        let size = architecture.granularity();
        let device = self.unet.device();
        let tokens = Tokens::new(architecture, 0, 1, device)?;
        let condition = self.condition(architecture, &tokens, size)?;
        let latents = size / crate::net::diffusion::PIXELS_OF_A_LATENT;
        let noise = prompt::noise(0, [2, architecture.unet.latents, latents], device)?;
        let latents = noise.to_dtype(self.unet.dtype())?;
        let step = self.unet.forward(&latents, &self.unet.timestep(1.0)?, &condition)?;
        self.vae.decode(&step.narrow(0, 0, 1)?).map(drop)
    }
}

/// The decoder's tensors in f32.
fn widened(tensors: &HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>, NetError> {
    let of_decoder = tensors.iter().filter(|(name, _)| name.starts_with("vae."));
    of_decoder.map(|(name, tensor)| Ok((name.clone(), tensor.to_dtype(DType::F32)?))).collect()
}

/// The six numbers that SDXL is told of an image: its size, where it was cut out, and its size again.
pub(super) fn ids(size: usize) -> [f64; 6] {
    let size = size as f64;
    [size, size, 0.0, 0.0, size, size]
}

/// The texts of a batch, those of the images first, the empty one as often behind them.
pub(super) struct Tokens {
    /// `[2 · count, positions]`, and where each text ends, `[2 · count]`.
    by_encoder: Vec<(Tensor, Tensor)>,
}

impl Tokens {
    pub(super) fn new(
        architecture: &Architecture,
        seed: u64,
        count: usize,
        device: &candle_core::Device,
    ) -> Result<Self, NetError> {
        let of = |numbers: &crate::net::diffusion::TextNumbers| -> Result<_, NetError> {
            let images = (0..count).map(Some).chain(std::iter::repeat_n(None, count));
            let texts: Vec<Vec<u32>> =
                images.map(|image| prompt::tokens(numbers, seed, image)).collect();
            let ends: Vec<u32> = texts.iter().map(|tokens| prompt::end(tokens)).collect();
            let shape = (texts.len(), numbers.positions);
            Ok((Tensor::from_vec(texts.concat(), shape, device)?, Tensor::new(ends, device)?))
        };
        let by_encoder = architecture.text.iter().map(of).collect::<Result<_, _>>()?;
        Ok(Self { by_encoder })
    }

    /// Those of the images alone.
    pub(super) fn of_images(&self) -> Result<Self, NetError> {
        let half = |tensor: &Tensor| tensor.narrow(0, 0, tensor.dim(0)? / 2)?.contiguous();
        let pair = |(tokens, ends): &(Tensor, Tensor)| Ok((half(tokens)?, half(ends)?));
        Ok(Self { by_encoder: self.by_encoder.iter().map(pair).collect::<Result<_, NetError>>()? })
    }

    /// The tokens and ends of each encoder.
    pub(super) fn pairs(&self) -> &[(Tensor, Tensor)] {
        &self.by_encoder
    }
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
        let files = weights::locate(
            &self.model,
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
        Ok(DiffusionSession { nets, about, marks: Marks::of(device), cases: self.cases })
    }
}

impl Session for DiffusionSession {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let case = self.cases.iter().find(|(id, _)| *id == entry.id).map(|(_, case)| *case);
        let case = case.ok_or_else(|| {
            WorkloadError::Failed(format!(
                "{} is not a benchmark of {}",
                entry.id, self.about.model
            ))
        })?;
        let Self { nets, about, marks, .. } = self;
        if nets.unet.device().is_cpu() {
            let needed = work::activations(&about.architecture, about.dtype, case);
            check_host_memory(&format!("the activations of batch {}", case.batch), needed)?;
        }
        let bench = Bench { nets, about, marks, id: entry.id.clone(), case };
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
}
