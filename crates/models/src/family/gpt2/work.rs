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

/// Positions of the cache that a case needs.
pub(super) fn capacity(case: Case) -> usize {
    match case.phase {
        Phase::Prefill => case.length,
        Phase::Decode => case.length + WINDOW,
    }
}

/// Memory beside the weights: the cache and the largest activations alive at once.
///
/// A pass over `B · n` tokens holds about the residual stream, the queries, keys and values twice, and
/// one hidden layer of `4 E` twice (14 E an element); scores and their f32 copies are held three
/// times. The decode cache is filled [`FILL`] sequences at a time and exists twice while it grows.
pub(super) fn memory(architecture: &Architecture, dtype: Dtype, case: Case) -> Bytes {
    let size = dtype.bytes() as f64;
    let pass = |batch: usize, tokens: usize| {
        let stream = (batch * tokens * 14 * architecture.width) as f64 * size;
        let scores = (batch * architecture.heads * tokens * tokens) as f64 * (8.0 + size);
        stream + scores + (batch * architecture.vocabulary) as f64 * size
    };
    let cache = (case.batch * capacity(case) * architecture.cache_elements()) as f64 * size;
    Bytes(match case.phase {
        Phase::Prefill => cache + pass(case.batch, case.length),
        Phase::Decode => {
            let filling = pass(case.batch.min(FILL), case.length);
            // Half of the sweep's largest cache is still there when the next one is made.
            1.5 * cache + filling.max(pass(case.batch, 1))
        }
    })
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
}
