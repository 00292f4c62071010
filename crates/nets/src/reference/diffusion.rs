//! Latent diffusion once more, for checking: one image at a time, every step in f32 from candle's
//! plainest ops, one head after the other, a convolution as a sum over its elements. Slow, and meant to
//! share nothing with the measured nets but the weights and the numbers of the architecture.

#![expect(clippy::implicit_hasher, reason = "the maps that weights are loaded into")]

mod plain;

use std::collections::HashMap;

use candle_core::{D, DType, Result, Tensor};

use super::rounding::Rounding;
use crate::diffusion::{
    Activation, Architecture, SchedulerNumbers, Step, TextNumbers, TextOutput, UnetNumbers,
    VaeNumbers,
};
use plain::{Plain, quick_gelu};

/// How far the plain net goes with diffusers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Like {
    /// All the way.
    Diffusers,
    /// As candle-transformers has it in a type: GELU by its tanh formula, timesteps and their waves rounded
    /// to that type on the way, and no added conditioning.
    Candle(DType),
}

/// One UNet pass over one image: `latents` `[1, c, h, w]`, `text` `[1, tokens, width]`, `pooled` `[1,
/// width]` with the six numbers of size and crop where the net reads them. All are widened to f32; what each
/// step gives is rounded as told.
pub fn unet(
    architecture: &Architecture,
    tensors: &HashMap<String, Tensor>,
    (like, rounding): (Like, Rounding),
    input: &UnetInput<'_>,
) -> Result<Tensor> {
    let numbers = &architecture.unet;
    let net = Plain::new(tensors, "unet", numbers.groups, (1e-5, rounding));
    let text = input.text.to_dtype(DType::F32)?;
    let time = time(numbers, &net, like, input)?;
    let depth = numbers.channels.len();
    let mut x = net.conv("conv_in", &input.latents.to_dtype(DType::F32)?, 1)?;
    let mut kept = vec![x.clone()];
    for level in 0..depth {
        let name = format!("down_blocks.{level}");
        for layer in 0..numbers.layers {
            x = net.residual(&format!("{name}.resnets.{layer}"), &x, Some(&time))?;
            x = transformer(numbers, &net, like, (&name, layer, level), &x, &text)?;
            kept.push(x.clone());
        }
        if level + 1 < depth {
            x = net.conv(&format!("{name}.downsamplers.0.conv"), &x, 2)?;
            kept.push(x.clone());
        }
    }
    if numbers.middle_transformers.is_some() {
        x = net.residual("mid_block.resnets.0", &x, Some(&time))?;
        x = transformer(numbers, &net, like, ("mid_block", 0, depth - 1), &x, &text)?;
        x = net.residual("mid_block.resnets.1", &x, Some(&time))?;
    }
    for index in 0..depth {
        let (level, name) = (depth - 1 - index, format!("up_blocks.{index}"));
        for layer in 0..=numbers.layers {
            let Some(skip) = kept.pop() else { candle_core::bail!("nothing is left to add") };
            x = Tensor::cat(&[&x, &skip], 1)?;
            x = net.residual(&format!("{name}.resnets.{layer}"), &x, Some(&time))?;
            x = transformer(numbers, &net, like, (&name, layer, level), &x, &text)?;
        }
        if level > 0 {
            x = net.conv(&format!("{name}.upsamplers.0.conv"), &plain::twice(&x)?, 1)?;
        }
    }
    net.conv("conv_out", &net.silu(&net.group_norm("conv_norm_out", &x)?)?, 1)
}

/// What a `UNet` is asked.
pub struct UnetInput<'a> {
    /// `[1, c, h, w]`.
    pub latents: &'a Tensor,
    /// What step it is.
    pub timestep: f64,
    /// `[1, tokens, width]`.
    pub text: &'a Tensor,
    /// `[1, width]`.
    pub pooled: Option<&'a Tensor>,
    /// Size, crop and size again.
    pub ids: [f64; 6],
}

/// The time embedding after its SiLU, `[1, width]`.
fn time(
    numbers: &UnetNumbers,
    net: &Plain<'_>,
    like: Like,
    input: &UnetInput<'_>,
) -> Result<Tensor> {
    let embed = |name: &str, x: &Tensor| {
        net.linear(
            &format!("{name}.linear_2"),
            &net.silu(&net.linear(&format!("{name}.linear_1"), x)?)?,
        )
    };
    let device = input.latents.device();
    let waves = match like {
        Like::Diffusers => plain::waves(input.timestep, numbers.channels[0], device)?,
        Like::Candle(dtype) => {
            plain::rounded_waves(input.timestep, numbers.channels[0], dtype, device)?
        }
    };
    let mut time = embed("time_embedding", &net.keep(waves)?)?;
    if let (Some(added), Like::Diffusers) = (numbers.added, like) {
        let Some(pooled) = input.pooled else { candle_core::bail!("no pooled text is given") };
        let mut parts = vec![pooled.to_dtype(DType::F32)?];
        for id in input.ids {
            parts.push(net.keep(plain::waves(id, added.time_width, device)?)?);
        }
        time = net.keep((time + embed("add_embedding", &Tensor::cat(&parts, 1)?)?)?)?;
    }
    net.silu(&time)
}

fn transformer(
    numbers: &UnetNumbers,
    net: &Plain<'_>,
    like: Like,
    (block, layer, level): (&str, usize, usize),
    x: &Tensor,
    text: &Tensor,
) -> Result<Tensor> {
    let middle = block == "mid_block";
    let depth = if middle {
        numbers.middle_transformers.unwrap_or(0)
    } else {
        numbers.transformers.get(level).copied().unwrap_or(0)
    };
    if depth == 0 {
        return Ok(x.clone());
    }
    let name = format!("{block}.attentions.{layer}");
    let heads = numbers.heads[level];
    let (_, channels, height, width) = x.dims4()?;
    let normalised = net.with_epsilon(1e-6).group_norm(&format!("{name}.norm"), x)?;
    let project = |name: &str, pixels: &Tensor| net.linear(name, pixels);
    let mut pixels = normalised.reshape((channels, height * width))?.t()?.contiguous()?;
    pixels = project(&format!("{name}.proj_in"), &pixels)?;
    let text = text.squeeze(0)?;
    for index in 0..depth {
        let name = format!("{name}.transformer_blocks.{index}");
        let norm = |which: &str, x: &Tensor| net.layer_norm(&format!("{name}.{which}"), x);
        let attend = |which: &str, x: &Tensor, over: &Tensor| {
            let part = |part: &str, x: &Tensor| net.linear(&format!("{name}.{which}.{part}"), x);
            let pair = (&part("to_k", over)?, &part("to_v", over)?);
            let mixed = net.attention(&part("to_q", x)?, pair, heads, false)?;
            part("to_out.0", &mixed)
        };
        let own = norm("norm1", &pixels)?;
        pixels = net.keep((&pixels + attend("attn1", &own, &own)?)?)?;
        pixels = net.keep((&pixels + attend("attn2", &norm("norm2", &pixels)?, &text)?)?)?;
        let gated = net.linear(&format!("{name}.ff.net.0.proj"), &norm("norm3", &pixels)?)?;
        let halves = gated.chunk(2, D::Minus1)?;
        let gate = halves[1].contiguous()?;
        let gated = net.keep((&halves[0] * net.keep(gelu(like, &gate)?)?)?)?;
        pixels = net.keep((&pixels + net.linear(&format!("{name}.ff.net.2"), &gated)?)?)?;
    }
    let image = project(&format!("{name}.proj_out"), &pixels)?;
    net.keep((x + image.t()?.contiguous()?.reshape(x.shape())?)?)
}

fn gelu(like: Like, x: &Tensor) -> Result<Tensor> {
    match like {
        Like::Diffusers => x.gelu_erf(),
        Like::Candle(_) => x.gelu(),
    }
}

/// The image of one latent, `[1, c, h, w]` to `[1, 3, 8h, 8w]`, each step rounded as told.
pub fn image(
    architecture: &Architecture,
    tensors: &HashMap<String, Tensor>,
    latents: &Tensor,
    rounding: Rounding,
) -> Result<Tensor> {
    let numbers: &VaeNumbers = &architecture.vae;
    let net = Plain::new(tensors, "vae", numbers.groups, (1e-6, rounding));
    let latents = net.keep((latents.to_dtype(DType::F32)? * (1.0 / numbers.scaling))?)?;
    let mut x = net.conv("post_quant_conv", &latents, 1)?;
    x = net.conv("decoder.conv_in", &x, 1)?;
    x = net.residual("decoder.mid_block.resnets.0", &x, None)?;
    x = look(&net, "decoder.mid_block.attentions.0", &x)?;
    x = net.residual("decoder.mid_block.resnets.1", &x, None)?;
    for index in 0..numbers.channels.len() {
        for layer in 0..=numbers.layers {
            x = net.residual(&format!("decoder.up_blocks.{index}.resnets.{layer}"), &x, None)?;
        }
        if index + 1 < numbers.channels.len() {
            let name = format!("decoder.up_blocks.{index}.upsamplers.0.conv");
            x = net.conv(&name, &plain::twice(&x)?, 1)?;
        }
    }
    net.conv("decoder.conv_out", &net.silu(&net.group_norm("decoder.conv_norm_out", &x)?)?, 1)
}

fn look(net: &Plain<'_>, name: &str, x: &Tensor) -> Result<Tensor> {
    let (_, channels, height, width) = x.dims4()?;
    let normalised = net.group_norm(&format!("{name}.group_norm"), x)?;
    let pixels = normalised.reshape((channels, height * width))?.t()?.contiguous()?;
    let part = |part: &str, x: &Tensor| net.linear(&format!("{name}.{part}"), x);
    let pair = (&part("to_k", &pixels)?, &part("to_v", &pixels)?);
    let mixed = net.attention(&part("to_q", &pixels)?, pair, 1, false)?;
    net.keep((x + part("to_out.0", &mixed)?.t()?.contiguous()?.reshape(x.shape())?)?)
}

/// What the text encoder of a folder says of one text: its states `[tokens, width]`, and the pooled text
/// `[1, width]` where it has one; each step rounded as told.
pub fn text(
    numbers: &TextNumbers,
    tensors: &HashMap<String, Tensor>,
    (like, rounding): (Like, Rounding),
    folder: &str,
    tokens: &[u32],
) -> Result<(Tensor, Option<Tensor>)> {
    let net = Plain::new(tensors, folder, 1, (1e-5, rounding));
    let table = net.get("text_model.embeddings.token_embedding.weight")?;
    let positions = net.get("text_model.embeddings.position_embedding.weight")?;
    let ids = Tensor::new(tokens, table.device())?;
    let mut x =
        net.keep((table.index_select(&ids, 0)? + positions.narrow(0, 0, tokens.len())?)?)?;
    let mut states = vec![x.clone()];
    for layer in 0..numbers.layers {
        let name = format!("text_model.encoder.layers.{layer}");
        let part = |part: &str, x: &Tensor| net.linear(&format!("{name}.{part}"), x);
        let seen = net.layer_norm(&format!("{name}.layer_norm1"), &x)?;
        let (q, k, v) = (
            part("self_attn.q_proj", &seen)?,
            part("self_attn.k_proj", &seen)?,
            part("self_attn.v_proj", &seen)?,
        );
        let mixed = net.attention(&q, (&k, &v), numbers.heads, true)?;
        x = net.keep((x + part("self_attn.out_proj", &mixed)?)?)?;
        let hidden = part("mlp.fc1", &net.layer_norm(&format!("{name}.layer_norm2"), &x)?)?;
        let hidden = match numbers.activation {
            Activation::QuickGelu => quick_gelu(&hidden)?,
            Activation::Gelu => gelu(like, &hidden)?,
        };
        x = net.keep((x + part("mlp.fc2", &net.keep(hidden)?)?)?)?;
        states.push(x.clone());
    }
    let normalised = net.layer_norm("text_model.final_layer_norm", &x)?;
    let end = tokens.iter().position(|token| *token as usize == numbers.vocabulary - 1);
    let pooled = match numbers.pooled_width {
        Some(_) => {
            let end = normalised.narrow(0, end.unwrap_or(tokens.len() - 1), 1)?;
            Some(net.keep(end.matmul(&net.get("text_projection.weight")?.t()?)?)?)
        }
        None => None,
    };
    let text = match numbers.output {
        TextOutput::Last => normalised,
        TextOutput::Penultimate => states[numbers.layers - 1].clone(),
    };
    Ok((text, pooled))
}

/// What the next latents are, by the step's own formula rather than by its coefficients, in f64.
///
/// `step` names the timestep alone; `next` is the one after it, `None` where the image is done.
pub fn next_latents(
    numbers: &SchedulerNumbers,
    euler: bool,
    (step, next, count): (&Step, Option<&Step>, usize),
    latents: &[f32],
    prediction: &[f32],
) -> Vec<f32> {
    plain::next_latents(numbers, euler, (step, next, count), latents, prediction)
}
