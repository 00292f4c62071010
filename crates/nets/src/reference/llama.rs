//! Llama once more, for checking: one sequence at a time, no cache, every step in f32 from candle's
//! plainest ops, one head after the other. Slow, and meant to share nothing with the measured net but
//! the weights and the rotary frequencies, which the fixtures check.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{D, DType, Result, Tensor};

use super::mask::upper_triangle;
use super::rounding::Rounding;
use crate::llama::{Architecture, inverse_frequencies};

/// The logits after each of the last `count` tokens of a sequence, `[count, vocabulary]` in f32.
///
/// `tensors` are the net's weights in any dtype; each is widened to f32 while it is used.
pub fn logits<S: BuildHasher>(
    architecture: &Architecture,
    tensors: &HashMap<String, Tensor, S>,
    tokens: &[u32],
    count: usize,
) -> Result<Tensor> {
    rounded_logits(architecture, tensors, (tokens, count), Rounding::Exact)
}

/// The same logits, every step rounded: what a plain net in that dtype makes of the sequence.
pub fn rounded_logits<S: BuildHasher>(
    architecture: &Architecture,
    tensors: &HashMap<String, Tensor, S>,
    sequence: (&[u32], usize),
    rounding: Rounding,
) -> Result<Tensor> {
    let get = |name: &str| match tensors.get(name) {
        Some(tensor) => tensor.to_dtype(DType::F32),
        None => candle_core::bail!("the weights have no tensor {name:?}"),
    };
    logits_of(architecture, &get, sequence, rounding)
}

/// The same on weights of a GGUF file, whose blocks are turned into f32 while they are used.
pub fn quantised_logits<S: BuildHasher>(
    architecture: &Architecture,
    tensors: &HashMap<String, Tensor, S>,
    blocks: &HashMap<String, Arc<QTensor>, S>,
    tokens: &[u32],
    count: usize,
) -> Result<Tensor> {
    let get = |name: &str| {
        let tensor = match (blocks.get(name), tensors.get(name)) {
            (Some(blocks), _) => blocks.dequantize(&blocks.device())?,
            (None, Some(tensor)) => tensor.to_dtype(DType::F32)?,
            (None, None) => candle_core::bail!("the weights have no tensor {name:?}"),
        };
        let heads = match name.rsplit('.').nth(1) {
            Some("q_proj") => architecture.heads,
            Some("k_proj") => architecture.key_value_heads,
            _ => return Ok(tensor),
        };
        // The file has the two halves of a head row by row in turn; here they stand one after the
        // other, as the published checkpoints have them.
        let (rows, width) = tensor.dims2()?;
        let pairs = tensor.reshape((heads, rows / heads / 2, 2, width))?;
        pairs.transpose(1, 2)?.reshape((rows, width))
    };
    logits_of(architecture, &get, (tokens, count), Rounding::Exact)
}

fn logits_of(
    architecture: &Architecture,
    get: &dyn Fn(&str) -> Result<Tensor>,
    (tokens, count): (&[u32], usize),
    rounding: Rounding,
) -> Result<Tensor> {
    let keep = |x: Tensor| rounding.keep(x);
    let norm = |x: &Tensor, name: &str| {
        let square = x.sqr()?.mean_keepdim(D::Minus1)?;
        let root = (square + f64::from(architecture.norm_epsilon))?.sqrt()?;
        let normal = keep(x.broadcast_div(&root)?)?;
        keep(normal.broadcast_mul(&get(&format!("{name}.weight"))?)?)
    };
    let product = |x: &Tensor, name: &str| keep(x.matmul(&get(&format!("{name}.weight"))?.t()?)?);
    let embedding = get("model.embed_tokens.weight")?;
    let ids = Tensor::new(tokens, embedding.device())?;
    let mut x = embedding.index_select(&ids, 0)?;
    for layer in 0..architecture.layers {
        let layer = format!("model.layers.{layer}");
        let normal = norm(&x, &format!("{layer}.input_layernorm"))?;
        let part = |name: &str| product(&normal, &format!("{layer}.self_attn.{name}_proj"));
        let mixed = attention(architecture, &[part("q")?, part("k")?, part("v")?], rounding)?;
        x = keep((x + product(&mixed, &format!("{layer}.self_attn.o_proj"))?)?)?;
        let normal = norm(&x, &format!("{layer}.post_attention_layernorm"))?;
        let gate = product(&normal, &format!("{layer}.mlp.gate_proj"))?;
        // x / (1 + exp(-x))
        let gate = keep((&gate / (gate.neg()?.exp()? + 1.0)?)?)?;
        let hidden = keep((gate * product(&normal, &format!("{layer}.mlp.up_proj"))?)?)?;
        x = keep((x + product(&hidden, &format!("{layer}.mlp.down_proj"))?)?)?;
    }
    let last = norm(&x, "model.norm")?.narrow(0, tokens.len() - count, count)?.contiguous()?;
    let head = if architecture.tied { embedding } else { get("lm_head.weight")? };
    keep(last.matmul(&head.t()?)?)
}

/// Causal self-attention of a whole sequence: `q` is `[tokens, width]`, `k` and `v` are `[tokens,
/// key-value width]`.
fn attention(
    architecture: &Architecture,
    [q, k, v]: &[Tensor; 3],
    rounding: Rounding,
) -> Result<Tensor> {
    let (tokens, width) = (q.dim(0)?, architecture.head_width());
    let sharing = architecture.heads / architecture.key_value_heads;
    let above = upper_triangle(tokens, q.device())?;
    let head = |index: usize| {
        let part = |of: &Tensor, head: usize| of.narrow(1, head * width, width)?.contiguous();
        let q = rounding.keep(rotate(architecture, &part(q, index)?)?)?;
        let k = rounding.keep(rotate(architecture, &part(k, index / sharing)?)?)?;
        let scores = rounding.keep((q.matmul(&k.t()?)? / (width as f64).sqrt())?)?;
        let scores = (scores + &above)?;
        let powers = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        let weights = rounding.keep(powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?)?;
        rounding.keep(weights.matmul(&part(v, index / sharing)?)?)
    };
    let heads: Vec<Tensor> = (0..architecture.heads).map(head).collect::<Result<_>>()?;
    Tensor::cat(&heads, 1)
}

/// Turns each pair of a head, `(i, i + d/2)`, by its position times its frequency: `[tokens, d]`.
fn rotate(architecture: &Architecture, x: &Tensor) -> Result<Tensor> {
    let (tokens, width) = x.dims2()?;
    let frequencies = inverse_frequencies(architecture);
    let angles: Vec<f32> = (0..tokens)
        .flat_map(|at| frequencies.iter().map(move |frequency| at as f32 * *frequency as f32))
        .collect();
    let angles = Tensor::from_vec(angles, (tokens, width / 2), x.device())?;
    let (cos, sin) = (angles.cos()?, angles.sin()?);
    let half = |at: usize| x.narrow(1, at * width / 2, width / 2);
    let (a, b) = (half(0)?, half(1)?);
    let left = ((&a * &cos)? - (&b * &sin)?)?;
    let right = ((&b * &cos)? + (&a * &sin)?)?;
    Tensor::cat(&[left, right], 1)
}
