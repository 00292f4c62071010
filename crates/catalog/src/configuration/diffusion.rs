//! The configurations of Stable Diffusion and its kin, one in each component's folder, as diffusers and
//! transformers write them.

mod scheduler;
mod unet;

use serde_json::json;

use super::{Comparison, Configuration, ConfigurationError, Find, Unsupported};
use crate::Model;
use warpmark_nets::diffusion::{
    Activation, Architecture, LEVELS, TEXT_FOLDERS, TextNumbers, TextOutput, VaeNumbers,
};

pub use scheduler::read as read_scheduler;
pub use unet::read as read_unet;

/// The numbers of a decoder and the channels of its latents, from `vae/config.json`. Whether it runs in
/// f32 is a matter of ranges and changes no answer: the entry decides.
///
/// # Errors
/// Where it describes a net that is not computed.
pub fn read_vae(configuration: &Configuration) -> Result<(VaeNumbers, usize), Unsupported> {
    let c = configuration;
    c.only("_class_name", "AutoencoderKL", &[json!("AutoencoderKL")])?;
    c.only("act_fn", "silu", &[json!("silu"), json!("swish")])?;
    c.only("out_channels", 3, &[json!(3)])?;
    c.only("use_post_quant_conv", true, &[json!(true)])?;
    c.only("mid_block_add_attention", true, &[json!(true)])?;
    c.none_of(&["shift_factor", "latents_mean", "latents_std"])?;
    let channels = c.counts("block_out_channels", &[64])?;
    if channels.len() != LEVELS {
        let computed = format!("{LEVELS} resolutions: a latent is 8 x 8 pixels");
        return Err(c.unsupported("block_out_channels", computed));
    }
    let plain = vec!["UpDecoderBlock2D"; LEVELS];
    if c.words("up_block_types", &plain)? != plain {
        return Err(c.unsupported("up_block_types", "UpDecoderBlock2D at each resolution"));
    }
    let numbers = VaeNumbers {
        channels,
        layers: c.count("layers_per_block", 1)?,
        groups: c.count("norm_num_groups", 32)?,
        scaling: c.number("scaling_factor", 0.18215)?,
        upcast: c.flag("force_upcast", true)?,
    };
    Ok((numbers, c.count("latent_channels", 4)?))
}

/// The numbers of a text encoder, from the `config.json` in its folder. `output` is what the pipeline
/// takes of it, which its own configuration does not say.
///
/// # Errors
/// Where it describes a net that is not computed.
pub fn read_text(
    configuration: &Configuration,
    output: TextOutput,
) -> Result<TextNumbers, Unsupported> {
    let c = configuration;
    c.only("model_type", "clip_text_model", &[json!("clip_text_model")])?;
    c.none_of(&["quantization_config"])?;
    c.only("layer_norm_eps", 1e-5, &[json!(1e-5)])?;
    c.only("hidden_act", "quick_gelu", &[json!("quick_gelu"), json!("gelu")])?;
    let projected =
        c.words("architectures", &[])?.iter().any(|name| name.ends_with("WithProjection"));
    Ok(TextNumbers {
        vocabulary: c.count("vocab_size", 49408)?,
        positions: c.count("max_position_embeddings", 77)?,
        width: c.count("hidden_size", 512)?,
        layers: c.count("num_hidden_layers", 12)?,
        heads: c.count("num_attention_heads", 8)?,
        hidden: c.count("intermediate_size", 2048)?,
        activation: match c.word("hidden_act") {
            Some("gelu") => Activation::Gelu,
            _ => Activation::QuickGelu,
        },
        output,
        pooled_width: if projected { Some(c.count("projection_dim", 512)?) } else { None },
    })
}

/// Refuses configurations that are not the entry's; those that are not there are not compared.
pub fn compare(
    model: &Model,
    entry: &Architecture,
    find: &Find<'_>,
) -> Result<(), ConfigurationError> {
    if let Some(c) = find("unet/config.json")? {
        unet::compare(model, &entry.unet, &c)?;
    }
    if let Some(c) = find("vae/config.json")? {
        compare_vae(model, entry, &c)?;
    }
    for (index, (text, folder)) in entry.text.iter().zip(TEXT_FOLDERS).enumerate() {
        if let Some(c) = find(&format!("{folder}/config.json"))? {
            compare_text(model, (index, text), &c)?;
        }
    }
    match find("scheduler/scheduler_config.json")? {
        Some(c) => scheduler::compare(model, &entry.scheduler, &c),
        None => Ok(()),
    }
}

fn compare_vae(
    model: &Model,
    entry: &Architecture,
    configuration: &Configuration,
) -> Result<(), ConfigurationError> {
    let comparison = Comparison::new(model, configuration);
    let (found, latents) = comparison.read(read_vae)?;
    let VaeNumbers { channels, layers, groups, scaling, .. } = &entry.vae;
    comparison.equal(("block_out_channels", &found.channels), ("vae.channels", channels))?;
    comparison.equal(("layers_per_block", found.layers), ("vae.layers", *layers))?;
    comparison.equal(("norm_num_groups", found.groups), ("vae.groups", *groups))?;
    comparison.equal(("latent_channels", latents), ("unet.latents", entry.unet.latents))?;
    comparison.close(("scaling_factor", found.scaling), ("vae.scaling", *scaling))
}

fn compare_text(
    model: &Model,
    (index, entry): (usize, &TextNumbers),
    configuration: &Configuration,
) -> Result<(), ConfigurationError> {
    let comparison = Comparison::new(model, configuration);
    let found = comparison.read(|c| read_text(c, entry.output))?;
    let field = |name: &str| format!("text[{index}].{name}");
    for (key, name, found, entry) in [
        ("vocab_size", "vocabulary", found.vocabulary, entry.vocabulary),
        ("max_position_embeddings", "positions", found.positions, entry.positions),
        ("hidden_size", "width", found.width, entry.width),
        ("num_hidden_layers", "layers", found.layers, entry.layers),
        ("num_attention_heads", "heads", found.heads, entry.heads),
        ("intermediate_size", "hidden", found.hidden, entry.hidden),
    ] {
        comparison.equal((key, found), (&field(name), entry))?;
    }
    comparison.equal(("hidden_act", found.activation), (&field("activation"), entry.activation))?;
    // A width that the entry does not use is not compared: any encoder has one in its configuration.
    match entry.pooled_width {
        Some(width) => {
            let found = found.pooled_width.unwrap_or(0);
            comparison.equal(("projection_dim", found), (&field("pooled_width"), width))
        }
        None => Ok(()),
    }
}
