//! Decoders of text once more, for checking: one sequence at a time, no cache, every step in f32 from candle's
//! plainest ops, one head after the other. Slow, and meant to share nothing with the measured net but the
//! weights, their names and the numbers of the architecture.

mod positions;

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{D, DType, Result, Tensor};

use super::rounding::Rounding;
use crate::decoder::{Activation, Architecture, Norm, Pairing};
use positions::{mask, rotate};

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
    let plain = Plain { architecture, get: &get, rounding, gain: one_more(architecture) };
    plain.logits(sequence)
}

/// The same on weights of a GGUF file, whose blocks are turned into f32 while they are used. One is added to
/// Gemma's gains already.
pub fn quantised_logits<S: BuildHasher>(
    architecture: &Architecture,
    tensors: &HashMap<String, Tensor, S>,
    blocks: &HashMap<String, Arc<QTensor>, S>,
    pairing: Pairing,
    sequence: (&[u32], usize),
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
        if pairing == Pairing::Halves || tensor.rank() != 2 {
            return Ok(tensor);
        }
        // The file has the two halves of a head row by row in turn; here they stand one after the
        // other, as the published checkpoints have them.
        let (rows, width) = tensor.dims2()?;
        let pairs = tensor.reshape((heads, rows / heads / 2, 2, width))?;
        pairs.transpose(1, 2)?.reshape((rows, width))
    };
    Plain { architecture, get: &get, rounding: Rounding::Exact, gain: 0.0 }.logits(sequence)
}

/// What is added to a gain.
fn one_more(architecture: &Architecture) -> f64 {
    if architecture.norm == Norm::RmsOne { 1.0 } else { 0.0 }
}

struct Plain<'a> {
    architecture: &'a Architecture,
    get: &'a dyn Fn(&str) -> Result<Tensor>,
    rounding: Rounding,
    gain: f64,
}

impl Plain<'_> {
    fn keep(&self, x: Tensor) -> Result<Tensor> {
        self.rounding.keep(x)
    }

    fn logits(&self, (tokens, count): (&[u32], usize)) -> Result<Tensor> {
        let (a, names) = (self.architecture, self.architecture.names());
        let embedding = (self.get)(&a.embedding_name())?;
        let ids = Tensor::new(tokens, embedding.device())?;
        let mut x = embedding.index_select(&ids, 0)?;
        // The scale is rounded as everything is.
        let scale = Tensor::new(a.embedding_scale as f32, embedding.device())?;
        x = self.keep(x.broadcast_mul(&self.keep(scale)?)?)?;
        if a.rope.is_none() {
            let table = (self.get)(&format!("{}.weight", names.positions))?;
            x = self.keep((x + table.narrow(0, names.position_offset, tokens.len())?)?)?;
        }
        for layer in 0..a.layers {
            x = self.block(layer, x)?;
        }
        let last = self.norm(&x, names.last_norm)?;
        let last = last.narrow(0, tokens.len() - count, count)?.contiguous()?;
        let head = if a.tied { embedding } else { (self.get)(&format!("{}.weight", names.head))? };
        let logits = self.keep((self.keep(last.matmul(&head.t()?)?)? / a.logit_divisor)?)?;
        match a.logit_cap {
            Some(cap) => self.keep(((logits / cap)?.tanh()? * cap)?),
            None => Ok(logits),
        }
    }

    fn block(&self, layer: usize, x: Tensor) -> Result<Tensor> {
        let (a, names) = (self.architecture, self.architecture.names());
        let name = |part: &str| names.in_layer(layer, part);
        let add = |x: Tensor, y: Tensor, after: &str| {
            let y = if a.norms_after { self.norm(&y, &name(after))? } else { y };
            self.keep((x + self.keep((y * a.residual_scale)?)?)?)
        };
        let mixed = self.attention(layer, &self.norm(&x, &name(names.attention_norm))?)?;
        let x = add(x, mixed, names.attention_after)?;
        let normal = self.norm(&x, &name(names.mlp_norm))?;
        let hidden = match a.experts {
            None => self.feed_forward(&normal, &names.layer(layer))?,
            Some(_) => self.mixture(&normal, layer)?,
        };
        add(x, hidden, names.mlp_after)
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let gain = ((self.get)(&format!("{name}.weight"))? + self.gain)?;
        let epsilon = f64::from(self.architecture.norm_epsilon);
        if self.architecture.norm == Norm::Layer {
            let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
            let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
            let normal = centred.broadcast_div(&(variance + epsilon)?.sqrt()?)?;
            let bias = (self.get)(&format!("{name}.bias"))?;
            return self.keep(normal.broadcast_mul(&gain)?.broadcast_add(&bias)?);
        }
        let root = (x.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?;
        let normal = self.keep(x.broadcast_div(&root)?)?;
        self.keep(normal.broadcast_mul(&gain)?)
    }

    /// `x` times a weight, and the bias where it has one.
    fn product(&self, x: &Tensor, name: &str, bias: bool) -> Result<Tensor> {
        let weight = (self.get)(&format!("{name}.weight"))?;
        let weight = if self.architecture.names().transposed { weight } else { weight.t()? };
        let product = self.keep(x.matmul(&weight)?)?;
        if !bias {
            return Ok(product);
        }
        self.keep(product.broadcast_add(&(self.get)(&format!("{name}.bias"))?)?)
    }

    /// Causal self-attention of a whole sequence, `[tokens, width]`.
    fn attention(&self, layer: usize, x: &Tensor) -> Result<Tensor> {
        let (a, names) = (self.architecture, self.architecture.names());
        let name = |part: &str| names.in_layer(layer, part);
        let (queries, shared) = (a.heads * a.head_width, a.key_value_heads * a.head_width);
        let (q, k, v) = if let Some(together) = names.qkv {
            let all = self.product(x, &name(together), a.biases.qkv)?;
            let part = |first, width| all.narrow(1, first, width);
            (part(0, queries)?, part(queries, shared)?, part(queries + shared, shared)?)
        } else {
            let part = |part: &str| self.product(x, &name(part), a.biases.qkv);
            (part(names.query)?, part(names.key)?, part(names.value)?)
        };
        let window = if a.is_windowed(layer) { a.window } else { None };
        let hidden = mask(x.dim(0)?, window, x.device())?;
        let part = |of: &Tensor, head: usize| {
            of.narrow(1, head * a.head_width, a.head_width)?.contiguous()
        };
        let place = |x: Tensor, norm: &str| -> Result<Tensor> {
            let x = if a.qk_norm { self.norm(&x, &name(norm))? } else { x };
            self.keep(rotate(a, layer, &x)?)
        };
        let head = |index: usize| {
            let own = index / (a.heads / a.key_value_heads);
            let q = place(part(&q, index)?, names.query_norm)?;
            let k = place(part(&k, own)?, names.key_norm)?;
            let mut scores = self.keep((q.matmul(&k.t()?)? * a.attention_scale)?)?;
            if let Some(cap) = a.attention_cap {
                scores = self.keep(((scores / cap)?.tanh()? * cap)?)?;
            }
            let scores = (scores + &hidden)?;
            let powers = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
            let weights = self.keep(powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?)?;
            self.keep(weights.matmul(&part(&v, own)?)?)
        };
        let heads: Vec<Tensor> = (0..a.heads).map(head).collect::<Result<_>>()?;
        self.product(&Tensor::cat(&heads, 1)?, &name(names.output), a.biases.output)
    }

    /// The feed-forward layer whose names begin so.
    fn feed_forward(&self, x: &Tensor, prefix: &str) -> Result<Tensor> {
        let (a, names) = (self.architecture, self.architecture.names());
        let product =
            |x: &Tensor, part: &str| self.product(x, &format!("{prefix}.{part}"), a.biases.mlp);
        let hidden = match names.gate_up {
            Some(both) => {
                let both = product(x, both)?;
                let gate = self.keep(activate(a.activation, &both.narrow(1, 0, a.hidden)?)?)?;
                self.keep((gate * both.narrow(1, a.hidden, a.hidden)?)?)?
            }
            None if a.gated => {
                let gate = self.keep(activate(a.activation, &product(x, names.gate)?)?)?;
                self.keep((gate * product(x, names.up)?)?)?
            }
            None => self.keep(activate(a.activation, &product(x, names.up)?)?)?,
        };
        product(&hidden, names.down)
    }

    /// Every expert for the tokens that choose it, the others weighed with nothing.
    fn mixture(&self, x: &Tensor, layer: usize) -> Result<Tensor> {
        let (a, names) = (self.architecture, self.architecture.names());
        let Some(experts) = a.experts else { candle_core::bail!("it has no experts") };
        let scores = self.product(x, &names.in_layer(layer, names.router), false)?;
        let scores: Vec<Vec<f32>> = scores.to_vec2()?;
        let mut sum = x.zeros_like()?;
        let weights: Vec<Vec<f32>> = scores
            .iter()
            .map(|scores| chosen(scores, experts.per_token, experts.normalised))
            .collect();
        for expert in 0..experts.count {
            let column: Vec<f32> = weights.iter().map(|row| row[expert]).collect();
            if column.iter().all(|weight| *weight <= 0.0) {
                continue;
            }
            let tokens = column.len();
            let column = self.keep(Tensor::from_vec(column, (tokens, 1), x.device())?)?;
            let of_expert = self.feed_forward(x, &names.expert(layer, expert))?;
            sum = self.keep((sum + self.keep(of_expert.broadcast_mul(&column)?)?)?)?;
        }
        Ok(sum)
    }
}

/// The weights of a token's experts: those of the largest scores by their softmax over all, the others 0.
fn chosen(scores: &[f32], count: usize, normalised: bool) -> Vec<f32> {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = scores.iter().map(|score| (score - largest).exp()).collect();
    let above = |at: usize| {
        let before = |(other, score): (usize, &f32)| {
            let order = score.total_cmp(&scores[at]);
            order.is_gt() || order.is_eq() && other < at
        };
        scores.iter().enumerate().filter(|pair| before(*pair)).count()
    };
    let kept: Vec<bool> = (0..scores.len()).map(|at| above(at) < count).collect();
    let total: f32 = if normalised {
        powers.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(power, _)| power).sum()
    } else {
        powers.iter().sum()
    };
    powers.iter().zip(kept).map(|(power, kept)| if kept { power / total } else { 0.0 }).collect()
}

fn activate(activation: Activation, x: &Tensor) -> Result<Tensor> {
    match activation {
        Activation::Relu => x.maximum(0.0),
        // x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))
        Activation::GeluTanh => {
            let inner = ((x + (x.powf(3.0)? * 0.044_715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
            (x * 0.5)? * (inner.tanh()? + 1.0)?
        }
        // x/2 · (1 + erf(x/√2))
        Activation::Gelu => (x * 0.5)? * ((x / std::f64::consts::SQRT_2)?.erf()? + 1.0)?,
        // x / (1 + exp(-x))
        Activation::Silu => x / (x.neg()?.exp()? + 1.0)?,
    }
}
