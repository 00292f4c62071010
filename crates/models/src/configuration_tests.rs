use super::*;
use crate::shipped::Catalog;
use crate::weights::{HubOptions, Quiet};

/// The published `config.json` of GPT-2.
const GPT2: &str = r#"{"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"],
    "layer_norm_epsilon": 1e-5, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12,
    "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1, "vocab_size": 50257}"#;

#[test]
fn a_folder_is_checked_by_the_files_in_it_and_damaged_ones_are_named() {
    let catalog = Catalog::builtin().unwrap();
    let model = catalog.model("gpt2-124m").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = Source::Folder(folder.path().to_owned());
    let checked = |text: &str| {
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        check(model, &source, &Quiet).map_err(|error| error.to_string())
    };
    check(model, &source, &Quiet).unwrap();
    checked(GPT2).unwrap();
    for (text, word) in [
        (r#"{"model_type": "gpt2", "n_head": 16, "n_layer": 12}"#, "n_head = 16"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        ("[1, 2]", "malformed"),
        ("{\"n_head\": ", "malformed"),
        (&format!("{{\"a\": \"{}\"}}", "x".repeat(4 << 20)), "longer than 4 MiB"),
    ] {
        let error = checked(text).unwrap_err();
        assert!(error.contains(word) && error.contains("config.json"), "{error}");
    }
    // The entry that a folder fits is told from the others, and from those that it says nothing of.
    checked(GPT2).unwrap();
    let fits = |id: &str| fits(catalog.model(id).unwrap(), &source, &Quiet);
    assert_eq!(fits("gpt2-124m"), Some(true));
    assert_eq!(["gpt2-355m", "smollm2-135m"].map(fits), [Some(false); 2]);
    assert_eq!(fits("sd-1.5"), None);
    // Nothing is asked for where weights are made up.
    check(model, &Source::Synthetic { seed: 1 }, &Quiet).unwrap();
}

#[test]
fn a_repository_whose_configuration_is_not_in_an_offline_cache_is_taken_at_its_entries_word() {
    let catalog = Catalog::builtin().unwrap();
    let model = catalog.model("gpt2-124m").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = HubOptions {
        offline: true,
        cache_dir: Some(folder.path().to_owned()),
        ..HubOptions::default()
    };
    let checked = check(model, &Source::Hub(options), &Quiet);
    if cfg!(feature = "hub") {
        checked.unwrap();
    } else {
        assert!(checked.is_err());
    }
}
