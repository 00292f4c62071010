use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::*;
use crate::Catalog;

/// The published configurations of a model of the catalog, by their paths in its repository.
fn published(id: &str) -> Vec<(&'static str, Value)> {
    match id {
        "gpt2-124m" => vec![("config.json", gpt2())],
        "smollm2-135m" => vec![("config.json", smollm())],
        "llama-3.1-8b" => vec![("config.json", llama31())],
        "whisper-tiny" => {
            vec![("config.json", whisper()), ("preprocessor_config.json", features())]
        }
        "resnet-50" => vec![("config.json", resnet())],
        "sd-1.5" => vec![
            ("unet/config.json", unet15()),
            ("vae/config.json", vae15()),
            ("text_encoder/config.json", text15()),
            ("scheduler/scheduler_config.json", scheduler15()),
        ],
        _ => vec![("unet/config.json", unet_xl()), ("text_encoder_2/config.json", text_xl())],
    }
}

fn gpt2() -> Value {
    json!({"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"],
        "layer_norm_epsilon": 1e-5, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12,
        "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1, "vocab_size": 50257})
}

fn smollm() -> Value {
    json!({"architectures": ["LlamaForCausalLM"], "attention_bias": false, "hidden_act": "silu",
        "hidden_size": 576, "intermediate_size": 1536, "is_llama_config": true,
        "max_position_embeddings": 8192, "model_type": "llama", "num_attention_heads": 9,
        "num_hidden_layers": 30, "num_key_value_heads": 3, "pretraining_tp": 1, "rms_norm_eps": 1e-5,
        "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100_000,
        "tie_word_embeddings": true, "vocab_size": 49152})
}

fn llama31() -> Value {
    json!({"hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336, "mlp_bias": false,
        "max_position_embeddings": 131_072, "model_type": "llama", "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 500_000.0,
        "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "tie_word_embeddings": false, "vocab_size": 128_256})
}

fn whisper() -> Value {
    json!({"activation_function": "gelu", "d_model": 384, "decoder_attention_heads": 6,
        "decoder_ffn_dim": 1536, "decoder_layers": 4, "encoder_attention_heads": 6,
        "encoder_ffn_dim": 1536, "encoder_layers": 4, "is_encoder_decoder": true,
        "max_source_positions": 1500, "max_target_positions": 448, "model_type": "whisper",
        "num_mel_bins": 80, "scale_embedding": false, "vocab_size": 51865})
}

fn features() -> Value {
    json!({"feature_size": 80, "n_fft": 400, "hop_length": 160, "sampling_rate": 16000})
}

fn resnet() -> Value {
    json!({"architecture": "resnet50", "num_classes": 1000, "num_features": 2048,
        "pretrained_cfg": {"tag": "a1_in1k", "input_size": [3, 224, 224], "pool_size": [7, 7],
            "num_classes": 1000, "first_conv": "conv1", "classifier": "fc"}})
}

fn unet15() -> Value {
    json!({"_class_name": "UNet2DConditionModel", "act_fn": "silu", "attention_head_dim": 8,
        "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false,
        "cross_attention_dim": 768, "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0,
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
            "DownBlock2D"],
        "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-5,
        "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D",
            "CrossAttnUpBlock2D"]})
}

fn vae15() -> Value {
    json!({"_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
        "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3,
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D",
            "UpDecoderBlock2D"]})
}

fn text15() -> Value {
    json!({"architectures": ["CLIPTextModel"], "hidden_act": "quick_gelu", "hidden_size": 768,
        "intermediate_size": 3072, "layer_norm_eps": 1e-5, "max_position_embeddings": 77,
        "model_type": "clip_text_model", "num_attention_heads": 12, "num_hidden_layers": 12,
        "projection_dim": 768, "vocab_size": 49408})
}

fn scheduler15() -> Value {
    json!({"_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": false,
        "skip_prk_steps": true, "steps_offset": 1, "trained_betas": null, "clip_sample": false})
}

fn unet_xl() -> Value {
    json!({"_class_name": "UNet2DConditionModel", "act_fn": "silu", "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256, "attention_head_dim": [5, 10, 20],
        "block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "mid_block_type": "UNetMidBlock2DCrossAttn", "only_cross_attention": false,
        "projection_class_embeddings_input_dim": 2816, "transformer_layers_per_block": [1, 2, 10],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "upcast_attention": null, "use_linear_projection": true})
}

fn text_xl() -> Value {
    json!({"architectures": ["CLIPTextModelWithProjection"], "hidden_act": "gelu", "hidden_size": 1280,
        "intermediate_size": 5120, "model_type": "clip_text_model", "num_attention_heads": 20,
        "num_hidden_layers": 32, "projection_dim": 1280})
}

fn catalog() -> Catalog {
    Catalog::parse_with(include_str!("../../../models.toml"), "models.toml", |_| Ok(())).unwrap()
}

fn architecture<T: serde::de::DeserializeOwned>(model: &Model) -> T {
    model.section("architecture").unwrap()
}

fn decoder_of(model: &Model) -> warpmark_nets::decoder::Architecture {
    let variant = warpmark_nets::decoder::Variant::named(&model.family).unwrap();
    variant.architecture(&architecture(model)).unwrap()
}

/// Holds configurations against an entry as its family does.
fn compared(model: &Model, find: &Find<'_>) -> Result<(), ConfigurationError> {
    let at_root = |name| find(name).map(Option::unwrap);
    match model.family.as_str() {
        "gpt2" | "llama" => decoder::compare(model, &decoder_of(model), &at_root("config.json")?),
        "whisper" => {
            let numbers = architecture(model);
            whisper::compare(model, &numbers, &at_root("config.json")?)?;
            let features = at_root("preprocessor_config.json")?;
            whisper::compare_features(model, &numbers, &features)
        }
        "resnet" => resnet::compare(model, &architecture(model), &at_root("config.json")?),
        _ => diffusion::compare(model, &architecture(model), find),
    }
}

/// What a model of the catalog says of its published configurations, `file`'s keys changed.
fn checked(id: &str, file: &str, changes: &Value) -> Result<(), String> {
    let catalog = catalog();
    let model = catalog.model(id).unwrap();
    let mut files: HashMap<&str, Value> = published(id).into_iter().collect();
    for (key, value) in changes.as_object().unwrap() {
        files.get_mut(file).unwrap().as_object_mut().unwrap().insert(key.clone(), value.clone());
    }
    let find = |name: &str| {
        let keys = files.get(name).map(|value| value.as_object().unwrap().clone());
        Ok(keys.map(|keys| Configuration::of(PathBuf::from(name), keys)))
    };
    let checked = compared(model, &find);
    checked.map_err(|error| error.to_string())
}

/// Every change is refused, with the key and its value, in the given file.
fn refused(id: &str, file: &str, changes: &[Value]) {
    for change in changes {
        let error = checked(id, file, change).err().unwrap_or_else(|| panic!("{id} took {change}"));
        let (key, value) = change.as_object().unwrap().iter().next_back().unwrap();
        let shown = value.as_str().unwrap_or(key);
        assert!(error.contains(file) && error.contains(key) && error.contains(shown), "{error}");
    }
}

#[test]
fn the_published_configurations_are_those_of_the_catalog() {
    for id in [
        "gpt2-124m",
        "smollm2-135m",
        "llama-3.1-8b",
        "whisper-tiny",
        "resnet-50",
        "sd-1.5",
        "sdxl-1.0",
    ] {
        let (file, _) = published(id)[0];
        checked(id, file, &json!({})).unwrap();
    }
}

#[test]
fn a_gpt2_with_settings_of_its_own_is_refused() {
    let changes = [
        json!({"activation_function": "relu"}),
        json!({"activation_function": "gelu"}),
        json!({"layer_norm_epsilon": 1e-3}),
        json!({"scale_attn_by_inverse_layer_idx": true}),
        json!({"scale_attn_weights": false}),
        json!({"reorder_and_upcast_attn": true}),
        json!({"tie_word_embeddings": false}),
        json!({"n_inner": 1000}),
        json!({"n_head": 6}),
        json!({"model_type": "gpt_neo"}),
        json!({"vocab_size": 50258}),
        json!({"n_layer": "twelve"}),
        json!({"n_layer": -1}),
        json!({"n_layer": 1e300}),
        json!({"quantization_config": {"quant_method": "gptq"}}),
    ];
    refused("gpt2-124m", "config.json", &changes);
    for harmless in [
        json!({"activation_function": "gelu_pytorch_tanh"}),
        json!({"n_inner": null}),
        json!({"n_inner": 3072}),
        json!({"attn_pdrop": 0.7, "bos_token_id": 3, "dtype": "bfloat16"}),
    ] {
        checked("gpt2-124m", "config.json", &harmless).unwrap();
    }
}

#[test]
fn a_llama_with_settings_of_its_own_and_its_relatives_are_refused() {
    let changes = [
        json!({"hidden_act": "gelu"}),
        json!({"num_attention_heads": 18}),
        json!({"num_key_value_heads": 9}),
        json!({"head_dim": 32}),
        json!({"rope_theta": 10_000.0}),
        json!({"rope_scaling": {"type": "linear", "factor": 2.0}}),
        json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
        json!({"rope_parameters": {"rope_type": "longrope", "rope_theta": 100_000.0}}),
        json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}}),
        json!({"rms_norm_eps": 1e-6}),
        json!({"tie_word_embeddings": false}),
        json!({"sliding_window": 8}),
        json!({"max_position_embeddings": 2048}),
        json!({"attention_bias": true}),
        json!({"mlp_bias": true}),
        json!({"partial_rotary_factor": 0.5}),
        json!({"embedding_multiplier": 12.0}),
        json!({"residual_multiplier": 0.2}),
        json!({"final_logit_softcapping": 30.0}),
        json!({"model_type": "gemma"}),
        json!({"model_type": "granite"}),
        json!({"model_type": "qwen2"}),
        json!({"model_type": "qwen3"}),
        json!({"layer_types": ["chunked_attention"]}),
    ];
    refused("smollm2-135m", "config.json", &changes);
    // A Mistral without a key has its library's window.
    let error =
        checked("llama-3.1-8b", "config.json", &json!({"model_type": "mistral"})).unwrap_err();
    assert!(error.contains("sliding_window = 4096"), "{error}");
    let whole = json!({"model_type": "mistral", "sliding_window": null});
    checked("llama-3.1-8b", "config.json", &whole).unwrap();
    let wide = json!({"model_type": "mistral", "sliding_window": 131_072});
    checked("llama-3.1-8b", "config.json", &wide).unwrap();
}

#[test]
fn stretched_positions_are_read_in_both_spellings() {
    let stretched = json!({"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3", "rope_theta": 500_000.0});
    let five = json!({"rope_parameters": stretched, "rope_scaling": null, "rope_theta": null});
    checked("llama-3.1-8b", "config.json", &five).unwrap();
    let error = checked("llama-3.1-8b", "config.json", &json!({"rope_scaling": null})).unwrap_err();
    assert!(error.contains("rope_scaling = None") && error.contains("factor: 8.0"), "{error}");
    let lacking = json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}});
    let error = checked("llama-3.1-8b", "config.json", &lacking).unwrap_err();
    assert!(error.contains("low_freq_factor = (absent)"), "{error}");
    let plain = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0}});
    checked("smollm2-135m", "config.json", &plain).unwrap();
    // The context ends where dynamic frequencies begin to change.
    let dynamic = json!({"rope_scaling": {"type": "dynamic", "factor": 4.0}});
    checked("smollm2-135m", "config.json", &dynamic).unwrap();
    let unnamed = json!({"rope_parameters": {"rope_theta": 100_000.0}});
    checked("smollm2-135m", "config.json", &unnamed).unwrap();
}

#[test]
fn a_whisper_with_settings_of_its_own_is_refused() {
    let changes = [
        json!({"decoder_attention_heads": 3}),
        json!({"activation_function": "relu"}),
        json!({"activation_function": "gelu_new"}),
        json!({"scale_embedding": true}),
        json!({"encoder_ffn_dim": 1000}),
        json!({"decoder_ffn_dim": 1000}),
        json!({"num_mel_bins": 128}),
        json!({"tie_word_embeddings": false}),
        json!({"model_type": "moonshine"}),
    ];
    refused("whisper-tiny", "config.json", &changes);
    let changes = [json!({"hop_length": 200}), json!({"n_fft": 512}), json!({"feature_size": 128})];
    refused("whisper-tiny", "preprocessor_config.json", &changes);
    let both = json!({"decoder_attention_heads": 3, "encoder_attention_heads": 3});
    let error = checked("whisper-tiny", "config.json", &both).unwrap_err();
    assert!(
        error.contains("encoder_attention_heads = 3") && error.contains("heads = 6"),
        "{error}"
    );
}

#[test]
fn a_residual_net_of_another_depth_and_its_relatives_are_refused() {
    let changes = [
        json!({"architecture": "resnet101"}),
        json!({"architecture": "resnet152"}),
        json!({"architecture": "resnet50d"}),
        json!({"architecture": "wide_resnet50_2"}),
        json!({"architecture": null}),
        json!({"num_classes": 21_841}),
        json!({"num_features": 512}),
        json!({"global_pool": "max"}),
        json!({"model_args": {"in_chans": 1}}),
        json!({"model_type": "resnet"}),
    ];
    refused("resnet-50", "config.json", &changes);
}

#[test]
fn a_diffusion_model_with_settings_of_its_own_is_refused() {
    let changes = [
        json!({"act_fn": "gelu"}),
        json!({"flip_sin_to_cos": false}),
        json!({"freq_shift": 1}),
        json!({"norm_eps": 1e-3}),
        json!({"norm_num_groups": 16}),
        json!({"attention_head_dim": 16}),
        json!({"attention_head_dim": [8, 8, 8]}),
        json!({"cross_attention_dim": 1024}),
        json!({"mid_block_type": "UNetMidBlock2D"}),
        json!({"mid_block_type": null}),
        json!({"resnet_time_scale_shift": "scale_shift"}),
        json!({"time_embedding_type": "fourier"}),
        json!({"time_cond_proj_dim": 256}),
        json!({"use_linear_projection": true}),
        json!({"dual_cross_attention": true}),
        json!({"only_cross_attention": true}),
        json!({"addition_embed_type": "text"}),
        json!({"transformer_layers_per_block": 2}),
        json!({"down_block_types": ["DownBlock2D", "DownBlock2D", "DownBlock2D", "AttnDownBlock2D"]}),
        json!({"_class_name": "UNet2DModel"}),
    ];
    refused("sd-1.5", "unet/config.json", &changes);
    let changes = [
        json!({"act_fn": "gelu"}),
        json!({"block_out_channels": [128, 256, 512]}),
        json!({"scaling_factor": 0.13025}),
        json!({"latent_channels": 16}),
        json!({"shift_factor": 0.1159}),
        json!({"norm_num_groups": 16}),
        json!({"mid_block_add_attention": false}),
    ];
    refused("sd-1.5", "vae/config.json", &changes);
    let changes = [
        json!({"hidden_act": "gelu"}),
        json!({"hidden_act": "relu"}),
        json!({"layer_norm_eps": 1e-6}),
        json!({"num_attention_heads": 8}),
        json!({"model_type": "t5"}),
    ];
    refused("sd-1.5", "text_encoder/config.json", &changes);
    let changes = [
        json!({"prediction_type": "v_prediction"}),
        json!({"prediction_type": "sample"}),
        json!({"beta_schedule": "linear"}),
        json!({"beta_end": 0.02}),
        json!({"steps_offset": 0}),
        json!({"timestep_spacing": "trailing"}),
        json!({"use_karras_sigmas": true}),
        json!({"rescale_betas_zero_snr": true}),
    ];
    refused("sd-1.5", "scheduler/scheduler_config.json", &changes);
    let changes = [
        json!({"transformer_layers_per_block": [1, 2, 8]}),
        json!({"addition_time_embed_dim": 128}),
        json!({"projection_class_embeddings_input_dim": 100}),
    ];
    refused("sdxl-1.0", "unet/config.json", &changes);
    refused("sdxl-1.0", "text_encoder_2/config.json", &[json!({"projection_dim": 768})]);
}

#[test]
fn the_metadata_of_a_gguf_file_is_held_against_the_entry() {
    let catalog = catalog();
    let model = catalog.model("smollm2-135m").unwrap();
    let checked = |changes: Value| {
        let mut keys: Map<String, Value> = json!({"general.architecture": "llama",
            "llama.attention.head_count": 9, "llama.attention.head_count_kv": 3,
            "llama.attention.layer_norm_rms_epsilon": f64::from(1e-5f32), "llama.block_count": 30,
            "llama.context_length": 8192, "llama.embedding_length": 576,
            "llama.feed_forward_length": 1536, "llama.rope.dimension_count": 64,
            "llama.rope.freq_base": 100_000.0})
        .as_object()
        .unwrap()
        .clone();
        keys.extend(changes.as_object().unwrap().clone());
        let metadata = Configuration::of(PathBuf::from("m.gguf"), keys);
        let checked = decoder::gguf::compare_metadata(model, &decoder_of(model), &metadata);
        checked.map_err(|error| error.to_string())
    };
    checked(json!({})).unwrap();
    for change in [
        json!({"llama.attention.head_count": 3}),
        json!({"llama.attention.head_count_kv": 9}),
        json!({"llama.rope.freq_base": 10_000.0}),
        json!({"llama.rope.scaling.type": "yarn"}),
        json!({"llama.rope.dimension_count": 32}),
        json!({"llama.context_length": 512}),
        json!({"llama.attention.layer_norm_rms_epsilon": 1e-6}),
        json!({"llama.expert_count": 8}),
    ] {
        let error = checked(change.clone()).unwrap_err();
        let key = change.as_object().unwrap().keys().next().unwrap().clone();
        assert!(error.contains("m.gguf") && error.contains(&key), "{error}");
    }
}

#[test]
fn the_rotary_factors_of_a_gguf_file_are_those_of_the_entries_stretching() {
    let catalog = catalog();
    let model = catalog.model("llama-3.1-8b").unwrap();
    let checked = |model: &Model, factors: &[f64]| {
        let keys = json!({"rope_freqs.weight": factors}).as_object().unwrap().clone();
        let metadata = Configuration::of(PathBuf::from("m.gguf"), keys);
        decoder::gguf::compare_metadata(model, &decoder_of(model), &metadata)
            .map_err(|error| error.to_string())
    };
    // As llama.cpp's convert_hf_to_gguf.py works them out: 1 for waves shorter than 8192 / 4, the
    // factor of 8 for those longer than 8192, and between them the inverse of a mean of the two frequencies.
    let factor = |pair: usize| {
        let wave = 2.0 * std::f64::consts::PI * 500_000f64.powf(2.0 * pair as f64 / 128.0);
        let smooth = (8192.0 / wave - 1.0) / (4.0 - 1.0);
        if wave < 2048.0 {
            1.0
        } else if wave > 8192.0 {
            8.0
        } else {
            1.0 / ((1.0 - smooth) / 8.0 + smooth)
        }
    };
    let mut factors: Vec<f64> = (0..64).map(factor).collect();
    checked(model, &factors).unwrap();
    let other = catalog.model("llama-3-8b").unwrap();
    assert!(checked(other, &factors).unwrap_err().contains("rope_freqs.weight"));
    assert!(checked(model, &factors[..32]).is_err());
    factors[40] *= 1.01;
    assert!(checked(model, &factors).unwrap_err().contains("rope_scaling"));
}
