//! Which device this is, as the CUDA driver, NVML and the kernel tell it.
//!
//! The only crate that opens a device. A missing driver, a stub library or a driver that is too old is
//! a typed error that says what to do, never a panic.
//!
//! - [`open`] opens a device, [`look`] describes it unopened, [`list`] describes all GPUs, [`host_spec`]
//!   the host.
//! - [`libraries`] says which of NVIDIA's libraries are there; ask it before calling into cudarc's
//!   `nvrtc` or `cublaslt`, which panic without theirs.
//! - [`Device::telemetry`] reads sensors beside a workload; [`findings`] is for `doctor`.
//! - [`elapsed`] and [`describe`] are what to use instead of cudarc's own where those end the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream};
use warpmark_record::{Bytes, DeviceSpec, Field};

pub mod choice;
pub mod code;
pub mod cpu;
pub mod cuda;
pub mod datasheet;
pub mod doctor;
pub mod driver;
pub mod finding;
pub mod footprint;
mod health;
pub mod host;
mod loader;
mod matching;
pub mod memory;
mod nvml;
pub mod pool;
pub mod probe;
pub mod resident;
pub mod sensors;
pub mod symbols;
pub mod target;
pub mod telemetry;
mod toolkit;

pub use choice::{ChoiceError, Described, DeviceChoice, Opened, look, open};
pub use code::{CudaError, describe};
pub use cuda::{elapsed, list};
pub use doctor::findings;
pub use driver::OpenError;
pub use finding::{Finding, FindingState};
pub use footprint::Footprint;
pub use host::{HostWatch, busy_cores, host_spec, machine_id};
pub use loader::LibraryInfo;
pub use memory::available as available_memory;
pub use nvml::topology::{Connection, connection};
pub use probe::{Libraries, libraries};
pub use sensors::{FakeSensors, Sensors};
pub use telemetry::Sampler;

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

/// An open GPU. Everything runs on one stream, driven by the thread that opened it; a clone is another
/// handle to the same context and stream.
#[derive(Clone)]
pub struct CudaDevice {
    /// What it said of itself.
    pub spec: DeviceSpec,
    /// Its index, as the driver counts.
    pub ordinal: usize,
    /// The primary context. cudarc's event tracking is off in it.
    pub context: Arc<CudaContext>,
    /// The working stream: the per-thread default stream, so that only the thread that opened the
    /// device may use it. candle works on the same one.
    pub stream: Arc<CudaStream>,
    /// How it was set up, for the run's record.
    pub settings: BTreeMap<String, String>,
    /// What it had of memory when it was opened.
    pub baseline: footprint::Baseline,
}

impl Device {
    /// What the device said of itself.
    pub fn spec(&self) -> &DeviceSpec {
        match self {
            Self::Cpu(device) => &device.spec,
            Self::Cuda(device) => &device.spec,
        }
    }

    /// Settings that change what is measured, for the run's record.
    pub fn settings(&self) -> BTreeMap<String, String> {
        match self {
            Self::Cpu(device) => {
                BTreeMap::from([("threads".to_owned(), device.threads.to_string())])
            }
            Self::Cuda(device) => device.settings.clone(),
        }
    }

    /// A sampler for the device's sensors, not yet started.
    ///
    /// # Errors
    /// Why there are no sensors, in words fit for [`warpmark_record::Telemetry::absent`].
    pub fn telemetry(&self) -> Result<Sampler, String> {
        match self {
            Self::Cpu(_) => Err("a processor's sensors are not read".to_owned()),
            Self::Cuda(device) => {
                device.sensors().map(|card| Sampler::new(card, telemetry::PERIOD))
            }
        }
    }

    /// Memory that workloads can still take on the device.
    pub fn available_memory(&self) -> Field<Bytes> {
        match self {
            Self::Cpu(_) => memory::available(),
            Self::Cuda(device) => device.free_memory(),
        }
    }
}

impl CudaDevice {
    /// The card's sensors, found by its PCI id.
    ///
    /// # Errors
    /// Why they cannot be read, in words.
    pub fn sensors(&self) -> Result<Box<dyn Sensors>, String> {
        self.card().map(|card| Box::new(card) as Box<_>)
    }

    /// The card as NVML knows it.
    fn card(&self) -> Result<nvml::Card, String> {
        let pci_id = self.spec.gpu.as_ref().map(|gpu| &gpu.pci_id);
        match pci_id {
            Some(Field::Known(id)) => nvml::Card::at(id),
            Some(Field::Absent { absent }) => Err(format!("NVML needs the PCI id: {absent}")),
            None => Err("the device has no PCI id".to_owned()),
        }
    }
}

/// A name fit for a folder: lower case, digits and single hyphens.
fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn slugs_are_fit_for_a_folder() {
        assert_eq!(slug("NVIDIA H200"), "nvidia-h200");
        assert_eq!(slug("NVIDIA A100-SXM4-40GB"), "nvidia-a100-sxm4-40gb");
        assert_eq!(slug("../..//x\n"), "x");
    }
}
