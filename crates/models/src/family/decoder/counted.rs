//! What is counted of a decoder's architecture.

use crate::family::text::{self, ExpertNumbers, Numbers, Windows};
use warpmark_nets::decoder::Architecture;

/// Positions that a net is built for, of which sequences need so many. Learned ones are all there anyway.
pub(super) fn positions(architecture: &Architecture, needed: usize) -> usize {
    if architecture.rope.is_none() { architecture.context } else { needed }
}

/// What is counted of an architecture, for sequences of up to so many positions.
pub(in crate::family) fn numbers(architecture: &Architecture, needed: usize) -> Numbers {
    let a = architecture;
    let (width, vocabulary) = (a.width, a.vocabulary);
    let learned = a.rope.is_none();
    let table = if learned { (a.context * width) as f64 } else { 0.0 };
    let untied = if a.tied { 0.0 } else { (vocabulary * width) as f64 };
    let positions = positions(a, needed);
    let hidden = a.hidden * a.experts.map_or(1, |experts| experts.per_token);
    let windowed = (0..a.layers).filter(|layer| a.is_windowed(*layer)).count();
    let windows = a.window.map(|length| Windows { layers: windowed, length });
    let masks = if a.window.is_some_and(|window| window < positions) { 2 } else { 1 };
    Numbers {
        parameters: text::parameters(&a.tensors()),
        looked_up: table + untied,
        tables: match (learned, a.tied) {
            (true, _) => &["wpe.weight"],
            (false, true) => &[],
            (false, false) => &["model.embed_tokens.weight"],
        },
        quantised: None,
        block_weights: a.block_weights() as f64,
        layers: a.layers,
        heads: a.heads,
        width,
        attention_width: a.attention_width(),
        windows,
        experts: a.experts.map(|experts| ExpertNumbers {
            count: experts.count as f64,
            per_token: experts.per_token as f64,
            weights: a.expert_weights() as f64,
        }),
        vocabulary,
        context: a.context,
        cache_elements: a.cache_elements() as f64,
        stream: if learned {
            // The residual stream twice, queries, keys and values twice, and a hidden layer and a half.
            8.0 * width as f64 + 1.5 * hidden as f64
        } else {
            // The residual stream twice and either the queries, keys and values before and after their
            // rotation, or the gate, the values and their product.
            let attention = 2 * (a.attention_width() + 2 * a.key_value_width());
            2.0 * width as f64 + attention.max(3 * hidden) as f64
        },
        mask: positions,
        masks,
    }
}
