//! What all kernels of our own share: compiling them at run time, device memory, launches and graphs.
//!
//! Launches go through cudarc's thin layer with arguments in place, since its launch builder allocates
//! for each launch and that time would be in every row.

mod buffer;
mod compile;
pub mod cublaslt;
mod graph;
mod launch;

use cudarc::driver::{CudaStream, DriverError};
use warpmark_device::{CudaDevice, Device, describe, libraries};
use warpmark_measure::WorkloadError;
use warpmark_record::Field;

pub use buffer::Buffer;
pub use compile::{Compiled, Compiler, Target, image, known_architectures, ptx};
pub use graph::Graph;
pub use launch::{Geometry, Split, argument, function, launch, prefer, room};

/// `CUDA_ERROR_OUT_OF_MEMORY`.
const OUT_OF_MEMORY: u32 = 2;

/// A driver's refusal as a workload's error; `what` says what was being done.
pub fn refused(what: &str) -> impl Fn(DriverError) -> WorkloadError {
    move |error| {
        // cudarc's own text asks the driver for it, which can end the process.
        if error.0 as u32 == OUT_OF_MEMORY {
            return WorkloadError::OutOfMemory { what: what.to_owned(), needed: None };
        }
        WorkloadError::Failed(format!("{what}: {}", describe(&error)))
    }
}

/// A library that a benchmark calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// The run-time compiler.
    Nvrtc,
    /// Matrix products.
    Cublaslt,
}

/// The GPU behind `device`, if the libraries that are needed on it are there: cudarc panics at the
/// first call into one that is not.
///
/// # Errors
/// [`WorkloadError::Unsupported`] with the library's name and why it cannot be used, or on a CPU.
pub fn required<'a>(
    device: &'a Device,
    needed: &[Library],
) -> Result<&'a CudaDevice, WorkloadError> {
    let Device::Cuda(device) = device else {
        return Err(WorkloadError::Unsupported("this benchmark runs on a GPU only".to_owned()));
    };
    let found = libraries();
    for library in needed {
        let (name, found) = match library {
            Library::Nvrtc => ("NVRTC", &found.nvrtc),
            Library::Cublaslt => ("cuBLASLt", &found.cublaslt),
        };
        if let Some(reason) = found.reason() {
            return Err(WorkloadError::Unsupported(format!("{name} is not usable: {reason}")));
        }
    }
    Ok(device)
}

/// How many multiprocessors the device has, which decides how many blocks fill it.
///
/// # Errors
/// [`WorkloadError::Unsupported`] where the driver does not say.
pub fn multiprocessors(device: &CudaDevice) -> Result<u32, WorkloadError> {
    let told = device.spec.gpu.as_ref().map(|gpu| &gpu.sm_count);
    told.and_then(Field::known).copied().ok_or_else(|| {
        let reason = told.and_then(Field::reason).unwrap_or("it was not asked");
        WorkloadError::Unsupported(format!("the count of multiprocessors is unknown: {reason}"))
    })
}

/// Waits for everything on the stream.
///
/// # Errors
/// What the device met meanwhile.
pub fn wait(stream: &CudaStream) -> Result<(), WorkloadError> {
    stream.synchronize().map_err(refused("waiting for the device"))
}
