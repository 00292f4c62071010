//! Llama (Touvron et al. 2023; Dubey et al. 2024) on candle's ops: pre-norm blocks with RMS norms, rotary
//! positions, grouped heads that share their keys and values, a gated feed-forward layer, and a key-value
//! cache of fixed size that is written in place.
//!
//! Nothing here copies to the host or waits for the device. In f16 and bf16 the activations are kept
//! in that type; norms, attention weights and sums run in f32.

mod architecture;
mod rotary;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::ops::rms_norm;
use candle_nn::rotary_emb::rope;

pub use architecture::{Architecture, RopeScaling};
pub use rotary::inverse_frequencies;

use super::causal::{attention, causal_mask, multiply, multiply_each};
use super::kv_cache::{Cache, Extents, Place, append};
use super::{NetError, cpu_ops};
use rotary::Rotary;

struct Block {
    input_norm: Tensor,
    /// `[in, out]` views of what is stored as `[out, in]`, as all products here.
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    post_attention_norm: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
}

/// The net, its weights loaded in one dtype on one device.
pub struct Llama {
    architecture: Architecture,
    /// Positions that rotations and the mask are there for.
    positions: usize,
    embedding: Tensor,
    blocks: Vec<Block>,
    norm: Tensor,
    head: Tensor,
    rotary: Rotary,
    /// 0 on and below the diagonal, -inf above, `[positions, positions]` in f32.
    mask: Tensor,
}

impl Llama {
    /// Builds the net on its weights, which are shared and not copied, for sequences of up to `positions`
    /// tokens: rotations and the mask take memory that grows with them.
    pub fn new(
        architecture: &Architecture,
        positions: usize,
        tensors: &HashMap<String, Tensor>,
    ) -> Result<Self, NetError> {
        let limit = architecture.context;
        if positions > limit {
            let what = "the model";
            return Err(NetError::TooLong { tokens: positions, length: 0, what, limit });
        }
        for (name, expected) in architecture.tensors() {
            let tensor = tensors.get(&name).ok_or_else(|| NetError::Missing(name.clone()))?;
            if tensor.dims() != expected {
                return Err(NetError::Shape { name, found: tensor.dims().to_vec(), expected });
            }
        }
        let get = |name: &str| {
            tensors.get(name).cloned().ok_or_else(|| NetError::Missing(name.to_owned()))
        };
        let product = |name: String| -> Result<Tensor, NetError> { Ok(get(&name)?.t()?) };
        let block = |layer: usize| -> Result<Block, NetError> {
            let layer = format!("model.layers.{layer}");
            Ok(Block {
                input_norm: get(&format!("{layer}.input_layernorm.weight"))?,
                query: product(format!("{layer}.self_attn.q_proj.weight"))?,
                key: product(format!("{layer}.self_attn.k_proj.weight"))?,
                value: product(format!("{layer}.self_attn.v_proj.weight"))?,
                output: product(format!("{layer}.self_attn.o_proj.weight"))?,
                post_attention_norm: get(&format!("{layer}.post_attention_layernorm.weight"))?,
                gate: product(format!("{layer}.mlp.gate_proj.weight"))?,
                up: product(format!("{layer}.mlp.up_proj.weight"))?,
                down: product(format!("{layer}.mlp.down_proj.weight"))?,
            })
        };
        let embedding = get("model.embed_tokens.weight")?;
        let head = if architecture.tied { embedding.t()? } else { get("lm_head.weight")?.t()? };
        Ok(Self {
            positions,
            blocks: (0..architecture.layers).map(block).collect::<Result<_, _>>()?,
            norm: get("model.norm.weight")?,
            head,
            rotary: Rotary::new(architecture, positions, embedding.dtype(), embedding.device())?,
            mask: causal_mask(positions, embedding.device())?,
            embedding,
            architecture: architecture.clone(),
        })
    }

    /// Its numbers.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The type of weights and activations.
    pub fn dtype(&self) -> DType {
        self.embedding.dtype()
    }

    /// Where it is.
    pub fn device(&self) -> &Device {
        self.embedding.device()
    }

    /// An empty cache for `batch` sequences of up to `capacity` tokens.
    pub fn cache(&self, batch: usize, capacity: usize) -> Result<Cache, NetError> {
        let limit = self.positions;
        if capacity > limit {
            let what = "the net";
            return Err(NetError::TooLong { tokens: capacity, length: 0, what, limit });
        }
        let extents = Extents {
            layers: self.architecture.layers,
            batch,
            heads: self.architecture.key_value_heads,
            capacity,
            head_width: self.architecture.head_width(),
        };
        Ok(Cache::new(extents, self.dtype(), self.device())?)
    }

    /// Reads prompts, `[batch, tokens]` of u32, behind what the cache holds. Returns the logits that
    /// follow the last position, `[batch, vocab]`.
    pub fn prefill(&self, tokens: &Tensor, cache: &mut Cache) -> Result<Tensor, NetError> {
        let (batch, count) = tokens.dims2()?;
        cache.check(batch, count)?;
        let place = Place::Together { length: cache.len() };
        let logits = self.pass(tokens, cache, &place)?;
        cache.advance(count);
        Ok(logits)
    }

    /// Reads one token of each sequence, `[batch]` of u32. Returns the logits that follow, `[batch,
    /// vocab]`.
    pub fn decode(&self, tokens: &Tensor, cache: &mut Cache) -> Result<Tensor, NetError> {
        self.prefill(&tokens.unsqueeze(1)?, cache)
    }

    /// Reads one token of each of the first sequences of the cache, `[sequences]` of u32, each behind a
    /// number of positions of its own. Returns the logits that follow, `[sequences, vocab]`. Whoever
    /// calls it keeps count of the lengths; the cache's own stays.
    pub fn decode_apart(
        &self,
        tokens: &Tensor,
        lengths: &[usize],
        cache: &Cache,
    ) -> Result<Tensor, NetError> {
        cache.check_apart(lengths)?;
        let place = Place::apart(lengths, self.device())?;
        Ok(self.pass(&tokens.unsqueeze(1)?, cache, &place)?)
    }

    fn pass(&self, tokens: &Tensor, cache: &Cache, place: &Place) -> candle_core::Result<Tensor> {
        let (batch, count) = tokens.dims2()?;
        let embedded = self.embedding.embedding(&tokens.flatten_all()?)?;
        let mut x = embedded.reshape((batch, count, self.architecture.width))?;
        let rotation = self.rotary.at(place, count)?;
        for (block, buffers) in self.blocks.iter().zip(cache.layers()) {
            let normal = self.normalise(&x, &block.input_norm)?;
            x = (x + self.attention(block, &normal, buffers, place, &rotation)?)?;
            x = (&x + feed_forward(block, &self.normalise(&x, &block.post_attention_norm)?)?)?;
        }
        let last = x.narrow(1, count - 1, 1)?.reshape((batch, self.architecture.width))?;
        multiply(&self.normalise(&last.contiguous()?, &self.norm)?, &self.head)
    }

    fn normalise(&self, x: &Tensor, weight: &Tensor) -> candle_core::Result<Tensor> {
        rms_norm(x, weight, self.architecture.norm_epsilon)
    }

    /// Attention of the positions of `x`, `[batch, tokens, width]`, over themselves and the positions in
    /// the buffers, to which their keys and values are added.
    fn attention(
        &self,
        block: &Block,
        x: &Tensor,
        buffers: &(Tensor, Tensor),
        place: &Place,
        (cos, sin): &(Tensor, Tensor),
    ) -> candle_core::Result<Tensor> {
        let (batch, count, _) = x.dims3()?;
        let width = self.architecture.head_width();
        let part = |weight: &Tensor, heads: usize| {
            let part = multiply_each(x, weight)?.reshape((batch, count, heads, width))?;
            part.transpose(1, 2)?.contiguous()
        };
        let (heads, shared) = (self.architecture.heads, self.architecture.key_value_heads);
        let q = rope(&part(&block.query, heads)?, cos, sin)?;
        let k = rope(&part(&block.key, shared)?, cos, sin)?;
        let (k, v) = append(buffers, (&k, &part(&block.value, shared)?), place)?;
        let q = (q * (1.0 / (width as f64).sqrt()))?;
        let mixed = attention(&q, &k, &v, place, &self.mask)?;
        multiply_each(&mixed.transpose(1, 2)?.reshape((batch, count, ()))?, &block.output)
    }
}

fn feed_forward(block: &Block, x: &Tensor) -> candle_core::Result<Tensor> {
    let (gate, up) = (multiply_each(x, &block.gate)?, multiply_each(x, &block.up)?);
    let hidden =
        if x.device().is_cpu() { cpu_ops::swiglu(&gate, &up)? } else { (gate.silu()? * up)? };
    multiply_each(&hidden, &block.down)
}
