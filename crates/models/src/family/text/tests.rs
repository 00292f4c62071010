use std::collections::HashMap;

use std::rc::Rc;

use candle_core::{DType, Device, Tensor};
use warpmark_measure::{Entry, Session, WorkloadError};
use warpmark_record::WeightsStamp;

use super::engine::TextEngine;
use super::parts::ModelInfo;
use super::*;
use crate::bench::{Context, Program, fixture};
use crate::catalog::Dtype;
use crate::engine::{OWN, workload_error};
use crate::entry::ModelEntry;
use crate::family::Family;
use crate::family::decoder::{DecoderFamily, init, numbers};
use crate::fixture::{normal, options};
use crate::weights::Init;
use warpmark_harness::ModelSession;
use warpmark_nets::decoder::{self, Architecture, Decoder, Variant};
use warpmark_nets::reference;

pub(super) fn tiny() -> Architecture {
    let numbers = decoder::Numbers {
        layers: 2,
        heads: 4,
        width: 32,
        context: 64,
        vocabulary: 101,
        ..Default::default()
    };
    Variant::Gpt2.architecture(&numbers).unwrap()
}

const DECODE: Case = Case { phase: Phase::Decode, batch: 3, length: 20 };
const PREFILL: Case = Case { phase: Phase::Prefill, batch: 3, length: 20 };
const GENERATE: Case = Case { phase: Phase::Generate { tokens: 5 }, batch: 3, length: 20 };

pub(super) fn tensors(dtype: DType) -> HashMap<String, Tensor> {
    let fill = |(name, shape): (String, Vec<usize>)| {
        let std = match init(&name, &tiny()) {
            // Wider than the real one, so that every part of the net shows in the logits.
            Init::Normal { .. } => 0.2,
            Init::Ones | Init::Zeros => 0.05,
        };
        let mean = if init(&name, &tiny()) == Init::Ones { 1.0f32 } else { 0.0 };
        let tensor = normal(&name, (mean, std), shape);
        (name, tensor.to_dtype(dtype).unwrap())
    };
    tiny().tensors().into_iter().map(fill).collect()
}

fn entry_of(case: Case, dtype: Dtype) -> Entry {
    fixture::entry(case.parameters(dtype.into(), OWN).id("tiny").unwrap())
}

pub(super) fn context(dtype: Dtype) -> Context {
    fixture::context("tiny", dtype.into(), WeightsStamp::Synthetic { seed: 7 })
}

pub(super) fn info(dtype: Dtype) -> ModelInfo {
    ModelInfo { numbers: numbers(&tiny(), 64), format: dtype.into(), seed: 7, caveats: &[] }
}

/// A tiny model, with a net built from damaged tensors and checked against intact ones.
fn engine(dtype: Dtype, damage: impl FnOnce(&mut HashMap<String, Tensor>)) -> TextEngine<Decoder> {
    let right = tensors(dtype.candle());
    let mut wrong = right.clone();
    damage(&mut wrong);
    let plain: PlainLogits = Rc::new(move |sequence: (&[u32], usize), rounding| {
        reference::decoder::rounded_logits(&tiny(), &right, sequence, rounding)
    });
    TextEngine::new(Decoder::new(&tiny(), 64, &wrong).unwrap(), info(dtype), plain)
}

/// A session on it.
fn session(dtype: Dtype, damage: impl FnOnce(&mut HashMap<String, Tensor>)) -> ModelSession<Case> {
    let larger = Case { batch: 12, ..DECODE };
    let with_id = |case: Case| (case.parameters(dtype.into(), OWN), case);
    let engines = Engines::of(OWN, engine(dtype, damage));
    let cases = [DECODE, PREFILL, GENERATE, larger].map(with_id);
    fixture::on_cpu(engines, context(dtype), cases)
}

/// Negates one bias of the second block.
fn negate(tensors: &mut HashMap<String, Tensor>) {
    let bias = tensors.get_mut("h.1.attn.c_proj.bias").unwrap();
    *bias = (bias.affine(-1.0, 0.0)).unwrap();
}

#[test]
fn a_sound_net_passes_its_checks_in_every_dtype_before_and_after_launches() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let mut session = session(dtype, |_| ());
        for case in [PREFILL, DECODE, GENERATE] {
            let mut workload = session.workload(&entry_of(case, dtype)).unwrap();
            workload.verify().unwrap();
            workload.prepare(20).unwrap();
            for _ in 0..20 {
                workload.launch().unwrap();
            }
            workload.wait().unwrap();
            let check = workload.verify().unwrap();
            assert!(check.worst_error > 0.0, "two ways of computing never agree to the last bit");
        }
    }
}

#[test]
fn a_token_that_is_not_the_reference_s_best_is_an_error_and_a_near_one_is_a_small_one() {
    let logits = || Tensor::new(&[[1f32, 4.0, 3.996, -2.0]], &Device::Cpu);
    let plain: PlainLogits = Rc::new(move |_: (&[u32], usize), _| logits());
    let mut reference = check::ReferenceCache::new(plain);
    let mut of = |token: u32| {
        let chosen = [vec![token]];
        check::chosen_errors(&mut reference, &chosen, |_| vec![0]).unwrap()[0]
    };
    assert!(of(1).abs() < 1e-9);
    assert!(of(2) < 1e-3, "as near as rounding");
    assert!(of(3) > 0.5, "the smallest");
    assert!(of(9).is_nan(), "no token at all");
}

#[test]
fn a_wrong_bias_fails_both_checks() {
    for dtype in [Dtype::F32, Dtype::F16] {
        let mut session = session(dtype, negate);
        for case in [PREFILL, DECODE, GENERATE] {
            let mut workload = session.workload(&entry_of(case, dtype)).unwrap();
            let error = workload.verify().unwrap_err();
            assert!(matches!(error, WorkloadError::WrongAnswer { .. }), "{error}");
        }
    }
}

#[test]
fn a_damaged_cache_fails_the_check_of_decoding() {
    let (mut engine, context) = (engine(Dtype::F32, |_| ()), context(Dtype::F32));
    let mut decode = engine.decode(DECODE, &context).unwrap();
    decode.compare().unwrap().verdict().unwrap();
    let (_, values) = decode.memory().layer(1).unwrap();
    // The values of one position of the last sequence.
    let zeros = Tensor::zeros((3, 4, 1, 8), DType::F32, &Device::Cpu).unwrap();
    values.slice_set(&zeros, 2, 9).unwrap();
    assert!(matches!(
        decode.compare().unwrap().verdict().unwrap_err(),
        WorkloadError::WrongAnswer { .. }
    ));
}

#[test]
fn a_nan_anywhere_in_the_batch_fails_the_check() {
    let (mut engine, context) = (engine(Dtype::F32, |_| ()), context(Dtype::F32));
    let mut decode = engine.decode(DECODE, &context).unwrap();
    let (keys, _) = decode.memory().layer(0).unwrap();
    // The middle sequence is not among those that are recomputed.
    let (before, after) = (keys.narrow(0, 0, 1).unwrap(), keys.narrow(0, 2, 1).unwrap());
    let nan = Tensor::full(f32::NAN, (1, 4, 36, 8), &Device::Cpu).unwrap();
    let damaged = Tensor::cat(&[before, nan, after], 0).unwrap();
    keys.slice_set(&damaged, 0, 0).unwrap();
    assert!(matches!(
        decode.compare().unwrap().verdict().unwrap_err(),
        WorkloadError::WrongAnswer { .. }
    ));
}

#[test]
fn a_larger_batch_that_takes_over_a_cache_still_answers_right() {
    let mut session = session(Dtype::F32, |_| ());
    drop(session.workload(&entry_of(DECODE, Dtype::F32)).unwrap());
    let larger = Case { batch: 12, ..DECODE };
    let mut workload = session.workload(&entry_of(larger, Dtype::F32)).unwrap();
    workload.verify().unwrap();
}

#[test]
fn positions_cycle_within_the_window_however_long_a_sample_is() {
    let (mut engine, context) = (engine(Dtype::F32, |_| ()), context(Dtype::F32));
    let mut decode = engine.decode(DECODE, &context).unwrap();
    decode.reset().unwrap();
    for iteration in 1..=100 {
        decode.launch().unwrap();
        let position = decode.memory().len() - DECODE.length;
        assert_eq!(position, (iteration - 1) % WINDOW + 1);
    }
}

#[test]
fn a_row_says_what_was_fed_and_how_much_work_it_was() {
    let mut session = session(Dtype::F16, |_| ());
    let workload = session.workload(&entry_of(DECODE, Dtype::F16)).unwrap();
    let row = workload.describe();
    assert_eq!(row.id.to_string(), "text/tiny/decode/f16/b3/c20@warpmark");
    assert_eq!(row.parameters["context"], 20usize.into());
    assert_eq!(row.work.items.map(|items| items.count), Some(3.0));
    assert!(row.data.unwrap().contains("seed 7"));
    assert_eq!(row.caveats.len(), 1, "f16 on a CPU needs a word");
}

#[test]
fn a_generation_tells_its_first_token_from_the_times_between_the_others() {
    let mut session = session(Dtype::F32, |_| ());
    let mut workload = session.workload(&entry_of(GENERATE, Dtype::F32)).unwrap();
    workload.verify().unwrap();
    workload.prepare(3).unwrap();
    for _ in 0..3 {
        workload.launch().unwrap();
    }
    let times = workload.distributions();
    assert_eq!(times["time_to_first_token_s"].len(), 3);
    assert_eq!(times["time_between_tokens_s"].len(), 3 * 4);
    assert!(times.values().flatten().all(|time| *time > 0.0));
    let row = workload.describe();
    assert_eq!(row.id.to_string(), "text/tiny/generate/f32/b3/p20+5@warpmark");
    assert_eq!(row.work.items.map(|items| items.count), Some(15.0));
}

#[test]
fn only_a_full_device_counts_as_out_of_memory() {
    let candle = |text: &str| workload_error(candle_core::Error::Msg(text.to_owned()).into());
    let full = candle("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
    assert!(matches!(full, WorkloadError::OutOfMemory { .. }));
    assert!(matches!(candle("CUDA_ERROR_ILLEGAL_ADDRESS"), WorkloadError::Failed(_)));
}

/// The entry of a tiny model, with an architecture and inputs.
fn model(architecture: &str, inputs: &str) -> Result<Model, CatalogError> {
    let entry = ModelEntry::of("gpt2")
        .with("phases", r#"["prefill", "decode"]"#)
        .with("batches", "[1, 2, 4, 8, 16]")
        .table("architecture", architecture)
        .table("inputs", inputs)
        .table("suites.quick", r#"cpu = ["f32"]"#)
        .table("suites.full", r#"cpu = ["f32", "bf16"]"#);
    crate::Catalog::parse(&entry.to_string(), "test.toml")?.model("tiny").cloned()
}

const NUMBERS: &str = "vocabulary = 101\ncontext = 64\nwidth = 32\nlayers = 2\nheads = 4";
const INPUTS: &str = "prompts = [8, 32]\ncontexts = [8, 48]";

#[test]
fn the_quick_suite_of_a_cpu_prefills_one_prompt_and_decodes_the_smaller_batches() {
    let groups = DecoderFamily(Variant::Gpt2)
        .groups(&model(NUMBERS, INPUTS).unwrap(), &options(false))
        .unwrap();
    let ids: Vec<String> = groups
        .iter()
        .flat_map(|planned| &planned.group.entries)
        .map(|entry| entry.id.to_string())
        .collect();
    assert_eq!(ids[..1], ["text/tiny/prefill/f32/b1/p8@warpmark"]);
    let batches = [1, 2, 4, 8, 16].map(|b| format!("text/tiny/decode/f32/b{b}/c8@warpmark"));
    assert_eq!(ids[1..], batches);
    assert!(groups[0].group.entries.iter().all(|entry| entry.memory_estimate.0 > 0.0));
}

#[test]
fn the_full_suite_has_every_length_batch_and_dtype_and_one_session_for_each_dtype() {
    let groups = DecoderFamily(Variant::Gpt2)
        .groups(&model(NUMBERS, INPUTS).unwrap(), &options(true))
        .unwrap();
    assert_eq!(groups.len(), 2);
    for planned in &groups {
        assert_eq!(planned.group.entries.len(), 2 * 2 * 5, "{}", planned.group.name);
    }
}

#[test]
fn an_architecture_that_cannot_be_meant_is_refused_with_its_line_and_value() {
    let with =
        |from: &str, to: &str| model(&NUMBERS.replace(from, to), INPUTS).unwrap_err().to_string();
    let text = with("heads = 4", "heads = 5");
    assert!(text.contains("architecture.width = 32") && text.contains("heads = 5"), "{text}");
    assert!(with("layers = 2", "layers = 2000").contains("architecture.layers = 2000"));
    assert!(with("width = 32", "width = 0").contains("architecture.width = 0"));
    assert!(with("width = 32", "width = \"32\"").contains("test.toml:"), "a wrong type");
    assert!(with("heads = 4", "heads = 4\nexpert = 8").contains("expert"), "an unknown key");
}

#[test]
fn a_context_that_the_window_pushes_past_the_last_position_is_refused() {
    let text = model(NUMBERS, "prompts = [64]\ncontexts = [49]").unwrap_err().to_string();
    assert!(text.contains("inputs.contexts = 49") && text.contains("from 1 to 48"), "{text}");
}

#[test]
fn generations_are_refused_where_nothing_is_written_or_the_positions_do_not_suffice() {
    let of = |generations: &str| {
        let inputs = format!("{INPUTS}\ngenerations = {generations}");
        model(NUMBERS, &inputs).err().map(|error| error.to_string())
    };
    assert_eq!(of("[[60, 5]]"), None);
    assert!(of("[[61, 5]]").unwrap().contains("inputs.generations = 61"));
    assert!(of("[[8, 0]]").unwrap().contains("inputs.generations"));
}

#[test]
fn a_pass_that_would_take_a_cpu_minutes_is_listed_as_skipped() {
    let numbers = NUMBERS.replace("context = 64", "context = 1024");
    let model = model(&numbers, "prompts = [512]\ncontexts = [8]").unwrap();
    let groups = DecoderFamily(Variant::Gpt2).groups(&model, &options(true)).unwrap();
    let entry = |id: &str| {
        groups[0]
            .group
            .entries
            .iter()
            .find(|entry| entry.id.to_string() == id)
            .unwrap()
            .skip
            .clone()
    };
    assert_eq!(entry("text/tiny/prefill/f32/b8/p512@warpmark"), None);
    assert!(entry("text/tiny/prefill/f32/b16/p512@warpmark").unwrap().contains("8192 tokens"));
}
