//! Micro benchmarks of a device: arithmetic, memory, caches, latency, transfers and launches, every answer
//! checked.
//!
//! They say what the card itself can do, so that a model's numbers can be read against a limit measured
//! in the same run. Each is one file with its entry in one list, `MICROS`; GPU kernels lie in
//! `kernels/` and are compiled at run time. Nothing here times anything: that is `warpmark-measure`'s
//! business.

mod atomics;
mod cache;
mod cases;
mod collective;
mod cuda;
mod data;
mod guess;
mod intensity;
mod latency;
mod launch;
mod levels;
mod matmul;
mod memory;
mod shared;
mod sustained;
mod transfer;

use warpmark_measure::Group;
use warpmark_record::{DeviceKind, DeviceSpec};

/// Which micro benchmarks are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunOptions {
    /// The GPUs of this machine that this process may see.
    pub cards: u32,
    /// The full suite: more sizes and more samples.
    pub full: bool,
    /// Searches that take an hour where the full suite's take half a minute.
    pub exhaustive: bool,
    /// The seed of all inputs.
    pub seed: u64,
}

/// One micro benchmark: where it runs, and what it plans for a device.
struct Micro {
    runs_on: Processor,
    plan: fn(&DeviceSpec, &RunOptions) -> Vec<Group>,
}

#[derive(PartialEq)]
enum Processor {
    Cpu,
    Gpu,
}

/// Every micro benchmark, in the order in which they run.
const MICROS: &[Micro] = &[
    matmul::host::MICRO,
    matmul::cublaslt::MICRO,
    memory::host::MICRO,
    memory::nvrtc::MICRO,
    intensity::MICRO,
    cache::host::MICRO,
    cache::nvrtc::MICRO,
    latency::host::MICRO,
    latency::nvrtc::MICRO,
    shared::MICRO,
    atomics::MICRO,
    transfer::MICRO,
    transfer::peer::MICRO,
    collective::MICRO,
    launch::MICRO,
];

/// The micro benchmarks of a device, in order, those that cannot run on it included with their reason.
///
/// Opens and measures nothing: only the specification decides.
pub fn groups(spec: &DeviceSpec, options: &RunOptions) -> Vec<Group> {
    let here = match spec.kind {
        DeviceKind::Cpu => Processor::Cpu,
        DeviceKind::Cuda | DeviceKind::Simulated => Processor::Gpu,
    };
    let chosen = MICROS.iter().filter(|micro| micro.runs_on == here);
    chosen.flat_map(|micro| (micro.plan)(spec, options)).collect()
}

#[cfg(test)]
mod tests;
