//! The text half of CLIP (Radford et al. 2021), as `OpenAI` and `OpenCLIP` trained it.

use candle_core::Tensor;

use super::architecture::{TextNumbers, TextOutput};
use super::layers::{LayerNorm, Linear};
use crate::NetError;
use crate::Weights;
use crate::ops::{add, causal_whole};

struct Layer {
    norm1: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

/// A text encoder, its weights in one dtype on one device.
pub struct TextEncoder {
    numbers: TextNumbers,
    tokens: Tensor,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
    pooling: Option<Linear>,
    /// 0 on and below the diagonal, -inf above, in f32.
    mask: Tensor,
}

/// What a text encoder says of a batch of texts.
pub struct EncodedText {
    /// `[b, positions, width]`.
    pub states: Tensor,
    /// `[b, pooled width]`, where the encoder has one.
    pub pooled: Option<Tensor>,
}

impl TextEncoder {
    /// Builds the encoder on its weights, which are shared and not copied.
    pub fn new(numbers: &TextNumbers, weights: &Weights<'_>) -> Result<Self, NetError> {
        let TextNumbers { vocabulary, positions, width, heads, .. } = *numbers;
        if heads == 0 || !width.is_multiple_of(heads) {
            let reason = format!("{heads} attention heads do not divide a width of {width}");
            return Err(NetError::Candle(candle_core::Error::Msg(reason)));
        }
        let text = weights.at("text_model");
        let embeddings = text.at("embeddings");
        let tokens = embeddings.get("token_embedding.weight", &[vocabulary, width])?;
        let layer = |index| Layer::new(numbers, &text.at(&format!("encoder.layers.{index}")));
        let pooling = numbers
            .pooled_width
            .map(|pooled| Linear::without_bias([width, pooled], &weights.at("text_projection")));
        Ok(Self {
            mask: crate::causal::causal_mask(positions, tokens.device())?,
            tokens,
            positions: embeddings.get("position_embedding.weight", &[positions, width])?,
            layers: (0..numbers.layers).map(layer).collect::<Result<_, _>>()?,
            norm: LayerNorm::new(width, &text.at("final_layer_norm"))?,
            pooling: pooling.transpose()?,
            numbers: numbers.clone(),
        })
    }

    /// Encodes texts, `[b, positions]` of u32; `ends` is where each one's first end token stands.
    pub fn encode(&self, tokens: &Tensor, ends: &Tensor) -> Result<EncodedText, NetError> {
        let (batch, count) = tokens.dims2()?;
        if count > self.numbers.positions {
            let (what, limit) = ("the text encoder", self.numbers.positions);
            return Err(NetError::TooLong { tokens: count, length: 0, what, limit });
        }
        let embedded = self.tokens.embedding(&tokens.flatten_all()?)?;
        let mut x = embedded
            .reshape((batch, count, self.numbers.width))?
            .broadcast_add(&self.positions.narrow(0, 0, count)?)?;
        let mask = self.mask.narrow(0, 0, count)?.narrow(1, 0, count)?;
        let mut fed_to_last = x.clone();
        let penultimate = self.numbers.output == TextOutput::Penultimate;
        // Nobody reads the last layer of an encoder whose text is what that layer is fed.
        let needed = self.layers.len() - usize::from(penultimate && self.pooling.is_none());
        for layer in &self.layers[..needed] {
            fed_to_last = x.clone();
            x = layer.apply(&x, &mask, &self.numbers)?;
        }
        if needed < self.layers.len() {
            return Ok(EncodedText { states: x, pooled: None });
        }
        let normalised = self.norm.apply(&x)?;
        let pooled = match &self.pooling {
            Some(pooling) => {
                let index = ends.reshape((batch, 1, 1))?.repeat((1, 1, self.numbers.width))?;
                Some(pooling.apply(&normalised.gather(&index, 1)?.squeeze(1)?)?)
            }
            None => None,
        };
        let states = if penultimate { fed_to_last } else { normalised };
        Ok(EncodedText { states, pooled })
    }
}

impl Layer {
    fn new(numbers: &TextNumbers, weights: &Weights<'_>) -> Result<Self, NetError> {
        let TextNumbers { width, hidden, .. } = *numbers;
        let square = |name: &str| Linear::new([width, width], &weights.at(name));
        Ok(Self {
            norm1: LayerNorm::new(width, &weights.at("layer_norm1"))?,
            q: square("self_attn.q_proj")?,
            k: square("self_attn.k_proj")?,
            v: square("self_attn.v_proj")?,
            out: square("self_attn.out_proj")?,
            norm2: LayerNorm::new(width, &weights.at("layer_norm2"))?,
            fc1: Linear::new([width, hidden], &weights.at("mlp.fc1"))?,
            fc2: Linear::new([hidden, width], &weights.at("mlp.fc2"))?,
        })
    }

    fn apply(
        &self,
        x: &Tensor,
        mask: &Tensor,
        numbers: &TextNumbers,
    ) -> candle_core::Result<Tensor> {
        let x = add(x, self.attention(&self.norm1.apply(x)?, mask, numbers.heads)?)?;
        let hidden = self.fc1.activated(&self.norm2.apply(&x)?, numbers.activation)?;
        add(&x, self.fc2.apply(&hidden)?)
    }

    fn attention(&self, x: &Tensor, mask: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
        let (q, k, v) = (self.q.apply(x)?, self.k.apply(x)?, self.v.apply(x)?);
        self.out.apply(&causal_whole(&q, &k, &v, mask, heads)?)
    }
}
