//! Latent diffusion of the Stable Diffusion kind: 1.5, 2.1, SDXL.

mod candle;
mod case;
mod check;
mod engine;
mod generation;
mod inputs;
mod nets;
mod prompt;
mod setting;
mod steps;
#[cfg(test)]
mod tests;
mod work;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use candle_core::Tensor;
use warpmark_measure::WorkloadError;
use warpmark_record::{DeviceSpec, Seconds};

use super::Family;
use crate::bench::estimate::{guess, sampling, too_long_for_a_cpu};
use crate::bench::{Engines, Plan, Planned, PlannedGroup};
use crate::catalog::{CatalogError, Dtype, Model};
use crate::configuration::{self, ConfigurationError, Find};
use crate::engine::{CANDLE, GRAPH, OWN, compiled_kernels, unsupported, workload_error};
use crate::options::RunOptions;
use crate::weights::{Init, Loaded, Renamed, TensorNames, TensorSpec};
use candle::Published;
use case::{Case, Engine, Phase};
use engine::DiffusionEngine;
use inputs::Inputs;
use nets::Nets;
use setting::ModelInfo;
use warpmark_nets::NetError;
use warpmark_nets::diffusion::{Architecture, LEVELS};

/// Stable Diffusion in all its versions.
pub struct DiffusionFamily;

/// The largest batch of the quick suite on a CPU, which has to be done within minutes: a step is bound by
/// arithmetic from the first image on.
const QUICK_CPU_BATCH: usize = 2;

/// Auto-encoders of 2022 store the products of their attention under other names, which diffusers renames
/// too when it reads them.
const RENAMED: [Renamed; 10] = [
    Renamed { component: "vae", stored: ".query.", called: ".to_q." },
    Renamed { component: "vae", stored: ".key.", called: ".to_k." },
    Renamed { component: "vae", stored: ".value.", called: ".to_v." },
    Renamed { component: "vae", stored: ".proj_attn.", called: ".to_out.0." },
    text("text_encoder", "text_encoder.embeddings.", "text_encoder.text_model.embeddings."),
    text("text_encoder", "text_encoder.encoder.", "text_encoder.text_model.encoder."),
    text(
        "text_encoder",
        "text_encoder.final_layer_norm.",
        "text_encoder.text_model.final_layer_norm.",
    ),
    text("text_encoder_2", "text_encoder_2.embeddings.", "text_encoder_2.text_model.embeddings."),
    text("text_encoder_2", "text_encoder_2.encoder.", "text_encoder_2.text_model.encoder."),
    text(
        "text_encoder_2",
        "text_encoder_2.final_layer_norm.",
        "text_encoder_2.text_model.final_layer_norm.",
    ),
];

/// transformers 5 writes a `CLIPTextModel` without the `text_model.` that every version before it wrote.
const fn text(component: &'static str, stored: &'static str, called: &'static str) -> Renamed {
    Renamed { component, stored, called }
}

impl Family for DiffusionFamily {
    fn name(&self) -> &'static str {
        "diffusion"
    }

    fn group(&self) -> &'static str {
        "image"
    }

    fn phases(&self) -> &'static [&'static str] {
        &["text", "unet", "vae", "generate"]
    }

    fn check(&self, model: &Model) -> Result<(), CatalogError> {
        Inputs::of(model, &architecture(model)?).map(drop)
    }

    fn tensors(&self, model: &Model) -> Result<Vec<TensorSpec>, CatalogError> {
        let tensors = architecture(model)?.tensors();
        let tensors =
            tensors.map_err(|error| model.invalid("architecture", &model.id, error.to_string()))?;
        let spec = |(name, shape): (String, Vec<usize>)| TensorSpec {
            init: init(&name, &shape),
            name,
            shape,
        };
        Ok(tensors.into_iter().map(spec).collect())
    }

    fn check_configuration(
        &self,
        model: &Model,
        find: &Find<'_>,
    ) -> Result<(), ConfigurationError> {
        configuration::diffusion::compare(model, &architecture(model)?, find)
    }

    fn tensor_names(&self) -> TensorNames {
        TensorNames {
            // Lists of positions, and the half of an auto-encoder that reads images.
            ignored: &["*.position_ids", "vae.encoder.*", "vae.quant_conv.*"],
            renamed: &RENAMED,
            not_computed: &[(
                "unet.time_embedding.cond_proj.weight",
                "guidance that the net is told (time_cond_proj_dim)",
            )],
            ..TensorNames::default()
        }
    }

    fn first_run(&self, model: &Model, weights: &Loaded) -> Result<(), WorkloadError> {
        let architecture = architecture(model).map_err(WorkloadError::failed)?;
        let run = || -> Result<(), NetError> {
            let nets = Nets::new(&architecture, &weights.tensors)?;
            nets.smallest(&architecture)?;
            Ok(nets.unet.device().synchronize()?)
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
        let mut groups = Vec::new();
        for dtype in options.dtypes(model) {
            let mut cases = inputs.cases(model, options.full);
            if options.full {
                cases.extend(inputs.published(model, &architecture));
            } else if options.spec.gpu.is_none() {
                cases.retain(|case| case.batch <= QUICK_CPU_BATCH);
            }
            if options.spec.gpu.is_some() && compiled_kernels().is_some() {
                let own = cases.iter().filter(|case| case.engine == Engine::Own);
                let fixed =
                    own.filter(|case| matches!(case.phase, Phase::Unet { .. } | Phase::Vae { .. }));
                let replayed = |case: &Case| Case { engine: Engine::Graph, ..*case };
                cases.extend(fixed.map(replayed).collect::<Vec<_>>());
            }
            let weights = work::weight_bytes(model, &architecture, dtype)?;
            let plan = Plan { model, options, format: dtype.into(), weights };
            let all = cases
                .into_iter()
                .map(|case| planned(&architecture, options, dtype, case))
                .collect();
            let (architecture, guidance) = (architecture.clone(), inputs.guidance());
            groups.extend(plan.group(all, move |opened| {
                let tensors = std::mem::take(&mut opened.loaded.tensors);
                // What is widened is held beside what it was.
                opened.context.weights = weights;
                let tolerances = RefCell::default();
                let info = ModelInfo { architecture, guidance, dtype, tensors, tolerances };
                engines(&info.tensors.clone(), info.into())
            })?);
        }
        Ok(groups)
    }
}

/// Our nets on loaded tensors, and candle's on the same, made by the first case that asks for them.
fn engines(
    tensors: &HashMap<String, Tensor>,
    info: Rc<ModelInfo>,
) -> Result<Engines<Case>, WorkloadError> {
    let nets = Rc::new(Nets::new(&info.architecture, tensors).map_err(workload_error)?);
    let own = DiffusionEngine { nets: Rc::clone(&nets), published: None, info: Rc::clone(&info) };
    let tensors = tensors.clone();
    let replayed =
        DiffusionEngine { nets: Rc::clone(&nets), published: None, info: Rc::clone(&info) };
    Ok(Engines::of(OWN, own).or(GRAPH, || Ok(replayed)).or(CANDLE, move || {
        let published = Published::new(&info.architecture, &tensors).map_err(workload_error)?;
        Ok(DiffusionEngine { nets, published: Some(published), info })
    }))
}

fn planned(
    architecture: &Architecture,
    options: &RunOptions,
    dtype: Dtype,
    case: Case,
) -> Planned<Case> {
    let work = work::work(architecture, dtype, case);
    let iteration = guess(&work, work::kernels(architecture, case), dtype, &options.spec);
    Planned {
        case,
        parameters: case.parameters(dtype),
        iteration,
        preparation: Seconds(0.0),
        memory: work::activations(architecture, dtype, case),
        sampling: sampling(options.full, iteration),
        skip: skip(&options.spec, dtype, case, iteration),
    }
}

fn skip(spec: &DeviceSpec, dtype: Dtype, case: Case, iteration: Seconds) -> Option<String> {
    if spec.gpu.is_none() && case.engine == Engine::Candle && dtype == Dtype::Bf16 {
        return Some("candle multiplies no bf16 matrices on a CPU".to_owned());
    }
    too_long_for_a_cpu(spec, iteration).or_else(|| unsupported(spec, dtype))
}

/// The entry's architecture, refused where its numbers are invalid.
fn architecture(model: &Model) -> Result<Architecture, CatalogError> {
    let architecture: Architecture = model.section("architecture")?;
    let unet = &architecture.unet;
    let depth = unet.channels.len();
    for (name, count) in [("transformers", unet.transformers.len()), ("heads", unet.heads.len())] {
        if count != depth {
            let advice = format!("give one number for each of the {depth} channels");
            return Err(model.invalid(&format!("architecture.unet.{name}"), count, advice));
        }
    }
    let texts = architecture.text.len();
    if texts == 0 || texts > warpmark_nets::diffusion::TEXT_FOLDERS.len() {
        let advice = "there are one or two text encoders";
        return Err(model.invalid("architecture.text", texts, advice));
    }
    let width: usize = architecture.text.iter().map(|text| text.width).sum();
    if width != unet.text_width {
        let advice = format!("the text encoders together are {width} wide");
        return Err(model.invalid("architecture.unet.text_width", unet.text_width, advice));
    }
    let pooled = architecture.text.last().and_then(|text| text.pooled_width);
    if let Some(added) = unet.added.filter(|added| Some(added.pooled_width) != pooled) {
        let advice = "must be the pooled_width of the last text encoder";
        let value = added.pooled_width;
        return Err(model.invalid("architecture.unet.added.pooled_width", value, advice));
    }
    let grouped = |channels: &[usize], groups: usize| {
        groups > 0
            && channels.iter().all(|width| (1..=100_000).contains(width) && width % groups == 0)
    };
    for (name, channels, groups) in [
        ("unet", &unet.channels, unet.groups),
        ("vae", &architecture.vae.channels, architecture.vae.groups),
    ] {
        if !grouped(channels, groups) || channels.is_empty() || channels.len() > 8 {
            let advice = format!("up to 8 channel counts that {groups} groups divide");
            let field = format!("architecture.{name}.channels");
            return Err(model.invalid(&field, format!("{channels:?}"), advice));
        }
    }
    // Rows are named after the pixels.
    if architecture.vae.channels.len() != LEVELS {
        let advice = format!("the decoder has {LEVELS} resolutions: a latent is 8 x 8 pixels");
        let found = format!("{:?}", architecture.vae.channels);
        return Err(model.invalid("architecture.vae.channels", found, advice));
    }
    Ok(architecture)
}

/// Products and convolutions as wide as keep the variance of what passes through, those that add to a
/// residual stream at a third of it, so that synthetic activations stay finite in f16 through all layers.
fn init(name: &str, shape: &[usize]) -> Init {
    const ADDING: [&str; 6] = [
        "conv2.weight",
        "to_out.0.weight",
        "net.2.weight",
        "proj_out.weight",
        "fc2.weight",
        "out_proj.weight",
    ];
    if name.ends_with("bias") {
        return Init::Zeros;
    }
    if shape.len() == 1 {
        return Init::Ones;
    }
    if name.contains("embeddings.") {
        return Init::Normal { std: 0.02 };
    }
    let inputs: usize = shape[1..].iter().product();
    let part = if ADDING.iter().any(|end| name.ends_with(end)) { 1.0 / 3.0 } else { 1.0 };
    Init::Normal { std: part / (inputs.max(1) as f32).sqrt() }
}
