//! Which device this is, as the CUDA driver, NVML and the kernel tell it.
//!
//! The only crate that opens a device. A missing driver, a stub library or a driver that is too old is
//! a typed error that says what to do, never a panic.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream};
use warpmark_record::DeviceSpec;

/// A device that is open and ready for work.
pub enum Device {
    /// The host's own processor.
    Cpu(CpuDevice),
    /// An NVIDIA GPU.
    Cuda(CudaDevice),
}

/// The host's processor.
pub struct CpuDevice {
    /// What it said of itself.
    pub spec: DeviceSpec,
    /// Threads that workloads use.
    pub threads: usize,
}

/// An open GPU. Everything runs on one stream, driven by the thread that opened it.
pub struct CudaDevice {
    /// What it said of itself.
    pub spec: DeviceSpec,
    /// Its index, as the driver counts.
    pub ordinal: usize,
    /// The primary context.
    pub context: Arc<CudaContext>,
    /// The working stream.
    pub stream: Arc<CudaStream>,
}

impl Device {
    /// What the device said of itself.
    pub fn spec(&self) -> &DeviceSpec {
        match self {
            Self::Cpu(device) => &device.spec,
            Self::Cuda(device) => &device.spec,
        }
    }
}
