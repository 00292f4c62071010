//! candle-transformers' Stable Diffusion as published, its faults left in.
//!
//! What is known of it and left as it is: GELU is the tanh formula everywhere; a timestep and its waves are
//! rounded to the type of the net; attention scores of all heads and rows are held at once, in f32; group
//! norms and the decoder's softmax are put together from single ops. Some of its residual layers take 32
//! groups whatever they are told, so that no `UNet` of other groups is offered. Its text encoders have the
//! numbers of the published models alone and read one text at a time; its decoder gives wrong images but for
//! the first of a batch. It lacks SDXL's added conditioning, so that SDXL is not offered.
//! Its decoder is not to be had without the encoder, which gets zeros that take no memory and is never run.

use std::collections::HashMap;

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, Module, VarBuilder};
use candle_transformers::models::stable_diffusion::clip::{self, ClipTextTransformer};
use candle_transformers::models::stable_diffusion::unet_2d::{
    BlockConfig, UNet2DConditionModel, UNet2DConditionModelConfig,
};
use candle_transformers::models::stable_diffusion::vae::{AutoEncoderKL, AutoEncoderKLConfig};

use super::case::Phase;
use super::nets::{Parts, Timestep, Tokens};
use warpmark_nets::NetError;
use warpmark_nets::diffusion::{
    Activation, Architecture, Condition, EncodedText, TEXT_FOLDERS, TextNumbers, TextOutput,
    UnetNumbers,
};
use warpmark_nets::reference::diffusion::Like;

/// Whether it has that part of a model, for so many images.
pub(super) fn offers(architecture: &Architecture, phase: Phase, batch: usize) -> bool {
    match phase {
        // Its mask fits one text alone.
        Phase::Text => batch == 1 && texts(architecture).is_some(),
        Phase::Unet { .. } => {
            let numbers = &architecture.unet;
            // Its middle has the transformers of the lowest resolution, or one where there are none.
            let middle = numbers.transformers.last().map(|&blocks| blocks.max(1));
            // Some of its residual layers norm in 32 groups, whatever they are asked for.
            let grouped = numbers.groups == 32;
            grouped && numbers.added.is_none() && numbers.middle_transformers == middle
        }
        // It runs in the type of the rest, whose range SDXL's leaves in f16. All images of a batch but the
        // first come out wrong.
        Phase::Vae { .. } => {
            batch == 1 && architecture.unet.added.is_none() && !architecture.vae.upcast
        }
        Phase::Generate { .. } => false,
    }
}

/// The published nets on our tensors, which are shared.
pub(super) struct Published {
    texts: Option<Vec<ClipTextTransformer>>,
    unet: Option<UNet2DConditionModel>,
    vae: Option<AutoEncoderKL>,
    /// By what latents were multiplied; its decoder leaves the division to its caller.
    scaling: f64,
    dtype: DType,
}

impl Published {
    pub(super) fn new(
        architecture: &Architecture,
        tensors: &HashMap<String, Tensor>,
    ) -> Result<Self, NetError> {
        let name = "unet.conv_in.bias";
        let some = tensors.get(name).ok_or_else(|| NetError::Missing(name.to_owned()))?;
        let (dtype, device) = (some.dtype(), some.device());
        let backend = Box::new(Shared(tensors.clone()));
        let builder = VarBuilder::from_backend(backend, dtype, device.clone());
        let texts = texts(architecture).map(|configs| {
            let parts = configs.iter().zip(TEXT_FOLDERS);
            parts.map(|(config, name)| ClipTextTransformer::new(builder.pp(name), config)).collect()
        });
        let unet = offers(architecture, Phase::Unet { size: 0 }, 1).then(|| {
            let config = unet(&architecture.unet);
            let latents = architecture.unet.latents;
            UNet2DConditionModel::new(builder.pp("unet"), latents, latents, false, config)
        });
        let vae = offers(architecture, Phase::Vae { size: 0 }, 1).then(|| {
            let config = AutoEncoderKLConfig {
                block_out_channels: architecture.vae.channels.clone(),
                layers_per_block: architecture.vae.layers,
                latent_channels: architecture.unet.latents,
                norm_num_groups: architecture.vae.groups,
                use_quant_conv: true,
                use_post_quant_conv: true,
            };
            AutoEncoderKL::new(builder.pp("vae"), 3, 3, config)
        });
        Ok(Self {
            texts: texts.transpose()?,
            unet: unet.transpose()?,
            vae: vae.transpose()?,
            scaling: architecture.vae.scaling,
            dtype,
        })
    }
}

impl Parts for Published {
    fn like(&self) -> Like {
        Like::Candle(self.dtype)
    }

    fn caveat(&self, phase: Phase) -> Option<&'static str> {
        Some(match phase {
            Phase::Text => {
                "candle-transformers as published: its mask is made on the host and copied at every pass"
            }
            Phase::Unet { .. } if self.dtype == DType::F32 => {
                "candle-transformers as published: it holds the attention scores of all heads at once, and \
                 its GELU is the tanh formula"
            }
            Phase::Unet { .. } => {
                "candle-transformers as published: it holds the attention scores of all heads at once in \
                 f32, rounds the timestep's waves to the net's type, and its GELU is the tanh formula"
            }
            Phase::Vae { .. } | Phase::Generate { .. } => {
                "candle-transformers as published: it holds all attention scores at once, and its norms \
                 and softmax are put together from single ops"
            }
        })
    }

    fn encode(&self, tokens: &Tokens) -> Result<Vec<EncodedText>, NetError> {
        let Some(texts) = &self.texts else { return Err(absent("text encoder")) };
        let pairs = texts.iter().zip(tokens.pairs());
        let encode = |(net, (tokens, _)): (&ClipTextTransformer, &(Tensor, Tensor))| {
            Ok(EncodedText { states: net.forward(tokens)?, pooled: None })
        };
        pairs.map(encode).collect()
    }

    fn timestep(&self, timestep: f64) -> Result<Timestep, NetError> {
        Ok(Timestep { number: timestep, waves: None })
    }

    fn predict(
        &self,
        latents: &Tensor,
        timestep: &Timestep,
        condition: &Condition,
    ) -> Result<Tensor, NetError> {
        let Some(unet) = &self.unet else { return Err(absent("UNet")) };
        Ok(unet.forward(latents, timestep.number, &condition.text)?)
    }

    fn decode(&self, latents: &Tensor) -> Result<Tensor, NetError> {
        let Some(vae) = &self.vae else { return Err(absent("decoder")) };
        Ok(vae.decode(&(latents / self.scaling)?)?)
    }
}

fn absent(part: &str) -> NetError {
    NetError::Missing(format!("candle-transformers' {part}"))
}

fn unet(numbers: &UnetNumbers) -> UNet2DConditionModelConfig {
    let levels = numbers.channels.iter().zip(&numbers.transformers).zip(&numbers.heads);
    let block = |((&out_channels, &blocks), &heads): ((&usize, &usize), &usize)| BlockConfig {
        out_channels,
        use_cross_attn: (blocks > 0).then_some(blocks),
        // The number of heads, in spite of its name.
        attention_head_dim: heads,
    };
    UNet2DConditionModelConfig {
        center_input_sample: false,
        flip_sin_to_cos: true,
        freq_shift: 0.0,
        blocks: levels.map(block).collect(),
        layers_per_block: numbers.layers,
        downsample_padding: 1,
        mid_block_scale_factor: 1.0,
        norm_num_groups: numbers.groups,
        norm_eps: 1e-5,
        cross_attention_dim: numbers.text_width,
        sliced_attention_size: None,
        use_linear_projection: numbers.linear_projection,
    }
}

/// Its configurations of a model's text encoders; `None` where it lacks one.
fn texts(architecture: &Architecture) -> Option<Vec<clip::Config>> {
    architecture.text.iter().map(text).collect()
}

fn text(numbers: &TextNumbers) -> Option<clip::Config> {
    let TextNumbers { vocabulary, positions, width, layers, heads, hidden, .. } = *numbers;
    if numbers.output != TextOutput::Last || numbers.pooled_width.is_some() {
        return None;
    }
    match ([vocabulary, positions, width, layers, heads, hidden], numbers.activation) {
        ([49408, 77, 768, 12, 12, 3072], Activation::QuickGelu) => Some(clip::Config::v1_5()),
        ([49408, 77, 1024, 23, 16, 4096], Activation::Gelu) => Some(clip::Config::v2_1()),
        _ => None,
    }
}

/// Our tensors by name, and zeros for the encoder from pixels to latents, which we do not load.
struct Shared(HashMap<String, Tensor>);

impl SimpleBackend for Shared {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _init: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        if name.starts_with("vae.encoder.") || name.starts_with("vae.quant_conv.") {
            // One zero, seen from every place.
            return Tensor::zeros((), dtype, device)?.broadcast_as(shape);
        }
        let tensor = self.get_unchecked(name, dtype, device)?;
        if *tensor.shape() != shape {
            candle_core::bail!("{name:?} has the shape {:?}, not {shape:?}", tensor.shape());
        }
        Ok(tensor)
    }

    fn get_unchecked(
        &self,
        name: &str,
        _dtype: DType,
        _device: &Device,
    ) -> candle_core::Result<Tensor> {
        match self.0.get(name) {
            Some(tensor) => Ok(tensor.clone()),
            None => candle_core::bail!("the weights have no tensor {name:?}"),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
