//! GPT-2 once more, for checking: one sequence at a time, no cache, every step in f32 from candle's
//! plainest ops, one head after the other. Slow, and meant to share nothing with the measured net but
//! the weights.

use std::collections::HashMap;
use std::hash::BuildHasher;

use candle_core::{D, DType, Result, Tensor};

use super::mask::upper_triangle;
use super::rounding::Rounding;
use crate::gpt2::{Architecture, LAYER_NORM_EPSILON};

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
    (tokens, count): (&[u32], usize),
    rounding: Rounding,
) -> Result<Tensor> {
    let keep = |x: Tensor| rounding.keep(x);
    let get = |name: &str| match tensors.get(name) {
        Some(tensor) => tensor.to_dtype(DType::F32),
        None => candle_core::bail!("the weights have no tensor {name:?}"),
    };
    let norm = |x: &Tensor, name: &str| {
        let x = normalise(x)?
            .broadcast_mul(&get(&format!("{name}.weight"))?)?
            .broadcast_add(&get(&format!("{name}.bias"))?)?;
        keep(x)
    };
    let product = |x: &Tensor, name: &str| {
        let product = keep(x.matmul(&get(&format!("{name}.weight"))?)?)?;
        keep(product.broadcast_add(&get(&format!("{name}.bias"))?)?)
    };
    let wte = get("wte.weight")?;
    let ids = Tensor::new(tokens, wte.device())?;
    let positions = get("wpe.weight")?.narrow(0, 0, tokens.len())?;
    let mut x = keep((wte.index_select(&ids, 0)? + positions)?)?;
    for layer in 0..architecture.layers {
        let qkv =
            product(&norm(&x, &format!("h.{layer}.ln_1"))?, &format!("h.{layer}.attn.c_attn"))?;
        let mixed = attention(&qkv, architecture.heads, rounding)?;
        x = keep((x + product(&mixed, &format!("h.{layer}.attn.c_proj"))?)?)?;
        let hidden =
            product(&norm(&x, &format!("h.{layer}.ln_2"))?, &format!("h.{layer}.mlp.c_fc"))?;
        let hidden = keep(gelu(&hidden)?)?;
        x = keep((x + product(&hidden, &format!("h.{layer}.mlp.c_proj"))?)?)?;
    }
    let last = norm(&x, "ln_f")?.narrow(0, tokens.len() - count, count)?.contiguous()?;
    keep(last.matmul(&wte.t()?)?)
}

fn normalise(x: &Tensor) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + f64::from(LAYER_NORM_EPSILON))?.sqrt()?)
}

/// Causal self-attention of a whole sequence from `[tokens, 3 · width]`.
fn attention(qkv: &Tensor, heads: usize, rounding: Rounding) -> Result<Tensor> {
    let (tokens, columns) = qkv.dims2()?;
    let head_width = columns / 3 / heads;
    let above = upper_triangle(tokens, qkv.device())?;
    let head = |index: usize| {
        let part = |which: usize| {
            let start = (which * heads + index) * head_width;
            qkv.narrow(1, start, head_width)?.contiguous()
        };
        let scores = (part(0)?.matmul(&part(1)?.t()?)? / (head_width as f64).sqrt())?;
        let scores = rounding.keep(scores)?;
        let scores = scores.add(&above)?;
        let powers = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        let weights = rounding.keep(powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?)?;
        rounding.keep(weights.matmul(&part(2)?)?)
    };
    let heads: Vec<Tensor> = (0..heads).map(head).collect::<Result<_>>()?;
    Tensor::cat(&heads, 1)
}

/// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`
fn gelu(x: &Tensor) -> Result<Tensor> {
    let inner = ((x + (x.powf(3.0)? * 0.044_715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
    (x * 0.5)? * (inner.tanh()? + 1.0)?
}
