//! `unet/config.json`, as `UNet2DConditionModel` of diffusers writes it.

use serde_json::json;

use crate::Model;
use crate::configuration::{Comparison, Configuration, ConfigurationError, Unsupported};
use warpmark_nets::diffusion::{AddedNumbers, UnetNumbers};

/// Parts that no net of ours has: absent, null or false is what is computed.
const NOT_COMPUTED: [&str; 17] = [
    "center_input_sample",
    "only_cross_attention",
    "mid_block_only_cross_attention",
    "dual_cross_attention",
    "class_embed_type",
    "num_class_embeds",
    "class_embeddings_concat",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "time_embedding_dim",
    "time_embedding_act_fn",
    "timestep_post_act",
    "time_cond_proj_dim",
    "resnet_skip_time_act",
    "cross_attention_norm",
    "reverse_transformer_layers_per_block",
    "quantization_config",
];

/// Settings of which one value alone is computed: the key, its default, and that value.
fn fixed(c: &Configuration) -> Result<(), Unsupported> {
    c.only("_class_name", "UNet2DConditionModel", &[json!("UNet2DConditionModel")])?;
    c.only("act_fn", "silu", &[json!("silu"), json!("swish")])?;
    for (key, only) in [
        ("flip_sin_to_cos", json!(true)),
        ("freq_shift", json!(0)),
        ("norm_eps", json!(1e-5)),
        ("downsample_padding", json!(1)),
        ("mid_block_scale_factor", json!(1)),
        ("resnet_out_scale_factor", json!(1.0)),
        ("resnet_time_scale_shift", json!("default")),
        ("time_embedding_type", json!("positional")),
        ("attention_type", json!("default")),
        ("conv_in_kernel", json!(3)),
        ("conv_out_kernel", json!(3)),
    ] {
        c.only(key, only.clone(), &[only])?;
    }
    c.none_of(&NOT_COMPUTED)
}

/// The net that a configuration describes.
///
/// # Errors
/// Where it describes one that is not computed.
pub fn read(configuration: &Configuration) -> Result<UnetNumbers, Unsupported> {
    let c = configuration;
    fixed(c)?;
    let channels = c.counts("block_out_channels", &[320, 640, 1280, 1280])?;
    let depth = channels.len();
    let latents = c.count("in_channels", 4)?;
    if c.count("out_channels", 4)? != latents {
        return Err(c.unsupported("out_channels", format!("as many as in_channels, {latents}")));
    }
    let layers = c.count_of_each("layers_per_block", (2, depth))?;
    if layers.iter().any(|count| *count != layers[0]) {
        return Err(c.unsupported("layers_per_block", "the same number at each resolution"));
    }
    let of_each = c.count_of_each("transformer_layers_per_block", (1, depth))?;
    let (transformers, middle_transformers) = blocks(c, &of_each)?;
    // diffusers reads the number of heads out of the key that is named after their width.
    let heads = if c.get("num_attention_heads").is_some() {
        "num_attention_heads"
    } else {
        "attention_head_dim"
    };
    let text_widths = c.count_of_each("cross_attention_dim", (1280, depth))?;
    if text_widths.iter().any(|width| *width != text_widths[0]) {
        return Err(c.unsupported("cross_attention_dim", "the same width at each resolution"));
    }
    Ok(UnetNumbers {
        latents,
        layers: layers[0],
        transformers,
        middle_transformers,
        heads: c.count_of_each(heads, (8, depth))?,
        text_width: text_widths[0],
        linear_projection: c.flag("use_linear_projection", false)?,
        added: added(c)?,
        groups: c.count("norm_num_groups", 32)?,
        channels,
    })
}

/// Transformer blocks at each resolution and in the middle, by the kinds of the net's stages.
fn blocks(
    c: &Configuration,
    of_each: &[usize],
) -> Result<(Vec<usize>, Option<usize>), Unsupported> {
    const DOWN: [&str; 2] = ["CrossAttnDownBlock2D", "DownBlock2D"];
    const UP: [&str; 2] = ["CrossAttnUpBlock2D", "UpBlock2D"];
    let down = c.words("down_block_types", &[DOWN[0], DOWN[0], DOWN[0], DOWN[1]])?;
    let up = c.words("up_block_types", &[UP[1], UP[0], UP[0], UP[0]])?;
    for (key, kinds, known) in [("down_block_types", &down, DOWN), ("up_block_types", &up, UP)] {
        if kinds.len() != of_each.len() || kinds.iter().any(|kind| !known.contains(&kind.as_str()))
        {
            let computed = format!("{} or {} for each of block_out_channels", known[0], known[1]);
            return Err(c.unsupported(key, computed));
        }
    }
    let attends: Vec<bool> = down.iter().map(|kind| kind == DOWN[0]).collect();
    let mirrored = up.iter().rev().map(|kind| kind == UP[0]);
    if !mirrored.eq(attends.iter().copied()) {
        return Err(c.unsupported("up_block_types", "down_block_types the other way round"));
    }
    let transformers =
        attends.iter().zip(of_each).map(|(attends, count)| if *attends { *count } else { 0 });
    let middle = if c.is_null("mid_block_type") {
        None
    } else {
        let cross = "UNetMidBlock2DCrossAttn";
        c.only("mid_block_type", cross, &[json!(cross)])?;
        of_each.last().copied()
    };
    Ok((transformers.collect(), middle))
}

/// The added conditioning.
fn added(c: &Configuration) -> Result<Option<AddedNumbers>, Unsupported> {
    /// Numbers of size and crop.
    const IDS: usize = 6;
    match c.word("addition_embed_type") {
        None => {
            c.none_of(&["addition_embed_type"])?;
            Ok(None)
        }
        Some("text_time") => {
            let time_width = c.count("addition_time_embed_dim", 256)?;
            let all = c.count("projection_class_embeddings_input_dim", 0)?;
            let Some(pooled_width) = all.checked_sub(IDS * time_width) else {
                let computed = "a pooled text and six times addition_time_embed_dim";
                return Err(c.unsupported("projection_class_embeddings_input_dim", computed));
            };
            Ok(Some(AddedNumbers { time_width, pooled_width }))
        }
        Some(_) => Err(c.unsupported("addition_embed_type", "text_time, or none")),
    }
}

/// Refuses a configuration that is not the entry's.
pub(super) fn compare(
    model: &Model,
    entry: &UnetNumbers,
    configuration: &Configuration,
) -> Result<(), ConfigurationError> {
    let comparison = Comparison::new(model, configuration);
    let found = comparison.read(read)?;
    let channels = (&found.channels, &entry.channels);
    comparison.equal(("block_out_channels", channels.0), ("unet.channels", channels.1))?;
    for (key, field, found, entry) in [
        ("in_channels", "unet.latents", found.latents, entry.latents),
        ("layers_per_block", "unet.layers", found.layers, entry.layers),
        ("cross_attention_dim", "unet.text_width", found.text_width, entry.text_width),
        ("norm_num_groups", "unet.groups", found.groups, entry.groups),
    ] {
        comparison.equal((key, found), (field, entry))?;
    }
    let transformers = (&found.transformers, &entry.transformers);
    let key = "transformer_layers_per_block";
    comparison.equal((key, transformers.0), ("unet.transformers", transformers.1))?;
    let middle = (found.middle_transformers, entry.middle_transformers);
    comparison.equal(("mid_block_type", middle.0), ("unet.middle_transformers", middle.1))?;
    // Heads where nothing attends are nobody's.
    let last = entry.channels.len().saturating_sub(1);
    let used = |heads: &[usize]| -> Vec<usize> {
        let attends = |index: usize| {
            entry.transformers.get(index).is_some_and(|count| *count > 0)
                || index == last && entry.middle_transformers.is_some()
        };
        heads
            .iter()
            .enumerate()
            .filter(|(index, _)| attends(*index))
            .map(|(_, heads)| *heads)
            .collect()
    };
    let heads = (used(&found.heads), used(&entry.heads));
    comparison.equal(("attention_head_dim", heads.0), ("unet.heads", heads.1))?;
    let linear = (found.linear_projection, entry.linear_projection);
    comparison.equal(("use_linear_projection", linear.0), ("unet.linear_projection", linear.1))?;
    let added = (found.added.is_some(), entry.added.is_some());
    comparison.equal(("addition_embed_type", added.0), ("unet.added", added.1))?;
    let (Some(found), Some(entry)) = (found.added, entry.added) else { return Ok(()) };
    let widths = (found.time_width, entry.time_width);
    comparison.equal(("addition_time_embed_dim", widths.0), ("unet.added.time_width", widths.1))?;
    let field = ("unet.added.pooled_width", entry.pooled_width);
    comparison.equal(("projection_class_embeddings_input_dim", found.pooled_width), field)
}
