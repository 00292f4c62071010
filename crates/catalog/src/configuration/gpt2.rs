//! GPT-2's `config.json`, as `GPT2Config` of transformers writes it.

use serde_json::json;

use super::{Comparison, Configuration, ConfigurationError, Unsupported};
use crate::Model;
use warpmark_nets::gpt2::Architecture;

/// The architecture that a configuration describes.
///
/// # Errors
/// Where it describes a net that is not computed.
pub fn read(configuration: &Configuration) -> Result<Architecture, Unsupported> {
    let c = configuration;
    c.only("model_type", "gpt2", &[json!("gpt2")])?;
    c.none_of(&["quantization_config", "add_cross_attention", "is_encoder_decoder"])?;
    // One function under the names that it has had.
    let tanh = [json!("gelu_new"), json!("gelu_pytorch_tanh"), json!("gelu_fast")];
    c.only("activation_function", "gelu_new", &tanh)?;
    c.only("layer_norm_epsilon", 1e-5, &[json!(1e-5)])?;
    c.only("scale_attn_weights", true, &[json!(true)])?;
    c.only("scale_attn_by_inverse_layer_idx", false, &[json!(false)])?;
    c.only("reorder_and_upcast_attn", false, &[json!(false)])?;
    let width = c.count("n_embd", 768)?;
    if c.optional_count("n_inner")?.is_some_and(|inner| inner != 4 * width) {
        return Err(c.unsupported("n_inner", format!("four times the width, {}", 4 * width)));
    }
    if !c.flag("tie_word_embeddings", true)? {
        let computed = "true: wte.weight is the head, and an lm_head.weight of its own is left out";
        return Err(c.unsupported("tie_word_embeddings", computed));
    }
    Ok(Architecture {
        layers: c.count("n_layer", 12)?,
        heads: c.count("n_head", 12)?,
        width,
        context: c.count("n_positions", 1024)?,
        vocabulary: c.count("vocab_size", 50257)?,
    })
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
        ("n_layer", "layers", found.layers, entry.layers),
        ("n_head", "heads", found.heads, entry.heads),
        ("n_embd", "width", found.width, entry.width),
        ("n_positions", "context", found.context, entry.context),
        ("vocab_size", "vocabulary", found.vocabulary, entry.vocabulary),
    ] {
        comparison.equal((key, found), (field, entry))?;
    }
    Ok(())
}
