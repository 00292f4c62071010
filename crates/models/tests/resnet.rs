//! Our residual net against torchvision's on small committed models; `scripts/fixtures/resnet.py` made
//! the fixtures and says how.

#![allow(clippy::unwrap_used, reason = "what the tests call may panic as they may")]

#[path = "support/entry.rs"]
mod entry;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use entry::ModelEntry;
use warpmark_models::weights::{self, Quiet, Source};
use warpmark_models::{Catalog, Dtype};
use warpmark_nets::reference::Rounding;
use warpmark_nets::resnet::{Architecture, Resnet, Statistics};
use warpmark_nets::{NetError, Weights, reference};

const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];
const STATISTICS: [Statistics; 2] = [Statistics::Folded, Statistics::Separate];

/// The fixtures, and their architectures as entries have them.
const KINDS: [(&str, &str); 2] = [
    ("bottleneck", "blocks = [2, 1, 2, 1]\nbottleneck = true\nwidth = 6\nclasses = 7"),
    ("basic", "blocks = [1, 2, 1, 1]\nbottleneck = false\nwidth = 5\nclasses = 11"),
];

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/resnet").join(kind)
}

fn expected(kind: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(folder(kind).join("expected.safetensors"), &Device::Cpu).unwrap()
}

/// Through the same door as a run: a folder, whose tensors are held against the architecture.
fn load((kind, numbers): (&str, &str), dtype: Dtype) -> (Architecture, HashMap<String, Tensor>) {
    let entry = ModelEntry::of("resnet")
        .text("checkpoint", "f16")
        .table("architecture", numbers)
        .table("inputs", "sizes = [32]");
    let catalog = Catalog::parse(&entry.to_string(), "test.toml").unwrap();
    let model = catalog.model("tiny").unwrap();
    let specs = model.family().tensors(model).unwrap();
    let checkpoint = model.checkpoint_in(Dtype::F16).unwrap();
    let source = Source::Folder(folder(kind));
    let cache = weights::Cache::at(std::env::temp_dir());
    let files = weights::locate(&checkpoint, &specs, &source, &cache, &Quiet).unwrap();
    let loaded = files.load(&specs, dtype.candle(), &Device::Cpu).unwrap();
    (model.section("architecture").unwrap(), loaded.tensors)
}

/// The largest difference over the largest expected magnitude.
fn error(found: &Tensor, expected: &Tensor) -> f64 {
    let values = |tensor: &Tensor| -> Vec<f32> {
        tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    assert_eq!(found.dims(), expected.dims());
    let (found, expected) = (values(found), values(expected));
    assert!(found.iter().all(|value| value.is_finite()));
    let largest = |values: &mut dyn Iterator<Item = f32>| values.map(f32::abs).fold(0.0, f32::max);
    let off = largest(&mut found.iter().zip(&expected).map(|(a, b)| a - b));
    f64::from(off / largest(&mut expected.iter().copied()))
}

/// Both sides round activations to `dtype` after each op, at places that differ, and ours rounds the
/// folded weights too. In f32 only the order of sums differs.
fn tolerance(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 5e-6,
        Dtype::F16 => 5e-3,
        Dtype::Bf16 => 4e-2,
    }
}

#[test]
fn logits_equal_those_of_torchvision_in_every_dtype_folded_or_not() {
    for kind in KINDS {
        let expected = expected(kind.0);
        for dtype in DTYPES {
            let (architecture, tensors) = load(kind, dtype);
            let images = expected["images"].to_dtype(dtype.candle()).unwrap();
            for statistics in STATISTICS {
                let net = Resnet::new(&architecture, &Weights::of(&tensors), statistics).unwrap();
                let logits = net.forward(&images).unwrap();
                let off = error(&logits, &expected[&format!("{dtype}.logits")]);
                assert!(off <= tolerance(dtype), "{kind:?} {dtype} {statistics:?}: {off:e}");
                // Rounding moves an answer off torchvision's own in f32 no further.
                let off = error(&logits, &expected["f32.logits"]);
                assert!(off <= tolerance(dtype), "{kind:?} {dtype} {statistics:?} to f32: {off:e}");
            }
        }
    }
}

#[test]
fn the_reference_equals_torchvision() {
    for kind in KINDS {
        let expected = expected(kind.0);
        let (_, tensors) = load(kind, Dtype::F32);
        for image in 0..2 {
            let one = expected["images"].narrow(0, image, 1).unwrap();
            let logits = reference::resnet::logits(&tensors, &one, Rounding::Exact).unwrap();
            let off = error(&logits, &expected["f32.logits"].narrow(0, image, 1).unwrap());
            assert!(off <= tolerance(Dtype::F32), "{kind:?} image {image}: {off:e}");
        }
    }
}

#[test]
fn images_of_a_batch_do_not_see_each_other() {
    let (architecture, tensors) = load(KINDS[0], Dtype::F32);
    let net = Resnet::new(&architecture, &Weights::of(&tensors), Statistics::Folded).unwrap();
    let images = &expected("bottleneck")["images"];
    let both = net.forward(&images.to_dtype(DType::F32).unwrap()).unwrap();
    for image in 0..2 {
        let one = images.narrow(0, image, 1).unwrap().to_dtype(DType::F32).unwrap();
        let alone = net.forward(&one).unwrap();
        assert!(error(&alone, &both.narrow(0, image, 1).unwrap()) <= tolerance(Dtype::F32));
    }
}

#[test]
fn weights_of_another_architecture_are_refused_by_name() {
    let (architecture, mut tensors) = load(KINDS[1], Dtype::F32);
    let build = |architecture: &Architecture, tensors: &HashMap<String, Tensor>| {
        Resnet::new(architecture, &Weights::of(tensors), Statistics::Folded).err().unwrap()
    };
    let wide = Architecture { width: 10, ..architecture.clone() };
    let error = build(&wide, &tensors);
    assert!(matches!(&error, NetError::Shape { name, .. } if name == "conv1.weight"), "{error}");
    let deep = Architecture { blocks: vec![1, 2, 2, 1], ..architecture.clone() };
    let error = build(&deep, &tensors);
    assert!(
        matches!(&error, NetError::Missing(name) if name == "layer3.1.conv1.weight"),
        "{error}"
    );
    tensors.remove("layer2.0.downsample.1.running_var");
    let error = build(&architecture, &tensors);
    assert!(
        matches!(&error, NetError::Missing(name) if name == "layer2.0.downsample.1.running_var"),
        "{error}"
    );
}
