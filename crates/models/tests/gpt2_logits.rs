//! Our GPT-2 against Hugging Face transformers' on a tiny committed model; `scripts/fixtures/gpt2.py`
//! made the fixtures and says how.

#![allow(clippy::unwrap_used, reason = "what the tests call may panic as they may")]

#[path = "support/entry.rs"]
mod entry;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use entry::ModelEntry;
use warpmark_models::weights::{self, Loaded, Quiet, Source};
use warpmark_models::{Catalog, Dtype};
use warpmark_nets::NetError;
use warpmark_nets::causal::argmax;
use warpmark_nets::decoder::{Architecture, Decoder, Numbers, Variant};
use warpmark_nets::kv_cache::Cache;
use warpmark_nets::reference;

/// Decode steps whose logits the fixture holds, and all there are.
const KEPT: [usize; 3] = [1, 8, 16];
const STEPS: usize = 16;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gpt2")
}

fn load(dtype: Dtype) -> (Decoder, Loaded) {
    let entry = ModelEntry::of("gpt2")
        .text("checkpoint", "f16")
        .with("phases", r#"["prefill", "decode"]"#)
        .table("architecture", "vocabulary = 199\ncontext = 64\nwidth = 64\nlayers = 2\nheads = 4")
        .table("inputs", "prompts = [8]\ncontexts = [8]");
    let catalog = Catalog::parse(&entry.to_string(), "test").unwrap();
    let model = catalog.model("tiny").unwrap();
    let tensors = model.family().tensors(model).unwrap();
    let cache = weights::Cache::at(fixtures());
    let source = Source::Folder(fixtures().join("weights"));
    let files = weights::locate(
        &model.checkpoint_in(Dtype::F32).unwrap(),
        &tensors,
        &source,
        &cache,
        &Quiet,
    )
    .unwrap();
    let loaded = files.load(&tensors, dtype.candle(), &Device::Cpu).unwrap();
    let numbers: Numbers = model.section("architecture").unwrap();
    let architecture = Variant::Gpt2.architecture(&numbers).unwrap();
    (Decoder::new(&architecture, 64, &loaded.tensors).unwrap(), loaded)
}

fn expected() -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixtures().join("logits.safetensors"), &Device::Cpu).unwrap()
}

/// The largest difference over the largest expected magnitude.
fn error(found: &Tensor, expected: &Tensor) -> f64 {
    let values = |tensor: &Tensor| -> Vec<f32> {
        tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    let (found, expected) = (values(found), values(expected));
    assert_eq!(found.len(), expected.len());
    let largest = |values: &mut dyn Iterator<Item = f32>| values.map(f32::abs).fold(0.0, f32::max);
    assert!(found.iter().all(|value| value.is_finite()));
    let off = largest(&mut found.iter().zip(&expected).map(|(a, b)| a - b));
    f64::from(off / largest(&mut expected.iter().copied()))
}

struct Run {
    prefill: Tensor,
    decode: Vec<Tensor>,
    ids: Vec<Vec<u32>>,
    cache: Cache,
}

/// Reads the prompts and writes 16 greedy tokens.
fn run(net: &Decoder, prompts: &Tensor) -> Run {
    let (batch, _) = prompts.dims2().unwrap();
    let mut cache = net.cache(batch, 64).unwrap();
    let prefill = net.prefill(prompts, &mut cache).unwrap();
    let mut tokens = argmax(&prefill).unwrap();
    let (mut decode, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..STEPS {
        ids.push(tokens.to_vec1().unwrap());
        let logits = net.decode(&tokens, &mut cache).unwrap();
        tokens = argmax(&logits).unwrap();
        decode.push(logits);
    }
    Run { prefill, decode, ids, cache }
}

/// Both sides round activations to `dtype` after each op, at places that differ, so each is off the
/// exact logits by some unit roundoffs of it: transformers by 3 (f16) and 4.5 (bf16) on this fixture.
/// Twice that, with room. In f32 only the order of sums differs.
fn tolerance(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 5e-6,
        Dtype::F16 => 5e-3,
        Dtype::Bf16 => 4e-2,
    }
}

#[test]
fn logits_and_greedy_ids_of_a_batch_of_three_equal_those_of_transformers() {
    let expected = expected();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let (net, _) = load(dtype);
        let run = run(&net, &expected["prompts"]);
        let key = |part: &str| &expected[&format!("{dtype}.{part}")];
        let prefill = error(&run.prefill, key("prefill"));
        assert!(prefill <= tolerance(dtype), "{dtype} prefill: {prefill:e}");
        for (at, step) in KEPT.into_iter().enumerate() {
            let off = error(&run.decode[step - 1], &key("decode").get(at).unwrap());
            assert!(off <= tolerance(dtype), "{dtype} decode step {step}: {off:e}");
        }
        assert_eq!(run.ids, key("ids").to_vec2::<u32>().unwrap(), "{dtype}");
    }
}

#[test]
fn a_sequence_alone_has_the_logits_that_transformers_gives_it_alone() {
    let expected = expected();
    let prompt = expected["prompts"].narrow(0, 0, 1).unwrap();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let (net, _) = load(dtype);
        let run = run(&net, &prompt);
        let prefill = error(&run.prefill, &expected["f32.prefill_alone"]);
        assert!(prefill <= tolerance(dtype), "{dtype} prefill: {prefill:e}");
        for (at, step) in KEPT.into_iter().enumerate() {
            let logits = expected["f32.decode_alone"].get(at).unwrap();
            let off = error(&run.decode[step - 1], &logits);
            assert!(off <= tolerance(dtype), "{dtype} decode step {step}: {off:e}");
        }
    }
}

#[test]
fn decoding_over_the_cache_equals_recomputing_the_whole_sequence() {
    let prompts = &expected()["prompts"];
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let (net, loaded) = load(dtype);
        let run = run(&net, prompts);
        for sequence in 0..3 {
            let mut tokens: Vec<u32> = prompts.get(sequence).unwrap().to_vec1().unwrap();
            tokens.extend(run.ids.iter().map(|step| step[sequence]));
            let whole =
                reference::decoder::logits(net.architecture(), &loaded.tensors, &tokens, STEPS)
                    .unwrap();
            for (step, logits) in run.decode.iter().enumerate() {
                let off = error(&logits.get(sequence).unwrap(), &whole.get(step).unwrap());
                assert!(off <= tolerance(dtype), "{dtype} step {step}: {off:e}");
            }
        }
    }
}

#[test]
fn a_prompt_read_in_two_parts_ends_in_the_same_logits() {
    let prompts = &expected()["prompts"];
    let (net, _) = load(Dtype::F32);
    let mut cache = net.cache(3, 64).unwrap();
    net.prefill(&prompts.narrow(1, 0, 5).unwrap(), &mut cache).unwrap();
    let logits = net.prefill(&prompts.narrow(1, 5, 7).unwrap(), &mut cache).unwrap();
    assert!(error(&logits, &expected()["f32.prefill"]) <= tolerance(Dtype::F32));
}

#[test]
fn a_batch_of_sixty_six_takes_the_general_product_and_gives_each_sequence_its_own_logits() {
    // More rows than the few-rows product takes.
    let prompts = &expected()["prompts"];
    let copies: Vec<&Tensor> = std::iter::repeat_n(prompts, 22).collect();
    let many = Tensor::cat(&copies, 0).unwrap();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let (net, _) = load(dtype);
        let (few, many) = (run(&net, prompts), run(&net, &many));
        for row in [0, 4, 65] {
            let (a, b) = (many.decode[3].get(row).unwrap(), few.decode[3].get(row % 3).unwrap());
            assert!(error(&a, &b) <= tolerance(dtype), "{dtype} row {row}");
        }
    }
}

#[test]
fn a_token_behind_the_last_position_is_refused_and_changes_nothing() {
    let (net, _) = load(Dtype::F32);
    let mut run = run(&net, &expected()["prompts"]);
    let tokens = Tensor::zeros(3, DType::U32, &Device::Cpu).unwrap();
    while run.cache.len() < 64 {
        net.decode(&tokens, &mut run.cache).unwrap();
    }
    let error = net.decode(&tokens, &mut run.cache).unwrap_err();
    assert!(matches!(error, NetError::TooLong { tokens: 1, length: 64, limit: 64, .. }), "{error}");
    assert!(error.to_string().contains("shorter"));
    assert_eq!(run.cache.len(), 64);
    assert!(matches!(net.cache(1, 65), Err(NetError::TooLong { .. })));
}

#[test]
fn a_batch_that_does_not_fit_the_cache_is_refused() {
    let (net, _) = load(Dtype::F32);
    let mut cache = net.cache(2, 64).unwrap();
    let error = net.prefill(&expected()["prompts"], &mut cache).unwrap_err();
    assert!(matches!(error, NetError::Batch { tokens: 3, cache: 2 }));
}

#[test]
fn weights_of_another_architecture_are_refused_by_name() {
    let (net, mut loaded) = load(Dtype::F32);
    let architecture = net.architecture().clone();
    let wide = Architecture { width: 128, ..architecture.clone() };
    let error = Decoder::new(&wide, 64, &loaded.tensors).err().unwrap();
    assert!(matches!(&error, NetError::Shape { name, .. } if name == "wte.weight"), "{error}");
    loaded.tensors.remove("h.1.mlp.c_fc.bias");
    let error = Decoder::new(&architecture, 64, &loaded.tensors).err().unwrap();
    assert!(matches!(&error, NetError::Missing(name) if name == "h.1.mlp.c_fc.bias"), "{error}");
}
