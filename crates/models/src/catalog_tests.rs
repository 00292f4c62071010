use warpmark_record::DeviceKind;

use super::*;
use crate::catalog::Dtype;
use crate::fixture::device_spec;

const ENTRY: &str = r#"
[[model]]
id = "tiny"
family = "gpt2"
title = "Tiny"
repo = "someone/tiny"
revision = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
checkpoint = "f32"
phases = ["load", "decode"]
batches = [1, 2]
architecture = { vocabulary = 64, context = 32, width = 16, layers = 2, heads = 2 }
inputs = { prompts = [8], contexts = [8] }

[model.suites.quick]
cpu = ["f32"]
"#;

fn parse(text: &str) -> Result<Catalog, CatalogError> {
    Catalog::parse(text, "test.toml")
}

/// The error of the entry with one piece of its text replaced.
fn fault(from: &str, to: &str) -> String {
    assert!(ENTRY.contains(from), "{from}");
    parse(&ENTRY.replacen(from, to, 1)).expect_err(to).to_string()
}

#[test]
fn the_built_in_catalog_is_sound_and_its_models_have_their_published_sizes() {
    let catalog = Catalog::builtin().unwrap();
    // Counted by Hugging Face transformers, the tied head once.
    for (id, parameters) in [
        ("gpt2-124m", 124_439_808),
        ("gpt2-355m", 354_823_168),
        ("gpt2-774m", 774_030_080),
        ("gpt2-1.5b", 1_557_611_200),
        ("opt-125m", 125_239_296),
        ("opt-1.3b", 1_315_758_080),
        ("mistral-7b", 7_241_732_096),
        ("qwen2.5-7b", 7_615_616_512),
        ("qwen3-0.6b", 596_049_920),
        ("qwen3-8b", 8_190_735_360),
        ("qwen3-32b", 32_762_123_264),
        ("gemma-3-1b", 999_885_952),
        ("phi-4", 14_659_507_200),
        ("mixtral-8x7b", 46_702_792_704),
        ("qwen3-30b-a3b", 30_532_122_624),
        ("whisper-tiny", 37_760_640),
        ("whisper-base", 72_593_920),
        ("whisper-small", 241_734_912),
        ("whisper-medium", 763_857_920),
        ("whisper-large-v3", 1_543_490_560),
        ("whisper-large-v3-turbo", 808_878_080),
    ] {
        let model = catalog.model(id).unwrap();
        assert_eq!(model.count_parameters().unwrap(), parameters, "{id}");
    }
}

#[test]
fn one_more_variant_is_one_more_entry() {
    let shipped = include_str!("../../../models.toml");
    let catalog = parse(&format!("{shipped}{ENTRY}")).unwrap();
    assert_eq!(catalog.models().len(), Catalog::builtin().unwrap().models().len() + 1);
    let tiny = catalog.model("tiny").unwrap();
    assert_eq!(tiny.files, ["model.safetensors"]);
    assert_eq!(tiny.tokenizer, None);
    assert_eq!(tiny.family().name(), "gpt2");
    assert!(tiny.has_phase("decode") && !tiny.has_phase("prefill"));
    assert!(tiny.has_section("inputs") && !tiny.has_section("expected"));
}

#[test]
fn a_suite_measures_the_dtypes_it_lists_for_the_device_and_nothing_else() {
    let catalog = parse(ENTRY).unwrap();
    let tiny = catalog.model("tiny").unwrap();
    assert_eq!(tiny.dtypes(false, &device_spec(DeviceKind::Cpu)), [Dtype::F32]);
    assert!(tiny.dtypes(false, &device_spec(DeviceKind::Cuda)).is_empty());
    assert!(tiny.dtypes(true, &device_spec(DeviceKind::Cpu)).is_empty());
    let builtin = Catalog::builtin().unwrap();
    let gpt2 = builtin.model("gpt2-124m").unwrap();
    assert_eq!(gpt2.dtypes(false, &device_spec(DeviceKind::Simulated)), [Dtype::F16]);
}

#[test]
fn an_unknown_family_is_named_with_its_line_and_the_known_ones() {
    let error = fault("family = \"gpt2\"", "family = \"gtp2\"");
    assert!(error.contains("test.toml:4") && error.contains("\"gtp2\""), "{error}");
    assert!(error.contains("known: gpt2"), "{error}");
}

#[test]
fn a_wrong_type_is_named_with_its_line_and_text() {
    let error = fault("batches = [1, 2]", "batches = \"many\"");
    assert!(error.contains("test.toml:10") && error.contains("\"many\""), "{error}");
    let error = fault("layers = 2", "layers = \"two\"");
    assert!(error.contains("test.toml:11") && error.contains("two"), "{error}");
    let error = fault("layers = 2", "layers = -2");
    assert!(error.contains("test.toml:11") && error.contains("-2"), "{error}");
    let error = fault("[\"f32\"]", "[\"f64\"]");
    assert!(error.contains("test.toml:15") && error.contains("f64"), "{error}");
}

#[test]
fn an_unknown_key_and_a_missing_one_are_named() {
    let error = fault("title =", "titel =");
    assert!(error.contains("test.toml:5") && error.contains("titel"), "{error}");
    let error = fault("layers = 2", "layers = 2, depth = 3");
    assert!(error.contains("test.toml:11") && error.contains("depth"), "{error}");
    let error = fault("layers = 2, ", "");
    assert!(error.contains("test.toml:11") && error.contains("layers"), "{error}");
    let error = fault("repo = \"someone/tiny\"\n", "");
    assert!(error.contains("test.toml:2") && error.contains("repo"), "{error}");
    let error = fault("[model.suites.quick]", "[model.suites.quik]");
    assert!(error.contains("quik"), "{error}");
}

#[test]
fn text_that_is_no_toml_is_refused_with_its_line() {
    let error = fault("title = \"Tiny\"", "title = \"Tiny");
    assert!(error.contains("test.toml:5"), "{error}");
    assert!(parse("").is_err());
}

#[test]
fn a_duplicate_id_is_named_with_both_lines() {
    let error = parse(&format!("{ENTRY}{ENTRY}")).unwrap_err().to_string();
    assert!(error.contains("test.toml:18") && error.contains("line 3"), "{error}");
    assert!(error.contains("\"tiny\""), "{error}");
}

#[test]
fn a_revision_that_is_not_forty_lower_case_hex_digits_is_refused() {
    let revision = "607a30d783dfa663caf39e06633721c8d4cfcd7e";
    for wrong in ["main", &revision[1..], &revision.to_uppercase(), &format!("{revision}0")] {
        let error = fault(revision, wrong);
        assert!(error.contains("test.toml:7") && error.contains(wrong), "{error}");
        assert!(error.contains("40 lower-case hex"), "{error}");
    }
}

#[test]
fn an_absurd_size_is_refused_and_not_tried() {
    for (from, to) in [
        ("width = 16", "width = 1000000000"),
        ("width = 16", "width = 9223372036854775807"),
        ("layers = 2", "layers = 0"),
        ("layers = 2", "layers = 9223372036854775807"),
        ("vocabulary = 64", "vocabulary = 9223372036854775807"),
        ("heads = 2", "heads = 0"),
    ] {
        let error = fault(from, to);
        assert!(error.contains("test.toml:11") && error.contains("tiny"), "{to}: {error}");
    }
}

#[test]
fn values_that_cannot_be_meant_are_refused_with_the_right_form() {
    for (from, to, word) in [
        ("id = \"tiny\"", "id = \"ti ny\"", "letters"),
        ("id = \"tiny\"", "id = \"\\u001b[31m\"", "letters"),
        ("someone/tiny", "tiny", "owner/name"),
        ("someone/tiny", "a/b/c", "owner/name"),
        ("batches = [1, 2]", "batches = [2, 1]", "rising"),
        ("batches = [1, 2]", "batches = [0, 1]", "from 1"),
        ("batches = [1, 2]", "batches = []", "at least one"),
        ("phases = [\"load\", \"decode\"]", "phases = []", "at least one"),
        ("batches = [1, 2]", "batches = [1, 1000001]", "at most 1000000"),
        (
            "phases = [\"load\", \"decode\"]",
            "phases = [\"load\", \"decod\"]",
            "load, prefill, decode",
        ),
        ("contexts = [8]", "contexts = [17]", "from 1 to 16"),
        ("prompts = [8]", "prompts = [0]", "from 1 to 32"),
        ("prompts = [8]", "prompt = [8]", "prompts"),
        ("checkpoint =", "files = []\ncheckpoint =", "at least one"),
        ("checkpoint =", "files = [\"../w.safetensors\"]\ncheckpoint =", "inside the repo"),
        ("checkpoint =", "tokenizer = \"/etc/passwd\"\ncheckpoint =", "inside the repo"),
        ("checkpoint =", "sha256 = [\"0f\"]\ncheckpoint =", "64 lower-case hex"),
        ("checkpoint =", "files = [\"w.bin\"]\ncheckpoint =", ".safetensors"),
    ] {
        let error = fault(from, to);
        assert!(error.contains("test.toml:") && error.contains(word), "{to}: {error}");
    }
}

#[test]
fn a_model_that_is_not_there_is_answered_with_those_that_are() {
    let error = parse(ENTRY).unwrap().model("gpt3").unwrap_err().to_string();
    assert!(error.contains("\"gpt3\"") && error.contains("known: tiny"), "{error}");
}

#[test]
fn a_catalog_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Catalog::read(&folder.path().join("gone.toml")).unwrap_err().to_string();
    assert!(error.contains("gone.toml"), "{error}");
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, ENTRY).unwrap();
    assert_eq!(Catalog::read(&path).unwrap().models()[0].title, "Tiny");
}

#[test]
fn a_quantisation_in_which_nothing_would_be_quantised_is_refused_with_the_reason() {
    let llama = |width: usize, hidden: usize| {
        let architecture = format!(
            "architecture = {{ vocabulary = 64, context = 32, width = {width}, hidden = {hidden}, layers = 1, \
             heads = 2, key_value_heads = 1, norm_epsilon = 1e-5, rope_theta = 1e4, tied = true }}"
        );
        let text = ENTRY
            .replace("family = \"gpt2\"", "family = \"llama\"")
            .replace("[\"f32\"]", "[\"q8_0\"]");
        let lines = text.lines().map(|line| {
            if line.starts_with("architecture") { architecture.clone() } else { line.to_owned() }
        });
        parse(&lines.collect::<Vec<_>>().join("\n")).map(drop).map_err(|error| error.to_string())
    };
    let error = llama(60, 100).unwrap_err();
    assert!(error.contains("suites = q8_0") && error.contains("multiple of 32"), "{error}");
    llama(64, 100).unwrap();
}
