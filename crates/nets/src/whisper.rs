//! Whisper (Radford et al. 2022) on candle's ops: the encoder over whole windows of audio, the decoder
//! with a self-attention cache of fixed size that is written in place, and keys and values of the audio
//! computed once for all tokens and beams.
//!
//! Nothing here copies to the host or waits for the device but [`beam`], which chooses on the host. In
//! f16 and bf16 the activations are kept in that type; sums run in f32.

mod architecture;
pub mod beam;
mod cache;
mod layers;
pub mod mel;

use std::collections::HashMap;

use candle_core::{D, DType, Device, Tensor};

pub use architecture::Architecture;
pub use cache::{Cache, Cross};
pub(crate) use layers::LAYER_NORM_EPSILON;

use super::NetError;
use super::ops::{add, multiply};
use architecture::STRIDE;
use layers::{Attention, Convolution, FeedForward, Norm, Tensors, causal_mask};

struct Encoder {
    conv1: Convolution,
    conv2: Convolution,
    positions: Tensor,
    blocks: Vec<(Attention, FeedForward)>,
    norm: Norm,
}

struct Block {
    attention: Attention,
    across: Attention,
    feed_forward: FeedForward,
}

struct Decoder {
    embedding: Tensor,
    /// The head: `embedding` as a `[width, vocabulary]` view, nothing copied.
    head: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: Norm,
    mask: Tensor,
}

/// The net, its weights loaded in one dtype on one device.
pub struct Whisper {
    architecture: Architecture,
    encoder: Encoder,
    decoder: Decoder,
}

impl Whisper {
    /// Builds the net on its weights, which are shared; those of the two convolutions alone are copied.
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
        let tensors = Tensors(tensors);
        let heads = architecture.heads;
        let encoder_block = |layer: usize| -> Result<_, NetError> {
            let name = format!("model.encoder.layers.{layer}");
            let attention = tensors.attention(&format!("{name}.self_attn"), heads)?;
            Ok((attention, tensors.feed_forward(&name)?))
        };
        let decoder_block = |layer: usize| -> Result<_, NetError> {
            let name = format!("model.decoder.layers.{layer}");
            Ok(Block {
                attention: tensors.attention(&format!("{name}.self_attn"), heads)?,
                across: tensors.attention(&format!("{name}.encoder_attn"), heads)?,
                feed_forward: tensors.feed_forward(&name)?,
            })
        };
        let embedding = tensors.get("model.decoder.embed_tokens.weight")?;
        Ok(Self {
            encoder: Encoder {
                conv1: tensors.convolution("model.encoder.conv1")?,
                conv2: tensors.convolution("model.encoder.conv2")?,
                positions: tensors.get("model.encoder.embed_positions.weight")?,
                blocks: (0..architecture.encoder_layers)
                    .map(encoder_block)
                    .collect::<Result<_, _>>()?,
                norm: tensors.norm("model.encoder.layer_norm")?,
            },
            decoder: Decoder {
                head: embedding.t()?,
                mask: causal_mask(architecture.text_positions, embedding.device())?,
                embedding,
                positions: tensors.get("model.decoder.embed_positions.weight")?,
                blocks: (0..architecture.decoder_layers)
                    .map(decoder_block)
                    .collect::<Result<_, _>>()?,
                norm: tensors.norm("model.decoder.layer_norm")?,
            },
            architecture,
        })
    }

    /// Its numbers.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The type of weights and activations.
    pub fn dtype(&self) -> DType {
        self.decoder.embedding.dtype()
    }

    /// Where it is.
    pub fn device(&self) -> &Device {
        self.decoder.embedding.device()
    }

    /// Reads mel spectrograms, `[clips, mels, frames]` of f32. Returns `[clips, audio positions,
    /// width]`.
    pub fn encode(&self, mels: &Tensor) -> Result<Tensor, NetError> {
        let (_, bins, frames) = mels.dims3()?;
        let expected = (self.architecture.mels, self.architecture.frames());
        if (bins, frames) != expected {
            return Err(NetError::Mels { found: (bins, frames), expected });
        }
        let Encoder { conv1, conv2, positions, blocks, norm } = &self.encoder;
        let x = mels.to_dtype(self.dtype())?.transpose(1, 2)?.contiguous()?;
        let x = conv2.gelu(&conv1.gelu(&x, 1)?, STRIDE)?;
        let mut x = x.broadcast_add(positions)?;
        for (attention, feed_forward) in blocks {
            x = add(&x, attention.whole(&x)?)?;
            x = add(&x, feed_forward.apply(&x)?)?;
        }
        Ok(norm.apply(&x)?)
    }

    /// The keys and values of encoded clips for every block of the decoder.
    pub fn cross(&self, encoded: &Tensor) -> Result<Cross, NetError> {
        let blocks = self.decoder.blocks.iter();
        let layers = blocks.map(|block| block.across.keys_and_values(encoded));
        Ok(Cross { layers: layers.collect::<candle_core::Result<_>>()?, clips: encoded.dim(0)? })
    }

    /// An empty cache for `rows` transcripts of up to `capacity` tokens.
    pub fn cache(&self, rows: usize, capacity: usize) -> Result<Cache, NetError> {
        let limit = self.architecture.text_positions;
        if capacity > limit {
            let what = "the decoder";
            return Err(NetError::TooLong { tokens: capacity, length: 0, what, limit });
        }
        let shape = (rows, self.architecture.heads, capacity, self.architecture.head_width());
        let buffer = || Tensor::zeros(shape, self.dtype(), self.device());
        let layers = (0..self.architecture.decoder_layers).map(|_| Ok((buffer()?, buffer()?)));
        let layers = layers.collect::<Result<_, NetError>>()?;
        Ok(Cache { layers, rows, capacity, length: 0 })
    }

    /// Reads tokens, `[rows, count]` of u32, after those that the cache holds; the rows of one clip lie
    /// beside each other. Returns the logits that follow the last one, `[rows, vocabulary]`.
    pub fn read(
        &self,
        tokens: &Tensor,
        cache: &mut Cache,
        cross: &Cross,
    ) -> Result<Tensor, NetError> {
        let (rows, count) = tokens.dims2()?;
        if rows != cache.rows {
            return Err(NetError::Batch { tokens: rows, cache: cache.rows });
        }
        if cross.clips == 0 || rows % cross.clips != 0 {
            return Err(NetError::Batch { tokens: rows, cache: cross.clips });
        }
        let (length, limit) = (cache.length, cache.capacity);
        if length + count > limit {
            return Err(NetError::TooLong { tokens: count, length, what: "the cache", limit });
        }
        let Decoder { embedding, head, positions, blocks, norm, mask } = &self.decoder;
        let width = self.architecture.width;
        let embedded = embedding.embedding(&tokens.flatten_all()?)?;
        let mut x = embedded
            .reshape((rows, count, width))?
            .broadcast_add(&positions.narrow(0, length, count)?)?;
        for ((block, own), audio) in blocks.iter().zip(&cache.layers).zip(&cross.layers) {
            x = add(&x, block.attention.cached(&x, own, length, mask)?)?;
            x = add(&x, block.across.across(&x, audio)?)?;
            x = add(&x, block.feed_forward.apply(&x)?)?;
        }
        cache.length += count;
        let last = x.narrow(1, count - 1, 1)?.reshape((rows, width))?;
        Ok(multiply(&norm.apply(&last.contiguous()?)?, head)?)
    }
}

/// The most likely next token of each row, `[rows]` of u32, left on the device.
pub fn argmax(logits: &Tensor) -> Result<Tensor, NetError> {
    Ok(logits.argmax(D::Minus1)?)
}
