//! The net that is run at every step (Rombach et al. 2022; Podell et al. 2023 for the added
//! conditioning).

use candle_core::{DType, Device, Tensor};

use super::architecture::{AddedNumbers, UnetNumbers};
use super::blocks::{Norms, Residual, Transformer, TransformerNumbers};
use super::layers::{Convolution, GroupNorm, Linear};
use super::sinusoids;
use crate::NetError;
use crate::Weights;
use crate::ops::upsample2x;

const EPSILON: f32 = 1e-5;

/// One resolution of the way down or up.
struct Stage {
    residuals: Vec<Residual>,
    /// One after each residual layer, or none at all.
    transformers: Vec<Transformer>,
    /// To the next resolution.
    resize: Option<Convolution>,
}

struct Middle {
    residuals: [Residual; 2],
    transformer: Transformer,
}

/// Two products with a SiLU between them.
struct Embedding {
    first: Linear,
    second: Linear,
}

/// The net, its weights in one dtype on one device.
pub struct Unet {
    numbers: UnetNumbers,
    dtype: DType,
    device: Device,
    time: Embedding,
    added: Option<Embedding>,
    first: Convolution,
    down: Vec<Stage>,
    middle: Option<Middle>,
    up: Vec<Stage>,
    norm: GroupNorm,
    last: Convolution,
}

/// What an image is to show.
#[derive(Clone)]
pub struct Condition {
    /// The encoded text, `[b, tokens, text width]`.
    pub text: Tensor,
    /// The pooled text and the sines and cosines of size and crop, `[b, width]`; see [`Unet::added`].
    pub added: Option<Tensor>,
}

impl Unet {
    /// Builds the net on its weights, which are shared and not copied.
    pub fn new(numbers: &UnetNumbers, weights: &Weights<'_>) -> Result<Self, NetError> {
        let channels = &numbers.channels;
        let (Some(&narrow), Some(&deep)) = (channels.first(), channels.last()) else {
            return Err(NetError::Missing("a resolution".to_owned()));
        };
        let time = 4 * narrow;
        let norms = Norms { groups: numbers.groups, epsilon: EPSILON, time: Some(time) };
        let build = Build { numbers, norms, weights };
        let first_weight = weights.at("conv_in");
        let first = Convolution::new([numbers.latents, narrow, 3], 1, &first_weight)?;
        let added = numbers
            .added
            .map(|added| Embedding::new([added.width(), time], &weights.at("add_embedding")));
        let example = weights.get_again("conv_in.bias", &[narrow])?;
        Ok(Self {
            numbers: numbers.clone(),
            dtype: example.dtype(),
            device: example.device().clone(),
            time: Embedding::new([narrow, time], &weights.at("time_embedding"))?,
            added: added.transpose()?,
            first,
            down: (0..channels.len()).map(|index| build.down(index)).collect::<Result<_, _>>()?,
            middle: numbers
                .middle_transformers
                .map(|count| build.middle(deep, count))
                .transpose()?,
            up: (0..channels.len()).map(|index| build.up(index)).collect::<Result<_, _>>()?,
            norm: GroupNorm::new(narrow, numbers.groups, EPSILON, &weights.at("conv_norm_out"))?,
            last: Convolution::new([narrow, numbers.latents, 3], 1, &weights.at("conv_out"))?,
        })
    }

    /// The type of weights and activations.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where it is.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A timestep as the net reads it, `[1, width]`.
    pub fn timestep(&self, timestep: f64) -> Result<Tensor, NetError> {
        sinusoids(&[timestep], self.numbers.channels[0], self.dtype, &self.device)
    }

    /// The added conditioning of SDXL from pooled texts, `[b, width]`, and the six numbers of size and
    /// crop that all images of the batch share; `None` for a net without it.
    pub fn added(&self, pooled: &Tensor, ids: [f64; 6]) -> Result<Option<Tensor>, NetError> {
        let Some(added) = self.numbers.added else { return Ok(None) };
        let sines = sinusoids(&ids, added.time_width, self.dtype, &self.device)?;
        let batch = pooled.dim(0)?;
        let sines = sines.reshape((1, ()))?.repeat((batch, 1))?;
        Ok(Some(Tensor::cat(&[pooled, &sines], 1)?))
    }

    /// One pass: `[b, channels, h, w]` latents at a [`Unet::timestep`] give the prediction, of the same
    /// shape. Height and width must be multiples of two to the number of resolutions less one.
    pub fn forward(
        &self,
        latents: &Tensor,
        timestep: &Tensor,
        condition: &Condition,
    ) -> Result<Tensor, NetError> {
        self.check_size(latents)?;
        let mut time = self.time.apply(timestep)?;
        if let Some(embedding) = &self.added {
            let Some(added) = &condition.added else {
                return Err(NetError::Missing("the added conditioning".to_owned()));
            };
            time = embedding.apply(added)?.broadcast_add(&time)?;
        }
        let time = time.silu()?;
        let text = &condition.text;
        let mut x = self.first.apply(latents)?;
        let mut skips = vec![x.clone()];
        for stage in &self.down {
            for (index, residual) in stage.residuals.iter().enumerate() {
                x = residual.apply(&x, Some(&time))?;
                if let Some(transformer) = stage.transformers.get(index) {
                    x = transformer.apply(&x, text)?;
                }
                skips.push(x.clone());
            }
            if let Some(resize) = &stage.resize {
                x = resize.apply(&x)?;
                skips.push(x.clone());
            }
        }
        if let Some(Middle { residuals: [before, after], transformer }) = &self.middle {
            x = transformer.apply(&before.apply(&x, Some(&time))?, text)?;
            x = after.apply(&x, Some(&time))?;
        }
        for stage in &self.up {
            for (index, residual) in stage.residuals.iter().enumerate() {
                let Some(skip) = skips.pop() else {
                    return Err(NetError::Missing("a skip connection".to_owned()));
                };
                x = residual.apply(&Tensor::cat(&[&x, &skip], 1)?, Some(&time))?;
                if let Some(transformer) = stage.transformers.get(index) {
                    x = transformer.apply(&x, text)?;
                }
            }
            if let Some(resize) = &stage.resize {
                x = resize.apply(&upsample2x(&x)?)?;
            }
        }
        Ok(self.last.apply(&self.norm.silu(&x)?)?)
    }

    fn check_size(&self, latents: &Tensor) -> Result<(), NetError> {
        let (_, _, height, width) = latents.dims4()?;
        let multiple = 1 << (self.numbers.channels.len() - 1);
        if height == 0 || width == 0 || height % multiple != 0 || width % multiple != 0 {
            return Err(NetError::Size { height, width, multiple });
        }
        Ok(())
    }
}

impl AddedNumbers {
    /// Width of the added conditioning.
    pub fn width(self) -> usize {
        self.pooled_width + 6 * self.time_width
    }
}

impl Embedding {
    fn new([inputs, outputs]: [usize; 2], weights: &Weights<'_>) -> Result<Self, NetError> {
        Ok(Self {
            first: Linear::new([inputs, outputs], &weights.at("linear_1"))?,
            second: Linear::new([outputs, outputs], &weights.at("linear_2"))?,
        })
    }

    fn apply(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.second.apply(&self.first.apply(x)?.silu()?)
    }
}

struct Build<'a> {
    numbers: &'a UnetNumbers,
    norms: Norms,
    weights: &'a Weights<'a>,
}

impl Build<'_> {
    fn transformer(
        &self,
        [level, width, blocks]: [usize; 3],
        weights: &Weights<'_>,
    ) -> Result<Transformer, NetError> {
        let UnetNumbers { text_width, linear_projection, groups, .. } = *self.numbers;
        let heads = self.numbers.heads.get(level).copied().unwrap_or(0);
        let numbers = TransformerNumbers {
            width,
            blocks,
            heads,
            text: text_width,
            groups,
            linear: linear_projection,
        };
        Transformer::new(numbers, weights)
    }

    /// The residual layers of a stage, given the channels that each reads, and its transformers.
    fn stage(
        &self,
        level: usize,
        inputs: &[usize],
        weights: &Weights<'_>,
    ) -> Result<Stage, NetError> {
        let width = self.numbers.channels[level];
        let blocks = self.numbers.transformers.get(level).copied().unwrap_or(0);
        let residuals = inputs.iter().enumerate().map(|(index, &channels)| {
            let weights = weights.at(&format!("resnets.{index}"));
            Residual::new([channels, width], self.norms, &weights)
        });
        let count = if blocks == 0 { 0 } else { inputs.len() };
        let transformers = (0..count).map(|index| {
            let weights = weights.at(&format!("attentions.{index}"));
            self.transformer([level, width, blocks], &weights)
        });
        Ok(Stage {
            residuals: residuals.collect::<Result<_, _>>()?,
            transformers: transformers.collect::<Result<_, _>>()?,
            resize: None,
        })
    }

    fn down(&self, level: usize) -> Result<Stage, NetError> {
        let channels = &self.numbers.channels;
        let width = channels[level];
        let mut inputs = vec![width; self.numbers.layers];
        if let Some(first) = inputs.first_mut() {
            *first = channels[level.saturating_sub(1)];
        }
        let weights = self.weights.at(&format!("down_blocks.{level}"));
        let mut stage = self.stage(level, &inputs, &weights)?;
        if level + 1 < channels.len() {
            let weights = weights.at("downsamplers.0.conv");
            stage.resize = Some(Convolution::new([width, width, 3], 2, &weights)?);
        }
        Ok(stage)
    }

    fn middle(&self, width: usize, blocks: usize) -> Result<Middle, NetError> {
        let weights = self.weights.at("mid_block");
        let residual = |name: &str| Residual::new([width, width], self.norms, &weights.at(name));
        let level = self.numbers.channels.len() - 1;
        Ok(Middle {
            residuals: [residual("resnets.0")?, residual("resnets.1")?],
            transformer: self.transformer([level, width, blocks], &weights.at("attentions.0"))?,
        })
    }

    /// The way up mirrors the way down: each layer also reads what a layer down there gave.
    fn up(&self, index: usize) -> Result<Stage, NetError> {
        let channels = &self.numbers.channels;
        let level = channels.len() - 1 - index;
        let width = channels[level];
        let below = channels[(level + 1).min(channels.len() - 1)];
        let above = channels[level.saturating_sub(1)];
        let layers = self.numbers.layers + 1;
        let inputs: Vec<usize> = (0..layers)
            .map(|layer| {
                let stream = if layer == 0 { below } else { width };
                stream + if layer + 1 == layers { above } else { width }
            })
            .collect();
        let weights = self.weights.at(&format!("up_blocks.{index}"));
        let mut stage = self.stage(level, &inputs, &weights)?;
        if level > 0 {
            let weights = weights.at("upsamplers.0.conv");
            stage.resize = Some(Convolution::new([width, width, 3], 1, &weights)?);
        }
        Ok(stage)
    }
}
