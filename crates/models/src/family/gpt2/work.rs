//! What an iteration costs, counted from the architecture.
//!
//! With `W` weights in the blocks' products (`12 · width²` a layer), `V` the vocabulary, `E` the width,
//! `L` the layers, `B` sequences, `s` bytes of an element and `T` positions attended:
//!
//! - decode: `B · (2 (W + V E) + 4 L E T)` FLOPs: two for each weight, and for each layer `2 E T` for
//!   the scores and `2 E T` for the mixture. Bytes: every weight once, `B · 2 L E s T` of the cache
//!   read, `B · 2 L E s` written.
//! - prefill of `p` tokens: `B · (2 p W + 2 V E + 2 L E p (p + 1))` FLOPs: the head reads the last
//!   position only, and position `t` attends to `t + 1`. Bytes: every weight once, and the cache
//!   written.
//!
//! Layer norms, GELU, softmax and the traffic of activations are left out: they are the part of an
//! implementation, not of the model.

use warpmark_record::{Bytes, Flops, ItemUnit, Items, Work};

use crate::catalog::Dtype;
use crate::family::text::{Case, Phase, WINDOW};
use crate::net::gpt2::Architecture;

/// Elements of all tensors.
fn parameters(architecture: &Architecture) -> f64 {
    let count = |shape: &[usize]| shape.iter().map(|extent| *extent as f64).product::<f64>();
    architecture.tensors().iter().map(|(_, shape)| count(shape)).sum()
}

/// Bytes that the weights hold.
pub(super) fn weight_bytes(architecture: &Architecture, dtype: Dtype) -> Bytes {
    Bytes(parameters(architecture) * dtype.bytes() as f64)
}

/// What one iteration does.
pub(super) fn work(architecture: &Architecture, dtype: Dtype, case: Case) -> Work {
    let (batch, size) = (case.batch as f64, dtype.bytes() as f64);
    let (width, layers) = (architecture.width as f64, architecture.layers as f64);
    let head = architecture.vocabulary as f64 * width;
    let blocks = architecture.block_weights() as f64;
    // Of the learned positions only the few that are used are read.
    let read_once = parameters(architecture) - architecture.context as f64 * width;
    let cached = architecture.cache_elements() as f64;
    let (flops, cache_elements, tokens) = match case.phase {
        Phase::Decode => {
            // The mean over the window: the first step attends to length + 1 positions.
            let attended = case.length as f64 + f64::midpoint(1.0, WINDOW as f64);
            let attention = 4.0 * layers * width * attended;
            (2.0 * (blocks + head) + attention, cached * (attended + 1.0), 1.0)
        }
        Phase::Prefill => {
            let prompt = case.length as f64;
            let attention = 2.0 * layers * width * prompt * (prompt + 1.0);
            (2.0 * (prompt * blocks + head) + attention, cached * prompt, prompt)
        }
    };
    Work {
        flops: Some(Flops(batch * flops)),
        bytes: Some(Bytes(size * (read_once + batch * cache_elements))),
        items: Some(Items { count: batch * tokens, unit: ItemUnit::Token }),
    }
}

/// Positions that a case of this phase needs beyond its length.
pub(super) fn spare(phase: Phase) -> usize {
    match phase {
        Phase::Prefill => 0,
        Phase::Decode => WINDOW,
    }
}

/// Bytes of the cache that a case needs for so many sequences.
pub(super) fn cache(
    architecture: &Architecture,
    dtype: Dtype,
    case: Case,
    sequences: usize,
) -> Bytes {
    let positions = case.length + spare(case.phase);
    let elements = sequences as f64 * positions as f64 * architecture.cache_elements() as f64;
    Bytes(elements * dtype.bytes() as f64)
}

/// The most memory that a case holds beside the weights, from the making of its workload to its check.
///
/// A decode cache grows out of the one of the `before` sequences of a smaller case (0 for none): that
/// one is copied and let go of, then the other sequences are read, [`FILL`] at a time, into a cache of
/// their own that is copied too. The reference of the check widens the head to f32.
pub(super) fn memory(
    architecture: &Architecture,
    dtype: Dtype,
    case: Case,
    before: usize,
) -> Bytes {
    let cache = |sequences| cache(architecture, dtype, case, sequences);
    let pass =
        |batch, tokens, attended| activations(architecture, dtype, [batch, tokens, attended]);
    let running = match case.phase {
        Phase::Prefill => pass(case.batch, case.length, case.length),
        Phase::Decode => pass(case.batch, 1, case.length + WINDOW),
    };
    let added = case.batch.saturating_sub(before);
    let growing = match (case.phase, added.min(FILL)) {
        (Phase::Prefill, _) | (Phase::Decode, 0) => Bytes(0.0),
        (Phase::Decode, part) => {
            cache(before).max(cache(part) + pass(part, case.length, case.length))
        }
    };
    let head = architecture.vocabulary as f64 * architecture.width as f64;
    let checking = match dtype {
        Dtype::F32 => Bytes(0.0),
        Dtype::F16 | Dtype::Bf16 => Bytes(head * Dtype::F32.bytes() as f64),
    };
    cache(case.batch) + running.max(growing).max(checking)
}

/// The largest activations alive at once in a pass of `batch` sequences over `tokens` new positions,
/// each attending to `attended`.
///
/// About the residual stream, the queries, keys and values twice, and one hidden layer of `4 E` twice
/// (14 E an element); of the scores three f32 copies (the product, masked, and after the softmax), and
/// one more in a half type.
fn activations(
    architecture: &Architecture,
    dtype: Dtype,
    [batch, tokens, attended]: [usize; 3],
) -> Bytes {
    let (batch, tokens, size) = (batch as f64, tokens as f64, dtype.bytes() as f64);
    let stream = batch * tokens * 14.0 * architecture.width as f64 * size;
    let copies = if dtype == Dtype::F32 { 3.0 * 4.0 } else { 3.0 * 4.0 + size };
    let scores = batch * architecture.heads as f64 * tokens * attended as f64 * copies;
    Bytes(stream + scores + batch * architecture.vocabulary as f64 * size)
}

/// Sequences that are read into a decode cache at a time.
pub(super) const FILL: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Architecture =
        Architecture { layers: 12, heads: 12, width: 768, context: 1024, vocabulary: 50257 };

    #[test]
    fn gpt2_small_has_its_published_number_of_parameters() {
        assert_eq!(weight_bytes(&SMALL, Dtype::F32), Bytes(4.0 * 124_439_808.0));
        assert_eq!(weight_bytes(&SMALL, Dtype::F16), Bytes(248_879_616.0));
    }

    #[test]
    fn a_decode_step_does_two_flops_a_weight_and_reads_each_once() {
        let case = Case { phase: Phase::Decode, batch: 1, length: 128 };
        let work = work(&SMALL, Dtype::F32, case);
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
            work(&SMALL, Dtype::F32, case).bytes.unwrap()
        };
        let cache_of_a_sequence = 128.0 * 2.0 * 12.0 * 768.0 * 4.0;
        assert_eq!(bytes(8) - bytes(1), Bytes(7.0 * cache_of_a_sequence));
    }

    #[test]
    fn the_first_cache_of_a_sweep_is_held_twice_while_it_is_filled() {
        let case = Case { phase: Phase::Decode, batch: FILL, length: 512 };
        let own = cache(&SMALL, Dtype::F32, case, FILL);
        let filling = activations(&SMALL, Dtype::F32, [FILL, 512, 512]);
        assert_eq!(memory(&SMALL, Dtype::F32, case, 0), own * 2.0 + filling);
        // Grown out of all but one sequence, the old cache outweighs the filling.
        let grown = Case { batch: 101, ..case };
        let [new, old] = [101, 100].map(|n| cache(&SMALL, Dtype::F32, grown, n));
        assert_eq!(memory(&SMALL, Dtype::F32, grown, 100), new + old);
    }

    #[test]
    fn a_half_type_holds_one_more_copy_of_the_scores_and_its_check_a_wide_head() {
        let prefill = Case { phase: Phase::Prefill, batch: 8, length: 512 };
        let scores = 8.0 * 12.0 * 512.0 * 512.0;
        let rest = 8.0 * 512.0 * 14.0 * 768.0 * 2.0 + 8.0 * 50257.0 * 2.0;
        let expected = cache(&SMALL, Dtype::F16, prefill, 8) + Bytes(scores * 14.0 + rest);
        assert_eq!(memory(&SMALL, Dtype::F16, prefill, 0), expected);
        let step = Case { phase: Phase::Decode, batch: 1, length: 1 };
        let expected = cache(&SMALL, Dtype::F16, step, 1) + Bytes(50257.0 * 768.0 * 4.0);
        assert_eq!(memory(&SMALL, Dtype::F16, step, 0), expected);
    }
}
