//! Our Llama on quantised weights against Hugging Face transformers' on what the `gguf` package makes of
//! the same file; `scripts/fixtures/llama_gguf.py` made the fixtures and says how.

#![allow(clippy::unwrap_used, reason = "what the tests call may panic as they may")]

#[path = "support/entry.rs"]
mod entry;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use entry::ModelEntry;
use warpmark_models::weights::{Cache, Init, Loaded, Quiet, Source, WeightSpec};
use warpmark_models::{Catalog, Format, Quantisation};
use warpmark_nets::decoder::{Architecture, Decoder, Numbers, Pairing, Variant};
use warpmark_nets::reference;

/// Decode steps whose logits the fixture holds.
const KEPT: [usize; 3] = [1, 8, 16];

/// Rows of 256, which super-blocks divide, with a head of its own; and rows of 320, which they do not, so
/// that smaller blocks stand in, with a tied head.
const KINDS: [&str; 4] = ["q8_0", "q4_k_m", "q8_0-narrow", "q4_k_m-narrow"];

fn architecture(kind: &str) -> Architecture {
    let narrow = kind.ends_with("narrow");
    let numbers = Numbers {
        vocabulary: 131,
        context: 64,
        width: if narrow { 320 } else { 256 },
        hidden: Some(512),
        layers: 2,
        heads: 4,
        key_value_heads: Some(2),
        norm_epsilon: Some(1e-5),
        rope_theta: Some(10_000.0),
        tied: Some(narrow),
        ..Numbers::default()
    };
    Variant::Llama.architecture(&numbers).unwrap()
}

/// The synthetic file of a kind in a folder, and what was loaded of it.
fn written(kind: &str, folder: &Path) -> (PathBuf, Loaded) {
    let architecture = architecture(kind);
    let numbers = format!(
        "vocabulary = 131\ncontext = 64\nwidth = {}\nhidden = 512\nlayers = 2\nheads = 4\n\
         key_value_heads = 2\nnorm_epsilon = 1e-5\nrope_theta = 10000.0\ntied = {}",
        architecture.width, architecture.tied
    );
    let entry = ModelEntry::of("llama")
        .text("checkpoint", "f16")
        .table("architecture", &numbers)
        .table("inputs", "prompts = [8]\ncontexts = []");
    let catalog = Catalog::parse(&entry.to_string(), "test.toml").unwrap();
    let model = catalog.model("tiny").unwrap();
    let quantisation =
        if kind.starts_with("q8_0") { Quantisation::Q8_0 } else { Quantisation::Q4KM };
    let mut wanted = model.weight_spec(Format::Quantised(quantisation)).unwrap();
    // More than the usual spread: attention is far from uniform and every weight counts.
    if let WeightSpec::Quantised(tensors, _) = &mut wanted {
        for tensor in tensors {
            if let Init::Normal { std } = &mut tensor.spec.init {
                *std = 0.05;
            }
        }
    }
    let source = Source::Synthetic { seed: 20_261_127 };
    let checkpoint = model.checkpoint_in(Format::Quantised(quantisation)).unwrap();
    let files = wanted.locate(&checkpoint, &source, &Cache::at(folder), &Quiet).unwrap();
    let loaded = wanted.load(&checkpoint, &files, &Device::Cpu).unwrap();
    (files.paths()[0].clone(), loaded)
}

fn expected(kind: &str) -> HashMap<String, Tensor> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama-gguf");
    candle_core::safetensors::load(folder.join(format!("{kind}.safetensors")), &Device::Cpu)
        .unwrap()
}

/// The largest difference over the largest expected magnitude.
fn error(found: &Tensor, expected: &Tensor) -> f64 {
    let values = |tensor: &Tensor| -> Vec<f32> {
        tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    let (found, expected) = (values(found), values(expected));
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().all(|value| value.is_finite()));
    let largest = |values: &mut dyn Iterator<Item = f32>| values.map(f32::abs).fold(0.0, f32::max);
    let off = largest(&mut found.iter().zip(&expected).map(|(a, b)| a - b));
    f64::from(off / largest(&mut expected.iter().copied()))
}

/// What the kernels may be off by, that round activations to 8 bits of their block's largest: twice what was
/// seen.
const ROUNDED: f64 = 5e-2;

/// What the order of sums may change in f32.
const EXACT: f64 = 1e-5;

#[test]
fn logits_of_a_batch_of_three_equal_those_of_transformers_on_the_dequantised_file() {
    let folder = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let (_, loaded) = written(kind, folder.path());
        assert!(loaded.blocks.len() >= 15, "{kind} has {} quantised tensors", loaded.blocks.len());
        let expected = expected(kind);
        let (tensors, blocks) = (&loaded.tensors, &loaded.blocks);
        let pairing = Pairing::Neighbours;
        let net = Decoder::quantised(&architecture(kind), 64, tensors, blocks, pairing).unwrap();
        let mut cache = net.cache(3, 64).unwrap();
        let logits = net.prefill(&expected["prompts"], &mut cache).unwrap();
        let off = error(&logits, &expected["prefill"]);
        assert!(off <= ROUNDED, "{kind} prefill: {off:e}");
        // The fixture's tokens are fed, so that one close choice does not decide about all after it.
        for step in 1..=16 {
            let fed = expected["ids"].get(step - 1).unwrap();
            let logits = net.decode(&fed, &mut cache).unwrap();
            if let Some(at) = KEPT.iter().position(|kept| *kept == step) {
                let off = error(&logits, &expected["decode"].get(at).unwrap());
                assert!(off <= ROUNDED, "{kind} decode step {step}: {off:e}");
            }
        }
    }
}

#[test]
fn the_reference_on_dequantised_weights_equals_transformers() {
    let folder = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let (_, loaded) = written(kind, folder.path());
        let expected = expected(kind);
        for sequence in 0..3 {
            let mut tokens: Vec<u32> =
                expected["prompts"].get(sequence).unwrap().to_vec1().unwrap();
            let ids: Vec<Vec<u32>> = expected["ids"].to_vec2().unwrap();
            tokens.extend(ids.iter().map(|step| step[sequence]));
            let logits = reference::decoder::quantised_logits(
                &architecture(kind),
                &loaded.tensors,
                &loaded.blocks,
                Pairing::Neighbours,
                (&tokens, 17),
            )
            .unwrap();
            let prefill = expected["prefill"].get(sequence).unwrap();
            let off = error(&logits.get(0).unwrap(), &prefill);
            assert!(off <= EXACT, "{kind} sequence {sequence} prefill: {off:e}");
            for (at, step) in KEPT.into_iter().enumerate() {
                let expected = expected["decode"].get(at).unwrap().get(sequence).unwrap();
                let off = error(&logits.get(step).unwrap(), &expected);
                assert!(off <= EXACT, "{kind} sequence {sequence} step {step}: {off:e}");
            }
        }
    }
}

/// Writes the files that `scripts/fixtures/llama_gguf.py` reads into the folder that `WARPMARK_FIXTURES`
/// names.
#[test]
#[ignore = "writes the files that the fixtures are made from"]
fn files_for_the_fixtures() {
    let folder = PathBuf::from(std::env::var("WARPMARK_FIXTURES").unwrap());
    for kind in KINDS {
        let own = folder.join(kind);
        let (path, _) = written(kind, &own);
        std::fs::rename(path, folder.join(format!("{kind}.gguf"))).unwrap();
    }
}
