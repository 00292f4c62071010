//! Residual layers and transformers over images.

use candle_core::{Result, Tensor};

use super::layers::{Convolution, FeedForward, GroupNorm, LayerNorm, Linear};
use crate::NetError;
use crate::Weights;
use crate::ops::{add, transpose, whole};

type Built<T> = std::result::Result<T, NetError>;

/// A residual layer, with the time added where the net has one.
pub(super) struct Residual {
    norm1: GroupNorm,
    conv1: Convolution,
    time: Option<Linear>,
    norm2: GroupNorm,
    conv2: Convolution,
    /// Where the channels change.
    shortcut: Option<Convolution>,
}

/// What residual layers of one net share.
#[derive(Clone, Copy)]
pub(super) struct Norms {
    pub(super) groups: usize,
    pub(super) epsilon: f32,
    /// Width of the time embedding.
    pub(super) time: Option<usize>,
}

impl Residual {
    pub(super) fn new(
        [channels, outputs]: [usize; 2],
        norms: Norms,
        weights: &Weights<'_>,
    ) -> Built<Self> {
        let Norms { groups, epsilon, time } = norms;
        let time = time.map(|width| Linear::new([width, outputs], &weights.at("time_emb_proj")));
        let shortcut = (channels != outputs)
            .then(|| Convolution::new([channels, outputs, 1], 1, &weights.at("conv_shortcut")));
        Ok(Self {
            norm1: GroupNorm::new(channels, groups, epsilon, &weights.at("norm1"))?,
            conv1: Convolution::new([channels, outputs, 3], 1, &weights.at("conv1"))?,
            time: time.transpose()?,
            norm2: GroupNorm::new(outputs, groups, epsilon, &weights.at("norm2"))?,
            conv2: Convolution::new([outputs, outputs, 3], 1, &weights.at("conv2"))?,
            shortcut: shortcut.transpose()?,
        })
    }

    /// `time` is after its SiLU, `[b or 1, width]`.
    pub(super) fn apply(&self, x: &Tensor, time: Option<&Tensor>) -> Result<Tensor> {
        let normal = self.norm1.silu(x)?;
        let y = match (&self.time, time) {
            (Some(product), Some(time)) => self.conv1.shifted(&normal, &product.apply(time)?)?,
            _ => self.conv1.apply(&normal)?,
        };
        let y = self.conv2.apply(&self.norm2.silu(&y)?)?;
        match &self.shortcut {
            Some(shortcut) => add(&shortcut.apply(x)?, y),
            None => add(x, y),
        }
    }
}

/// Attention with its products: over the positions themselves or over a text.
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: usize,
}

impl Attention {
    fn new([width, text]: [usize; 2], heads: usize, weights: &Weights<'_>) -> Built<Self> {
        Ok(Self {
            q: Linear::without_bias([width, width], &weights.at("to_q"))?,
            k: Linear::without_bias([text, width], &weights.at("to_k"))?,
            v: Linear::without_bias([text, width], &weights.at("to_v"))?,
            out: Linear::new([width, width], &weights.at("to_out.0"))?,
            heads,
        })
    }

    fn apply(&self, x: &Tensor, text: &Tensor) -> Result<Tensor> {
        let (k, v) = (self.k.apply(text)?, self.v.apply(text)?);
        self.out.apply(&whole(&self.q.apply(x)?, &k, &v, self.heads)?)
    }
}

struct Block {
    norm1: LayerNorm,
    own: Attention,
    norm2: LayerNorm,
    text: Attention,
    norm3: LayerNorm,
    feed_forward: FeedForward,
}

impl Block {
    fn new([width, text]: [usize; 2], heads: usize, weights: &Weights<'_>) -> Built<Self> {
        Ok(Self {
            norm1: LayerNorm::new(width, &weights.at("norm1"))?,
            own: Attention::new([width, width], heads, &weights.at("attn1"))?,
            norm2: LayerNorm::new(width, &weights.at("norm2"))?,
            text: Attention::new([width, text], heads, &weights.at("attn2"))?,
            norm3: LayerNorm::new(width, &weights.at("norm3"))?,
            feed_forward: FeedForward::new(width, &weights.at("ff"))?,
        })
    }

    fn apply(&self, x: &Tensor, text: &Tensor) -> Result<Tensor> {
        let own = self.norm1.apply(x)?;
        let x = add(x, self.own.apply(&own, &own)?)?;
        let x = add(&x, self.text.apply(&self.norm2.apply(&x)?, text)?)?;
        add(&x, self.feed_forward.apply(&self.norm3.apply(&x)?)?)
    }
}

/// Added to the variance in the norm before a transformer.
const TRANSFORMER_EPSILON: f32 = 1e-6;

/// A transformer over the pixels of an image, which also attends to a text.
pub(super) struct Transformer {
    norm: GroupNorm,
    first: Linear,
    blocks: Vec<Block>,
    last: Linear,
}

/// What makes a transformer.
#[derive(Clone, Copy)]
pub(super) struct TransformerNumbers {
    pub(super) width: usize,
    pub(super) blocks: usize,
    pub(super) heads: usize,
    pub(super) text: usize,
    pub(super) groups: usize,
    pub(super) linear: bool,
}

impl Transformer {
    pub(super) fn new(numbers: TransformerNumbers, weights: &Weights<'_>) -> Built<Self> {
        let TransformerNumbers { width, heads, text, groups, linear, .. } = numbers;
        if heads == 0 || !width.is_multiple_of(heads) {
            let reason = format!("{heads} attention heads do not divide {width} channels");
            return Err(NetError::Candle(candle_core::Error::Msg(reason)));
        }
        let projection = |name: &str| -> Built<Linear> {
            let weights = weights.at(name);
            if linear {
                return Linear::new([width, width], &weights);
            }
            Ok(Convolution::new([width, width, 1], 1, &weights)?.into_linear()?)
        };
        let block = |index| {
            Block::new([width, text], heads, &weights.at(&format!("transformer_blocks.{index}")))
        };
        Ok(Self {
            norm: GroupNorm::new(width, groups, TRANSFORMER_EPSILON, &weights.at("norm"))?,
            first: projection("proj_in")?,
            blocks: (0..numbers.blocks).map(block).collect::<Built<_>>()?,
            last: projection("proj_out")?,
        })
    }

    /// `x` is `[b, c, h, w]`, `text` `[b, tokens, width]`.
    pub(super) fn apply(&self, x: &Tensor, text: &Tensor) -> Result<Tensor> {
        let mut pixels = self.first.apply(&to_pixels(&self.norm.apply(x)?)?)?;
        for block in &self.blocks {
            pixels = block.apply(&pixels, text)?;
        }
        add(x, to_image(&self.last.apply(&pixels)?, x)?)
    }
}

/// Attention of one head over the pixels of an image, with a norm before it: the decoder's.
pub(super) struct PixelAttention {
    norm: GroupNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl PixelAttention {
    pub(super) fn new(width: usize, norms: Norms, weights: &Weights<'_>) -> Built<Self> {
        let linear = |name: &str| Linear::new([width, width], &weights.at(name));
        let Norms { groups, epsilon, .. } = norms;
        Ok(Self {
            norm: GroupNorm::new(width, groups, epsilon, &weights.at("group_norm"))?,
            q: linear("to_q")?,
            k: linear("to_k")?,
            v: linear("to_v")?,
            out: linear("to_out.0")?,
        })
    }

    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let pixels = to_pixels(&self.norm.apply(x)?)?;
        let (q, k, v) = (self.q.apply(&pixels)?, self.k.apply(&pixels)?, self.v.apply(&pixels)?);
        add(x, to_image(&self.out.apply(&whole(&q, &k, &v, 1)?)?, x)?)
    }
}

/// `[b, c, h, w]` to `[b, h·w, c]`.
fn to_pixels(x: &Tensor) -> Result<Tensor> {
    transpose(&x.flatten_from(2)?)
}

/// `[b, h·w, c]` to the shape of an image.
fn to_image(pixels: &Tensor, image: &Tensor) -> Result<Tensor> {
    transpose(pixels)?.reshape(image.shape())
}
