//! What the tests of several modules need.

use std::sync::Arc;

use candle_core::{Device, Shape, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use warpmark_record::{DeviceKind, DeviceSpec, Field};

use crate::options::RunOptions;
use crate::weights::{Cache, Quiet, Source};

/// A device of that kind of which nothing is known.
pub(crate) fn device_spec(kind: DeviceKind) -> DeviceSpec {
    DeviceSpec {
        kind,
        index: 0,
        name: "test".to_owned(),
        slug: "test".to_owned(),
        memory: Field::absent("test"),
        memory_bandwidth: Field::absent("test"),
        last_level_cache: Field::absent("test"),
        gpu: None,
        cpu: None,
    }
}

/// What a run asks on this machine's CPU, of synthetic weights.
pub(crate) fn options(full: bool) -> RunOptions {
    RunOptions {
        full,
        seed: 1,
        source: Arc::new(Source::Synthetic { seed: 1 }),
        cache: Arc::new(Cache::at(std::env::temp_dir())),
        progress: Arc::new(Quiet),
        spec: warpmark_device::cpu::device_spec(),
        dtypes: None,
        audio: None,
    }
}

/// Nearly normal numbers for a tensor of this name: candle's own on a CPU take no seed, and what is held to a
/// tolerance would pass in one run and fail in another.
pub(crate) fn normal(name: &str, (mean, std): (f32, f32), shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    // FNV-1a: names that differ in a digit get seeds far apart.
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    let mut random = StdRng::seed_from_u64(seed);
    let mut next = || (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0;
    let values: Vec<f32> = (0..shape.elem_count()).map(|_| mean + std * next()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}
