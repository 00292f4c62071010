//! candle's device for one of ours, and what it cannot do there.

#[cfg_attr(feature = "cuda", path = "device/cuda.rs")]
#[cfg_attr(not(feature = "cuda"), path = "device/no_cuda.rs")]
mod backend;

use std::collections::BTreeMap;

pub use backend::Replay;
use warpmark_device::Device;
use warpmark_device::target::{Card, CodeKind, Kernels};
use warpmark_measure::WorkloadError;
use warpmark_record::{Bytes, DeviceSpec};

use warpmark_nets::NetError;

use warpmark_weights::Dtype;

/// The engine of our own nets in ids; `candle` is candle-transformers as published.
pub const OWN: &str = "warpmark";

/// The engine of our own nets whose steps are captured once as CUDA graphs and replayed, in ids.
pub const GRAPH: &str = "graph";

/// The engine of candle-transformers as published in ids.
pub const CANDLE: &str = "candle";

/// The candle device on which the models run.
///
/// Call it on the thread that opened `device`, and use the result on that thread alone: candle works on
/// the per-thread stream, and two threads' streams do not wait for each other.
///
/// # Errors
/// [`WorkloadError::Unsupported`] for a GPU that candle's kernels of this build cannot run on.
pub fn candle_device(device: &Device) -> Result<candle_core::Device, WorkloadError> {
    let Device::Cuda(gpu) = device else {
        return Ok(candle_core::Device::Cpu);
    };
    match refusal(&gpu.spec) {
        Some(reason) => Err(WorkloadError::Unsupported(reason)),
        None => backend::device(gpu.ordinal),
    }
}

/// Errors that candle's own context noted while tensors were dropped: cudarc keeps them for each context
/// object, and candle makes one beside that of [`Device`].
///
/// # Errors
/// What was noted.
pub fn check_sticky_error(device: &candle_core::Device) -> Result<(), WorkloadError> {
    backend::check_sticky_error(device)
        .map_err(|error| WorkloadError::Failed(format!("the device reported afterwards: {error}")))
}

/// What candle's CUDA kernels in this program were compiled for; `None` in a build without them.
///
/// # Errors
/// What of the kernels' own head cannot be read.
pub fn compiled_kernels() -> Option<Result<Kernels, String>> {
    backend::compiled()
}

/// Why candle's kernels of this build cannot run on a device at all, and what to do; `None` where they
/// can, and on a CPU.
pub fn refusal(spec: &DeviceSpec) -> Option<String> {
    let card = Card::of(spec)?;
    let kernels = compiled_kernels().and_then(Result::ok);
    kernels
        .and_then(|kernels| kernels.refusal_of_kind(card, spec.kind))
        .or_else(|| backend::refusal(card, CodeKind::Ptx))
}

/// Whether candle's CUDA kernels in this program are for simulated cards alone, made for tests.
pub fn simulated_kernels() -> bool {
    compiled_kernels().and_then(Result::ok).is_some_and(|kernels| kernels.simulated)
}

/// How candle is set up on a device, for the run's record; empty on a CPU.
pub fn settings(device: &Device) -> BTreeMap<String, String> {
    match device {
        Device::Cpu(_) => BTreeMap::new(),
        Device::Cuda(_) => backend::settings(),
    }
}

/// Why candle cannot run a dtype on a device in this build; `None` where it can.
///
/// candle itself says that every CUDA device does bf16; its kernels for it are compiled from compute
/// capability 8.0 on.
pub fn unsupported(spec: &DeviceSpec, dtype: Dtype) -> Option<String> {
    let card = Card::of(spec)?;
    refusal(spec).or_else(|| lacks(card, dtype))
}

/// Why candle has no kernels of a dtype for a card, whatever the build.
fn lacks(card: Card<'_>, dtype: Dtype) -> Option<String> {
    let (major, minor) = card.capability;
    (dtype == Dtype::Bf16 && major < 8).then(|| {
        format!("bf16 needs compute capability 8.0, and {} has {major}.{minor}", card.name)
    })
}

/// Why candle cannot run quantised weights on a device in this build; `None` where it can. Their kernels
/// are machine code, which runs on fewer cards than the others, and fail without a word elsewhere.
pub fn unsupported_quantised(spec: &DeviceSpec) -> Option<String> {
    let card = Card::of(spec)?;
    refusal(spec).or_else(|| backend::refusal(card, CodeKind::MachineCode))
}

/// Refuses before anything is allocated what the host's memory cannot hold: the kernel would end the
/// process. A GPU says so itself.
pub fn check_host_memory(what: &str, needed: Bytes) -> Result<(), WorkloadError> {
    match warpmark_device::memory::available().known() {
        Some(available) if needed > *available => Err(WorkloadError::OutOfMemory {
            what: format!("{what}, with {} available", available.binary()),
            needed: Some(needed),
        }),
        _ => Ok(()),
    }
}

/// A net's error as a workload's: a full device is told apart from everything else.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err asks for")]
pub fn workload_error(error: NetError) -> WorkloadError {
    let text = error.to_string();
    // candle keeps no type for it; the driver's name for it is in the text.
    if text.contains("CUDA_ERROR_OUT_OF_MEMORY") || text.contains("CUBLAS_STATUS_ALLOC_FAILED") {
        WorkloadError::OutOfMemory {
            what: "the device refused an allocation".to_owned(),
            needed: None,
        }
    } else {
        WorkloadError::Failed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_left_out_on_a_card_that_has_none() {
        let card = |capability| Card { name: "the card", capability, driver: 13_000 };
        let reason = lacks(card((7, 5)), Dtype::Bf16).unwrap();
        assert_eq!(reason, "bf16 needs compute capability 8.0, and the card has 7.5");
        assert_eq!(lacks(card((8, 0)), Dtype::Bf16), None);
        assert_eq!(lacks(card((7, 5)), Dtype::F16), None);
    }

    #[test]
    fn what_the_host_cannot_hold_is_refused_before_it_is_allocated() {
        let error = check_host_memory("a cache", Bytes(1e18)).unwrap_err();
        let WorkloadError::OutOfMemory { needed: Some(needed), .. } = error else {
            panic!("{error}")
        };
        assert_eq!(needed, Bytes(1e18));
    }
}
