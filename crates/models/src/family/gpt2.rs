//! GPT-2: 124M, 355M, 774M, 1.5B.

mod check;
mod session;
#[cfg(test)]
mod tests;
mod work;
mod workloads;

use candle_core::Tensor;
use serde::Deserialize;
use warpmark_measure::{Entry, Group, WorkloadError};
use warpmark_record::{DeviceSpec, Seconds};

use super::text::{self, Case, Phase};
use super::{Family, workload_error};
use crate::catalog::{CatalogError, Dtype, Model};
use crate::engine::unsupported;
use crate::net::NetError;
use crate::net::gpt2::{Architecture, Gpt2};
use crate::request::Request;
use crate::weights::{Init, Loaded, TensorSpec};

/// GPT-2 in all its sizes.
pub struct Gpt2Family;

/// `[model.inputs]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inputs {
    /// Tokens of a prompt that is read.
    prompts: Vec<usize>,
    /// Tokens in the cache when writing begins.
    contexts: Vec<usize>,
}

impl Inputs {
    /// The lengths with their key and the phase they belong to.
    fn by_phase(&self) -> [(&'static str, Phase, &[usize]); 2] {
        [("prompts", Phase::Prefill, &self.prompts), ("contexts", Phase::Decode, &self.contexts)]
    }
}

/// Batches whose prefill the quick suite measures; its decode runs through all of them.
const QUICK_PREFILL: [usize; 2] = [1, 8];

/// More tokens than this in one pass take minutes of samples on a CPU.
const LONGEST_CPU_PASS: usize = 4096;

/// Kernels that candle launches for one block, counted from the net's code.
const KERNELS_OF_A_BLOCK: usize = 32;

impl Family for Gpt2Family {
    fn name(&self) -> &'static str {
        "gpt2"
    }

    fn group(&self) -> &'static str {
        "text"
    }

    fn phases(&self) -> &'static [&'static str] {
        &["prefill", "decode"]
    }

    fn check(&self, model: &Model) -> Result<(), CatalogError> {
        inputs(model, &architecture(model)?).map(drop)
    }

    fn tensors(&self, model: &Model) -> Result<Vec<TensorSpec>, CatalogError> {
        let architecture = architecture(model)?;
        let spec = |(name, shape): (String, Vec<usize>)| TensorSpec {
            init: init(&name, architecture.layers),
            name,
            shape,
        };
        Ok(architecture.tensors().into_iter().map(spec).collect())
    }

    fn first_run(&self, model: &Model, weights: &Loaded) -> Result<(), WorkloadError> {
        let architecture = architecture(model).map_err(WorkloadError::failed)?;
        let net = Gpt2::new(architecture, &weights.tensors).map_err(workload_error)?;
        let run = || -> Result<(), NetError> {
            let mut cache = net.cache(1, 1)?;
            net.prefill(
                &Tensor::zeros((1, 1), candle_core::DType::U32, net.device())?,
                &mut cache,
            )?;
            Ok(net.device().synchronize()?)
        };
        run().map_err(workload_error)
    }

    fn groups(&self, model: &Model, request: &Request) -> Result<Vec<Group>, CatalogError> {
        let architecture = architecture(model)?;
        let cases = cases(model, &architecture, request)?;
        let tensors = self.tensors(model)?;
        let mut groups = Vec::new();
        for &dtype in request.dtypes(model) {
            let mut entries = Vec::with_capacity(cases.len());
            let mut by_id = Vec::with_capacity(cases.len());
            for &case in &cases {
                let entry = entry(model, &architecture, request, dtype, case)?;
                by_id.push((entry.id.clone(), case));
                entries.push(entry);
            }
            if entries.is_empty() {
                continue;
            }
            let recipe = session::Recipe {
                architecture,
                dtype,
                model: model.clone(),
                tensors: tensors.clone(),
                cases: by_id,
                request: request.clone(),
            };
            groups.push(Group {
                name: format!("{} {dtype}", model.title),
                entries,
                open: Box::new(move |device| Ok(Box::new(recipe.open(device)?))),
            });
        }
        Ok(groups)
    }
}

/// The stanza's architecture, refused where its numbers cannot be meant.
fn architecture(model: &Model) -> Result<Architecture, CatalogError> {
    let architecture: Architecture = model.section("architecture")?;
    let numbers = [
        ("layers", architecture.layers, 1_000),
        ("heads", architecture.heads, 1_000),
        ("width", architecture.width, 100_000),
        ("context", architecture.context, 1_000_000),
        ("vocabulary", architecture.vocabulary, 10_000_000),
    ];
    for (name, value, most) in numbers {
        if value == 0 || value > most {
            let advice = format!("a GPT-2 has between 1 and {most}");
            return Err(model.invalid(&format!("architecture.{name}"), value, advice));
        }
    }
    if !architecture.width.is_multiple_of(architecture.heads) {
        let advice = format!("must be a multiple of heads = {}", architecture.heads);
        return Err(model.invalid("architecture.width", architecture.width, advice));
    }
    Ok(architecture)
}

/// GPT-2's own initialisation (Radford et al. 2019, §2.3): normal with 0.02, 0.01 for positions, and
/// products that add to the residual stream scaled down by the root of their number.
fn init(name: &str, layers: usize) -> Init {
    let path: Vec<&str> = name.split('.').collect();
    match path[..] {
        [.., "bias"] => Init::Zeros,
        [.., "ln_1" | "ln_2" | "ln_f", _] => Init::Ones,
        ["wpe", _] => Init::Normal { std: 0.01 },
        [.., "c_proj", _] => Init::Normal { std: 0.02 / (2.0 * layers as f32).sqrt() },
        _ => Init::Normal { std: 0.02 },
    }
}

/// The stanza's inputs, refused where the model has not the positions for them.
fn inputs(model: &Model, architecture: &Architecture) -> Result<Inputs, CatalogError> {
    let inputs: Inputs = model.section("inputs")?;
    for (field, phase, lengths) in inputs.by_phase() {
        let most = architecture.context.saturating_sub(work::spare(phase));
        if let Some(&length) = lengths.iter().find(|length| !(1..=most).contains(*length)) {
            let advice = format!(
                "must be from 1 to {most}, for the model has {} positions",
                architecture.context
            );
            return Err(model.invalid(&format!("inputs.{field}"), length, advice));
        }
    }
    Ok(inputs)
}

/// The benchmarks of a model that suit the request, prefill before decode, batches rising.
fn cases(
    model: &Model,
    architecture: &Architecture,
    request: &Request,
) -> Result<Vec<Case>, CatalogError> {
    let inputs = inputs(model, architecture)?;
    let mut cases = Vec::new();
    for (_, phase, lengths) in inputs.by_phase() {
        if !model.has_phase(&phase.to_string()) {
            continue;
        }
        let wanted = if request.full { lengths.len() } else { 1 };
        for &length in lengths.iter().take(wanted) {
            for &batch in &model.batches {
                if phase == Phase::Decode || request.full || QUICK_PREFILL.contains(&batch) {
                    cases.push(Case { phase, batch, length });
                }
            }
        }
    }
    Ok(cases)
}

fn entry(
    model: &Model,
    architecture: &Architecture,
    request: &Request,
    dtype: Dtype,
    case: Case,
) -> Result<Entry, CatalogError> {
    let id = case
        .id(&model.id, dtype)
        .map_err(|error| model.invalid("id", &model.id, error.to_string()))?;
    let kernels = KERNELS_OF_A_BLOCK * architecture.layers;
    let work = work::work(architecture, dtype, case);
    let iteration = text::guess(&work, kernels, dtype, &request.spec);
    let smaller = model.batches.iter().copied().filter(|batch| *batch < case.batch).max();
    let beside = work::memory(architecture, dtype, case, smaller.unwrap_or(0));
    Ok(Entry {
        id,
        sampling: text::sampling(request.full, iteration),
        iteration_estimate: iteration,
        preparation_estimate: Seconds(0.0),
        memory_estimate: work::weight_bytes(architecture, dtype) + beside,
        sweep: Some(case.sweep(&model.id, dtype)),
        skip: skip(&request.spec, dtype, case),
    })
}

fn skip(spec: &DeviceSpec, dtype: Dtype, case: Case) -> Option<String> {
    let tokens = case.batch * case.length;
    if spec.gpu.is_none() && case.phase == Phase::Prefill && tokens > LONGEST_CPU_PASS {
        return Some(format!(
            "{tokens} tokens in one pass; on a CPU, passes end at {LONGEST_CPU_PASS}"
        ));
    }
    unsupported(spec, dtype)
}
