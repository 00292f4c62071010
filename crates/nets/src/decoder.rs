//! Decoders of text on candle's ops: one net whose architecture says what it computes. Residual blocks of
//! attention and feed-forward layers, learned or rotary positions, heads that share keys and values, windows,
//! mixtures of experts; and a key-value cache of fixed size that is written in place.
//!
//! Nothing here copies to the host or waits for the device, but for which experts a token passes. In f16 and
//! bf16 the activations are kept in that type; norms, attention weights and sums run in f32.

mod architecture;
mod attention;
mod experts;
mod layers;
pub(crate) mod names;
mod rope;
mod rotary;
mod variant;

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Tensor};

pub use architecture::{Activation, Architecture, Biases, Experts, Norm};
pub use rope::{Rope, RopeScaling, yarn_scale};
pub use rotary::Pairing;
pub use variant::{Invalid, Numbers, Variant};

use super::NetError;
use super::kv_cache::{Cache, Extents, Positions};
use super::matrix::{Matrix, Table};
use super::ops::add;
use attention::{Attention, Masks, PassMasks};
use experts::Mixture;
use layers::{Linear, Mlp, NormLayer, Projections, Stored};
use rotary::{Rotary, Rotation};

struct Block {
    attention_norm: NormLayer,
    attention: Attention,
    attention_after: Option<NormLayer>,
    mlp_norm: NormLayer,
    feed_forward: FeedForward,
    mlp_after: Option<NormLayer>,
}

enum FeedForward {
    One(Mlp),
    Mixture(Mixture),
}

/// The net, its weights loaded in one dtype on one device.
pub struct Decoder {
    architecture: Architecture,
    /// Positions that rotations and masks are there for.
    positions: usize,
    embedding: Table,
    /// The table of learned positions.
    learned: Option<Tensor>,
    blocks: Vec<Block>,
    norm: NormLayer,
    head: Matrix,
    rotary: Option<Rotary>,
    /// That of layers with a window, where it is another one.
    local_rotary: Option<Rotary>,
    masks: Masks,
}

impl Decoder {
    /// Builds the net on its weights, which are shared and not copied, for sequences of up to `positions`
    /// tokens: rotations and masks take memory that grows with them.
    pub fn new(
        architecture: &Architecture,
        positions: usize,
        tensors: &HashMap<String, Tensor>,
    ) -> Result<Self, NetError> {
        let stored = Stored { plain: tensors, blocks: &HashMap::new() };
        Self::build(architecture, positions, &stored, Source::Published)
    }

    /// The same on weights of a GGUF file: those that are `blocks` are multiplied as they are, and
    /// everything else, activations included, is f32. `pairing` says how the file keeps the rows of queries
    /// and keys. One is added to Gemma's gains already.
    pub fn quantised(
        architecture: &Architecture,
        positions: usize,
        tensors: &HashMap<String, Tensor>,
        blocks: &HashMap<String, Arc<QTensor>>,
        pairing: Pairing,
    ) -> Result<Self, NetError> {
        let stored = Stored { plain: tensors, blocks };
        Self::build(architecture, positions, &stored, Source::Gguf(pairing))
    }

    fn build(
        architecture: &Architecture,
        positions: usize,
        stored: &Stored<'_>,
        source: Source,
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
        let names = architecture.names();
        let builder = Builder { architecture, stored, source };
        let blocks = (0..architecture.layers).map(|layer| builder.block(layer));
        let norm = builder.norm(names.last_norm)?;
        let (dtype, device) = (norm.gain.dtype(), norm.gain.device().clone());
        let embedding = architecture.embedding_name();
        let head = format!("{}.weight", names.head);
        let learned = || -> Result<Tensor, NetError> {
            let table = stored.plain(&format!("{}.weight", names.positions))?;
            Ok(table.narrow(0, names.position_offset, architecture.context)?)
        };
        let rotary = |rope: Rope| Rotary::new(&rope, source.pairing(), positions, (dtype, &device));
        let local = architecture.rope.zip(architecture.local_theta);
        let local = local.map(|(rope, theta)| Rope { theta, scaling: None, ..rope });
        Ok(Self {
            positions,
            blocks: blocks.collect::<Result<_, _>>()?,
            head: stored.matrix(if architecture.tied { &embedding } else { &head })?,
            embedding: stored.table(&embedding)?,
            learned: if architecture.rope.is_none() { Some(learned()?) } else { None },
            rotary: architecture.rope.map(rotary).transpose()?,
            local_rotary: local.map(rotary).transpose()?,
            masks: Masks::new(architecture, positions, &device)?,
            norm,
            architecture: architecture.clone(),
        })
    }

    /// What it computes.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The type of activations, and of weights that are not quantised.
    pub fn dtype(&self) -> DType {
        self.norm.gain.dtype()
    }

    /// Where it is.
    pub fn device(&self) -> &Device {
        self.norm.gain.device()
    }

    /// An empty cache for `batch` sequences of up to `capacity` tokens.
    pub fn cache(&self, batch: usize, capacity: usize) -> Result<Cache, NetError> {
        let limit = self.positions;
        if capacity > limit {
            let what = if limit == self.architecture.context { "the model" } else { "the net" };
            return Err(NetError::TooLong { tokens: capacity, length: 0, what, limit });
        }
        let extents = Extents {
            layers: self.architecture.layers,
            batch,
            heads: self.architecture.key_value_heads,
            capacity,
            head_width: self.architecture.head_width,
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
        let positions = Positions::ragged(lengths, cache)?;
        Ok(self.pass(&tokens.unsqueeze(1)?, cache, &positions)?)
    }

    /// The same where the device alone knows the positions, `[sequences]` of u32, each below the cache's capacity:
    /// nothing of the pass depends on a number of the host's, so that it can be captured once and replayed.
    ///
    /// A mixture of experts cannot: which products are launched depends on what the host reads.
    pub fn decode_on_device(
        &self,
        tokens: &Tensor,
        positions: &Tensor,
        cache: &Cache,
    ) -> Result<Tensor, NetError> {
        cache.check_on_device(positions)?;
        let positions = Positions::on_device(positions, cache)?;
        Ok(self.pass(&tokens.unsqueeze(1)?, cache, &positions)?)
    }

    /// What a row has to say of attention with masks of its own; `None` where it has none.
    pub fn masked_note(&self) -> Option<String> {
        let what = match (self.architecture.attention_cap, self.masks.is_windowed()) {
            (Some(_), _) => "capped scores",
            (None, true) => {
                "windows, where more than one position is new or sequences differ in length"
            }
            (None, false) => return None,
        };
        Some(format!("attention with {what} takes several launches, and its scores lie in memory"))
    }

    fn pass(
        &self,
        tokens: &Tensor,
        cache: &Cache,
        positions: &Positions,
    ) -> candle_core::Result<Tensor> {
        let (batch, count) = tokens.dims2()?;
        let width = self.architecture.width;
        let mut x = self.embed(tokens, positions)?;
        let pass = Pass {
            positions,
            masks: self.masks.of_pass(positions, count)?,
            rotation: self.rotary.as_ref().map(|table| table.at(positions, count)).transpose()?,
            local: self
                .local_rotary
                .as_ref()
                .map(|table| table.at(positions, count))
                .transpose()?,
        };
        for (block, buffers) in self.blocks.iter().zip(cache.layers()) {
            x = self.block(block, &x, buffers, &pass)?;
        }
        let last = x.narrow(1, count - 1, 1)?.reshape((batch, width))?;
        let logits = self.head.multiply(&self.norm.apply(&last.contiguous()?)?)?;
        let logits = scaled(logits, 1.0 / self.architecture.logit_divisor)?;
        match self.architecture.logit_cap {
            Some(cap) => capped(&logits, cap),
            None => Ok(logits),
        }
    }

    fn embed(&self, tokens: &Tensor, positions: &Positions) -> candle_core::Result<Tensor> {
        let (batch, count) = tokens.dims2()?;
        let embedded = self.embedding.rows(&tokens.flatten_all()?)?;
        let embedded = embedded.reshape((batch, count, self.architecture.width))?;
        let embedded = scaled(embedded, self.architecture.embedding_scale)?;
        match (&self.learned, positions) {
            (None, _) => Ok(embedded),
            (Some(table), Positions::Uniform { length }) => {
                embedded.broadcast_add(&table.narrow(0, *length, count)?)
            }
            (Some(table), Positions::Ragged(ragged)) => {
                embedded + table.index_select(&ragged.positions, 0)?.unsqueeze(1)?
            }
        }
    }

    fn block(
        &self,
        block: &Block,
        x: &Tensor,
        buffers: &(Tensor, Tensor),
        pass: &Pass<'_>,
    ) -> candle_core::Result<Tensor> {
        let scale = self.architecture.residual_scale;
        let finish = |y: Tensor, norm: &Option<NormLayer>| -> candle_core::Result<Tensor> {
            let y = match norm {
                Some(norm) => norm.apply(&y)?,
                None => y,
            };
            scaled(y, scale)
        };
        let mixed = block.attention.apply(&block.attention_norm.apply(x)?, buffers, pass)?;
        let x = add(x, finish(mixed, &block.attention_after)?)?;
        let normal = block.mlp_norm.apply(&x)?;
        let hidden = match &block.feed_forward {
            FeedForward::One(mlp) => mlp.apply(&normal)?,
            FeedForward::Mixture(mixture) => mixture.apply(&normal)?,
        };
        add(&x, finish(hidden, &block.mlp_after)?)
    }
}

/// What the layers of a pass share.
struct Pass<'a> {
    positions: &'a Positions,
    masks: PassMasks,
    rotation: Option<Rotation>,
    local: Option<Rotation>,
}

/// Where weights come from, which decides how some are kept.
#[derive(Clone, Copy)]
enum Source {
    Published,
    Gguf(Pairing),
}

impl Source {
    fn pairing(self) -> Pairing {
        match self {
            Self::Published => Pairing::Halves,
            Self::Gguf(pairing) => pairing,
        }
    }
}

struct Builder<'a> {
    architecture: &'a Architecture,
    stored: &'a Stored<'a>,
    source: Source,
}

impl Builder<'_> {
    fn norm(&self, name: &str) -> Result<NormLayer, NetError> {
        let complete = matches!(self.source, Source::Gguf(_));
        self.stored.norm(self.architecture, (name, complete))
    }

    fn block(&self, layer: usize) -> Result<Block, NetError> {
        let Self { architecture, .. } = *self;
        let names = architecture.names();
        let norm = |name: &str| self.norm(&names.in_layer(layer, name));
        let after = |name: &str| architecture.norms_after.then(|| norm(name)).transpose();
        let own = |name: &str| architecture.qk_norm.then(|| norm(name)).transpose();
        let linears = |products: &[architecture::Product]| -> Result<Vec<Linear>, NetError> {
            products.iter().map(|product| self.stored.linear(architecture, product)).collect()
        };
        let mut attention = linears(&architecture.attention_products(layer))?;
        let wrong = || NetError::Missing(names.layer(layer));
        let output = attention.pop().ok_or_else(wrong)?;
        let projections = match <[Linear; 3]>::try_from(attention) {
            Ok(apart) => Projections::Apart(apart),
            Err(mut one) => Projections::Together(one.pop().ok_or_else(wrong)?),
        };
        Ok(Block {
            attention_norm: norm(names.attention_norm)?,
            attention: Attention {
                numbers: attention::Numbers::of(architecture, layer),
                projections,
                query_norm: own(names.query_norm)?,
                key_norm: own(names.key_norm)?,
                output,
            },
            attention_after: after(names.attention_after)?,
            mlp_norm: norm(names.mlp_norm)?,
            feed_forward: self
                .feed_forward(linears(&architecture.feed_forward_products(layer))?)
                .ok_or_else(wrong)?,
            mlp_after: after(names.mlp_after)?,
        })
    }

    fn feed_forward(&self, mut linears: Vec<Linear>) -> Option<FeedForward> {
        let Some(numbers) = self.architecture.experts else {
            return Mlp::of(self.architecture, linears).map(FeedForward::One);
        };
        let each = (linears.len() - 1) / numbers.count;
        let mut experts = Vec::with_capacity(numbers.count);
        for _ in 0..numbers.count {
            let own = linears.split_off(linears.len().checked_sub(each)?);
            experts.push(Mlp::of(self.architecture, own)?);
        }
        experts.reverse();
        let router = linears.pop()?;
        Some(FeedForward::Mixture(Mixture { router, experts, numbers }))
    }
}

/// `x · scale`; nothing is computed where it is 1.
fn scaled(x: Tensor, scale: f64) -> candle_core::Result<Tensor> {
    if (scale - 1.0).abs() < f64::EPSILON { Ok(x) } else { x * scale }
}

/// `cap · tanh(x / cap)`.
fn capped(x: &Tensor, cap: f64) -> candle_core::Result<Tensor> {
    let dtype = x.dtype();
    ((x.to_dtype(DType::F32)? / cap)?.tanh()? * cap)?.to_dtype(dtype)
}
