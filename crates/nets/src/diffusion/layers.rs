//! The layers that all parts are made of.

use candle_core::{Result, Tensor};
use candle_nn::ops::layer_norm;

use super::architecture::Activation;
use crate::NetError;
use crate::Weights;
use crate::ops::{self, After, Biased, add_bias, linear};

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
        ops::conv2d(x, &self.weight, bias, (self.stride, self.padding), After::Nothing)
    }

    /// A kernel of one as a product over the last dimension.
    pub(super) fn into_linear(self) -> Result<Linear> {
        Ok(Linear { weight: self.weight.squeeze(3)?.squeeze(2)?, bias: Some(self.bias) })
    }
}

/// `x · wᵀ + bias` over the last dimension.
pub(super) struct Linear {
    /// `[outputs, inputs]`, as stored.
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
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

    /// As [`Linear::apply`], with an activation of the sum.
    pub(super) fn activated(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let y = self.multiply(x)?;
        let Some(bias) = &self.bias else { candle_core::bail!("an activation has a bias") };
        let activation = match activation {
            Activation::QuickGelu => Biased::QuickGelu,
            Activation::Gelu => Biased::GeluErf,
        };
        ops::activate(&y, bias, activation)
    }

    /// The gated half of a feed-forward layer: `a · gelu(b)` of the two halves of the product.
    fn gated(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.multiply(x)?;
        let Some(bias) = &self.bias else { candle_core::bail!("a gate has a bias") };
        ops::geglu(&y, bias)
    }

    fn multiply(&self, x: &Tensor) -> Result<Tensor> {
        linear(x, &self.weight.t()?)
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
        ops::group_norm(x, (&self.gain, &self.bias), (self.groups, self.epsilon), silu)
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
    gate: Linear,
    out: Linear,
}

impl FeedForward {
    pub(super) fn new(width: usize, weights: &Weights<'_>) -> std::result::Result<Self, NetError> {
        Ok(Self {
            gate: Linear::new([width, 8 * width], &weights.at("net.0.proj"))?,
            out: Linear::new([4 * width, width], &weights.at("net.2"))?,
        })
    }

    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.out.apply(&self.gate.gated(x)?)
    }
}
