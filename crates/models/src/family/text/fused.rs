//! Language models on fused kernels of our own: `warpmark-fused`, for every text family. candle reads the weights,
//! on the host, and has no part in what is measured.

mod programs;

use candle_core::{DType, Tensor};
use warpmark_fused::{Checkpoint, Decoder, MOST_BY_VECTORS, Net, Part, Shape};
use warpmark_measure::WorkloadError;
use warpmark_record::{Bytes, DeviceKind, DeviceSpec, Field, Seconds};

use super::check::ReferenceCache;
use super::parts::{ModelInfo, Parts};
use super::work::{self, Numbers, spare};
use super::{Case, Inputs, Phase, PlainLogits};
use crate::bench::estimate::guess;
use crate::bench::{BenchContext, Engine, Engines, Opened, Plan, Planned, PlannedGroup, Program};
use crate::catalog::{CatalogError, Dtype, Format, Model};
use crate::engine::workload_error;
use crate::options::RunOptions;
use crate::weights::Loaded;

/// The engine's name in ids.
pub(in crate::family) const FUSED: &str = "fused";

/// How a family finds a part of its weights: a matrix `[out, in]`, and its bias.
type ReadPart = fn(&Loaded, Part) -> candle_core::Result<(Tensor, Option<Tensor>)>;

/// A family's net as the kernels see it.
pub(in crate::family) struct FusedNet {
    /// Its numbers.
    pub(in crate::family) shape: Shape,
    /// Its weights.
    pub(in crate::family) read: ReadPart,
    /// What checks it.
    pub(in crate::family) plain: fn(&Model, &Loaded) -> Result<PlainLogits, CatalogError>,
}

/// Weights of a net that a simulated card decodes in seconds: it executes one instruction after the other.
const MOST_SIMULATED: f64 = 3e6;

/// A type that there are kernels for.
fn kernels_of(format: Format) -> Option<warpmark_fused::Dtype> {
    match format.plain()? {
        Dtype::F16 => Some(warpmark_fused::Dtype::F16),
        Dtype::Bf16 => Some(warpmark_fused::Dtype::Bf16),
        Dtype::F32 => None,
    }
}

/// The benchmarks of a model that suit the options, a group for each half type; none without a GPU.
pub(in crate::family) fn groups(
    model: &Model,
    numbers: &Numbers,
    options: &RunOptions,
    net: impl Fn() -> FusedNet,
) -> Result<Vec<PlannedGroup>, CatalogError> {
    let mut groups = Vec::new();
    let Some(gpu) = &options.spec.gpu else { return Ok(groups) };
    // What it is before the driver says it: enough for a plan.
    let multiprocessors = gpu.sm_count.known().copied().unwrap_or(100) as usize;
    let inputs = Inputs::of(model, numbers.context)?;
    let cases = inputs.cases(model, options);
    for format in options.formats(model) {
        let Some(dtype) = kernels_of(format) else { continue };
        let net = net();
        let plan = Plan { model, options, format, weights: net.shape.weights(dtype) };
        let planned = |case: &Case| {
            let capacity = case.length + spare(case.phase);
            let held = (case.batch, case.length, capacity);
            let guess = |case: Case| {
                let dtype = format.compute();
                guess(&work::work(numbers, dtype, case), 1, dtype, &options.spec)
            };
            let iteration = guess(*case);
            let refused = refused(&net.shape, dtype, gpu.compute_capability, *case, capacity);
            Planned {
                case: *case,
                parameters: case.parameters(format, FUSED),
                iteration,
                preparation: preparation(*case, numbers.layers, guess),
                memory: net.shape.memory(dtype, held, multiprocessors),
                sampling: case.sampling(options.full, iteration),
                skip: refused.or_else(|| skip(&options.spec, numbers, *case)),
            }
        };
        let planned = cases.iter().map(planned).collect();
        let (model, numbers) = (model.clone(), *numbers);
        let group = plan.group_on_card(planned, move |opened| {
            let engine = FusedEngine::open(&model, numbers, dtype, net, opened)?;
            Ok(Engines::of(FUSED, engine))
        })?;
        groups.extend(group);
    }
    Ok(groups)
}

/// A guess at the time until a case runs: its prompts are read a few times, and steps of each kind are timed
/// against each other; of each product a few algorithms are tried, on some layers each.
fn preparation(case: Case, layers: usize, guess: impl Fn(Case) -> Seconds) -> Seconds {
    let reading = guess(Case { phase: Phase::Prefill, ..case });
    let step = guess(Case { phase: Phase::Decode, ..case });
    let steps = if case.phase == Phase::Prefill { 0.0 } else { TRIED_STEPS };
    let trials = PRODUCT_TRIALS / layers as f64;
    reading * (READINGS + trials) + step * (steps + trials)
}

/// How often prompts are read before a case runs: once before the graph is captured, and once by it.
const READINGS: f64 = 2.0;

/// How often each product of a layer is made while its algorithm is chosen: six of them, five times each.
const PRODUCT_TRIALS: f64 = 30.0;

/// The same of steps: two ways to multiply, each made once, timed in three rounds of four, and chosen in one more.
const TRIED_STEPS: f64 = 2.0 * 14.0;

/// Whether a case reads prompts at once, or has more sequences than our own kernels multiply: then a library does.
fn needs_library(case: Case) -> bool {
    case.phase != Phase::Decode || case.batch > MOST_BY_VECTORS
}

/// Why no kernel takes a case.
fn refused(
    shape: &Shape,
    dtype: warpmark_fused::Dtype,
    capability: (u32, u32),
    case: Case,
    capacity: usize,
) -> Option<String> {
    let checked = shape.check(case.batch, capacity).and_then(|()| {
        if needs_library(case) { shape.check_rows(dtype, capability) } else { Ok(()) }
    });
    checked.err().map(|error| error.to_string())
}

/// Why no kernel runs here.
fn skip(spec: &DeviceSpec, numbers: &Numbers, case: Case) -> Option<String> {
    let simulated = spec.kind == DeviceKind::Simulated && numbers.parameters > MOST_SIMULATED;
    let too_large = || {
        format!(
            "a simulated card executes one instruction after the other: nets of more than {MOST_SIMULATED:e} \
             weights, as this one of {:e}, need a real one",
            numbers.parameters
        )
    };
    simulated.then(too_large).or_else(|| {
        let libraries = warpmark_device::libraries();
        if let Some(reason) = Field::reason(&libraries.nvrtc) {
            return Some(format!("NVRTC is not usable: {reason}"));
        }
        let reason = Field::reason(&libraries.cublaslt).filter(|_| needs_library(case))?;
        Some(format!("cuBLASLt is not usable: {reason}"))
    })
}

/// A net on a card, and what its cases share.
struct FusedEngine {
    net: Net,
    info: ModelInfo,
    reference: ReferenceCache,
}

impl FusedEngine {
    fn open(
        model: &Model,
        numbers: Numbers,
        dtype: warpmark_fused::Dtype,
        net: FusedNet,
        opened: &mut Opened,
    ) -> Result<Self, WorkloadError> {
        let card = opened.card.take().ok_or_else(|| {
            WorkloadError::Unsupported("fused kernels run on a GPU only".to_owned())
        })?;
        let device = warpmark_device::Device::Cuda(card.clone());
        warpmark_cuda::required(&device, &[warpmark_cuda::Library::Nvrtc])?;
        let FusedNet { shape, read, plain } = net;
        let weights = shape.weights(dtype);
        let files = Files { loaded: &opened.loaded, read, dtype };
        let net = Net::load(&card, shape, dtype, &files)?;
        opened.context.on_card(card, weights);
        let plain = plain(model, &opened.loaded).map_err(WorkloadError::failed)?;
        let context = &opened.context;
        let info = ModelInfo { numbers, format: context.format, seed: context.seed, caveats: &[] };
        Ok(Self { net, info, reference: ReferenceCache::new(plain) })
    }
}

/// Loaded weights as the kernels take them.
struct Files<'a> {
    loaded: &'a Loaded,
    read: ReadPart,
    dtype: warpmark_fused::Dtype,
}

impl Checkpoint for Files<'_> {
    fn read(&self, part: Part) -> Result<warpmark_fused::Tensor, WorkloadError> {
        let narrow = |tensor: Tensor| -> candle_core::Result<Vec<u16>> {
            // To f32 and back nothing is rounded.
            let wide = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            Ok(wide.into_iter().map(|value| self.dtype.bits(value)).collect())
        };
        let read = || -> candle_core::Result<warpmark_fused::Tensor> {
            let (weight, bias) = (self.read)(self.loaded, part)?;
            Ok(warpmark_fused::Tensor {
                weight: narrow(weight)?,
                bias: bias.map(narrow).transpose()?,
            })
        };
        read().map_err(|error| workload_error(error.into()))
    }
}

impl Engine for FusedEngine {
    type Case = Case;

    fn host_memory(&mut self, _case: Case) -> Bytes {
        Bytes(0.0)
    }

    fn prepare<'a>(
        &'a mut self,
        case: Case,
        bench: BenchContext<'a>,
    ) -> Result<Box<dyn Program + 'a>, WorkloadError> {
        let Self { net, info, reference } = self;
        let prompts: Vec<Vec<u32>> =
            (0..case.batch).map(|sequence| info.prompt(sequence, case.length)).collect();
        let decoder = Decoder::new(net, &prompts, spare(case.phase))?;
        let parts = Parts { net, info, context: bench.context, reference, case };
        let running = programs::Running { decoder, parts };
        Ok(match case.phase {
            Phase::Prefill => Box::new(programs::Prefill(running)),
            Phase::Decode => Box::new(programs::Decode(running)),
            Phase::Generate { tokens } => Box::new(programs::Generate::new(running, tokens)?),
        })
    }
}
