//! The decoder of the auto-encoder: from latents to pixels.

use candle_core::{DType, Device, Tensor};

use super::architecture::VaeNumbers;
use super::blocks::{Norms, PixelAttention, Residual};
use super::layers::{Convolution, GroupNorm};
use crate::NetError;
use crate::Weights;
use crate::ops::upsample2x;

const EPSILON: f32 = 1e-6;

/// One resolution of the way up.
struct Stage {
    residuals: Vec<Residual>,
    resize: Option<Convolution>,
}

/// The decoder, its weights in one dtype on one device. The encoder is no part of making an image from
/// a text, and is not loaded.
pub struct AutoEncoder {
    scaling: f64,
    example: Tensor,
    unquantise: Convolution,
    first: Convolution,
    middle: (Residual, PixelAttention, Residual),
    up: Vec<Stage>,
    norm: GroupNorm,
    last: Convolution,
}

impl AutoEncoder {
    /// Builds the decoder on its weights, which are shared and not copied.
    pub fn new(
        numbers: &VaeNumbers,
        latents: usize,
        weights: &Weights<'_>,
    ) -> Result<Self, NetError> {
        let norms = Norms { groups: numbers.groups, epsilon: EPSILON, time: None };
        let (Some(&narrow), Some(&wide)) = (numbers.channels.first(), numbers.channels.last())
        else {
            return Err(NetError::Missing("a resolution".to_owned()));
        };
        let unquantise =
            Convolution::new([latents, latents, 1], 1, &weights.at("post_quant_conv"))?;
        let weights = weights.at("decoder");
        let middle = weights.at("mid_block");
        let first = Convolution::new([latents, wide, 3], 1, &weights.at("conv_in"))?;
        let residual = |name: &str| Residual::new([wide, wide], norms, &middle.at(name));
        Ok(Self {
            scaling: numbers.scaling,
            example: weights.get_again("conv_in.bias", &[wide])?,
            unquantise,
            first,
            middle: (
                residual("resnets.0")?,
                PixelAttention::new(wide, norms, &middle.at("attentions.0"))?,
                residual("resnets.1")?,
            ),
            up: stages(numbers, norms, &weights)?,
            norm: GroupNorm::new(narrow, numbers.groups, EPSILON, &weights.at("conv_norm_out"))?,
            last: Convolution::new([narrow, 3, 3], 1, &weights.at("conv_out"))?,
        })
    }

    /// The type of weights and activations.
    pub fn dtype(&self) -> DType {
        self.example.dtype()
    }

    /// Where it is.
    pub fn device(&self) -> &Device {
        self.example.device()
    }

    /// Pixels of latents as a scheduler leaves them: `[b, channels, h, w]` gives `[b, 3, 8h, 8w]`, each
    /// about between -1 and 1.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, NetError> {
        let latents = (latents / self.scaling)?.to_dtype(self.dtype())?;
        let mut x = self.first.apply(&self.unquantise.apply(&latents)?)?;
        let (before, attention, after) = &self.middle;
        x = after.apply(&attention.apply(&before.apply(&x, None)?)?, None)?;
        for stage in &self.up {
            for residual in &stage.residuals {
                x = residual.apply(&x, None)?;
            }
            if let Some(resize) = &stage.resize {
                x = resize.apply(&upsample2x(&x)?)?;
            }
        }
        Ok(self.last.apply(&self.norm.silu(&x)?)?)
    }
}

fn stages(
    numbers: &VaeNumbers,
    norms: Norms,
    weights: &Weights<'_>,
) -> Result<Vec<Stage>, NetError> {
    let mut stages = Vec::with_capacity(numbers.channels.len());
    let mut stream = numbers.channels.last().copied().unwrap_or(0);
    for (index, &width) in numbers.channels.iter().rev().enumerate() {
        let weights = weights.at(&format!("up_blocks.{index}"));
        let mut residuals = Vec::with_capacity(numbers.layers + 1);
        for layer in 0..=numbers.layers {
            let weights = weights.at(&format!("resnets.{layer}"));
            residuals.push(Residual::new([stream, width], norms, &weights)?);
            stream = width;
        }
        let resize = (index + 1 < numbers.channels.len())
            .then(|| Convolution::new([width, width, 3], 1, &weights.at("upsamplers.0.conv")));
        stages.push(Stage { residuals, resize: resize.transpose()? });
    }
    Ok(stages)
}
