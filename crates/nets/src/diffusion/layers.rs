//! The layers that all parts are made of.

use candle_core::{D, Result, Tensor};
use candle_nn::ops::{layer_norm, sigmoid, softmax_last_dim};

use super::Weights;
use super::architecture::Activation;
use crate::NetError;
use crate::dense::{add_bias, multiply_each};
use warpmark_cpu_ops as cpu_ops;
use warpmark_cpu_ops::Sight;

/// A convolution with a square kernel.
pub(super) struct Convolution {
    weight: Tensor,
    bias: Tensor,
    stride: usize,
    padding: usize,
}

impl Convolution {
    /// `[outputs, channels, kernel, kernel]`; odd kernels are padded so that the size stays.
    pub(super) fn new(
        [channels, outputs, kernel]: [usize; 3],
        stride: usize,
        weights: &Weights<'_>,
    ) -> std::result::Result<Self, NetError> {
        Ok(Self {
            weight: weights.get("weight", &[outputs, channels, kernel, kernel])?,
            bias: weights.get("bias", &[outputs])?,
            stride,
            padding: kernel / 2,
        })
    }

    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.apply_biased(x, &self.bias.unsqueeze(0)?)
    }

    /// With `shift`, `[b or 1, outputs]`, added to the outputs.
    pub(super) fn shifted(&self, x: &Tensor, shift: &Tensor) -> Result<Tensor> {
        self.apply_biased(x, &shift.broadcast_add(&self.bias)?)
    }

    /// `bias` is `[b or 1, outputs]`.
    fn apply_biased(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        if x.device().is_cpu() {
            return cpu_ops::conv2d(x, &self.weight, bias, self.stride, self.padding);
        }
        let y = x.conv2d(&self.weight, self.padding, self.stride, 1, 1)?;
        y.broadcast_add(&bias.unsqueeze(2)?.unsqueeze(3)?)
    }

    /// A kernel of one as a product over the last dimension.
    pub(super) fn into_product(self) -> Result<Product> {
        Ok(Product { weight: self.weight.squeeze(3)?.squeeze(2)?, bias: Some(self.bias) })
    }
}

/// `x · wᵀ + bias` over the last dimension.
pub(super) struct Product {
    /// `[outputs, inputs]`, as stored.
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Product {
    pub(super) fn new(
        [inputs, outputs]: [usize; 2],
        weights: &Weights<'_>,
    ) -> std::result::Result<Self, NetError> {
        let mut product = Self::without_bias([inputs, outputs], weights)?;
        product.bias = Some(weights.get("bias", &[outputs])?);
        Ok(product)
    }

    pub(super) fn without_bias(
        [inputs, outputs]: [usize; 2],
        weights: &Weights<'_>,
    ) -> std::result::Result<Self, NetError> {
        Ok(Self { weight: weights.get("weight", &[outputs, inputs])?, bias: None })
    }

    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.biased(self.multiply(x)?)
    }

    fn biased(&self, y: Tensor) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => add_bias(y, bias),
            None => Ok(y),
        }
    }

    /// As [`Product::apply`], with an activation of the sum.
    pub(super) fn activated(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let y = self.multiply(x)?;
        match (&self.bias, activation) {
            (Some(bias), Activation::QuickGelu) if x.device().is_cpu() => {
                cpu_ops::bias_quick_gelu(&y, bias)
            }
            (Some(bias), Activation::Gelu) if x.device().is_cpu() => {
                cpu_ops::bias_gelu_erf(&y, bias)
            }
            (_, Activation::QuickGelu) => {
                let y = self.biased(y)?;
                &y * sigmoid(&(&y * 1.702)?)?
            }
            (_, Activation::Gelu) => self.biased(y)?.gelu_erf(),
        }
    }

    /// The gated half of a feed-forward layer: `a · gelu(b)` of the two halves of the product.
    fn gated(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.multiply(x)?;
        let Some(bias) = &self.bias else { candle_core::bail!("a gate has a bias") };
        if x.device().is_cpu() {
            return cpu_ops::bias_geglu(&y, bias);
        }
        let y = y.broadcast_add(bias)?;
        let half = y.dim(D::Minus1)? / 2;
        y.narrow(D::Minus1, 0, half)? * y.narrow(D::Minus1, half, half)?.contiguous()?.gelu_erf()?
    }

    fn multiply(&self, x: &Tensor) -> Result<Tensor> {
        multiply_each(x, &self.weight.t()?)
    }
}

/// Group normalisation over channels.
pub(super) struct GroupNorm {
    gain: Tensor,
    bias: Tensor,
    groups: usize,
    epsilon: f32,
}

impl GroupNorm {
    pub(super) fn new(
        channels: usize,
        groups: usize,
        epsilon: f32,
        weights: &Weights<'_>,
    ) -> std::result::Result<Self, NetError> {
        let gain = weights.get("weight", &[channels])?;
        Ok(Self { gain, bias: weights.get("bias", &[channels])?, groups, epsilon })
    }

    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.normalise(x, false)
    }

    pub(super) fn silu(&self, x: &Tensor) -> Result<Tensor> {
        self.normalise(x, true)
    }

    fn normalise(&self, x: &Tensor, silu: bool) -> Result<Tensor> {
        if x.device().is_cpu() {
            let (gain, bias) = (&self.gain, &self.bias);
            return cpu_ops::group_norm(x, gain, bias, self.groups, self.epsilon, silu);
        }
        let (batch, channels, height, width) = x.dims4()?;
        // A group is a row: the layer norm's kernel takes its statistics in f32 in one pass.
        let rows = x.reshape((batch * self.groups, ()))?;
        let columns = rows.dim(1)?;
        let (one, zero) = (
            Tensor::ones(columns, x.dtype(), x.device())?,
            Tensor::zeros(columns, x.dtype(), x.device())?,
        );
        let y = layer_norm(&rows, &one, &zero, self.epsilon)?;
        let y = y
            .reshape((batch, channels, height, width))?
            .broadcast_mul(&self.gain.reshape((1, channels, 1, 1))?)?
            .broadcast_add(&self.bias.reshape((1, channels, 1, 1))?)?;
        if silu { y.silu() } else { Ok(y) }
    }
}

/// Layer normalisation.
pub(super) struct LayerNorm {
    gain: Tensor,
    bias: Tensor,
}

/// Added to the variance in every layer norm.
const LAYER_NORM_EPSILON: f32 = 1e-5;

impl LayerNorm {
    pub(super) fn new(width: usize, weights: &Weights<'_>) -> std::result::Result<Self, NetError> {
        Ok(Self { gain: weights.get("weight", &[width])?, bias: weights.get("bias", &[width])? })
    }

    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm(x, &self.gain, &self.bias, LAYER_NORM_EPSILON)
    }
}

/// A feed-forward layer with a gate.
pub(super) struct FeedForward {
    gate: Product,
    out: Product,
}

impl FeedForward {
    pub(super) fn new(width: usize, weights: &Weights<'_>) -> std::result::Result<Self, NetError> {
        Ok(Self {
            gate: Product::new([width, 8 * width], &weights.at("net.0.proj"))?,
            out: Product::new([4 * width, width], &weights.at("net.2"))?,
        })
    }

    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.out.apply(&self.gate.gated(x)?)
    }
}

/// Scores that are held at a time on a GPU, in bytes.
const SCORES: usize = 256 << 20;

/// Attention of every query over every key: `q` is `[b, n, h·d]`, `k` and `v` are `[b, t, h·d]`.
/// Returns `[b, n, h·d]`.
///
/// The queries are taken a block at a time, so that memory does not grow with the square of the image.
/// They are scaled before the product: in f16 the scores stay in range. The softmax sums in f32.
pub(super) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    if q.device().is_cpu() {
        return cpu_ops::whole_attention(q, k, v, heads, Sight::All);
    }
    let (batch, queries, width) = q.dims3()?;
    let split = |x: &Tensor| {
        let x = x.reshape((batch, (), heads, width / heads))?;
        x.transpose(1, 2)?.contiguous()
    };
    let q = (split(q)? * (1.0 / ((width / heads) as f64).sqrt()))?;
    let (k, v) = (split(k)?.t()?, split(v)?);
    let row = batch * heads * k.dim(D::Minus1)? * q.dtype().size_in_bytes();
    let block = (SCORES / row.max(1)).clamp(1, queries);
    let mut mixed = Vec::with_capacity(queries.div_ceil(block));
    for first in (0..queries).step_by(block) {
        let q = q.narrow(2, first, block.min(queries - first))?.contiguous()?;
        mixed.push(softmax_last_dim(&q.matmul(&k)?)?.matmul(&v)?);
    }
    let mixed = if mixed.len() == 1 { mixed.swap_remove(0) } else { Tensor::cat(&mixed, 2)? };
    mixed.transpose(1, 2)?.reshape((batch, queries, width))
}

/// Every pixel four times, `[b, c, h, w]` to `[b, c, 2h, 2w]`.
pub(super) fn double(x: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    if x.device().is_cpu() {
        return cpu_ops::upsample(x);
    }
    x.upsample_nearest2d(2 * height, 2 * width)
}
