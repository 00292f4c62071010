//! What all text families share: the benchmarks of a causal language model, their ids, the tokens they
//! are fed, how they are sampled and checked, what they cost, and guesses at their time.

mod check;
mod engine;
pub(super) mod fused;
mod generate;
pub(super) mod graph;
mod inputs;
mod lm;
mod parts;
pub(super) mod refused;
mod service;
mod steps;
#[cfg(test)]
mod tests;
mod work;

use candle_core::Tensor;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use warpmark_measure::Sampling;
use warpmark_record::{DeviceSpec, Seconds};

pub(super) use check::PlainLogits;
pub(super) use inputs::Inputs;
pub(super) use lm::{CausalLm, Memory};
pub(super) use service::offers;
pub(super) use work::{ExpertNumbers, Numbers, Windows, parameters};

use crate::bench::estimate::{guess, sampling};
use crate::bench::{Engines, Parameters, Plan, Planned, PlannedGroup};
use crate::catalog::{CatalogError, Format, Model};
use crate::engine::{unsupported, unsupported_quantised};
use crate::options::RunOptions;
use crate::weights::Loaded;
use warpmark_nets::NetError;

/// A part of generating text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// Reading a prompt into the cache.
    Prefill,
    /// Writing one token of each sequence.
    Decode,
    /// Both, as a user waits for it.
    Generate {
        /// Tokens that are written.
        tokens: usize,
    },
}

/// The phases as entries name them.
pub(super) const PHASES: &[&str] = &["prefill", "decode", "generate"];

impl Phase {
    /// Its name in entries and ids.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
            Self::Generate { .. } => "generate",
        }
    }
}

/// One benchmark of a model in one format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Case {
    /// What is measured.
    pub(super) phase: Phase,
    /// Sequences side by side.
    pub(super) batch: usize,
    /// Tokens of the prompt (prefill, generate), or tokens already in the cache (decode).
    pub(super) length: usize,
}

impl Case {
    /// `text/<model>/decode/<format>/b<batch>/c<context>@<engine>`
    pub(super) fn parameters(&self, format: Format, engine: &'static str) -> Parameters {
        let name = ("text", self.phase.name());
        let parameters = Parameters::new(name, Some(format), engine, self.batch);
        let length = self.length;
        match self.phase {
            Phase::Prefill => parameters.with(format!("p{length}"), [("prompt", length.into())]),
            Phase::Decode => parameters.with(format!("c{length}"), [("context", length.into())]),
            Phase::Generate { tokens } => parameters.with(
                format!("p{length}+{tokens}"),
                [("prompt", length.into()), ("tokens", tokens.into())],
            ),
        }
    }
}

/// Builds a net and what checks it from loaded weights, for sequences of up to so many tokens.
pub(super) type Build<N> = fn(&Model, usize, &Loaded) -> Result<(N, PlainLogits), NetError>;

/// One program for a family's net: how it is built, and what is said of it.
pub(super) struct Implementation<N> {
    /// Its name in ids.
    pub(super) name: &'static str,
    /// What to know before trusting its rows.
    pub(super) caveats: &'static [&'static str],
    /// Whether it can compute with quantised weights.
    pub(super) quantised: bool,
    /// Kernels that it launches for one block of the net, counted from its code.
    pub(super) kernels_of_a_block: usize,
    /// The largest batch that it is asked for.
    pub(super) most: usize,
    /// Builds the net and what checks it, for sequences of up to so many tokens.
    pub(super) build: Build<N>,
}

/// The benchmarks of a model by one program that suit the request, a group for each format.
pub(super) fn groups<N: CausalLm>(
    model: &Model,
    numbers: &Numbers,
    options: &RunOptions,
    implementation: &'static Implementation<N>,
) -> Result<Vec<PlannedGroup>, CatalogError> {
    let inputs = Inputs::of(model, numbers.context)?;
    let mut cases = inputs.cases(model, options);
    cases.retain(|case| case.batch <= implementation.most);
    let positions = inputs.longest();
    let mut groups = Vec::new();
    let able = |format: &Format| implementation.quantised || format.plain().is_some();
    for format in options.formats(model).into_iter().filter(able) {
        let numbers = numbers.stored_as(&model.weight_spec(format)?, options.spec.gpu.is_none());
        let weights = work::weight_bytes(&numbers, format.compute());
        let plan = Plan { model, options, format, weights };
        let all =
            cases.iter().map(|&case| planned(&plan, &numbers, case, implementation)).collect();
        let model = model.clone();
        groups.extend(plan.group(all, move |opened| {
            let program = (numbers, implementation);
            let (net, info, reference) = engine::build(&model, positions, program, opened)?;
            let engine = engine::TextEngine::new(net, info, reference);
            Ok(Engines::of(implementation.name, engine))
        })?);
    }
    Ok(groups)
}

fn planned<N>(
    plan: &Plan<'_>,
    numbers: &Numbers,
    case: Case,
    implementation: &Implementation<N>,
) -> Planned<Case> {
    let Plan { model, options, format, .. } = *plan;
    let dtype = format.compute();
    let passes = if let Phase::Generate { tokens } = case.phase { tokens } else { 1 };
    let kernels = implementation.kernels_of_a_block * numbers.layers * passes;
    let iteration = guess(&work::work(numbers, dtype, case), kernels, dtype, &options.spec);
    let smaller = model.batches.iter().copied().filter(|batch| *batch < case.batch).max();
    Planned {
        case,
        parameters: case.parameters(format, implementation.name),
        iteration,
        preparation: Seconds(0.0),
        memory: work::memory(numbers, dtype, case, smaller.unwrap_or(0)),
        sampling: case.sampling(options.full, iteration),
        skip: skip(&options.spec, format, case),
    }
}

/// More tokens than this in one pass take minutes of samples on a CPU.
const LONGEST_CPU_PASS: usize = 4096;

fn skip(spec: &DeviceSpec, format: Format, case: Case) -> Option<String> {
    let tokens = case.batch * case.length;
    if spec.gpu.is_none() && case.phase != Phase::Decode && tokens > LONGEST_CPU_PASS {
        return Some(format!(
            "{tokens} tokens in one pass; on a CPU, passes end at {LONGEST_CPU_PASS}"
        ));
    }
    match format {
        Format::Plain(dtype) => unsupported(spec, dtype),
        Format::Quantised(_) => unsupported_quantised(spec),
    }
}

/// Decode steps after which the position goes back to the context it started from, so that however
/// many iterations a sample has, the work of one of them stays the same within a few percent.
pub(super) const WINDOW: usize = 16;

/// The prompt of one sequence: tokens drawn evenly from the vocabulary. The seed and the number of the
/// sequence decide them, so that sequence 3 is the same in every batch.
pub(super) fn prompt(seed: u64, sequence: usize, length: usize, vocabulary: usize) -> Vec<u32> {
    // Odd constant of the golden ratio: neighbouring sequences get seeds far apart.
    let stream = (sequence as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut random = StdRng::seed_from_u64(seed ^ stream);
    (0..length).map(|_| random.random_range(0..vocabulary as u32)).collect()
}

impl Case {
    /// How it is sampled. The full suite takes generations in ten rounds of a hundred, as long as a round
    /// lasts no more than half a minute.
    fn sampling(self, full: bool, iteration: Seconds) -> Sampling {
        if full && matches!(self.phase, Phase::Generate { .. }) {
            let round = (iteration.0 * 100.0).min(30.0);
            let target = Seconds(10.0 * round);
            return Sampling {
                samples: 10,
                target,
                warm_up: Seconds(3.0),
                single: false,
                may_end_early: false,
            };
        }
        sampling(full, iteration)
    }
}

/// Reads one token and waits for the logits: the smallest pass of a net.
pub(super) fn first_run<N: CausalLm>(net: &N) -> Result<(), NetError> {
    let mut memory = net.memory(1, 1)?;
    net.read(&Tensor::zeros((1, 1), candle_core::DType::U32, net.device())?, &mut memory)?;
    Ok(net.device().synchronize()?)
}
