//! Guesses for the plan: how long an iteration takes, how often to sample it, whether it fits.
//!
//! They steer `--dry-run` and the budget. No result depends on them.

use warpmark_measure::Sampling;
use warpmark_record::machine::{CpuSpec, GpuSpec};
use warpmark_record::{Bytes, BytesPerSecond, DeviceSpec, FlopsPerSecond, Seconds};

use crate::RunOptions;
use crate::data::Dtype;

/// The share of a peak that a good library reaches.
const ATTAINED: f64 = 0.7;

/// The share of a device's memory that a benchmark may take; the rest belongs to contexts, libraries
/// and the desktop.
const USABLE: f64 = 0.9;

/// The rate at which a device probably multiplies matrices.
pub(crate) fn flops(spec: &DeviceSpec, operand: Dtype, accumulate: Dtype) -> FlopsPerSecond {
    match (&spec.gpu, &spec.cpu) {
        (Some(gpu), _) => gpu_peak(gpu, operand, accumulate) * ATTAINED,
        (None, Some(cpu)) => cpu_peak(cpu, operand) * ATTAINED,
        (None, None) => FlopsPerSecond(10e9),
    }
}

fn gpu_peak(gpu: &GpuSpec, operand: Dtype, accumulate: Dtype) -> FlopsPerSecond {
    let arithmetic = format!("{}/{}", operand.name(), accumulate.name());
    let datasheet = gpu.datasheet.known().and_then(|datasheet| datasheet.peaks.get(&arithmetic));
    if let Some(peak) = datasheet {
        return peak.value;
    }
    let per_clock = per_clock(operand, gpu.compute_capability);
    let clock = gpu.sm_clock.known().map_or(1.4e9, |clock| clock.0);
    let multiprocessors = gpu.sm_count.known().map_or(40.0, |&count| f64::from(count));
    FlopsPerSecond(per_clock * clock * multiprocessors)
}

/// FLOP per SM and clock, from the architecture white papers.
fn per_clock(operand: Dtype, capability: (u32, u32)) -> f64 {
    // Dense f16 with f32 sums, where there are tensor cores.
    let tensor = match capability {
        (8, 0) => 2048.0,
        (9.., _) => 4096.0,
        _ => 1024.0,
    };
    match (operand, capability) {
        // f32 on 64 lanes, and on 128 from compute capability 8.6 on. f64 at half that on the cards for
        // simulations, whose tensor cores double it from 8.0 on; on two lanes elsewhere.
        (Dtype::F64, (7, 0)) => 64.0,
        (Dtype::F64, (8, 0) | (10, _)) | (Dtype::F32, (7, _) | (8, 0)) => 128.0,
        (Dtype::F64, (9, 0)) | (Dtype::F32, _) => 256.0,
        (Dtype::F64, _) => 4.0,
        (Dtype::Tf32, _) => tensor / 2.0,
        (Dtype::F16 | Dtype::Bf16, _) => tensor,
        (Dtype::Fp8 | Dtype::Int8 | Dtype::Int32, _) => 2.0 * tensor,
    }
}

fn cpu_peak(cpu: &CpuSpec, operand: Dtype) -> FlopsPerSecond {
    let per_core = match cpu.simd.as_str() {
        simd if simd.starts_with("avx512") => 120e9,
        simd if simd.starts_with("avx2") => 60e9,
        _ => 20e9,
    };
    // Half precision is unpacked to f32 on the way.
    let share = if operand == Dtype::F32 { 1.0 } else { 0.6 };
    FlopsPerSecond(per_core * share * f64::from(cpu.cores.max(1)))
}

/// The rate at which a device probably moves memory.
pub(crate) fn bandwidth(spec: &DeviceSpec) -> BytesPerSecond {
    if let Some(peak) = spec.memory_bandwidth.known() {
        return *peak * ATTAINED;
    }
    let datasheet = spec.gpu.as_ref().and_then(|gpu| gpu.datasheet.known()).and_then(|datasheet| {
        datasheet.bandwidth.as_ref().map(|bandwidth| bandwidth.value * ATTAINED)
    });
    datasheet.unwrap_or_else(|| match &spec.cpu {
        // A core can ask for about this much; a handful of them fill the memory channels.
        Some(cpu) => BytesPerSecond(10e9 * f64::from(cpu.cores.clamp(1, 8))),
        None => BytesPerSecond(200e9),
    })
}

/// How to sample something whose iteration takes about `iteration`.
///
/// Long iterations get fewer samples, down to criterion's minimum of 10, so that one benchmark does
/// not take more than about four times the time meant for it.
pub(crate) fn sampling(options: &RunOptions, iteration: Seconds) -> Sampling {
    let (most, target) = if options.full { (50, 3.0) } else { (20, 1.0) };
    let affordable = 4.0 * target / iteration.0.max(1e-9);
    Sampling {
        samples: (affordable as usize).clamp(10, most),
        target: Seconds(target),
        warm_up: Seconds(target.min(1.0)),
        single: false,
        may_end_early: true,
    }
}

/// The same for benchmarks of which there are many: half a second each in the quick suite.
pub(crate) fn brief_sampling(options: &RunOptions, iteration: Seconds) -> Sampling {
    let (most, target) = if options.full { (30, 1.0) } else { (10, 0.5) };
    let affordable = 4.0 * target / iteration.0.max(1e-9);
    Sampling {
        samples: (affordable as usize).clamp(10, most),
        target: Seconds(target),
        warm_up: Seconds(target / 2.0),
        single: false,
        may_end_early: true,
    }
}

/// Why `needed` does not fit on the device, if it does not. Unknown capacities are tried.
pub(crate) fn too_large(spec: &DeviceSpec, needed: Bytes) -> Option<String> {
    let capacity = *spec.memory.known()?;
    (needed > capacity * USABLE).then(|| {
        format!(
            "needs {} of the device's {}, of which {:.0} % are taken as usable",
            needed.binary(),
            capacity.binary(),
            USABLE * 100.0
        )
    })
}
