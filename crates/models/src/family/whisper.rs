//! Whisper: tiny, base, small, medium, large-v3, large-v3-turbo.

mod candle;
mod cases;
mod check;
mod engine;
mod parts;
mod steps;
#[cfg(test)]
mod tests;
mod transcribe;
mod work;

use std::collections::HashMap;
use std::rc::Rc;

use candle_core::{DType, Tensor};
use warpmark_measure::WorkloadError;
use warpmark_record::{DeviceSpec, Seconds, Work};

use self::candle::PeerEngine;
use self::cases::{Case, Engine, Inputs, Length, Phase, cases, window_seconds};
use self::engine::WhisperEngine;
use self::parts::Shared;
use super::Family;
use crate::bench::estimate::{guess, sampling};
use crate::bench::{Engines, Plan, Planned, PlannedGroup};
use crate::catalog::{CatalogError, Dtype, Model};
use crate::configuration::{self, ConfigurationError, Find};
use crate::engine::{CANDLE, GRAPH, OWN, unsupported, workload_error};
use crate::options::RunOptions;
use crate::weights::{Copied, Init, Loaded, TensorNames, TensorSpec};
use warpmark_nets::NetError;
use warpmark_nets::whisper::mel::RATE;
use warpmark_nets::whisper::{Architecture, Whisper};

/// Whisper in all its sizes.
pub struct WhisperFamily;

/// An iteration that takes longer makes minutes of samples on a CPU.
const LONGEST_CPU_ITERATION: Seconds = Seconds(30.0);

/// Kernels that candle launches for a block of the encoder and one of the decoder, counted from the
/// net's code.
const KERNELS_OF_A_BLOCK: usize = 40;

/// What a mel spectrogram of a second of audio takes on one core, roughly.
const MEL_SECONDS: f64 = 5e-4;

impl Family for WhisperFamily {
    fn name(&self) -> &'static str {
        "whisper"
    }

    fn group(&self) -> &'static str {
        "speech"
    }

    fn phases(&self) -> &'static [&'static str] {
        &Phase::NAMES
    }

    fn check(&self, model: &Model) -> Result<(), CatalogError> {
        Inputs::of(model, &architecture(model)?).map(drop)
    }

    fn tensors(&self, model: &Model) -> Result<Vec<TensorSpec>, CatalogError> {
        let architecture = architecture(model)?;
        let spec = |(name, shape): (String, Vec<usize>)| TensorSpec {
            init: init(&name, &architecture),
            name,
            shape,
        };
        Ok(architecture.tensors().into_iter().map(spec).collect())
    }

    fn check_configuration(
        &self,
        model: &Model,
        find: &Find<'_>,
    ) -> Result<(), ConfigurationError> {
        let architecture = architecture(model)?;
        if let Some(found) = find("config.json")? {
            configuration::whisper::compare(model, &architecture, &found)?;
        }
        match find("preprocessor_config.json")? {
            Some(found) => configuration::whisper::compare_features(model, &architecture, &found),
            None => Ok(()),
        }
    }

    fn tensor_names(&self) -> TensorNames {
        TensorNames {
            ignored: &["*.position_ids", "*.masked_bias"],
            copies: &[Copied {
                copy: "proj_out.weight",
                of: "model.decoder.embed_tokens.weight",
                advice: "a Whisper with a head of its own is not computed here; give a checkpoint whose \
                         tie_word_embeddings is true",
            }],
            not_computed: &[(
                ".fc1.weight",
                "a hidden layer other than four times the width (encoder_ffn_dim, decoder_ffn_dim)",
            )],
            ..TensorNames::default()
        }
    }

    fn first_run(&self, model: &Model, weights: &Loaded) -> Result<(), WorkloadError> {
        let architecture = architecture(model).map_err(WorkloadError::failed)?;
        let net = Whisper::new(architecture, &weights.tensors).map_err(workload_error)?;
        let run = || -> Result<(), NetError> {
            let shape = (1, architecture.mels, architecture.frames());
            let silence = Tensor::zeros(shape, DType::F32, net.device())?;
            let cross = net.cross(&net.encode(&silence)?)?;
            let token = Tensor::zeros((1, 1), DType::U32, net.device())?;
            net.read(&token, &mut net.cache(1, 1)?, &cross)?;
            Ok(net.device().synchronize()?)
        };
        run().map_err(workload_error)
    }

    fn groups(
        &self,
        model: &Model,
        options: &RunOptions,
    ) -> Result<Vec<PlannedGroup>, CatalogError> {
        let architecture = architecture(model)?;
        let inputs = Inputs::of(model, &architecture)?;
        let window = window_seconds(&architecture);
        let mut groups = Vec::new();
        for (index, dtype) in options.dtypes(model).into_iter().enumerate() {
            let cases = cases(model, &inputs, window, options, (dtype, index == 0));
            let planner = Planner { architecture, inputs: &inputs, options, dtype };
            let all = cases.into_iter().map(|case| planner.plan(case)).collect();
            let weights = work::weight_bytes(&architecture, dtype);
            let plan = Plan { model, options, format: dtype.into(), weights };
            let (model, numbers) = (model.clone(), (architecture, inputs.clone()));
            groups.extend(plan.group(all, move |opened| {
                let shared = Rc::new(Shared::of(&model, numbers, opened)?);
                engines(std::mem::take(&mut opened.loaded.tensors), shared)
            })?);
        }
        Ok(groups)
    }
}

/// Our net on loaded tensors, and candle's on the same, made by the first case that asks for it.
fn engines(
    tensors: HashMap<String, Tensor>,
    shared: Rc<Shared>,
) -> Result<Engines<Case>, WorkloadError> {
    let net = Whisper::new(shared.info.architecture, &tensors).map_err(workload_error)?;
    let own = WhisperEngine { net: Rc::new(net), shared: Rc::clone(&shared) };
    let replayed = WhisperEngine { net: Rc::clone(&own.net), shared: Rc::clone(&shared) };
    Ok(Engines::of(OWN, own)
        .or(GRAPH, || Ok(replayed))
        .or(CANDLE, move || PeerEngine::new(&tensors, shared)))
}

/// The entry's architecture, refused where its numbers are invalid.
fn architecture(model: &Model) -> Result<Architecture, CatalogError> {
    let architecture: Architecture = model.section("architecture")?;
    let numbers = [
        ("mels", architecture.mels, 1_000),
        ("audio_positions", architecture.audio_positions, 100_000),
        ("text_positions", architecture.text_positions, 100_000),
        ("width", architecture.width, 100_000),
        ("heads", architecture.heads, 1_000),
        ("encoder_layers", architecture.encoder_layers, 1_000),
        ("decoder_layers", architecture.decoder_layers, 1_000),
        ("vocabulary", architecture.vocabulary, 10_000_000),
    ];
    for (name, value, most) in numbers {
        if value == 0 || value > most {
            let advice = format!("a Whisper has between 1 and {most}");
            return Err(model.invalid(&format!("architecture.{name}"), value, advice));
        }
    }
    // Sines and cosines in pairs, and candle divides by one less than half of it.
    if !architecture.width.is_multiple_of(architecture.heads)
        || !architecture.width.is_multiple_of(2)
        || architecture.width < 4
    {
        let advice = format!("must be even, above 2 and a multiple of {}", architecture.heads);
        return Err(model.invalid("architecture.width", architecture.width, advice));
    }
    let second = RATE / warpmark_nets::whisper::mel::HOP;
    if !architecture.frames().is_multiple_of(second) {
        let advice = format!("must be a multiple of {}: whole seconds of audio", second / 2);
        let value = architecture.audio_positions;
        return Err(model.invalid("architecture.audio_positions", value, advice));
    }
    Ok(architecture)
}

/// Normal with 0.02, as transformers initialises it, and products that add to a residual stream scaled
/// down by the root of their number, so that activations stay as large in 32 layers as in 4.
fn init(name: &str, architecture: &Architecture) -> Init {
    let layers = architecture.encoder_layers.max(architecture.decoder_layers) as f32;
    let path: Vec<&str> = name.split('.').collect();
    match path[..] {
        [.., "bias"] => Init::Zeros,
        [.., norm, "weight"] if norm.ends_with("layer_norm") => Init::Ones,
        [.., "out_proj" | "fc2", _] => Init::Normal { std: 0.02 / (3.0 * layers).sqrt() },
        _ => Init::Normal { std: 0.02 },
    }
}

/// Makes the entries of a model in one dtype.
struct Planner<'a> {
    architecture: Architecture,
    inputs: &'a Inputs,
    options: &'a RunOptions,
    dtype: Dtype,
}

impl Planner<'_> {
    fn plan(&self, case: Case) -> Planned<Case> {
        let Self { architecture, inputs, options, dtype } = self;
        let real = options.source.is_real();
        let tokens = inputs.tokens(architecture, case.length, real);
        let iteration = self.guess(case, tokens);
        let gpu = options.spec.gpu.is_some();
        let capacity = inputs.prompt.len() + tokens;
        Planned {
            case,
            parameters: case.parameters(*dtype),
            iteration,
            preparation: Seconds(0.0),
            memory: work::memory(architecture, *dtype, case, capacity, gpu),
            sampling: sampling(options.full, iteration),
            skip: skip(&options.spec, *dtype, case, iteration),
        }
    }

    /// A guess at the time of an iteration: of a transcription, that of its passes and of each step.
    fn guess(&self, case: Case, tokens: usize) -> Seconds {
        let Self { architecture, options, dtype, .. } = self;
        let (samples, windows) = match (case.length, &options.audio) {
            (Length::File, Some(spoken)) => {
                let window = window_seconds(architecture) * RATE;
                let samples = spoken.samples().len();
                (samples, samples.div_ceil(window))
            }
            (Length::File, None) => (0, 0),
            (Length::Seconds(seconds), _) => (case.batch * seconds * RATE, case.batch),
        };
        let passes = windows.div_ceil(case.batch).max(1);
        let whole = work::Transcription {
            windows: windows.min(case.batch),
            seconds: samples as f64 / RATE as f64,
            tokens,
            passes: 1,
        };
        let of = |phase: Phase, layers: usize| -> Seconds {
            let part = Case { phase, context: case.context.max(tokens / 2), ..case };
            let work: Work = work::work(architecture, *dtype, part, whole);
            guess(&work, KERNELS_OF_A_BLOCK * layers, *dtype, &options.spec)
        };
        let encode = of(Phase::Encode, architecture.encoder_layers);
        let step = of(Phase::Decode, architecture.decoder_layers);
        // candle reads the whole text at each step: about as long again on these sizes.
        let step = if case.engine == Engine::Candle { step * 3.0 } else { step };
        let mel = Seconds(MEL_SECONDS * whole.seconds);
        match case.phase {
            Phase::Mel => mel,
            Phase::Encode => encode,
            Phase::Decode => step,
            Phase::Transcribe => {
                let rows = 1.0 + 0.3 * (case.beams as f64 - 1.0);
                mel + (encode + step * (tokens as f64 * rows)) * passes as f64
            }
        }
    }
}

fn skip(spec: &DeviceSpec, dtype: Dtype, case: Case, iteration: Seconds) -> Option<String> {
    if case.phase != Phase::Mel && spec.gpu.is_none() && iteration > LONGEST_CPU_ITERATION {
        return Some(format!(
            "one iteration would take some {iteration}; on a CPU, the longest are \
             {LONGEST_CPU_ITERATION}"
        ));
    }
    unsupported(spec, dtype)
}
