use std::path::Path;

use super::*;
use crate::Dtype;

fn fixture(kind: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/decoders");
    fixtures.join(kind).join("weights")
}

/// A folder of these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn refusal(files: &[(&str, &str)]) -> String {
    let folder = folder(files);
    catalog(folder.path()).err().map(|error| error.to_string()).unwrap()
}

#[test]
fn a_folder_of_every_kind_is_an_entry_whose_own_configuration_agrees() {
    for kind in [
        "gpt2",
        "opt",
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "gemma2",
        "gemma3_text",
        "phi3",
        "granite",
        "mixtral",
        "qwen3_moe",
    ] {
        let catalog = catalog(&fixture(kind)).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let [model] = catalog.models() else { panic!("{kind}: one model") };
        assert_eq!(model.checkpoint, Dtype::F16, "{kind}");
        let configuration = Configuration::read(&fixture(kind).join("config.json")).unwrap();
        let find = |_: &str| Ok(Some(configuration.clone()));
        model.family().check_configuration(model, &find).unwrap();
    }
}

#[test]
fn what_is_no_model_is_refused_in_a_sentence_with_the_next_step() {
    let error = refusal(&[("model.safetensors", "")]);
    assert!(error.contains("no config.json") && error.contains("save_pretrained"), "{error}");
    let error = refusal(&[("adapter_config.json", "{}")]);
    assert!(error.contains("LoRA adapter") && error.contains("merge"), "{error}");
    let error = refusal(&[("config.json", "version https://git-lfs.github.com/spec/v1\n")]);
    assert!(error.contains("git lfs pull"), "{error}");
    let error = refusal(&[("config.json", r#"{"model_type": "qwen4"}"#)]);
    assert!(error.contains("qwen4") && error.contains("the nearest is qwen"), "{error}");
    let error = catalog(Path::new("/nowhere/at/all")).err().unwrap().to_string();
    assert!(error.contains("no such folder"), "{error}");
}

#[test]
fn a_setting_that_is_not_computed_is_refused_with_its_key_and_value() {
    let text = std::fs::read_to_string(fixture("llama").join("config.json")).unwrap();
    let changed = |key: &str, value: serde_json::Value| {
        let mut keys: serde_json::Value = serde_json::from_str(&text).unwrap();
        keys[key] = value;
        refusal(&[("config.json", &keys.to_string())])
    };
    let longrope = serde_json::json!({"rope_type": "longrope", "rope_theta": 1e4});
    let error = changed("rope_parameters", longrope);
    assert!(error.contains("`rope_parameters.rope_type` is `\"longrope\"`"), "{error}");
    for method in ["gptq", "awq", "fp8"] {
        let error = changed("quantization_config", serde_json::json!({"quant_method": method}));
        assert!(error.contains("quantization_config") && error.contains(method), "{error}");
    }
    let error = changed("hidden_act", "relu2".into());
    assert!(error.contains("`hidden_act` is `\"relu2\"`"), "{error}");
}
