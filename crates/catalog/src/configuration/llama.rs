//! A Llama's `config.json`, as `LlamaConfig` and `MistralConfig` of transformers write it, and the
//! metadata of its GGUF files.

use serde_json::json;

use super::{Comparison, Configuration, ConfigurationError, Unsupported};
use crate::Model;
use warpmark_nets::llama::{Architecture, RopeScaling, inverse_frequencies};
use warpmark_weights::gguf::ROPE_FACTORS;

/// Settings of relatives, none of which is computed: absent, null or false is what a Llama does.
const NOT_COMPUTED: [&str; 12] = [
    "quantization_config",
    "attention_bias",
    "mlp_bias",
    "qkv_bias",
    "use_qk_norm",
    "qk_layernorm",
    "final_logit_softcapping",
    "attn_logit_softcapping",
    "add_cross_attention",
    "no_rope_layers",
    "num_local_experts",
    "num_experts",
];

/// Multipliers of relatives, which a Llama does not have: 1 is none.
const MULTIPLIERS: [&str; 5] = [
    "embedding_multiplier",
    "residual_multiplier",
    "logits_scaling",
    "attention_multiplier",
    "partial_rotary_factor",
];

/// The architecture that a configuration describes.
///
/// Its context ends where a window of attention would begin to hide something: up to there it is the
/// same net.
///
/// # Errors
/// Where it describes a net that is not computed.
pub fn read(configuration: &Configuration) -> Result<Architecture, Unsupported> {
    let c = configuration;
    c.only("model_type", "llama", &[json!("llama"), json!("mistral")])?;
    c.none_of(&NOT_COMPUTED)?;
    for multiplier in MULTIPLIERS {
        c.only(multiplier, 1.0, &[json!(1.0)])?;
    }
    c.only("hidden_act", "silu", &[json!("silu"), json!("swish")])?;
    let mistral = c.word("model_type") == Some("mistral");
    let heads = c.count("num_attention_heads", 32)?;
    let width = c.count("hidden_size", 4096)?;
    let head_width = width / heads.max(1);
    if c.optional_count("head_dim")?.is_some_and(|own| own != head_width) {
        let computed = format!("hidden_size / num_attention_heads = {head_width}");
        return Err(c.unsupported("head_dim", computed));
    }
    let (rope_theta, rope_scaling) = rope(c)?;
    Ok(Architecture {
        vocabulary: c.count("vocab_size", 32000)?,
        context: context(c, mistral)?,
        width,
        hidden: c.count("intermediate_size", if mistral { 14336 } else { 11008 })?,
        layers: c.count("num_hidden_layers", 32)?,
        heads,
        key_value_heads: c.count("num_key_value_heads", if mistral { 8 } else { heads })?,
        norm_epsilon: c.number("rms_norm_eps", 1e-6)? as f32,
        rope_theta,
        rope_scaling,
        tied: c.flag("tie_word_embeddings", false)?,
    })
}

/// The longest sequence in which every token sees all that are in front of it.
fn context(c: &Configuration, mistral: bool) -> Result<usize, Unsupported> {
    let kinds = c.words("layer_types", &[])?;
    if kinds.iter().any(|kind| kind != "full_attention" && kind != "sliding_attention") {
        return Err(c.unsupported("layer_types", "full attention"));
    }
    let positions = c.count("max_position_embeddings", if mistral { 131_072 } else { 2048 })?;
    let given = c.optional_count("sliding_window")?;
    let window = if mistral && !c.is_null("sliding_window") { given.or(Some(4096)) } else { given };
    let used = c.flag("use_sliding_window", true)?;
    Ok(window.filter(|_| used).map_or(positions, |window| window.min(positions)))
}

/// The base of the rotary frequencies and how they are stretched: `rope_parameters` since transformers 5,
/// `rope_theta` and `rope_scaling` before.
fn rope(c: &Configuration) -> Result<(f64, Option<RopeScaling>), Unsupported> {
    let key = ["rope_parameters", "rope_scaling"].into_iter().find(|key| c.get(key).is_some());
    let theta = c.number("rope_theta", 10_000.0)?;
    let Some(key) = key else { return Ok((theta, None)) };
    let computed = "the rope_type default or llama3";
    let Some(table) = c.table(key) else { return Err(c.unsupported(key, computed)) };
    let theta = table.number("rope_theta", theta)?;
    table.only("partial_rotary_factor", 1.0, &[json!(1.0)])?;
    let kind = table.word("rope_type").or_else(|| table.word("type"));
    match kind {
        Some("llama3") => {
            let number = |key: &str| match table.get(key) {
                Some(_) => table.number(key, 0.0),
                None => Err(table.unsupported(key, "a number")),
            };
            Ok((
                theta,
                Some(RopeScaling {
                    factor: number("factor")?,
                    low_frequency_factor: number("low_freq_factor")?,
                    high_frequency_factor: number("high_freq_factor")?,
                    original_context: match table
                        .optional_count("original_max_position_embeddings")?
                    {
                        Some(positions) => positions,
                        None => c.count("original_max_position_embeddings", 8192)?,
                    },
                }),
            ))
        }
        Some("default") => Ok((theta, None)),
        // Parameters for each kind of layer are a relative's.
        None if !table.has_tables() => Ok((theta, None)),
        _ => Err(c.unsupported(key, computed)),
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
    for (key, field, found, entry) in [
        ("vocab_size", "vocabulary", found.vocabulary, entry.vocabulary),
        ("hidden_size", "width", found.width, entry.width),
        ("intermediate_size", "hidden", found.hidden, entry.hidden),
        ("num_hidden_layers", "layers", found.layers, entry.layers),
        ("num_attention_heads", "heads", found.heads, entry.heads),
        ("num_key_value_heads", "key_value_heads", found.key_value_heads, entry.key_value_heads),
    ] {
        comparison.equal((key, found), (field, entry))?;
    }
    let positions =
        configuration.count("max_position_embeddings", usize::MAX).unwrap_or(usize::MAX);
    let limit =
        if found.context < positions { "sliding_window" } else { "max_position_embeddings" };
    comparison.at_most((limit, found.context), ("context", entry.context))?;
    let epsilons = (f64::from(found.norm_epsilon), f64::from(entry.norm_epsilon));
    comparison.close(("rms_norm_eps", epsilons.0), ("norm_epsilon", epsilons.1))?;
    comparison.close(("rope_theta", found.rope_theta), ("rope_theta", entry.rope_theta))?;
    comparison.equal(("rope_scaling", found.rope_scaling), ("rope_scaling", entry.rope_scaling))?;
    comparison.equal(("tie_word_embeddings", found.tied), ("tied", entry.tied))
}

/// Refuses a GGUF file whose metadata is not the entry's. What it does not say is not compared.
pub fn compare_metadata(
    model: &Model,
    entry: &Architecture,
    metadata: &Configuration,
) -> Result<(), ConfigurationError> {
    let comparison = Comparison::new(model, metadata);
    for (key, field, entry) in [
        ("llama.embedding_length", "width", entry.width),
        ("llama.feed_forward_length", "hidden", entry.hidden),
        ("llama.block_count", "layers", entry.layers),
        ("llama.attention.head_count", "heads", entry.heads),
        ("llama.attention.head_count_kv", "key_value_heads", entry.key_value_heads),
        ("llama.rope.dimension_count", "width / heads", entry.head_width()),
        ("llama.attention.key_length", "width / heads", entry.head_width()),
    ] {
        let found = comparison.read(|metadata| metadata.count(key, entry))?;
        comparison.equal((key, found), (field, entry))?;
    }
    let key = "llama.context_length";
    let found = comparison.read(|metadata| metadata.count(key, entry.context))?;
    comparison.at_most((key, found), ("context", entry.context))?;
    let epsilon = f64::from(entry.norm_epsilon);
    for (key, field, entry) in [
        ("llama.attention.layer_norm_rms_epsilon", "norm_epsilon", epsilon),
        ("llama.rope.freq_base", "rope_theta", entry.rope_theta),
    ] {
        let found = comparison.read(|metadata| metadata.number(key, entry))?;
        comparison.close((key, found), (field, entry))?;
    }
    comparison.read(|metadata| {
        metadata.only("llama.expert_count", 0, &[json!(0)])?;
        metadata.only("llama.rope.scaling.type", "none", &[json!("none")])
    })?;
    // Files made before llama.cpp knew of the stretching have no factors.
    let Some(found) = comparison.read(|metadata| metadata.numbers(ROPE_FACTORS))? else {
        return Ok(());
    };
    let plain = Architecture { rope_scaling: None, ..entry.clone() };
    let lowered = inverse_frequencies(&plain).into_iter().zip(inverse_frequencies(entry));
    let expected: Vec<f64> = lowered.map(|(plain, stretched)| plain / stretched).collect();
    let same = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-3 * b.abs();
    if found.len() == expected.len() && found.iter().zip(&expected).all(same) {
        return Ok(());
    }
    comparison.equal((ROPE_FACTORS, Some("other factors")), ("rope_scaling", None))
}
