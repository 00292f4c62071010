//! A configuration held against an entry, field by field.

use super::read;
use crate::Model;
use crate::configuration::{Comparison, Configuration, ConfigurationError};
use warpmark_nets::decoder::{Architecture, Variant};

/// The keys of a variant's configuration by the fields of an entry.
struct Keys {
    vocabulary: &'static str,
    context: &'static str,
    width: &'static str,
    hidden: &'static str,
    layers: &'static str,
    heads: &'static str,
    activation: &'static str,
    norm_epsilon: &'static str,
}

const LLAMA: Keys = Keys {
    vocabulary: "vocab_size",
    context: "max_position_embeddings",
    width: "hidden_size",
    hidden: "intermediate_size",
    layers: "num_hidden_layers",
    heads: "num_attention_heads",
    activation: "hidden_act",
    norm_epsilon: "rms_norm_eps",
};

const GPT2: Keys = Keys {
    vocabulary: "vocab_size",
    context: "n_positions",
    width: "n_embd",
    hidden: "n_inner",
    layers: "n_layer",
    heads: "n_head",
    activation: "activation_function",
    norm_epsilon: "layer_norm_epsilon",
};

const OPT: Keys = Keys { hidden: "ffn_dim", activation: "activation_function", ..LLAMA };

const GEMMA: Keys = Keys { activation: "hidden_activation", ..LLAMA };

fn keys(variant: Variant) -> Keys {
    match variant {
        Variant::Gpt2 => GPT2,
        Variant::Opt => OPT,
        Variant::Gemma2 | Variant::Gemma3 => GEMMA,
        Variant::Qwen3Moe => Keys { hidden: "moe_intermediate_size", ..LLAMA },
        _ => LLAMA,
    }
}

/// Refuses a configuration that is not the entry's.
pub fn compare(
    model: &Model,
    entry: &Architecture,
    configuration: &Configuration,
) -> Result<(), ConfigurationError> {
    let comparison = Comparison::new(model, configuration);
    let found = comparison.read(read)?;
    compare_variants(&comparison, found.variant, entry.variant)?;
    let keys = keys(found.variant);
    for (key, field, found, entry) in [
        (keys.vocabulary, "vocabulary", found.vocabulary, entry.vocabulary),
        (keys.width, "width", found.width, entry.width),
        (keys.hidden, "hidden", found.hidden, entry.hidden),
        (keys.layers, "layers", found.layers, entry.layers),
        (keys.heads, "heads", found.heads, entry.heads),
        ("num_key_value_heads", "key_value_heads", found.key_value_heads, entry.key_value_heads),
        ("head_dim", "head_width", found.head_width, entry.head_width),
    ] {
        comparison.equal((key, found), (field, entry))?;
    }
    comparison.at_most((keys.context, found.context), ("context", entry.context))?;
    compare_windows(&comparison, &found, entry)?;
    let (a, b) = (found.activation, entry.activation);
    comparison.equal((keys.activation, a), ("activation", b))?;
    let (a, b) = (f64::from(found.norm_epsilon), f64::from(entry.norm_epsilon));
    comparison.close((keys.norm_epsilon, a), ("norm_epsilon", b))?;
    compare_flags(&comparison, &found, entry)?;
    compare_positions(&comparison, &found, entry)?;
    compare_scales(&comparison, &found, entry)
}

/// A Mistral is a Llama as far as its window reaches; all others are nets of their own.
fn compare_variants(
    comparison: &Comparison<'_>,
    found: Variant,
    entry: Variant,
) -> Result<(), ConfigurationError> {
    let alike = |variant| if variant == Variant::Mistral { Variant::Llama } else { variant };
    if alike(found) == alike(entry) {
        return Ok(());
    }
    comparison.equal(("model_type", found.name()), ("family", entry.name()))
}

/// Windows that are shorter than the longest sequence of the entry.
fn compare_windows(
    comparison: &Comparison<'_>,
    found: &Architecture,
    entry: &Architecture,
) -> Result<(), ConfigurationError> {
    let reaches = |window: Option<usize>| window.filter(|window| *window < entry.context);
    if let (Some(window), None) = (reaches(found.window), entry.window) {
        return comparison.at_most(("sliding_window", window), ("context", entry.context));
    }
    let windows = (reaches(found.window), reaches(entry.window));
    comparison.equal(("sliding_window", windows.0), ("window", windows.1))?;
    if windows.0.is_some() {
        let layers = (&found.full_layers, &entry.full_layers);
        comparison.equal(("layer_types", layers.0), ("full_layers", layers.1))?;
    }
    Ok(())
}

fn compare_flags(
    comparison: &Comparison<'_>,
    found: &Architecture,
    entry: &Architecture,
) -> Result<(), ConfigurationError> {
    for (key, field, found, entry) in [
        ("attention_bias", "qkv_bias", found.biases.qkv, entry.biases.qkv),
        ("attention_bias", "output_bias", found.biases.output, entry.biases.output),
        ("mlp_bias", "mlp_bias", found.biases.mlp, entry.biases.mlp),
        ("qk_norm", "qk_norm", found.qk_norm, entry.qk_norm),
        ("tie_word_embeddings", "tied", found.tied, entry.tied),
    ] {
        comparison.equal((key, found), (field, entry))?;
    }
    comparison.equal(("num_local_experts", found.experts), ("experts", entry.experts))
}

fn compare_positions(
    comparison: &Comparison<'_>,
    found: &Architecture,
    entry: &Architecture,
) -> Result<(), ConfigurationError> {
    if let (Some(a), Some(b)) = (found.rope, entry.rope) {
        comparison.close(("rope_theta", a.theta), ("rope_theta", b.theta))?;
        let (key, field) = ("partial_rotary_factor", "rope_fraction");
        comparison.equal((key, a.turned), (field, b.turned))?;
        comparison.equal(("rope_scaling", a.scaling), ("rope_scaling", b.scaling))?;
    }
    let (key, field) = ("rope_local_base_freq", "local_rope_theta");
    maybe_close(comparison, (key, found.local_theta), (field, entry.local_theta))
}

fn compare_scales(
    comparison: &Comparison<'_>,
    found: &Architecture,
    entry: &Architecture,
) -> Result<(), ConfigurationError> {
    let granite = found.variant == Variant::Granite;
    let scale = if granite { "attention_multiplier" } else { "query_pre_attn_scalar" };
    for (key, field, found, entry) in [
        (scale, "attention_scale", found.attention_scale, entry.attention_scale),
        ("embedding_multiplier", "embedding_scale", found.embedding_scale, entry.embedding_scale),
        ("residual_multiplier", "residual_scale", found.residual_scale, entry.residual_scale),
        ("logits_scaling", "logit_divisor", found.logit_divisor, entry.logit_divisor),
    ] {
        comparison.close((key, found), (field, entry))?;
    }
    for (key, field, found, entry) in [
        ("attn_logit_softcapping", "attention_cap", found.attention_cap, entry.attention_cap),
        ("final_logit_softcapping", "logit_cap", found.logit_cap, entry.logit_cap),
    ] {
        maybe_close(comparison, (key, found), (field, entry))?;
    }
    Ok(())
}

/// Refuses a number that only one of the two has, or that differs.
fn maybe_close(
    comparison: &Comparison<'_>,
    (key, found): (&'static str, Option<f64>),
    (field, entry): (&str, Option<f64>),
) -> Result<(), ConfigurationError> {
    match (found, entry) {
        (Some(found), Some(entry)) => comparison.close((key, found), (field, entry)),
        (found, entry) => comparison.equal((key, found), (field, entry)),
    }
}
