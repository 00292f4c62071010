//! The machine as it described itself: the device under test and the host that feeds it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::{Bytes, BytesPerSecond, Hertz, Watts};

/// A property that the machine may decline to tell.
///
/// Absence always carries its reason, so that a report can say "not permitted in this container"
/// instead of leaving a hole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a value in the bounds of its kind, or {\"absent\": \"reason\"}"
)]
pub enum Field<T> {
    /// The reason why the value is not there. First, so that an untagged reader tries it first.
    Absent {
        /// Why, in words for a person.
        absent: String,
    },
    /// What the machine said.
    Known(T),
}

impl<T> Field<T> {
    /// An absent value and its reason.
    pub fn absent(reason: impl Into<String>) -> Self {
        Self::Absent { absent: reason.into() }
    }

    /// The value, if it is there.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent { .. } => None,
        }
    }

    /// The reason for the absence, if the value is not there.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Known(_) => None,
            Self::Absent { absent } => Some(absent),
        }
    }

    /// The same field with another value type.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Field<U> {
        match self {
            Self::Known(value) => Field::Known(f(value)),
            Self::Absent { absent } => Field::Absent { absent },
        }
    }
}

impl<T, E: fmt::Display> From<Result<T, E>> for Field<T> {
    fn from(result: Result<T, E>) -> Self {
        match result {
            Ok(value) => Self::Known(value),
            Err(error) => Self::absent(error.to_string()),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Field<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(value) => value.fmt(f),
            Self::Absent { absent } => write!(f, "unknown ({absent})"),
        }
    }
}

/// What kind of device ran a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The host's own processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// A simulated GPU: its figures are the simulator's and prove nothing about hardware.
    Simulated,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Simulated => "simulated",
        })
    }
}

/// The device under test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// What it is.
    pub kind: DeviceKind,
    /// Its index among devices of its kind, as `--device cuda:0` counts them.
    pub index: u32,
    /// The name as the driver (or, for a CPU, the kernel) gives it.
    pub name: String,
    /// A short name fit for a folder: `nvidia-h200`, `cpu-amd-epyc`.
    pub slug: String,
    /// The capacity of its memory.
    pub memory: Field<Bytes>,
    /// The bandwidth that the memory clock and bus width allow, or that the datasheet states.
    pub memory_bandwidth: Field<BytesPerSecond>,
    /// The size of the last cache before memory (L2 on a GPU, usually L3 on a CPU).
    pub last_level_cache: Field<Bytes>,
    /// What only GPUs have; `None` on a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Box<GpuSpec>>,
    /// What only CPUs have; `None` on a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Box<CpuSpec>>,
}

/// What a GPU says of itself through the CUDA driver and NVML.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuSpec {
    /// Compute capability, major and minor.
    pub compute_capability: (u32, u32),
    /// The driver's CUDA version, as `13000` for 13.0.
    pub cuda_driver_version: u32,
    /// Streaming multiprocessors.
    pub sm_count: Field<u32>,
    /// The highest SM clock.
    pub sm_clock: Field<Hertz>,
    /// The memory clock, in transfers counted once per clock edge pair.
    pub memory_clock: Field<Hertz>,
    /// The width of the memory bus in bits.
    pub memory_bus_bits: Field<u32>,
    /// Shared memory of one SM.
    pub shared_memory_per_sm: Field<Bytes>,
    /// The most shared memory a block can ask for.
    pub shared_memory_per_block: Field<Bytes>,
    /// 32-bit registers of one SM.
    pub registers_per_sm: Field<u32>,
    /// Threads of a warp.
    pub warp_size: Field<u32>,
    /// Whether ECC is on.
    pub ecc: Field<bool>,
    /// Whether it shares memory with the host.
    pub integrated: Field<bool>,
    /// Whether stream-ordered memory pools work.
    pub memory_pools: Field<bool>,
    /// `domain:bus:device.function`.
    pub pci_id: Field<String>,
    /// A hash of the UUID: tells two cards apart without naming one.
    pub uuid_hash: Field<String>,
    /// The driver's own version, as `580.65.06`.
    pub driver_version: Field<String>,
    /// The power limit in force.
    pub power_limit: Field<Watts>,
    /// The power limit it left the factory with.
    pub power_limit_default: Field<Watts>,
    /// PCIe generation and width in use.
    pub pcie_now: Field<PcieLink>,
    /// The best PCIe generation and width that card and slot can do.
    pub pcie_max: Field<PcieLink>,
    /// Whether multi-instance mode is on.
    pub mig: Field<bool>,
    /// Whether persistence mode is on.
    pub persistence: Field<bool>,
    /// Other processes that hold memory on the card.
    pub other_processes: Field<u32>,
    /// Clocks, power, temperature and utilisation before anything was run.
    pub idle: Field<GpuState>,
    /// Which datasheet fits this card, and what it says.
    #[serde(rename = "book")]
    pub datasheet: Field<DatasheetEntry>,
}

/// A PCIe link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PcieLink {
    /// Generation, 1 to 6.
    pub generation: u32,
    /// Lanes.
    pub width: u32,
}

impl fmt::Display for PcieLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PCIe {}.0 x{}", self.generation, self.width)
    }
}

/// One look at a GPU's sensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuState {
    /// The SM clock now.
    pub sm_clock: Field<Hertz>,
    /// The memory clock now.
    pub memory_clock: Field<Hertz>,
    /// Power drawn now (the instantaneous field where the card has it).
    pub power: Field<Watts>,
    /// Energy drawn since the driver was loaded.
    pub energy: Field<crate::units::Joules>,
    /// The core's temperature.
    pub temperature: Field<crate::units::Celsius>,
    /// Why the clocks are held down, in NVML's words; empty when they are not.
    pub throttle_causes: Field<Vec<String>>,
    /// Share of the last period in which a kernel ran, 0 to 1.
    pub gpu_utilisation: Field<f64>,
    /// Share of the last period in which memory was read or written, 0 to 1.
    pub memory_utilisation: Field<f64>,
    /// Other processes on the card; absent also where this look did not count them.
    #[serde(default = "not_counted")]
    pub other_processes: Field<u32>,
}

fn not_counted() -> Field<u32> {
    Field::absent("not counted in this look")
}

/// The datasheet figures of a card: dense, without sparsity, each with its source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasheetEntry {
    /// The entry's name: `h200-sxm`.
    pub name: String,
    /// Peaks by arithmetic: `f16/f32` is f16 operands with f32 accumulation.
    pub peaks: BTreeMap<String, Sourced<crate::units::FlopsPerSecond>>,
    /// Why there is no peak, for arithmetic that the card lacks or the datasheet does not know.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub absent: BTreeMap<String, String>,
    /// The SM clock that `peaks` are stated for, which is not always the highest one: it turns them
    /// into operations per cycle, and so into the peak at another clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Sourced<Hertz>>,
    /// The SM clocks of single `peaks` that are stated for another one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub clocks: BTreeMap<String, Sourced<Hertz>>,
    /// Memory bandwidth.
    pub bandwidth: Option<Sourced<BytesPerSecond>>,
    /// L2 size.
    pub l2: Option<Sourced<Bytes>>,
    /// Board power.
    pub tdp: Option<Sourced<Watts>>,
}

impl DatasheetEntry {
    /// The SM clock that the peak of an arithmetic is stated for.
    pub fn clock_of(&self, arithmetic: &str) -> Option<Hertz> {
        self.clocks.get(arithmetic).or(self.clock.as_ref()).map(|clock| clock.value)
    }
}

/// A figure and where it is from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sourced<T> {
    /// The figure.
    pub value: T,
    /// Who says so.
    pub source: String,
}

/// What a CPU says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CpuSpec {
    /// Cores this process may run on.
    pub cores: u32,
    /// The widest vector instructions: `avx512`, `avx2`, `neon`, ...
    pub simd: String,
    /// Whether a hypervisor is underneath.
    pub virtualised: Field<bool>,
    /// What the kernel sets the clock by, where it tells: `performance`, `schedutil`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
}

/// The host that feeds the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostSpec {
    /// Its name in its network; `None` where it has none, and in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The processor's name.
    pub cpu: String,
    /// Cores this process may run on.
    pub cores: u32,
    /// Installed memory.
    pub memory: Field<Bytes>,
    /// Kernel and distribution.
    pub os: String,
    /// The container or hypervisor that was recognised, if any.
    pub container: Field<String>,
    /// The one-minute load average when the run began, against which noise can be judged.
    pub load_average: Field<f64>,
    /// Cores that were busy with other work in the quarter of a second before the run; `None` where
    /// nothing was about to be run. The load average still counts a compiler that ended a minute ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_cores: Option<Field<f64>>,
}
