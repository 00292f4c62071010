//! Our diffusion nets against diffusers' and transformers' on small committed models like Stable Diffusion 1.5,
//! 2.1 and XL; `scripts/fixtures/diffusion.py` made the fixtures and says how.

#![allow(clippy::unwrap_used, reason = "what the tests call may panic as they may")]

use std::cmp::Ordering;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use warpmark_models::weights::{self, Quiet, Source};
use warpmark_models::{Catalog, Dtype};
use warpmark_nets::Weights;
use warpmark_nets::diffusion::{
    Architecture, AutoEncoder, Condition, Schedule, Scheduler, TEXT_FOLDERS, TextEncoder, Unet,
};
use warpmark_nets::reference::Rounding;
use warpmark_nets::reference::diffusion::{self as plain, Like, UnetInput};

const KINDS: [&str; 3] = ["v1", "v2", "xl"];
const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];
/// What the script asked for.
const TIMESTEP: f64 = 761.0;
const IDS: [f64; 6] = [1024.0, 768.0, 0.0, 16.0, 1024.0, 768.0];
const COUNTS: [usize; 4] = [1, 7, 20, 30];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/diffusion")
}

fn catalog() -> Catalog {
    let path = folder().join("models.toml");
    Catalog::parse(&std::fs::read_to_string(path).unwrap(), "models.toml").unwrap()
}

fn architecture(kind: &str) -> Architecture {
    catalog().model(kind).unwrap().section("architecture").unwrap()
}

fn expected(kind: &str) -> HashMap<String, Tensor> {
    let path = folder().join(kind).join("expected.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

/// Through the same door as a run: the folders of a repository, held against the architecture.
fn tensors(kind: &str, dtype: Dtype) -> HashMap<String, Tensor> {
    tensors_in(&folder().join(kind), kind, dtype)
}

fn tensors_in(folder: &Path, kind: &str, dtype: Dtype) -> HashMap<String, Tensor> {
    let catalog = catalog();
    let model = catalog.model(kind).unwrap();
    let specs = model.family().tensors(model).unwrap();
    let source = Source::Folder(folder.to_owned());
    let cache = weights::Cache::at(std::env::temp_dir());
    let files =
        weights::locate(&model.checkpoint_in(Dtype::F32).unwrap(), &specs, &source, &cache, &Quiet)
            .unwrap();
    files.load(&specs, dtype.candle(), &Device::Cpu).unwrap().tensors
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

/// Both sides round activations to `dtype` after each op, at places that differ. In f32 only the order of sums
/// differs.
fn tolerance(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 1e-5,
        Dtype::F16 => 1e-2,
        Dtype::Bf16 => 8e-2,
    }
}

/// What our encoders say of the fixture's two texts.
fn encode(
    kind: &str,
    tensors: &HashMap<String, Tensor>,
    given: &HashMap<String, Tensor>,
) -> (Vec<Tensor>, Option<Tensor>) {
    let (mut states, mut pooled) = (Vec::new(), None);
    for (numbers, name) in architecture(kind).text.iter().zip(TEXT_FOLDERS) {
        let encoder = TextEncoder::new(numbers, &Weights::of(tensors).at(name)).unwrap();
        let text = encoder.encode(&given["tokens"], &given["ends"]).unwrap();
        states.push(text.states);
        pooled = text.pooled;
    }
    (states, pooled)
}

/// Copies a folder's files, those of text encoders changed.
fn copied(kind: &str, change: impl Fn(&Path, HashMap<String, Tensor>)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in &catalog().model(kind).unwrap().files {
        let (from, to) = (folder().join(kind).join(file), copy.path().join(file));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        if file.starts_with("text_encoder") {
            change(&to, candle_core::safetensors::load(from, &Device::Cpu).unwrap());
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
    copy
}

/// A tensor's name as every transformers before 5 saved it.
fn name_of_old(name: String) -> String {
    if name.starts_with("text_projection") { name } else { format!("text_model.{name}") }
}

#[test]
fn text_encoders_load_alike_in_both_spellings_and_in_shards() {
    for kind in KINDS {
        let expected = tensors(kind, Dtype::F16);
        let old = copied(kind, |path, tensors| {
            let tensors: HashMap<String, Tensor> =
                tensors.into_iter().map(|(name, tensor)| (name_of_old(name), tensor)).collect();
            candle_core::safetensors::save(&tensors, path).unwrap();
        });
        let sharded = copied(kind, |path, tensors| {
            let mut all: Vec<(String, Tensor)> = tensors.into_iter().collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            let rest = all.split_off(all.len() / 2);
            let mut map = Vec::new();
            for (name, part) in [("model-1.safetensors", all), ("model-2.safetensors", rest)] {
                map.extend(part.iter().map(|(tensor, _)| format!("\"{tensor}\":\"{name}\"")));
                let part: HashMap<String, Tensor> = part.into_iter().collect();
                candle_core::safetensors::save(&part, path.with_file_name(name)).unwrap();
            }
            let index = format!("{{\"weight_map\":{{{}}}}}", map.join(","));
            let path = path.with_file_name("model.safetensors.index.json");
            std::fs::write(path, index).unwrap();
        });
        for folder in [&old, &sharded] {
            let found = tensors_in(folder.path(), kind, Dtype::F16);
            assert_eq!(found.len(), expected.len());
            for (name, tensor) in &expected {
                assert_eq!(error(&found[name], tensor).total_cmp(&0.0), Ordering::Equal, "{name}");
            }
        }
    }
}

#[test]
fn encoded_texts_equal_those_of_transformers() {
    for kind in KINDS {
        let given = expected(kind);
        for dtype in DTYPES {
            let (states, pooled) = encode(kind, &tensors(kind, dtype), &given);
            for (index, states) in states.iter().enumerate() {
                let off = error(states, &given[&format!("{dtype}.text.{index}")]);
                assert!(off <= tolerance(dtype), "{kind} {dtype} text {index}: {off:e}");
            }
            assert_eq!(pooled.is_some(), kind == "xl");
            if let Some(pooled) = pooled {
                let off = error(&pooled, &given[&format!("{dtype}.pooled")]);
                assert!(off <= tolerance(dtype), "{kind} {dtype} pooled: {off:e}");
            }
        }
    }
}

/// One step over some rows of the fixture's batch, from the texts that the reference gave.
fn step(kind: &str, dtype: Dtype, rows: std::ops::Range<usize>) -> Tensor {
    let (given, tensors) = (expected(kind), tensors(kind, dtype));
    let unet = Unet::new(&architecture(kind).unet, &Weights::of(&tensors).at("unet")).unwrap();
    let of_rows = |tensor: &Tensor| {
        let rows = tensor.narrow(0, rows.start, rows.len()).unwrap();
        rows.contiguous().unwrap().to_dtype(dtype.candle()).unwrap()
    };
    let count = architecture(kind).text.len();
    let states: Vec<Tensor> =
        (0..count).map(|index| of_rows(&given[&format!("{dtype}.text.{index}")])).collect();
    let pooled = given.get(&format!("{dtype}.pooled")).map(of_rows);
    let added = pooled.and_then(|pooled| unet.added(&pooled, IDS).unwrap());
    let condition = Condition { text: Tensor::cat(&states, 2).unwrap(), added };
    let timestep = unet.timestep(TIMESTEP).unwrap();
    unet.forward(&of_rows(&given["latents"]), &timestep, &condition).unwrap()
}

#[test]
fn a_step_of_a_batch_of_two_equals_that_of_diffusers() {
    for kind in KINDS {
        let given = expected(kind);
        for dtype in DTYPES {
            let off = error(&step(kind, dtype, 0..2), &given[&format!("{dtype}.unet")]);
            assert!(off <= tolerance(dtype), "{kind} {dtype}: {off:e}");
        }
    }
}

#[test]
fn a_step_of_one_image_equals_that_of_the_batch() {
    for kind in KINDS {
        let both = step(kind, Dtype::F32, 0..2);
        for row in 0..2 {
            let alone = step(kind, Dtype::F32, row..row + 1);
            let off = error(&alone, &both.narrow(0, row, 1).unwrap());
            assert!(off <= tolerance(Dtype::F32), "{kind} row {row}: {off:e}");
        }
    }
}

#[test]
fn the_plain_net_that_checks_equals_diffusers_too() {
    for kind in KINDS {
        let (given, tensors) = (expected(kind), tensors(kind, Dtype::F32));
        let architecture = architecture(kind);
        for row in 0..2 {
            let of_row = |tensor: &Tensor| tensor.narrow(0, row, 1).unwrap();
            let states: Vec<Tensor> = (0..architecture.text.len())
                .map(|index| of_row(&given[&format!("f32.text.{index}")]))
                .collect();
            let pooled = given.get("f32.pooled").map(of_row);
            let input = UnetInput {
                latents: &of_row(&given["latents"]),
                timestep: TIMESTEP,
                text: &Tensor::cat(&states, 2).unwrap(),
                pooled: pooled.as_ref(),
                ids: IDS,
            };
            let exactly = (Like::Diffusers, Rounding::Exact);
            let found = plain::unet(&architecture, &tensors, exactly, &input).unwrap();
            let off = error(&found, &of_row(&given["f32.unet"]));
            assert!(off <= tolerance(Dtype::F32), "{kind} row {row}: {off:e}");
        }
    }
}

#[test]
fn a_decoded_image_equals_that_of_diffusers() {
    for kind in KINDS {
        let (given, architecture) = (expected(kind), architecture(kind));
        for dtype in DTYPES {
            let tensors = tensors(kind, dtype);
            let weights = Weights::of(&tensors).at("vae");
            let vae = AutoEncoder::new(&architecture.vae, 4, &weights).unwrap();
            let latents = given["latents"].narrow(0, 0, 1).unwrap();
            let latents = latents.narrow(2, 0, 6).unwrap().narrow(3, 0, 4).unwrap();
            // diffusers' decoder leaves the scaling to its caller.
            let latents = (latents.contiguous().unwrap() * architecture.vae.scaling).unwrap();
            let image = vae.decode(&latents.to_dtype(dtype.candle()).unwrap()).unwrap();
            let off = error(&image, &given[&format!("{dtype}.image")]);
            assert!(off <= tolerance(dtype), "{kind} {dtype}: {off:e}");
        }
    }
}

/// Stands for the net: known, smooth, and different at every step.
fn function(seen: f64, index: usize) -> f64 {
    0.7 * (1.3 * seen + 0.1 * index as f64).sin() + 0.2
}

#[test]
fn whole_trajectories_of_both_schedulers_equal_those_of_diffusers() {
    for kind in KINDS {
        let (given, numbers) = (expected(kind), architecture(kind).scheduler);
        for scheduler in [Scheduler::Ddim, Scheduler::Euler] {
            for count in COUNTS {
                let key = |part: &str| &given[&format!("{}.{count}.{part}", scheduler.name())];
                let Schedule { start, steps } = scheduler.schedule(&numbers, count);
                let taken: Vec<f32> = key("timesteps").to_vec1().unwrap();
                let ours: Vec<f32> = steps.iter().map(|step| step.timestep as f32).collect();
                assert_eq!(ours.len(), taken.len());
                for (ours, theirs) in ours.iter().zip(&taken) {
                    assert!((ours - theirs).abs() < 1e-3, "{kind} {count}: {ours} and {theirs}");
                }
                let mut samples: Vec<f64> =
                    (0..8).map(|at| (-1.5 + 3.0 * f64::from(at) / 7.0) * start).collect();
                let theirs: Vec<Vec<f32>> = key("samples").to_vec2().unwrap();
                for (index, step) in steps.iter().enumerate() {
                    for sample in &mut samples {
                        let predicted = function(*sample * step.input, index);
                        *sample = *sample * step.keep + predicted * step.add;
                    }
                    let scale = theirs[index + 1].iter().fold(0f32, |a, b| a.max(b.abs()));
                    for (ours, theirs) in samples.iter().zip(&theirs[index + 1]) {
                        let off = (ours - f64::from(*theirs)).abs() / f64::from(scale);
                        let name = scheduler.name();
                        assert!(off <= 2e-4, "{kind} {name} {count} step {index}: {off:e}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_missing_folder_a_missing_tensor_and_another_architecture_are_refused_by_name() {
    let catalog = catalog();
    let cache = weights::Cache::at(std::env::temp_dir());
    let load = |model: &str, from: &Path| {
        let model = catalog.model(model).unwrap();
        let specs = model.family().tensors(model).unwrap();
        let source = Source::Folder(from.to_owned());
        let files = weights::locate(
            &model.checkpoint_in(Dtype::F32).unwrap(),
            &specs,
            &source,
            &cache,
            &Quiet,
        )?;
        files.load(&specs, DType::F32, &Device::Cpu)
    };
    let text = load("xl", &folder().join("v1")).err().unwrap().to_string();
    assert!(text.contains("text_encoder_2"), "{text}");
    let text = load("v2", &folder().join("v1")).err().unwrap().to_string();
    assert!(text.contains("unet."), "{text}");
}
