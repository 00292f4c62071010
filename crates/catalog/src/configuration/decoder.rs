//! A text decoder's `config.json`, as the configurations of transformers write it, and the metadata of its GGUF
//! files: read as the architecture section of an entry, and compared with one.

mod compare;
pub mod gguf;
mod layers;
mod rope;

use serde::Deserialize;
use serde_json::json;

use super::{Configuration, Unsupported};
use warpmark_nets::decoder::{Architecture, Invalid, Numbers, Variant};

pub use compare::compare;

/// What `model_type` says, and the variant that computes it.
const TYPES: [(&str, Variant); 12] = [
    ("gpt2", Variant::Gpt2),
    ("opt", Variant::Opt),
    ("llama", Variant::Llama),
    ("mistral", Variant::Mistral),
    ("qwen2", Variant::Qwen2),
    ("qwen3", Variant::Qwen3),
    ("gemma2", Variant::Gemma2),
    ("gemma3_text", Variant::Gemma3),
    ("phi3", Variant::Phi3),
    ("granite", Variant::Granite),
    ("mixtral", Variant::Mixtral),
    ("qwen3_moe", Variant::Qwen3Moe),
];

/// Settings of relatives, none of which is computed: absent, null or false is what these nets do.
const NOT_COMPUTED: [&str; 8] = [
    "use_qk_norm",
    "qk_layernorm",
    "qkv_bias",
    "add_cross_attention",
    "is_encoder_decoder",
    "no_rope_layers",
    "use_bidirectional_attention",
    "clip_qkv",
];

/// The architecture section of an entry, key by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Section(toml::Table);

impl Section {
    fn put(&mut self, key: &str, value: impl Into<toml::Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    fn count(&mut self, key: &str, value: usize) {
        self.put(key, i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// As an entry has it.
    pub fn table(&self) -> &toml::Table {
        &self.0
    }

    /// The net that it describes.
    pub fn architecture(&self, variant: Variant) -> Result<Architecture, Invalid> {
        let numbers = Numbers::deserialize(self.0.clone()).map_err(|error| Invalid {
            field: "architecture",
            value: self.0.to_string(),
            advice: error.message().to_owned(),
        })?;
        variant.architecture(&numbers)
    }
}

/// Every `model_type` that is computed.
pub fn known_types() -> impl Iterator<Item = &'static str> {
    TYPES.into_iter().map(|(name, _)| name)
}

/// The variant that a configuration names.
///
/// # Errors
/// Where it is none that is computed.
pub fn variant(c: &Configuration) -> Result<Variant, Unsupported> {
    let found = match c.word("model_type") {
        Some(name) => TYPES.into_iter().find(|(known, _)| *known == name),
        // Files were written without it.
        None if c.get("n_embd").is_some() => Some(TYPES[0]),
        None if c.get("hidden_size").is_some() => Some(TYPES[2]),
        None => None,
    };
    let known: Vec<&str> = known_types().collect();
    let found = found.map(|(_, variant)| variant);
    found.ok_or_else(|| c.unsupported("model_type", known.join(" or ")))
}

/// What a configuration describes, as an entry's architecture section.
///
/// # Errors
/// Where it describes a net that is not computed.
pub fn section(c: &Configuration) -> Result<(Variant, Section), Unsupported> {
    let variant = variant(c)?;
    if c.get("quantization_config").is_some() {
        let computed = "weights of f32, f16 or bf16, or those of a GGUF file";
        return Err(c.unsupported("quantization_config", computed));
    }
    c.none_of(&NOT_COMPUTED)?;
    let section = match variant {
        Variant::Gpt2 => gpt2(c)?,
        Variant::Opt => opt(c)?,
        _ => llama_like(c, variant)?,
    };
    Ok((variant, section))
}

/// The architecture that a configuration describes.
///
/// # Errors
/// Where it describes a net that is not computed.
pub fn read(c: &Configuration) -> Result<Architecture, Unsupported> {
    let (variant, section) = section(c)?;
    section.architecture(variant).map_err(|invalid| unsupported(c, invalid))
}

fn unsupported(_: &Configuration, invalid: Invalid) -> Unsupported {
    Unsupported { key: invalid.field.to_owned(), value: invalid.value, computed: invalid.advice }
}

fn gpt2(c: &Configuration) -> Result<Section, Unsupported> {
    c.only("scale_attn_weights", true, &[json!(true)])?;
    c.only("scale_attn_by_inverse_layer_idx", false, &[json!(false)])?;
    c.only("reorder_and_upcast_attn", false, &[json!(false)])?;
    let mut s = Section::default();
    s.count("vocabulary", c.count("vocab_size", 50257)?);
    s.count("context", c.count("n_positions", 1024)?);
    let width = c.count("n_embd", 768)?;
    s.count("width", width);
    s.count("layers", c.count("n_layer", 12)?);
    s.count("heads", c.count("n_head", 12)?);
    if let Some(hidden) = c.optional_count("n_inner")?.filter(|hidden| *hidden != 4 * width) {
        s.count("hidden", hidden);
    }
    s.put("activation", activation(c, "activation_function", Some("gelu_new"))?);
    s.put("norm_epsilon", c.number("layer_norm_epsilon", 1e-5)?);
    s.put("tied", c.flag("tie_word_embeddings", true)?);
    Ok(s)
}

fn opt(c: &Configuration) -> Result<Section, Unsupported> {
    c.only("do_layer_norm_before", true, &[json!(true)])?;
    c.only("_remove_final_layer_norm", false, &[json!(false)])?;
    c.only("layer_norm_elementwise_affine", true, &[json!(true)])?;
    let width = needed(c, "hidden_size")?;
    if c.optional_count("word_embed_proj_dim")?.is_some_and(|own| own != width) {
        return Err(c.unsupported("word_embed_proj_dim", format!("hidden_size = {width}")));
    }
    let mut s = Section::default();
    s.count("vocabulary", needed(c, "vocab_size")?);
    s.count("context", needed(c, "max_position_embeddings")?);
    s.count("width", width);
    s.count("hidden", needed(c, "ffn_dim")?);
    s.count("layers", needed(c, "num_hidden_layers")?);
    s.count("heads", needed(c, "num_attention_heads")?);
    s.put("activation", activation(c, "activation_function", Some("relu"))?);
    if !c.flag("enable_bias", true)? {
        for key in ["qkv_bias", "output_bias", "mlp_bias"] {
            s.put(key, false);
        }
    }
    s.put("tied", c.flag("tie_word_embeddings", true)?);
    Ok(s)
}

/// A whole number that a file must have.
fn needed(c: &Configuration, key: &str) -> Result<usize, Unsupported> {
    c.optional_count(key)?.ok_or_else(|| c.unsupported(key, "a whole number"))
}

/// The activation under the names that it has had.
fn activation(
    c: &Configuration,
    key: &str,
    absent: Option<&str>,
) -> Result<&'static str, Unsupported> {
    match c.word(key).or(absent.filter(|_| c.get(key).is_none())) {
        Some("relu") => Ok("relu"),
        Some("gelu") => Ok("gelu"),
        Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Ok("gelu_tanh"),
        Some("silu" | "swish") => Ok("silu"),
        _ => Err(c.unsupported(key, "relu, gelu, gelu_new, gelu_pytorch_tanh or silu")),
    }
}

/// Llama and all that followed it.
fn llama_like(c: &Configuration, variant: Variant) -> Result<Section, Unsupported> {
    // The oldest files leave out what was then the only choice.
    let old = matches!(variant, Variant::Llama | Variant::Mistral);
    let count = |key: &str, absent: usize| if old { c.count(key, absent) } else { needed(c, key) };
    let mistral = variant == Variant::Mistral;
    let gemma = matches!(variant, Variant::Gemma2 | Variant::Gemma3);
    let (width, heads) = (count("hidden_size", 4096)?, count("num_attention_heads", 32)?);
    let layers = count("num_hidden_layers", 32)?;
    let mut s = Section::default();
    s.count("vocabulary", count("vocab_size", 32000)?);
    s.count("width", width);
    s.count("layers", layers);
    s.count("heads", heads);
    s.count("key_value_heads", c.count("num_key_value_heads", if mistral { 8 } else { heads })?);
    let usual = match variant {
        Variant::Qwen3 => 128,
        Variant::Gemma2 | Variant::Gemma3 => 256,
        _ => width / heads.max(1),
    };
    let head_width = c.count("head_dim", usual)?;
    if head_width.checked_mul(heads) != Some(width) {
        s.count("head_width", head_width);
    }
    let hidden = match variant {
        Variant::Qwen3Moe => needed(c, "moe_intermediate_size")?,
        _ => count("intermediate_size", if mistral { 14336 } else { 11008 })?,
    };
    s.count("hidden", hidden);
    s.put("norm_epsilon", c.number("rms_norm_eps", 1e-6)?);
    if gemma {
        activation_of_gemma(c, &mut s)?;
    } else {
        s.put("activation", activation(c, "hidden_act", Some("silu"))?);
    }
    s.put("tied", c.flag("tie_word_embeddings", gemma)?);
    layers::biases(c, variant, &mut s)?;
    layers::windows(c, (variant, layers), &mut s)?;
    layers::scales(c, variant, &mut s)?;
    layers::experts(c, variant, &mut s)?;
    rope::read(c, (variant, head_width), &mut s)?;
    Ok(s)
}

fn activation_of_gemma(c: &Configuration, s: &mut Section) -> Result<(), Unsupported> {
    // `hidden_act` of the first files was a slip that transformers passes over.
    s.put("activation", activation(c, "hidden_activation", Some("gelu_pytorch_tanh"))?);
    Ok(())
}
