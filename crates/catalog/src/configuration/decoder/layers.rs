//! What the layers of a decoder differ in beyond their widths: biases, windows, scales, experts.

use serde_json::json;

use super::{Section, needed};
use crate::configuration::{Configuration, Unsupported};
use warpmark_nets::decoder::Variant;

pub(super) fn biases(
    c: &Configuration,
    variant: Variant,
    s: &mut Section,
) -> Result<(), Unsupported> {
    match variant {
        Variant::Llama
        | Variant::Granite
        | Variant::Qwen3
        | Variant::Qwen3Moe
        | Variant::Gemma2
        | Variant::Gemma3 => {
            if c.flag("attention_bias", false)? {
                s.put("qkv_bias", true);
                s.put("output_bias", true);
            }
        }
        _ => c.none_of(&["attention_bias"])?,
    }
    match variant {
        Variant::Llama | Variant::Granite => {
            if c.flag("mlp_bias", false)? {
                s.put("mlp_bias", true);
            }
            Ok(())
        }
        _ => c.none_of(&["mlp_bias"]),
    }
}

/// The context, and how much of it layers attend to.
pub(super) fn windows(
    c: &Configuration,
    (variant, layers): (Variant, usize),
    s: &mut Section,
) -> Result<(), Unsupported> {
    let absent = match variant {
        Variant::Llama => Some(2048),
        Variant::Mistral => Some(131_072),
        _ => None,
    };
    let context = match absent {
        Some(absent) => c.count("max_position_embeddings", absent)?,
        None => needed(c, "max_position_embeddings")?,
    };
    s.count("context", context);
    let given = c.optional_count("sliding_window")?;
    let window = match variant {
        Variant::Mistral | Variant::Gemma2 | Variant::Gemma3 => {
            if c.is_null("sliding_window") {
                None
            } else {
                given.or(Some(4096))
            }
        }
        Variant::Qwen2 | Variant::Qwen3 | Variant::Qwen3Moe => {
            given.or(Some(4096)).filter(|_| c.get("use_sliding_window") == Some(&json!(true)))
        }
        _ => given,
    };
    let full = full_layers(c, variant, layers)?;
    let Some(window) = window.filter(|_| full.len() < layers) else { return Ok(()) };
    s.count("window", window);
    if !full.is_empty() {
        let whole = |layer| toml::Value::Integer(i64::try_from(layer).unwrap_or(i64::MAX));
        let full: Vec<toml::Value> = full.into_iter().map(whole).collect();
        s.put("full_layers", full);
    }
    Ok(())
}

/// The layers that have no window.
fn full_layers(
    c: &Configuration,
    variant: Variant,
    layers: usize,
) -> Result<Vec<usize>, Unsupported> {
    if c.get("layer_types").is_some() {
        let kinds = c.words("layer_types", &[])?;
        let known = |kind: &String| kind == "full_attention" || kind == "sliding_attention";
        if !kinds.iter().all(known) || kinds.len() != layers {
            let computed =
                format!("full_attention or sliding_attention for each of {layers} layers");
            return Err(c.unsupported("layer_types", computed));
        }
        let full = |(layer, kind): (usize, &String)| (kind == "full_attention").then_some(layer);
        return Ok(kinds.iter().enumerate().filter_map(full).collect());
    }
    let every = match variant {
        Variant::Gemma2 => 2,
        Variant::Gemma3 => c.count("sliding_window_pattern", 6)?.max(1),
        Variant::Qwen2 | Variant::Qwen3 | Variant::Qwen3Moe => {
            let last = c.count("max_window_layers", 28)?;
            return Ok((0..layers.min(last)).collect());
        }
        _ => return Ok(Vec::new()),
    };
    Ok((0..layers).filter(|layer| (layer + 1) % every == 0).collect())
}

/// Multipliers and caps, each refused where the variant does not have it.
pub(super) fn scales(
    c: &Configuration,
    variant: Variant,
    s: &mut Section,
) -> Result<(), Unsupported> {
    if variant == Variant::Granite {
        for (key, field) in [
            ("embedding_multiplier", "embedding_scale"),
            ("residual_multiplier", "residual_scale"),
            ("attention_multiplier", "attention_scale"),
            ("logits_scaling", "logit_divisor"),
        ] {
            s.put(field, c.number(key, 1.0)?);
        }
    } else {
        for key in [
            "embedding_multiplier",
            "residual_multiplier",
            "logits_scaling",
            "attention_multiplier",
        ] {
            c.only(key, 1.0, &[json!(1.0)])?;
        }
    }
    let caps =
        [("attn_logit_softcapping", "attention_cap"), ("final_logit_softcapping", "logit_cap")];
    match variant {
        Variant::Gemma2 | Variant::Gemma3 => {
            let scalar = c.number("query_pre_attn_scalar", 256.0)?;
            s.put("attention_scale", scalar.powf(-0.5));
            for ((key, field), absent) in caps.into_iter().zip([50.0, 30.0]) {
                let capped = variant == Variant::Gemma2 && !c.is_null(key) || c.get(key).is_some();
                if capped {
                    s.put(field, c.number(key, absent)?);
                }
            }
            Ok(())
        }
        _ => c.none_of(&caps.map(|(key, _)| key)),
    }
}

pub(super) fn experts(
    c: &Configuration,
    variant: Variant,
    s: &mut Section,
) -> Result<(), Unsupported> {
    let count = match variant {
        Variant::Mixtral => "num_local_experts",
        // So called since transformers 5.
        Variant::Qwen3Moe if c.get("num_local_experts").is_some() => "num_local_experts",
        Variant::Qwen3Moe => "num_experts",
        _ => return c.none_of(&["num_local_experts", "num_experts"]),
    };
    c.none_of(&["num_shared_experts", "shared_expert_intermediate_size"])?;
    if variant == Variant::Qwen3Moe {
        c.only("decoder_sparse_step", 1, &[json!(1)])?;
        c.only("mlp_only_layers", json!([]), &[json!([])])?;
    }
    let mut experts = Section::default();
    experts.count("count", needed(c, count)?);
    experts.count("per_token", needed(c, "num_experts_per_tok")?);
    let normalised = variant == Variant::Mixtral || c.flag("norm_topk_prob", false)?;
    experts.put("normalised", normalised);
    s.put("experts", experts.0);
    Ok(())
}
