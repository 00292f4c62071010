//! candle's device for one of ours, and what it cannot do there.

use warpmark_device::Device;
use warpmark_measure::WorkloadError;
use warpmark_record::{Bytes, DeviceSpec};

use crate::catalog::Dtype;

/// The candle device on which the models run.
///
/// Call it on the thread that opened `device`, and use the result on that thread alone: candle works on
/// the per-thread stream, and two threads' streams do not wait for each other.
///
/// # Errors
/// [`WorkloadError::Unsupported`] for a GPU in a build without candle's CUDA backend.
pub fn candle_device(device: &Device) -> Result<candle_core::Device, WorkloadError> {
    match device {
        Device::Cpu(_) => Ok(candle_core::Device::Cpu),
        Device::Cuda(device) => cuda(device.ordinal),
    }
}

#[cfg(feature = "cuda")]
fn cuda(ordinal: usize) -> Result<candle_core::Device, WorkloadError> {
    let device = candle_core::Device::new_cuda(ordinal).map_err(WorkloadError::failed)?;
    if let candle_core::Device::Cuda(cuda) = &device {
        // Every allocation would make two events otherwise, at a cost of microseconds each.
        // SAFETY: without events nothing orders work on different streams; all of it goes to the one
        // stream of the one thread, as the documentation of `candle_device` demands. No tensor is
        // allocated before this.
        unsafe { cuda.disable_event_tracking() };
    }
    Ok(device)
}

#[cfg(not(feature = "cuda"))]
fn cuda(_ordinal: usize) -> Result<candle_core::Device, WorkloadError> {
    Err(WorkloadError::Unsupported(NO_BACKEND.to_owned()))
}

#[cfg(not(feature = "cuda"))]
const NO_BACKEND: &str =
    "this build has no candle CUDA backend: rebuild with --features cuda (needs nvcc)";

/// Why candle cannot run a dtype on a device in this build; `None` where it can.
///
/// candle itself says that every CUDA device does bf16; its kernels for it are compiled from compute
/// capability 8.0 on.
pub fn unsupported(spec: &DeviceSpec, dtype: Dtype) -> Option<String> {
    let gpu = spec.gpu.as_ref()?;
    #[cfg(not(feature = "cuda"))]
    {
        let _ = (gpu, dtype);
        Some(NO_BACKEND.to_owned())
    }
    #[cfg(feature = "cuda")]
    {
        let (major, minor) = gpu.compute_capability;
        (dtype == Dtype::Bf16 && major < 8).then(|| {
            format!("bf16 needs compute capability 8.0, and {} has {major}.{minor}", spec.name)
        })
    }
}

/// Refuses before anything is allocated what the host's memory cannot hold: the kernel would end the
/// process. A GPU says so itself.
pub(crate) fn check_host_memory(what: &str, needed: Bytes) -> Result<(), WorkloadError> {
    match warpmark_device::memory::available().known() {
        Some(available) if needed > *available => Err(WorkloadError::OutOfMemory {
            what: format!("{what}, with {} available", available.binary()),
            needed: Some(needed),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_cannot_hold_is_refused_before_it_is_allocated() {
        let error = check_host_memory("a cache", Bytes(1e18)).unwrap_err();
        let WorkloadError::OutOfMemory { needed: Some(needed), .. } = error else {
            panic!("{error}")
        };
        assert_eq!(needed, Bytes(1e18));
    }
}
