//! Llama (Touvron et al. 2023; Dubey et al. 2024) on candle's ops: pre-norm blocks with RMS norms, rotary
//! positions, grouped heads that share their keys and values, a gated feed-forward layer, and a key-value
//! cache of fixed size that is written in place.
//!
//! Nothing here copies to the host or waits for the device. In f16 and bf16 the activations are kept
//! in that type; norms, attention weights and sums run in f32.

mod architecture;
mod rotary;

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Tensor};
use candle_nn::ops::rms_norm;
use candle_nn::rotary_emb::{rope, rope_i};

pub use architecture::{Architecture, RopeScaling};
pub use rotary::inverse_frequencies;

use super::NetError;
use super::causal::causal_mask;
use super::kv_cache::{Cache, Extents, Positions, append};
use super::matrix::{Matrix, Table};
use super::ops::{add, causal_over_cache, swiglu};
use rotary::Rotary;

struct Block {
    input_norm: Tensor,
    query: Matrix,
    key: Matrix,
    value: Matrix,
    output: Matrix,
    post_attention_norm: Tensor,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

/// Weights by name, some of which may be blocks.
struct Stored<'a> {
    plain: &'a HashMap<String, Tensor>,
    blocks: &'a HashMap<String, Arc<QTensor>>,
}

impl Stored<'_> {
    fn shape(&self, name: &str) -> Result<&[usize], NetError> {
        match self.blocks.get(name) {
            Some(blocks) => Ok(blocks.shape().dims()),
            None => self.plain.get(name).map(Tensor::dims).ok_or_else(|| missing(name)),
        }
    }

    fn plain(&self, name: &str) -> Result<Tensor, NetError> {
        self.plain.get(name).cloned().ok_or_else(|| missing(name))
    }

    fn matrix(&self, name: &str) -> Result<Matrix, NetError> {
        match self.blocks.get(name) {
            Some(blocks) => Ok(Matrix::blocks(blocks)?),
            None => Ok(Matrix::plain(&self.plain(name)?)?),
        }
    }

    fn table(&self, name: &str) -> Result<Table, NetError> {
        match self.blocks.get(name) {
            Some(blocks) => Ok(Table::Blocks(Arc::clone(blocks))),
            None => Ok(Table::Plain(self.plain(name)?)),
        }
    }
}

fn missing(name: &str) -> NetError {
    NetError::Missing(name.to_owned())
}

/// The net, its weights loaded in one dtype on one device.
pub struct Llama {
    architecture: Architecture,
    /// Positions that rotations and the mask are there for.
    positions: usize,
    embedding: Table,
    blocks: Vec<Block>,
    norm: Tensor,
    head: Matrix,
    rotary: Rotary,
    /// Which numbers of a head turn against each other.
    rope: fn(&Tensor, &Tensor, &Tensor) -> candle_core::Result<Tensor>,
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
        let stored = Stored { plain: tensors, blocks: &HashMap::new() };
        Self::build(architecture, positions, &stored, rope)
    }

    /// The same on weights of a GGUF file: those that are `blocks` are multiplied as they are, and
    /// everything else, activations included, is f32. GGUF files keep the rows of queries and keys in
    /// another order than the published checkpoints: what turns against each other stands side by side.
    pub fn quantised(
        architecture: &Architecture,
        positions: usize,
        tensors: &HashMap<String, Tensor>,
        blocks: &HashMap<String, Arc<QTensor>>,
    ) -> Result<Self, NetError> {
        Self::build(architecture, positions, &Stored { plain: tensors, blocks }, rope_i)
    }

    fn build(
        architecture: &Architecture,
        positions: usize,
        stored: &Stored<'_>,
        rope: fn(&Tensor, &Tensor, &Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Self, NetError> {
        let limit = architecture.context;
        if positions > limit {
            let what = "the model";
            return Err(NetError::TooLong { tokens: positions, length: 0, what, limit });
        }
        for (name, expected) in architecture.tensors() {
            let found = stored.shape(&name)?;
            if found != expected {
                return Err(NetError::Shape { name, found: found.to_vec(), expected });
            }
        }
        let product = |name: String| stored.matrix(&name);
        let block = |layer: usize| -> Result<Block, NetError> {
            let layer = format!("model.layers.{layer}");
            Ok(Block {
                input_norm: stored.plain(&format!("{layer}.input_layernorm.weight"))?,
                query: product(format!("{layer}.self_attn.q_proj.weight"))?,
                key: product(format!("{layer}.self_attn.k_proj.weight"))?,
                value: product(format!("{layer}.self_attn.v_proj.weight"))?,
                output: product(format!("{layer}.self_attn.o_proj.weight"))?,
                post_attention_norm: stored
                    .plain(&format!("{layer}.post_attention_layernorm.weight"))?,
                gate: product(format!("{layer}.mlp.gate_proj.weight"))?,
                up: product(format!("{layer}.mlp.up_proj.weight"))?,
                down: product(format!("{layer}.mlp.down_proj.weight"))?,
            })
        };
        let embedding = "model.embed_tokens.weight";
        let norm = stored.plain("model.norm.weight")?;
        Ok(Self {
            positions,
            blocks: (0..architecture.layers).map(block).collect::<Result<_, _>>()?,
            head: stored.matrix(if architecture.tied { embedding } else { "lm_head.weight" })?,
            rotary: Rotary::new(architecture, positions, norm.dtype(), norm.device())?,
            rope,
            mask: causal_mask(positions, norm.device())?,
            embedding: stored.table(embedding)?,
            norm,
            architecture: architecture.clone(),
        })
    }

    /// Its numbers.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The type of activations, and of weights that are not quantised.
    pub fn dtype(&self) -> DType {
        self.norm.dtype()
    }

    /// Where it is.
    pub fn device(&self) -> &Device {
        self.norm.device()
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
        let embedded = self.embedding.rows(&tokens.flatten_all()?)?;
        let mut x = embedded.reshape((batch, count, self.architecture.width))?;
        let rotation = self.rotary.at(positions, count)?;
        for (block, buffers) in self.blocks.iter().zip(cache.layers()) {
            let normal = self.normalise(&x, &block.input_norm)?;
            x = add(&x, self.attention(block, &normal, buffers, positions, &rotation)?)?;
            let normal = self.normalise(&x, &block.post_attention_norm)?;
            x = add(&x, feed_forward(block, &normal)?)?;
        }
        let last = x.narrow(1, count - 1, 1)?.reshape((batch, self.architecture.width))?;
        self.head.multiply(&self.normalise(&last.contiguous()?, &self.norm)?)
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
        positions: &Positions,
        (cos, sin): &(Tensor, Tensor),
    ) -> candle_core::Result<Tensor> {
        let (batch, count, _) = x.dims3()?;
        let width = self.architecture.head_width();
        let part = |weight: &Matrix, heads: usize| {
            let part = weight.linear(x)?.reshape((batch, count, heads, width))?;
            part.transpose(1, 2)?.contiguous()
        };
        let (heads, shared) = (self.architecture.heads, self.architecture.key_value_heads);
        let q = (self.rope)(&part(&block.query, heads)?, cos, sin)?;
        let k = (self.rope)(&part(&block.key, shared)?, cos, sin)?;
        let (k, v) = append(buffers, (&k, &part(&block.value, shared)?), positions)?;
        let q = (q * (1.0 / (width as f64).sqrt()))?;
        let mixed = causal_over_cache(&q, &k, &v, positions, &self.mask)?;
        block.output.linear(&mixed.transpose(1, 2)?.reshape((batch, count, ()))?)
    }
}

fn feed_forward(block: &Block, x: &Tensor) -> candle_core::Result<Tensor> {
    let (gate, up) = (block.gate.linear(x)?, block.up.linear(x)?);
    block.down.linear(&swiglu(&gate, &up)?)
}
