//! GPT-2 (Radford et al. 2019) on candle's ops: pre-norm blocks, learned positions, the tied head, a
//! key-value cache of fixed size that is written in place, prefill and decode apart.
//!
//! Nothing here copies to the host or waits for the device. In f16 and bf16 the activations are kept
//! in that type; layer norms, attention weights and sums run in f32.

mod architecture;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::ops::layer_norm;

pub use architecture::Architecture;

use super::NetError;
use super::causal::causal_mask;
use super::kv_cache::{Cache, Extents, Positions, append};
use super::ops::{Biased, activate, add, add_bias, causal_over_cache, linear, multiply};

/// Added to the variance in every layer norm; the same in all published sizes.
pub const LAYER_NORM_EPSILON: f32 = 1e-5;

struct Linear {
    /// `[in, out]`, as stored.
    weight: Tensor,
    /// `[out]`.
    bias: Tensor,
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
}

struct Block {
    ln_1: Norm,
    c_attn: Linear,
    attn_c_proj: Linear,
    ln_2: Norm,
    c_fc: Linear,
    mlp_c_proj: Linear,
}

/// The net, its weights loaded in one dtype on one device.
pub struct Gpt2 {
    architecture: Architecture,
    wte: Tensor,
    /// The head: `wte` as a `[width, vocab]` view, nothing copied.
    head: Tensor,
    wpe: Tensor,
    blocks: Vec<Block>,
    ln_f: Norm,
    /// 0 on and below the diagonal, -inf above, `[context, context]` in f32.
    mask: Tensor,
}

impl Gpt2 {
    /// Builds the net on its weights, which are shared and not copied.
    pub fn new(
        architecture: Architecture,
        tensors: &HashMap<String, Tensor>,
    ) -> Result<Self, NetError> {
        for (name, expected) in architecture.tensors() {
            let tensor = tensors.get(&name).ok_or_else(|| NetError::Missing(name.clone()))?;
            if tensor.dims() != expected {
                return Err(NetError::Shape { name, found: tensor.dims().to_vec(), expected });
            }
        }
        let get = |name: &str| {
            tensors.get(name).cloned().ok_or_else(|| NetError::Missing(name.to_owned()))
        };
        let norm = |name: &str| -> Result<Norm, NetError> {
            Ok(Norm {
                weight: get(&format!("{name}.weight"))?,
                bias: get(&format!("{name}.bias"))?,
            })
        };
        let linear = |name: &str| -> Result<Linear, NetError> {
            Ok(Linear {
                weight: get(&format!("{name}.weight"))?,
                bias: get(&format!("{name}.bias"))?,
            })
        };
        let block = |layer: usize| -> Result<Block, NetError> {
            Ok(Block {
                ln_1: norm(&format!("h.{layer}.ln_1"))?,
                c_attn: linear(&format!("h.{layer}.attn.c_attn"))?,
                attn_c_proj: linear(&format!("h.{layer}.attn.c_proj"))?,
                ln_2: norm(&format!("h.{layer}.ln_2"))?,
                c_fc: linear(&format!("h.{layer}.mlp.c_fc"))?,
                mlp_c_proj: linear(&format!("h.{layer}.mlp.c_proj"))?,
            })
        };
        let wte = get("wte.weight")?;
        Ok(Self {
            architecture,
            head: wte.t()?,
            mask: causal_mask(architecture.context, wte.device())?,
            wte,
            wpe: get("wpe.weight")?,
            blocks: (0..architecture.layers).map(block).collect::<Result<_, _>>()?,
            ln_f: norm("ln_f")?,
        })
    }

    /// Its numbers.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The type of weights and activations.
    pub fn dtype(&self) -> DType {
        self.wte.dtype()
    }

    /// Where it is.
    pub fn device(&self) -> &Device {
        self.wte.device()
    }

    /// An empty cache for `batch` sequences of up to `capacity` tokens.
    pub fn cache(&self, batch: usize, capacity: usize) -> Result<Cache, NetError> {
        let limit = self.architecture.context;
        if capacity > limit {
            let what = "the model";
            return Err(NetError::TooLong { tokens: capacity, length: 0, what, limit });
        }
        let extents = Extents {
            layers: self.architecture.layers,
            batch,
            heads: self.architecture.heads,
            capacity,
            head_width: self.architecture.head_width(),
        };
        Ok(Cache::new(extents, self.dtype(), self.device())?)
    }

    /// Reads prompts, `[batch, tokens]` of u32, after what the cache holds. Returns the logits that
    /// follow the last position, `[batch, vocab]`.
    pub fn prefill(&self, tokens: &Tensor, cache: &mut Cache) -> Result<Tensor, NetError> {
        let (batch, count) = tokens.dims2()?;
        cache.check(batch, count)?;
        let positions = Positions::Uniform { length: cache.len() };
        let logits = self.pass(tokens, cache, &positions)?;
        cache.advance(count);
        Ok(logits)
    }

    /// Reads one token of each sequence, `[batch]` of u32. Returns the logits that follow, `[batch,
    /// vocab]`.
    pub fn decode(&self, tokens: &Tensor, cache: &mut Cache) -> Result<Tensor, NetError> {
        self.prefill(&tokens.unsqueeze(1)?, cache)
    }

    /// Reads one token of each of the first sequences of the cache, `[sequences]` of u32, each after a
    /// number of positions of its own. Returns the logits that follow, `[sequences, vocab]`. Whoever
    /// calls it keeps count of the lengths; the cache's own stays.
    pub fn decode_apart(
        &self,
        tokens: &Tensor,
        lengths: &[usize],
        cache: &Cache,
    ) -> Result<Tensor, NetError> {
        cache.check_apart(lengths)?;
        let positions = Positions::ragged(lengths, self.device())?;
        Ok(self.pass(&tokens.unsqueeze(1)?, cache, &positions)?)
    }

    /// The same where the device alone knows the positions, `[sequences]` of u32, each below the cache's capacity:
    /// nothing of the pass depends on a number of the host's, so that it can be captured once and replayed.
    pub fn decode_on_device(
        &self,
        tokens: &Tensor,
        positions: &Tensor,
        cache: &Cache,
    ) -> Result<Tensor, NetError> {
        cache.check_on_device(positions)?;
        let positions = Positions::on_device(positions, cache.capacity())?;
        Ok(self.pass(&tokens.unsqueeze(1)?, cache, &positions)?)
    }

    fn pass(
        &self,
        tokens: &Tensor,
        cache: &Cache,
        positions: &Positions,
    ) -> candle_core::Result<Tensor> {
        let (batch, count) = tokens.dims2()?;
        let width = self.architecture.width;
        let embedded = self.wte.embedding(&tokens.flatten_all()?)?;
        let embedded = embedded.reshape((batch, count, width))?;
        let mut x = match positions {
            Positions::Uniform { length } => {
                embedded.broadcast_add(&self.wpe.narrow(0, *length, count)?)?
            }
            Positions::Ragged(ragged) => {
                (embedded + self.wpe.index_select(&ragged.positions, 0)?.unsqueeze(1)?)?
            }
        };
        for (block, buffers) in self.blocks.iter().zip(cache.layers()) {
            x = self.block(block, &x, buffers, positions)?;
        }
        let last = x.narrow(1, count - 1, 1)?.reshape((batch, width))?;
        multiply(&self.ln_f.apply(&last.contiguous()?)?, &self.head)
    }

    fn block(
        &self,
        block: &Block,
        x: &Tensor,
        buffers: &(Tensor, Tensor),
        positions: &Positions,
    ) -> candle_core::Result<Tensor> {
        let mixed = self.attention(block, &block.ln_1.apply(x)?, buffers, positions)?;
        let x = add(x, mixed)?;
        let hidden = block.c_fc.gelu(&block.ln_2.apply(&x)?)?;
        add(&x, block.mlp_c_proj.apply(&hidden)?)
    }

    /// Attention of the positions of `x`, `[batch, tokens, width]`, over themselves and the positions in
    /// the buffers, to which their keys and values are added.
    fn attention(
        &self,
        block: &Block,
        x: &Tensor,
        buffers: &(Tensor, Tensor),
        positions: &Positions,
    ) -> candle_core::Result<Tensor> {
        let (batch, count, width) = x.dims3()?;
        let heads = self.architecture.heads;
        let qkv = block.c_attn.apply(x)?.reshape((batch, count, 3, heads, width / heads))?;
        let part =
            |index: usize| qkv.narrow(2, index, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
        let (k, v) = append(buffers, (&part(1)?, &part(2)?), positions)?;
        // A power of two for every published size, so that scaling first is exact in half precision.
        let q = (part(0)? * (1.0 / ((width / heads) as f64).sqrt()))?;
        let mixed = causal_over_cache(&q, &k, &v, positions, &self.mask)?;
        block.attn_c_proj.apply(&mixed.transpose(1, 2)?.reshape((batch, count, width))?)
    }
}

impl Norm {
    fn apply(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        layer_norm(x, &self.weight, &self.bias, LAYER_NORM_EPSILON)
    }
}

impl Linear {
    fn apply(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        add_bias(self.multiply(x)?, &self.bias)
    }

    fn gelu(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        activate(&self.multiply(x)?, &self.bias, Biased::GeluTanh)
    }

    fn multiply(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        linear(x, &self.weight)
    }
}
