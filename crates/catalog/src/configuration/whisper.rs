//! Whisper's `config.json`, as `WhisperConfig` of transformers writes it.

use serde_json::json;

use super::{Comparison, Configuration, ConfigurationError, Unsupported};
use crate::Model;
use warpmark_nets::whisper::Architecture;
use warpmark_nets::whisper::mel::{FRAME, HOP, RATE};

/// The architecture that a configuration describes.
///
/// # Errors
/// Where it describes a net that is not computed.
pub fn read(configuration: &Configuration) -> Result<Architecture, Unsupported> {
    let c = configuration;
    c.only("model_type", "whisper", &[json!("whisper")])?;
    c.none_of(&["quantization_config", "use_weighted_layer_sum"])?;
    c.only("activation_function", "gelu", &[json!("gelu")])?;
    c.only("scale_embedding", false, &[json!(false)])?;
    let width = c.count("d_model", 384)?;
    for key in ["encoder_ffn_dim", "decoder_ffn_dim"] {
        if c.count(key, 1536)? != 4 * width {
            return Err(c.unsupported(key, format!("four times the width, {}", 4 * width)));
        }
    }
    let heads = c.count("encoder_attention_heads", 6)?;
    if c.count("decoder_attention_heads", 6)? != heads {
        let computed = format!("as many as encoder_attention_heads, {heads}");
        return Err(c.unsupported("decoder_attention_heads", computed));
    }
    if !c.flag("tie_word_embeddings", true)? {
        let computed = "true: the decoder's embeddings are the head, and a proj_out.weight of its own is \
                        left out";
        return Err(c.unsupported("tie_word_embeddings", computed));
    }
    Ok(Architecture {
        mels: c.count("num_mel_bins", 80)?,
        audio_positions: c.count("max_source_positions", 1500)?,
        text_positions: c.count("max_target_positions", 448)?,
        width,
        heads,
        encoder_layers: c.count("encoder_layers", 4)?,
        decoder_layers: c.count("decoder_layers", 4)?,
        vocabulary: c.count("vocab_size", 51865)?,
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
        ("num_mel_bins", "mels", found.mels, entry.mels),
        ("max_source_positions", "audio_positions", found.audio_positions, entry.audio_positions),
        ("max_target_positions", "text_positions", found.text_positions, entry.text_positions),
        ("d_model", "width", found.width, entry.width),
        ("encoder_attention_heads", "heads", found.heads, entry.heads),
        ("encoder_layers", "encoder_layers", found.encoder_layers, entry.encoder_layers),
        ("decoder_layers", "decoder_layers", found.decoder_layers, entry.decoder_layers),
        ("vocab_size", "vocabulary", found.vocabulary, entry.vocabulary),
    ] {
        comparison.equal((key, found), (field, entry))?;
    }
    Ok(())
}

/// Refuses a feature extractor (`preprocessor_config.json`) that makes other spectrograms than ours.
pub fn compare_features(
    model: &Model,
    entry: &Architecture,
    configuration: &Configuration,
) -> Result<(), ConfigurationError> {
    let comparison = Comparison::new(model, configuration);
    let mels = comparison.read(|c| {
        c.only("n_fft", FRAME, &[json!(FRAME)])?;
        c.only("hop_length", HOP, &[json!(HOP)])?;
        c.only("sampling_rate", RATE, &[json!(RATE)])?;
        c.count("feature_size", entry.mels)
    })?;
    comparison.equal(("feature_size", mels), ("mels", entry.mels))
}
