//! What all text families share: the benchmarks of a causal language model, their ids, the tokens they
//! are fed, how they are sampled and checked, what they cost, and guesses at their time.

mod check;
mod generate;
mod inputs;
mod lm;
mod service;
mod session;
#[cfg(test)]
mod tests;
mod work;
mod workloads;

use std::fmt;

use candle_core::Tensor;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use warpmark_measure::{Entry, Group, Sampling};
use warpmark_record::{
    BenchmarkId, BytesPerSecond, DeviceSpec, FlopsPerSecond, IdError, Seconds, Work,
};

pub(super) use check::PlainLogits;
pub(super) use inputs::Inputs;
pub(super) use lm::{CausalLm, Memory};
pub(super) use service::offers;
pub(super) use work::{Numbers, parameters};

use crate::catalog::{CatalogError, Dtype, Format, Model};
use crate::engine::{unsupported, unsupported_quantised};
use crate::request::Request;
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

/// The phases as stanzas name them.
pub(super) const PHASES: &[&str] = &["prefill", "decode", "generate"];

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
            Self::Generate { .. } => "generate",
        })
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
    pub(super) fn id(
        &self,
        model: &str,
        format: impl Into<Format>,
        engine: &str,
    ) -> Result<BenchmarkId, IdError> {
        let length = match self.phase {
            Phase::Prefill => format!("p{}", self.length),
            Phase::Decode => format!("c{}", self.length),
            Phase::Generate { tokens } => format!("p{}+{tokens}", self.length),
        };
        let format = format.into().to_string();
        let parts = [self.phase.to_string(), format, format!("b{}", self.batch), length];
        let segments = ["text".to_owned(), model.to_owned()].into_iter().chain(parts);
        BenchmarkId::new(segments, engine)
    }

    /// The entries that run short of memory together.
    pub(super) fn sweep(&self, model: &str, format: Format, engine: &str) -> String {
        format!("text/{model}/{}/{format}/{}@{engine}", self.phase, self.length)
    }
}

/// Builds a net and what checks it from loaded weights, for sequences of up to so many tokens.
pub(super) type Build<N> = fn(&Model, usize, &Loaded) -> Result<(N, PlainLogits), NetError>;

/// One program for a family's net: how it is built, and what is said of it.
pub(super) struct Engine<N> {
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

/// The workloads of a model on one engine that suit the request, a group for each format.
pub(super) fn groups<N: CausalLm>(
    model: &Model,
    numbers: &Numbers,
    request: &Request,
    engine: &Engine<N>,
) -> Result<Vec<Group>, CatalogError> {
    let inputs = Inputs::of(model, numbers.context)?;
    let mut cases = inputs.cases(model, request);
    cases.retain(|case| case.batch <= engine.most);
    let mut groups = Vec::new();
    let able = |format: &Format| engine.quantised || format.plain().is_some();
    for format in request.formats(model).into_iter().filter(able) {
        let wanted = model.wanted(format)?;
        let numbers = numbers.stored_as(&wanted, request.spec.gpu.is_none());
        let mut entries = Vec::with_capacity(cases.len());
        let mut by_id = Vec::with_capacity(cases.len());
        for &case in &cases {
            let entry = entry(model, &numbers, request, format, (case, engine))?;
            by_id.push((entry.id.clone(), case));
            entries.push(entry);
        }
        if entries.is_empty() {
            continue;
        }
        let recipe = session::Recipe {
            numbers,
            build: engine.build,
            positions: inputs.longest(),
            format,
            model: model.clone(),
            wanted,
            cases: by_id,
            caveats: engine.caveats,
            request: request.clone(),
        };
        groups.push(Group {
            name: format!("{} {format}", model.title),
            entries,
            open: Box::new(move |device| Ok(Box::new(recipe.open(device)?))),
        });
    }
    Ok(groups)
}

fn entry<N>(
    model: &Model,
    numbers: &Numbers,
    request: &Request,
    format: Format,
    (case, engine): (Case, &Engine<N>),
) -> Result<Entry, CatalogError> {
    let id = case
        .id(&model.id, format, engine.name)
        .map_err(|error| model.invalid("id", &model.id, error.to_string()))?;
    let dtype = format.compute();
    let passes = if let Phase::Generate { tokens } = case.phase { tokens } else { 1 };
    let kernels = engine.kernels_of_a_block * numbers.layers * passes;
    let iteration = guess(&work::work(numbers, dtype, case), kernels, dtype, &request.spec);
    let smaller = model.batches.iter().copied().filter(|batch| *batch < case.batch).max();
    let beside = work::memory(numbers, dtype, case, smaller.unwrap_or(0));
    Ok(Entry {
        id,
        sampling: case.sampling(request.full, iteration),
        iteration_estimate: iteration,
        preparation_estimate: Seconds(0.0),
        memory_estimate: work::weight_bytes(numbers, dtype) + beside,
        sweep: Some(case.sweep(&model.id, format, engine.name)),
        skip: skip(&request.spec, format, case),
    })
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
            return Sampling { samples: 10, target, warm_up: Seconds(3.0), single: false };
        }
        sampling(full, iteration)
    }
}

/// How an entry is sampled, given a guess at its iteration.
pub(super) fn sampling(full: bool, iteration: Seconds) -> Sampling {
    let (most, target) = if full { (30, 3.0) } else { (15, 1.5) };
    let affordable = (2.0 * target / iteration.0.max(1e-9)) as usize;
    Sampling {
        samples: affordable.clamp(10, most),
        target: Seconds(target),
        warm_up: Seconds(target / 3.0),
        single: false,
    }
}

/// A guess at the time of one iteration: the slower of arithmetic and memory, at rates that nets reach
/// on such a device, and on a GPU no less than it takes to launch the kernels. It steers the plan
/// and the budget only.
pub(super) fn guess(work: &Work, kernels: usize, dtype: Dtype, spec: &DeviceSpec) -> Seconds {
    let arithmetic = work.flops.map_or(Seconds(0.0), |flops| flops / arithmetic_rate(dtype, spec));
    let memory = work.bytes.map_or(Seconds(0.0), |bytes| bytes / memory_rate(spec));
    // Host time of one candle launch, allocation included.
    let launches = if spec.gpu.is_some() { kernels as f64 * 6e-6 } else { 0.0 };
    arithmetic.max(memory).max(Seconds(launches))
}

fn arithmetic_rate(dtype: Dtype, spec: &DeviceSpec) -> FlopsPerSecond {
    match (&spec.gpu, &spec.cpu) {
        (Some(gpu), _) => {
            let name = format!("{dtype}/f32");
            let peak = gpu.book.known().and_then(|book| book.peaks.get(&name));
            peak.map_or(FlopsPerSecond(30e12), |peak| peak.value) * 0.4
        }
        (None, Some(cpu)) => FlopsPerSecond(60e9 * f64::from(cpu.cores.max(1))),
        (None, None) => FlopsPerSecond(60e9),
    }
}

fn memory_rate(spec: &DeviceSpec) -> BytesPerSecond {
    let book = || spec.gpu.as_ref()?.book.known()?.bandwidth.as_ref().map(|figure| figure.value);
    match spec.memory_bandwidth.known().copied().or_else(book) {
        Some(peak) => peak * 0.6,
        None => match &spec.cpu {
            Some(cpu) => BytesPerSecond(10e9 * f64::from(cpu.cores.clamp(1, 8))),
            None => BytesPerSecond(200e9),
        },
    }
}

/// Reads one token and waits for the logits: the smallest pass of a net.
pub(super) fn first_run<N: CausalLm>(net: &N) -> Result<(), NetError> {
    let mut memory = net.memory(1, 1)?;
    net.read(&Tensor::zeros((1, 1), candle_core::DType::U32, net.device())?, &mut memory)?;
    Ok(net.device().synchronize()?)
}

/// Refuses architecture numbers, given by name with the most that can be meant, that are 0 or larger.
pub(super) fn check_numbers(
    model: &Model,
    what: &str,
    numbers: &[(&str, usize, usize)],
) -> Result<(), CatalogError> {
    match numbers.iter().find(|(_, value, most)| *value == 0 || value > most) {
        Some((name, value, most)) => {
            let advice = format!("{what} has between 1 and {most}");
            Err(model.invalid(&format!("architecture.{name}"), value, advice))
        }
        None => Ok(()),
    }
}

/// Refuses an architecture number that is no multiple of another.
pub(super) fn check_multiple(
    model: &Model,
    (name, value): (&str, usize),
    (of, divisor): (&str, usize),
) -> Result<(), CatalogError> {
    if value.is_multiple_of(divisor) {
        return Ok(());
    }
    let advice = format!("must be a multiple of {of} = {divisor}");
    Err(model.invalid(&format!("architecture.{name}"), value, advice))
}
