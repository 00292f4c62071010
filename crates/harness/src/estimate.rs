//! Guesses at the time of an iteration, and how it is sampled. They steer the plan and the budget only.

use warpmark_measure::Sampling;
use warpmark_record::{BytesPerSecond, DeviceSpec, FlopsPerSecond, Seconds, Work};

use warpmark_weights::Dtype;

/// How an entry is sampled, given a guess at its iteration.
pub fn sampling(full: bool, iteration: Seconds) -> Sampling {
    let (most, target) = if full { (30, 3.0) } else { (15, 1.5) };
    let affordable = (2.0 * target / iteration.0.max(1e-9)) as usize;
    Sampling {
        samples: affordable.clamp(10, most),
        target: Seconds(target),
        warm_up: Seconds(target / 3.0),
        single: false,
        may_end_early: true,
    }
}

/// A guess at the time of one iteration: the slower of arithmetic and memory, at rates that nets reach
/// on such a device, and on a GPU no less than it takes to launch the kernels. It steers the plan
/// and the budget only.
pub fn guess(work: &Work, kernels: usize, dtype: Dtype, spec: &DeviceSpec) -> Seconds {
    let arithmetic = work.flops.map_or(Seconds(0.0), |flops| flops / arithmetic_rate(dtype, spec));
    let memory = work.bytes.map_or(Seconds(0.0), |bytes| bytes / memory_rate(spec));
    // Host time of one candle launch, allocation included.
    let launches = if spec.gpu.is_some() { kernels as f64 * 6e-6 } else { 0.0 };
    arithmetic.max(memory).max(Seconds(launches))
}

/// An iteration that would take a CPU longer than this takes minutes of samples and checks.
const LONGEST_CPU_ITERATION: Seconds = Seconds(60.0);

/// Why an iteration is left out on a CPU, by a guess at its time.
pub fn too_long_for_a_cpu(spec: &DeviceSpec, iteration: Seconds) -> Option<String> {
    let seconds = iteration.0;
    (spec.gpu.is_none() && iteration > LONGEST_CPU_ITERATION).then(|| {
        format!(
            "would take this CPU about {seconds:.0} s each time, and ten samples at least are taken"
        )
    })
}

fn arithmetic_rate(dtype: Dtype, spec: &DeviceSpec) -> FlopsPerSecond {
    match (&spec.gpu, &spec.cpu) {
        (Some(gpu), _) => {
            let name = format!("{dtype}/f32");
            let peak = gpu.datasheet.known().and_then(|datasheet| datasheet.peaks.get(&name));
            peak.map_or(FlopsPerSecond(30e12), |peak| peak.value) * 0.4
        }
        (None, Some(cpu)) => FlopsPerSecond(60e9 * f64::from(cpu.cores.max(1))),
        (None, None) => FlopsPerSecond(60e9),
    }
}

fn memory_rate(spec: &DeviceSpec) -> BytesPerSecond {
    let datasheet =
        || spec.gpu.as_ref()?.datasheet.known()?.bandwidth.as_ref().map(|figure| figure.value);
    match spec.memory_bandwidth.known().copied().or_else(datasheet) {
        Some(peak) => peak * 0.6,
        None => match &spec.cpu {
            Some(cpu) => BytesPerSecond(10e9 * f64::from(cpu.cores.clamp(1, 8))),
            None => BytesPerSecond(200e9),
        },
    }
}
