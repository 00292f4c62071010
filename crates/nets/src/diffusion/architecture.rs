//! The numbers in which latent diffusion models differ.

use serde::Deserialize;

use super::{AutoEncoder, TextEncoder, Unet};
use crate::NetError;
use crate::Weights;

/// A latent diffusion model of the Stable Diffusion kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// The net that is run at every step.
    pub unet: UnetNumbers,
    /// The decoder from latents to pixels.
    pub vae: VaeNumbers,
    /// The text encoders, whose outputs stand beside each other: those of the folders `text_encoder`
    /// and `text_encoder_2`.
    pub text: Vec<TextNumbers>,
    /// The noise schedule.
    pub scheduler: SchedulerNumbers,
}

/// Numbers of the `UNet`, from `unet/config.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnetNumbers {
    /// Channels of the latents, in and out.
    pub latents: usize,
    /// Channels at each resolution, each half of the one before.
    pub channels: Vec<usize>,
    /// Residual layers on the way down; the way up has one more.
    pub layers: usize,
    /// Transformer blocks after each residual layer at each resolution; 0 where there is none.
    pub transformers: Vec<usize>,
    /// Transformer blocks at the lowest resolution, between down and up; absent where the net has no
    /// middle.
    pub middle_transformers: Option<usize>,
    /// Attention heads at each resolution.
    pub heads: Vec<usize>,
    /// Width of the text that is attended to.
    pub text_width: usize,
    /// Whether a transformer's first and last products are stored as matrices rather than as
    /// convolutions.
    pub linear_projection: bool,
    /// The added conditioning of SDXL.
    pub added: Option<AddedNumbers>,
    /// Groups of the group norms.
    pub groups: usize,
}

/// The added conditioning of SDXL: a pooled text and the six numbers of size and crop.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddedNumbers {
    /// Sines and cosines of each number.
    pub time_width: usize,
    /// Width of the pooled text.
    pub pooled_width: usize,
}

/// Numbers of the decoder, from `vae/config.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaeNumbers {
    /// Channels at each resolution, the highest first.
    pub channels: Vec<usize>,
    /// Residual layers on the way down; the decoder's way up has one more.
    pub layers: usize,
    /// Groups of the group norms.
    pub groups: usize,
    /// By what latents were multiplied.
    pub scaling: f64,
    /// Whether activations leave the range of f16, so that the decoder runs in f32 where the rest runs
    /// in f16.
    pub upcast: bool,
}

/// Numbers of a text encoder, from `text_encoder/config.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextNumbers {
    /// Tokens there are; the last two begin and end a text.
    pub vocabulary: usize,
    /// Tokens of every text, padded.
    pub positions: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the hidden layer.
    pub hidden: usize,
    /// What stands between the two products of the hidden layer.
    pub activation: Activation,
    /// Which hidden states are the text.
    pub output: TextOutput,
    /// Width of the pooled text; absent where there is none.
    pub pooled_width: Option<usize>,
}

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x · sigmoid(1.702 x)`.
    QuickGelu,
    /// With the error function.
    Gelu,
}

/// Which hidden states are the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextOutput {
    /// Those of the last layer, normalised.
    Last,
    /// What the last layer is fed, as it is.
    Penultimate,
}

/// Numbers of the noise schedule, from `scheduler/scheduler_config.json`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchedulerNumbers {
    /// What the `UNet` predicts.
    pub prediction: Prediction,
    /// Which of the trained timesteps DDIM takes.
    pub ddim_spacing: Spacing,
    /// Which of them Euler takes.
    pub euler_spacing: Spacing,
    /// Added to the timesteps of leading spacing.
    pub offset: usize,
}

/// What a `UNet` predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise.
    Epsilon,
    /// The velocity of Salimans and Ho 2022.
    Velocity,
}

/// Which of the trained timesteps are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// Whole multiples from 0 up.
    Leading,
    /// Evenly from the last one down.
    Trailing,
    /// Evenly from the first to the last.
    Linspace,
}

/// Resolutions of the decoder, each twice as large as the one below.
pub const LEVELS: usize = 4;

/// Pixels of a latent in each direction.
pub const PIXELS_OF_A_LATENT: usize = 1 << (LEVELS - 1);

impl Architecture {
    /// The tensors of all parts, named as in the parts' own files with the folder's name before them.
    ///
    /// # Errors
    /// [`NetError::Candle`] where a number makes no net: heads that do not divide a width.
    pub fn tensors(&self) -> Result<Vec<(String, Vec<usize>)>, NetError> {
        let weights = Weights::listing();
        Unet::new(&self.unet, &weights.at("unet"))?;
        AutoEncoder::new(&self.vae, self.unet.latents, &weights.at("vae"))?;
        for (text, name) in self.text.iter().zip(TEXT_FOLDERS) {
            TextEncoder::new(text, &weights.at(name))?;
        }
        Ok(weights.listed())
    }

    /// Pixels of which the sides of an image must be a multiple.
    pub fn granularity(&self) -> usize {
        PIXELS_OF_A_LATENT << self.unet.channels.len().saturating_sub(1)
    }
}

/// Where the text encoders' files are.
pub const TEXT_FOLDERS: [&str; 2] = ["text_encoder", "text_encoder_2"];
