//! What all text families share: the benchmarks of a causal language model, their ids, the tokens they
//! are fed, how they are sampled, and guesses at their time.

use std::fmt;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use warpmark_measure::Sampling;
use warpmark_record::{
    BenchmarkId, BytesPerSecond, DeviceSpec, FlopsPerSecond, IdError, Seconds, Work,
};

use super::OWN;
use crate::catalog::Dtype;

/// Which half of generating text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// Reading a prompt into the cache.
    Prefill,
    /// Writing one token of each sequence.
    Decode,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        })
    }
}

/// One benchmark of a model in one dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Case {
    /// What is measured.
    pub(super) phase: Phase,
    /// Sequences side by side.
    pub(super) batch: usize,
    /// Tokens of the prompt (prefill), or tokens already in the cache (decode).
    pub(super) length: usize,
}

impl Case {
    /// `text/<model>/decode/<dtype>/b<batch>/c<context>@warpmark`
    pub(super) fn id(&self, model: &str, dtype: Dtype) -> Result<BenchmarkId, IdError> {
        let length = match self.phase {
            Phase::Prefill => format!("p{}", self.length),
            Phase::Decode => format!("c{}", self.length),
        };
        let parts = [self.phase.to_string(), dtype.to_string(), format!("b{}", self.batch), length];
        let segments = ["text".to_owned(), model.to_owned()].into_iter().chain(parts);
        BenchmarkId::new(segments, OWN)
    }

    /// The entries that run short of memory together.
    pub(super) fn sweep(&self, model: &str, dtype: Dtype) -> String {
        format!("text/{model}/{}/{dtype}/{}", self.phase, self.length)
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
