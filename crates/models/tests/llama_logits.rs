//! Our Llama against Hugging Face transformers' on tiny committed models; `scripts/fixtures/llama.py` made
//! the fixtures and says how.

#![allow(clippy::unwrap_used, reason = "what the tests call may panic as they may")]

#[path = "support/entry.rs"]
mod entry;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use entry::ModelEntry;
use warpmark_models::weights::{Init, Quiet, Source, TensorSpec};
use warpmark_models::{Catalog, Dtype, weights};
use warpmark_nets::NetError;
use warpmark_nets::causal::argmax;
use warpmark_nets::decoder::{Architecture, Decoder, Numbers, RopeScaling, Variant};
use warpmark_nets::kv_cache::Cache;
use warpmark_nets::reference;

/// Decode steps whose logits the fixture holds, and all there are.
const KEPT: [usize; 3] = [1, 8, 16];
const STEPS: usize = 16;
const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];
const KINDS: [&str; 3] = ["plain", "grouped", "stretched"];

fn architecture(kind: &str) -> Architecture {
    let stretched = kind == "stretched";
    let numbers = Numbers {
        vocabulary: 131,
        context: 64,
        width: 64,
        hidden: Some(96),
        layers: 2,
        heads: 4,
        key_value_heads: Some(match kind {
            "plain" => 4,
            "grouped" => 2,
            _ => 1,
        }),
        norm_epsilon: Some(1e-5),
        rope_theta: Some(if kind == "grouped" { 500_000.0 } else { 10_000.0 }),
        rope_scaling: stretched.then_some(RopeScaling::Llama3 {
            factor: 8.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_context: 16,
        }),
        tied: Some(stretched),
        ..Numbers::default()
    };
    Variant::Llama.architecture(&numbers).unwrap()
}

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama").join(kind)
}

fn expected(kind: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(folder(kind).join("logits.safetensors"), &Device::Cpu).unwrap()
}

/// Through the same door as a run: the files of a folder, held against the architecture.
fn tensors(kind: &str, dtype: Dtype) -> HashMap<String, Tensor> {
    let entry = ModelEntry::of("gpt2")
        .text("checkpoint", "f16")
        .table("architecture", "vocabulary = 9\ncontext = 9\nwidth = 8\nlayers = 1\nheads = 1")
        .table("inputs", "prompts = [8]\ncontexts = []");
    let catalog = Catalog::parse(&entry.to_string(), "test.toml").unwrap();
    let spec = |(name, shape)| TensorSpec { name, shape, init: Init::Zeros };
    let specs: Vec<TensorSpec> = architecture(kind).tensors().into_iter().map(spec).collect();
    let files = weights::locate(
        &catalog.model("tiny").unwrap().checkpoint_in(dtype).unwrap(),
        &specs,
        &Source::Folder(folder(kind).join("weights")),
        &weights::Cache::at(std::env::temp_dir()),
        &Quiet,
    );
    files.unwrap().load(&specs, dtype.candle(), &Device::Cpu).unwrap().tensors
}

fn net(kind: &str, dtype: Dtype) -> Decoder {
    Decoder::new(&architecture(kind), 64, &tensors(kind, dtype)).unwrap()
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

struct Run {
    prefill: Tensor,
    decode: Vec<Tensor>,
    ids: Vec<Vec<u32>>,
    cache: Cache,
}

/// Reads the prompts and writes 16 greedy tokens.
fn run(net: &Decoder, prompts: &Tensor) -> Run {
    let mut cache = net.cache(prompts.dim(0).unwrap(), 64).unwrap();
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
/// exact logits by some unit roundoffs of it: transformers by up to 4e-3 (f16) and 5e-2 (bf16) on these
/// fixtures. Twice that, nearly. In f32 only the order of sums differs.
fn tolerance(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 5e-6,
        Dtype::F16 => 1e-2,
        Dtype::Bf16 => 9e-2,
    }
}

#[test]
fn logits_and_greedy_ids_of_a_batch_of_three_equal_those_of_transformers() {
    for kind in KINDS {
        let expected = expected(kind);
        for dtype in DTYPES {
            let run = run(&net(kind, dtype), &expected["prompts"]);
            let key = |part: &str| &expected[&format!("{dtype}.{part}")];
            let prefill = error(&run.prefill, key("prefill"));
            assert!(prefill <= tolerance(dtype), "{kind} {dtype} prefill: {prefill:e}");
            for (at, step) in KEPT.into_iter().enumerate() {
                let off = error(&run.decode[step - 1], &key("decode").get(at).unwrap());
                assert!(off <= tolerance(dtype), "{kind} {dtype} decode step {step}: {off:e}");
            }
            assert_eq!(run.ids, key("ids").to_vec2::<u32>().unwrap(), "{kind} {dtype}");
        }
    }
}

#[test]
fn a_sequence_alone_has_the_logits_that_transformers_gives_it_alone() {
    for kind in KINDS {
        let expected = expected(kind);
        let prompt = expected["prompts"].narrow(0, 0, 1).unwrap();
        for dtype in DTYPES {
            let run = run(&net(kind, dtype), &prompt);
            let prefill = error(&run.prefill, &expected["f32.prefill_alone"]);
            assert!(prefill <= tolerance(dtype), "{kind} {dtype} prefill: {prefill:e}");
            for (at, step) in KEPT.into_iter().enumerate() {
                let logits = expected["f32.decode_alone"].get(at).unwrap();
                let off = error(&run.decode[step - 1], &logits);
                assert!(off <= tolerance(dtype), "{kind} {dtype} decode step {step}: {off:e}");
            }
        }
    }
}

#[test]
fn decoding_over_the_cache_equals_recomputing_the_whole_sequence() {
    for kind in KINDS {
        let prompts = &expected(kind)["prompts"];
        for dtype in DTYPES {
            let tensors = tensors(kind, dtype);
            let run = run(&Decoder::new(&architecture(kind), 64, &tensors).unwrap(), prompts);
            for sequence in 0..3 {
                let mut tokens: Vec<u32> = prompts.get(sequence).unwrap().to_vec1().unwrap();
                tokens.extend(run.ids.iter().map(|step| step[sequence]));
                let whole =
                    reference::decoder::logits(&architecture(kind), &tensors, &tokens, STEPS)
                        .unwrap();
                for (step, logits) in run.decode.iter().enumerate() {
                    let off = error(&logits.get(sequence).unwrap(), &whole.get(step).unwrap());
                    assert!(off <= tolerance(dtype), "{kind} {dtype} step {step}: {off:e}");
                }
            }
        }
    }
}

#[test]
fn sequences_of_different_lengths_side_by_side_answer_as_each_does_alone() {
    for kind in KINDS {
        let prompts = &expected(kind)["prompts"];
        let net = net(kind, Dtype::F32);
        let mut cache = net.cache(4, 40).unwrap();
        // The third slot stays empty of what is asked for, and the fourth is not asked at all.
        let lengths = [12, 5, 9];
        let mut alone = Vec::new();
        for (slot, length) in lengths.into_iter().enumerate() {
            let prompt = prompts.narrow(0, slot, 1).unwrap().narrow(1, 0, length).unwrap();
            let mut own = net.cache(1, 20).unwrap();
            let logits = net.prefill(&prompt, &mut own).unwrap();
            cache.copy_sequences(slot, &own, 0, 1).unwrap();
            alone.push((own, argmax(&logits).unwrap()));
        }
        let mut now = lengths;
        for step in 0..6 {
            let fed: Vec<&Tensor> = alone.iter().map(|(_, token)| token).collect();
            let fed = Tensor::cat(&fed, 0).unwrap();
            let together = net.decode_apart(&fed, &now, &cache).unwrap();
            for (slot, (own, token)) in alone.iter_mut().enumerate() {
                let logits = net.decode(token, own).unwrap();
                let off = error(&together.narrow(0, slot, 1).unwrap(), &logits);
                assert!(off <= tolerance(Dtype::F32), "{kind} slot {slot} step {step}: {off:e}");
                *token = argmax(&logits).unwrap();
            }
            now = now.map(|length| length + 1);
        }
    }
}

#[test]
fn a_prompt_read_in_two_parts_ends_in_the_same_logits() {
    let expected = expected("grouped");
    let prompts = &expected["prompts"];
    let net = net("grouped", Dtype::F32);
    let mut cache = net.cache(3, 64).unwrap();
    net.prefill(&prompts.narrow(1, 0, 5).unwrap(), &mut cache).unwrap();
    let logits = net.prefill(&prompts.narrow(1, 5, 7).unwrap(), &mut cache).unwrap();
    assert!(error(&logits, &expected["f32.prefill"]) <= tolerance(Dtype::F32));
}

#[test]
fn what_does_not_fit_the_cache_the_net_or_the_model_is_refused() {
    let net = net("grouped", Dtype::F32);
    let tensors = tensors("grouped", Dtype::F32);
    assert!(matches!(net.cache(1, 65), Err(NetError::TooLong { .. })));
    let long = Decoder::new(&architecture("grouped"), 65, &tensors).err().unwrap();
    assert!(long.to_string().contains("the model has 64 positions"), "{long}");
    let prompts = &expected("grouped")["prompts"];
    let mut cache = net.cache(2, 64).unwrap();
    let error = net.prefill(prompts, &mut cache).unwrap_err();
    assert!(matches!(error, NetError::Batch { tokens: 3, cache: 2 }));
    let mut run = run(&net, prompts);
    let tokens = Tensor::zeros(3, DType::U32, &Device::Cpu).unwrap();
    while run.cache.len() < 64 {
        net.decode(&tokens, &mut run.cache).unwrap();
    }
    let error = net.decode(&tokens, &mut run.cache).unwrap_err();
    assert!(matches!(error, NetError::TooLong { tokens: 1, length: 64, limit: 64, .. }), "{error}");
    let error = net.decode_apart(&tokens, &[3, 64, 5], &run.cache).unwrap_err();
    assert!(matches!(error, NetError::TooLong { tokens: 1, length: 64, limit: 64, .. }), "{error}");
}

#[test]
fn weights_of_another_architecture_are_refused_by_name() {
    let mut tensors = tensors("grouped", Dtype::F32);
    let error = Decoder::new(&architecture("plain"), 64, &tensors).err().unwrap();
    let name = "model.layers.0.self_attn.k_proj.weight";
    assert!(matches!(&error, NetError::Shape { name: found, .. } if found == name), "{error}");
    tensors.remove("lm_head.weight");
    let error = Decoder::new(&architecture("grouped"), 64, &tensors).err().unwrap();
    assert!(matches!(&error, NetError::Missing(name) if name == "lm_head.weight"), "{error}");
}
