//! What the tests of several modules need.

use std::sync::Arc;

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
