//! What an iteration costs, counted from the architecture.
//!
//! With `W` weights in the blocks' products, `V` the vocabulary, `E` the width, `A` the width of all heads
//! together, `K` the elements that a position takes in the cache (keys and values of all layers), `L` the
//! layers, `B` sequences, `s` bytes of an element and `T` positions attended:
//!
//! - decode: `B · (2 (W + V E) + 4 L A T)` FLOPs: two for each weight, and for each layer `2 A T` for
//!   the scores and `2 A T` for the mixture. Bytes: every weight once, `B · K s T` of the cache
//!   read, `B · K s` written.
//! - prefill of `p` tokens: `B · (2 p W + 2 V E + 2 L A p (p + 1))` FLOPs: the head reads the last
//!   position only, and position `t` attends to `t + 1`. Bytes: every weight once, and the cache
//!   written.
//! - generation: a prefill, and a decode step for each token but the first.
//!
//! A layer with a window attends to no more than its length. Of a mixture of experts, FLOPs are those of the
//! experts that tokens pass, and bytes those of the experts that `n` tokens together are expected to meet, were
//! each as likely as any other: `E (1 - (1 - k/E)^n)` of `E`, with `k` a token. That is a prediction, not a count.
//!
//! Norms, activation functions, softmax and the traffic of activations are left out: they are the part of
//! an implementation, not of the model. Of tables that are looked up (positions, embeddings beside a head
//! of its own) the few rows that are read are left out too.

use warpmark_record::{Bytes, Flops, ItemUnit, Items, Work};

use super::{Case, Phase, WINDOW};
use crate::catalog::Dtype;
use crate::weights::WeightSpec;

/// What is counted of an architecture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::family) struct Numbers {
    /// Elements of all tensors.
    pub(in crate::family) parameters: f64,
    /// Elements of the tables of which a pass looks up a few rows and nothing else.
    pub(in crate::family) looked_up: f64,
    /// The names of these tables.
    pub(in crate::family) tables: &'static [&'static str],
    /// Bytes of quantised weights; `None` where each weight is a number of its own.
    pub(in crate::family) quantised: Option<Quantised>,
    /// Weights in the blocks' products.
    pub(in crate::family) block_weights: f64,
    pub(in crate::family) layers: usize,
    pub(in crate::family) heads: usize,
    pub(in crate::family) width: usize,
    /// The width of all heads together.
    pub(in crate::family) attention_width: usize,
    /// Where some layers attend to no more than the last positions.
    pub(in crate::family) windows: Option<Windows>,
    /// Where each token passes a few of many feed-forward layers; they are not among `block_weights`.
    pub(in crate::family) experts: Option<ExpertNumbers>,
    pub(in crate::family) vocabulary: usize,
    /// The most tokens of a sequence.
    pub(in crate::family) context: usize,
    /// Elements that one position of one sequence takes in the cache.
    pub(in crate::family) cache_elements: f64,
    /// Elements of the largest activations of one token that are alive at once, scores left out.
    pub(in crate::family) stream: f64,
    /// Positions for which the net keeps a causal mask in f32, of so many rows and columns.
    pub(in crate::family) mask: usize,
    /// How many such masks.
    pub(in crate::family) masks: usize,
}

/// Layers that attend to no more than the last positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::family) struct Windows {
    /// How many.
    pub(in crate::family) layers: usize,
    /// To so many positions.
    pub(in crate::family) length: usize,
}

/// A mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::family) struct ExpertNumbers {
    /// Experts of a layer.
    pub(in crate::family) count: f64,
    /// Those that a token passes.
    pub(in crate::family) per_token: f64,
    /// Weights of one of every layer together.
    pub(in crate::family) weights: f64,
}

impl ExpertNumbers {
    /// Weights of the experts that so many tokens are not expected to meet.
    fn left_out(&self, tokens: f64) -> f64 {
        self.weights * self.count * (1.0 - self.per_token / self.count).powf(tokens)
    }
}

/// Bytes of quantised weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::family) struct Quantised {
    /// Of all in memory, once more on a CPU: candle packs its own copy of most.
    held: f64,
    /// Of those that a pass reads.
    read: f64,
}

impl Numbers {
    /// The same with the bytes of the weights as they are stored.
    pub(super) fn stored_as(mut self, wanted: &WeightSpec, on_cpu: bool) -> Self {
        if let WeightSpec::Quantised(..) = wanted {
            let held = wanted.held().0;
            let looked_up: f64 = self.tables.iter().map(|name| wanted.bytes_of(name)).sum();
            let copies = if on_cpu { 2.0 } else { 1.0 };
            self.quantised = Some(Quantised { held: copies * held, read: held - looked_up });
        }
        self
    }

    /// Weights of the blocks' products that one token passes.
    fn passed(&self) -> f64 {
        let experts = self.experts.map_or(0.0, |experts| experts.per_token * experts.weights);
        self.block_weights + experts
    }

    /// Weights of the head.
    fn head(&self) -> f64 {
        self.vocabulary as f64 * self.width as f64
    }
}

/// Elements of tensors of these shapes.
pub(in crate::family) fn parameters(tensors: &[(String, Vec<usize>)]) -> f64 {
    let count = |shape: &[usize]| shape.iter().map(|extent| *extent as f64).product::<f64>();
    tensors.iter().map(|(_, shape)| count(shape)).sum()
}

/// Bytes that the weights hold.
pub(super) fn weight_bytes(numbers: &Numbers, dtype: Dtype) -> Bytes {
    match numbers.quantised {
        Some(quantised) => Bytes(quantised.held),
        None => Bytes(numbers.parameters * dtype.bytes() as f64),
    }
}

/// What one iteration does.
pub(super) fn work(numbers: &Numbers, dtype: Dtype, case: Case) -> Work {
    let (batch, size) = (case.batch as f64, dtype.bytes() as f64);
    let left_out = |tokens: f64| {
        size * numbers.experts.map_or(0.0, |experts| experts.left_out(batch * tokens))
    };
    let (flops, weights_read, cache_elements, tokens) = match case.phase {
        Phase::Decode => {
            // The mean over the window: the first step attends to length + 1 positions.
            let attended = case.length as f64 + f64::midpoint(1.0, WINDOW as f64);
            let (flops, cache) = decode(numbers, attended);
            (flops, 1.0, cache, 1.0)
        }
        Phase::Prefill => {
            let (flops, cache) = prefill(numbers, case.length as f64);
            (flops, 1.0, cache, case.length as f64)
        }
        Phase::Generate { tokens } => {
            let steps = tokens as f64 - 1.0;
            let (reading, written) = prefill(numbers, case.length as f64);
            // The mean over the steps, the first of which attends to length + 1 positions.
            let attended = case.length as f64 + f64::midpoint(1.0, steps.max(1.0));
            let (step, cache) = decode(numbers, attended);
            (reading + steps * step, 1.0 + steps, written + steps * cache, tokens as f64)
        }
    };
    let weights = match numbers.quantised {
        Some(quantised) => quantised.read,
        None => size * (numbers.parameters - numbers.looked_up),
    };
    let left_out = match case.phase {
        Phase::Decode => left_out(1.0),
        Phase::Prefill => left_out(case.length as f64),
        Phase::Generate { tokens } => {
            left_out(case.length as f64) + (tokens as f64 - 1.0) * left_out(1.0)
        }
    };
    let read = weights_read * weights - left_out;
    Work {
        flops: Some(Flops(batch * flops)),
        bytes: Some(Bytes(read + size * batch * cache_elements)),
        items: Some(Items { count: batch * tokens, unit: ItemUnit::Token }),
    }
}

/// FLOPs of a decode step of one sequence, and the elements of the cache that it reads and writes.
fn decode(numbers: &Numbers, attended: f64) -> (f64, f64) {
    let reached = reached(numbers, |window| window.min(attended), attended);
    let attention = 4.0 * numbers.attention_width as f64 * reached;
    let products = 2.0 * (numbers.passed() + numbers.head());
    let of_layer = numbers.cache_elements / numbers.layers as f64;
    (products + attention, of_layer * reached + numbers.cache_elements)
}

/// The same of a prefill.
fn prefill(numbers: &Numbers, prompt: f64) -> (f64, f64) {
    let sum = |prompt: f64| prompt * (prompt + 1.0) / 2.0;
    let windowed = |window: f64| {
        let growing = window.min(prompt);
        sum(growing) + (prompt - growing) * window
    };
    let attention = 4.0 * numbers.attention_width as f64 * reached(numbers, windowed, sum(prompt));
    let products = 2.0 * (prompt * numbers.passed() + numbers.head());
    (products + attention, numbers.cache_elements * prompt)
}

/// Positions attended to, summed over layers: `all` of a layer without a window.
fn reached(numbers: &Numbers, windowed: impl Fn(f64) -> f64, all: f64) -> f64 {
    let Windows { layers, length } = numbers.windows.unwrap_or(Windows { layers: 0, length: 0 });
    layers as f64 * windowed(length as f64) + (numbers.layers - layers) as f64 * all
}

/// Positions that a case of this phase needs beyond its length.
pub(super) const fn spare(phase: Phase) -> usize {
    match phase {
        Phase::Prefill => 0,
        Phase::Decode => WINDOW,
        // The last token that is written is not read.
        Phase::Generate { tokens } => tokens - 1,
    }
}

/// Bytes of the cache that a case needs for so many sequences.
pub(super) fn cache(numbers: &Numbers, dtype: Dtype, case: Case, sequences: usize) -> Bytes {
    let positions = case.length + spare(case.phase);
    let elements = sequences as f64 * positions as f64 * numbers.cache_elements;
    Bytes(elements * dtype.bytes() as f64)
}

/// The most memory that a case holds beside the weights, from the making of its workload to its check.
///
/// A decode cache grows out of the one of the `before` sequences of a smaller case (0 for none): that
/// one is copied and let go of, then the other sequences are read, [`FILL`] at a time, into a cache of
/// their own that is copied too. The reference of the check widens the head to f32.
pub(super) fn memory(numbers: &Numbers, dtype: Dtype, case: Case, before: usize) -> Bytes {
    let cache = |sequences| cache(numbers, dtype, case, sequences);
    let pass = |batch, tokens, attended| activations(numbers, dtype, [batch, tokens, attended]);
    let running = match case.phase {
        Phase::Prefill | Phase::Generate { .. } => pass(case.batch, case.length, case.length),
        Phase::Decode => pass(case.batch, 1, case.length + WINDOW),
    };
    let added = case.batch.saturating_sub(before);
    let growing = match (case.phase, added.min(FILL)) {
        (Phase::Prefill | Phase::Generate { .. }, _) | (Phase::Decode, 0) => Bytes(0.0),
        (Phase::Decode, part) => {
            cache(before).max(cache(part) + pass(part, case.length, case.length))
        }
    };
    let checking = match dtype {
        Dtype::F32 if numbers.quantised.is_none() => Bytes(0.0),
        Dtype::F32 | Dtype::F16 | Dtype::Bf16 => Bytes(numbers.head() * Dtype::F32.bytes() as f64),
    };
    let mask =
        Bytes((numbers.masks * numbers.mask * numbers.mask) as f64 * Dtype::F32.bytes() as f64);
    mask + cache(case.batch) + running.max(growing).max(checking)
}

/// The largest activations alive at once in a pass of `batch` sequences over `tokens` new positions,
/// each attending to `attended`.
///
/// [`Numbers::stream`] for each token; of the scores three f32 copies (the product, masked, and after the
/// softmax), and one more in a half type.
fn activations(numbers: &Numbers, dtype: Dtype, [batch, tokens, attended]: [usize; 3]) -> Bytes {
    let (batch, tokens, size) = (batch as f64, tokens as f64, dtype.bytes() as f64);
    let stream = batch * tokens * numbers.stream * size;
    let copies = if dtype == Dtype::F32 { 3.0 * 4.0 } else { 3.0 * 4.0 + size };
    let scores = batch * numbers.heads as f64 * tokens * attended as f64 * copies;
    Bytes(stream + scores + batch * numbers.vocabulary as f64 * size)
}

/// Sequences that are read into a decode cache at a time.
pub(super) const FILL: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Numbers {
        let numbers = warpmark_nets::decoder::Numbers {
            layers: 12,
            heads: 12,
            width: 768,
            context: 1024,
            vocabulary: 50257,
            ..Default::default()
        };
        let gpt2 = warpmark_nets::decoder::Variant::Gpt2.architecture(&numbers).unwrap();
        crate::family::decoder::numbers(&gpt2, 1024)
    }

    /// Of 1024 rows and columns in f32.
    fn mask() -> Bytes {
        Bytes(1024.0 * 1024.0 * 4.0)
    }

    #[test]
    fn gpt2_small_has_its_published_number_of_parameters() {
        assert_eq!(weight_bytes(&small(), Dtype::F32), Bytes(4.0 * 124_439_808.0));
        assert_eq!(weight_bytes(&small(), Dtype::F16), Bytes(248_879_616.0));
    }

    #[test]
    fn a_decode_step_does_two_flops_a_weight_and_reads_each_once() {
        let case = Case { phase: Phase::Decode, batch: 1, length: 128 };
        let work = work(&small(), Dtype::F32, case);
        // 85 M weights in blocks, 38.6 M in the head; 12 layers attend to 136.5 positions of 768.
        let attention = 4.0 * 12.0 * 768.0 * 136.5;
        let products = 2.0 * (84_934_656.0 + 38_597_376.0);
        assert_eq!(work.flops, Some(Flops(products + attention)));
        let weights = (124_439_808.0 - 1024.0 * 768.0) * 4.0;
        assert_eq!(work.bytes, Some(Bytes(weights + 137.5 * 2.0 * 12.0 * 768.0 * 4.0)));
        assert_eq!(work.items.map(|items| items.count), Some(1.0));
    }

    #[test]
    fn a_prefill_reads_the_weights_once_however_large_the_batch() {
        let bytes = |batch| {
            let case = Case { phase: Phase::Prefill, batch, length: 128 };
            work(&small(), Dtype::F32, case).bytes.unwrap()
        };
        let cache_of_a_sequence = 128.0 * 2.0 * 12.0 * 768.0 * 4.0;
        assert_eq!(bytes(8) - bytes(1), Bytes(7.0 * cache_of_a_sequence));
    }

    #[test]
    fn the_first_cache_of_a_sweep_is_held_twice_while_it_is_filled() {
        let case = Case { phase: Phase::Decode, batch: FILL, length: 512 };
        let own = cache(&small(), Dtype::F32, case, FILL);
        let filling = activations(&small(), Dtype::F32, [FILL, 512, 512]);
        assert_eq!(memory(&small(), Dtype::F32, case, 0), mask() + own * 2.0 + filling);
        // Grown out of all but one sequence, the old cache outweighs the filling.
        let grown = Case { batch: 101, ..case };
        let [new, old] = [101, 100].map(|n| cache(&small(), Dtype::F32, grown, n));
        assert_eq!(memory(&small(), Dtype::F32, grown, 100), mask() + new + old);
    }

    #[test]
    fn a_half_type_holds_one_more_copy_of_the_scores_and_its_check_a_wide_head() {
        let prefill = Case { phase: Phase::Prefill, batch: 8, length: 512 };
        let scores = 8.0 * 12.0 * 512.0 * 512.0;
        let rest = 8.0 * 512.0 * 14.0 * 768.0 * 2.0 + 8.0 * 50257.0 * 2.0;
        let expected =
            mask() + cache(&small(), Dtype::F16, prefill, 8) + Bytes(scores * 14.0 + rest);
        assert_eq!(memory(&small(), Dtype::F16, prefill, 0), expected);
        let step = Case { phase: Phase::Decode, batch: 1, length: 1 };
        let expected = mask() + cache(&small(), Dtype::F16, step, 1) + Bytes(50257.0 * 768.0 * 4.0);
        assert_eq!(memory(&small(), Dtype::F16, step, 0), expected);
    }

    #[test]
    fn a_generation_is_a_prefill_and_its_decode_steps() {
        let of = |phase, length| work(&small(), Dtype::F32, Case { phase, batch: 2, length });
        let all = of(Phase::Generate { tokens: 17 }, 100);
        // Sixteen steps over the mean positions of a decode window.
        let (first, step) = (of(Phase::Prefill, 100), of(Phase::Decode, 100));
        let flops = |work: &Work| work.flops.unwrap().0;
        assert!((flops(&all) / (flops(&first) + 16.0 * flops(&step)) - 1.0).abs() < 1e-12);
        let bytes = |work: &Work| work.bytes.unwrap().0;
        assert!((bytes(&all) / (bytes(&first) + 16.0 * bytes(&step)) - 1.0).abs() < 1e-12);
        assert_eq!(all.items.map(|items| items.count), Some(34.0));
    }
}
