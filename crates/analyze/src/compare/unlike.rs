//! In what ways two rows or runs are unlike: too much so to compare them, or enough to mention.

use warpmark_record::machine::{CpuSpec, GpuSpec};
use warpmark_record::{ClockKind, Field, Record, Run, WeightsStamp};

/// Two amounts of memory are one where they differ by less than this share: kernels keep more or less of it.
const SAME_MEMORY: f64 = 0.1;

/// Why two runs must not be compared: devices of different kinds or names.
pub(crate) fn devices(a: &Run, b: &Run) -> Vec<String> {
    let device = |run: &Run| format!("{} ({})", run.device.name, run.device.kind);
    differing([("device", device(a), device(b))])
}

/// In what ways two machines with a device of the same name are unlike. What a run does not tell is no
/// difference.
pub(crate) fn machines(a: &Run, b: &Run) -> Vec<String> {
    let mut reasons = Vec::new();
    if let (Some(cpu_a), Some(cpu_b)) = (&a.device.cpu, &b.device.cpu) {
        let threads = |run: &Run| run.settings.get("threads").cloned();
        let virtualised = |cpu: &CpuSpec| cpu.virtualised.known().map(ToString::to_string);
        reasons.extend(differing([
            ("cores", cpu_a.cores.to_string(), cpu_b.cores.to_string()),
            ("vector instructions", cpu_a.simd.clone(), cpu_b.simd.clone()),
        ]));
        reasons.extend(where_told("threads", threads(a), threads(b)));
        reasons.extend(where_told(
            "frequency governor",
            cpu_a.governor.clone(),
            cpu_b.governor.clone(),
        ));
        reasons.extend(where_told("under a hypervisor", virtualised(cpu_a), virtualised(cpu_b)));
    }
    if let (Field::Known(a), Field::Known(b)) = (&a.device.memory, &b.device.memory)
        && (a.get() - b.get()).abs() > SAME_MEMORY * a.get().max(b.get())
    {
        reasons.push(format!("memory: {} in A, {} in B", a.binary(), b.binary()));
    }
    reasons
}

/// A difference, where both sides tell.
fn where_told(what: &str, a: Option<String>, b: Option<String>) -> Option<String> {
    let (a, b) = a.zip(b).filter(|(a, b)| a != b)?;
    Some(format!("{what}: {a} in A, {b} in B"))
}

/// Whether two runs are of one machine, as far as they tell.
pub(crate) fn one_machine(a: &Run, b: &Run) -> bool {
    devices(a, b).is_empty() && machines(a, b).is_empty()
}

/// Why two rows must not be compared.
pub(crate) fn rows(a: &Record, b: &Record) -> Vec<String> {
    let parameter = |row: &Record, name: &str| {
        row.parameters.get(name).map_or_else(|| "none".to_owned(), ToString::to_string)
    };
    let shape = |row: &Record| ["m", "n", "k"].map(|side| parameter(row, side)).join("x");
    let mut reasons = differing([
        ("dtype", parameter(a, "dtype"), parameter(b, "dtype")),
        ("accumulate type", parameter(a, "accumulate"), parameter(b, "accumulate")),
        // Where a benchmark searches for its shape, two runs may find two.
        ("shape", shape(a), shape(b)),
        ("method version", a.method.to_string(), b.method.to_string()),
        ("clock", clock(a), clock(b)),
        ("weights", weights(a), weights(b)),
    ]);
    if a.work.items != b.work.items {
        reasons.push("work: an iteration yields another number of items".to_owned());
    }
    reasons
}

fn differing<const N: usize>(aspects: [(&str, String, String); N]) -> Vec<String> {
    let unlike = aspects.into_iter().filter(|(_, a, b)| a != b);
    unlike.map(|(what, a, b)| format!("{what}: {a} in A, {b} in B")).collect()
}

fn clock(row: &Record) -> String {
    let kind = match row.samples.as_ref().map(|samples| samples.clock) {
        Some(ClockKind::Wall) => "wall",
        Some(ClockKind::CudaEvents) => "CUDA events",
        Some(ClockKind::Fake) => "fake",
        None => "none",
    };
    kind.to_owned()
}

/// The source of weights. Two seeds are like: speed does not depend on random values.
fn weights(row: &Record) -> String {
    match &row.weights {
        None => "none".to_owned(),
        Some(WeightsStamp::Synthetic { .. }) => "synthetic".to_owned(),
        Some(WeightsStamp::Hub { repo, revision }) => format!("{repo}@{revision}"),
        Some(WeightsStamp::Folder { name }) => format!("folder {name}"),
    }
}

/// What does not forbid a comparison of two runs and may explain it.
pub(crate) fn notes(a: &Run, b: &Run) -> Vec<String> {
    let gpu = |run: &Run, field: fn(&GpuSpec) -> String| {
        run.device.gpu.as_deref().map_or_else(String::new, field)
    };
    let driver = |run| gpu(run, |gpu| gpu.driver_version.to_string());
    let power_limit = |run| gpu(run, |gpu| gpu.power_limit.to_string());
    differing([
        ("driver", driver(a), driver(b)),
        ("power limit", power_limit(a), power_limit(b)),
        ("host processor", a.host.cpu.clone(), b.host.cpu.clone()),
        ("cores of the host", cores(a), cores(b)),
        ("build profile", a.build.profile.clone(), b.build.profile.clone()),
        ("warpmark", version(a), version(b)),
        ("settings", settings(a), settings(b)),
    ])
}

/// Of a host that only feeds the device.
fn cores(run: &Run) -> String {
    if run.device.cpu.is_some() { String::new() } else { run.host.cores.to_string() }
}

fn version(run: &Run) -> String {
    format!("{} ({})", run.build.version, run.build.git)
}

fn settings(run: &Run) -> String {
    let settings: Vec<String> =
        run.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    settings.join(" ")
}
