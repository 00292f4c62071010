//! The metadata of a GGUF file, as llama.cpp writes it.

use serde_json::json;

use crate::Model;
use crate::configuration::{Comparison, Configuration, ConfigurationError};
use warpmark_nets::decoder::{Architecture, Rope, RopeScaling};
use warpmark_weights::gguf::ROPE_FACTORS;

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
        ("llama.rope.dimension_count", "width / heads", entry.head_width),
        ("llama.attention.key_length", "width / heads", entry.head_width),
    ] {
        let found = comparison.read(|metadata| metadata.count(key, entry))?;
        comparison.equal((key, found), (field, entry))?;
    }
    let key = "llama.context_length";
    let found = comparison.read(|metadata| metadata.count(key, entry.context))?;
    comparison.at_most((key, found), ("context", entry.context))?;
    let rope = entry.rope.unwrap_or(Rope { theta: 0.0, turned: 0, scaling: None });
    for (key, field, entry) in [
        ("llama.attention.layer_norm_rms_epsilon", "norm_epsilon", f64::from(entry.norm_epsilon)),
        ("llama.rope.freq_base", "rope_theta", rope.theta),
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
    let plain = Rope { scaling: None, ..rope }.inverse_frequencies();
    let lowered = plain.into_iter().zip(rope.inverse_frequencies());
    let expected: Vec<f64> = lowered.map(|(plain, stretched)| plain / stretched).collect();
    let same = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-3 * b.abs();
    let llama3 =
        !matches!(rope.scaling, Some(RopeScaling::Linear { .. } | RopeScaling::Yarn { .. }));
    if llama3 && found.len() == expected.len() && found.iter().zip(&expected).all(same) {
        return Ok(());
    }
    comparison.equal((ROPE_FACTORS, Some("other factors")), ("rope_scaling", None))
}
