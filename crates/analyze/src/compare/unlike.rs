//! In what ways two rows or runs are unlike: too much so to compare them, or enough to mention.

use warpmark_record::machine::GpuSpec;
use warpmark_record::{ClockKind, Record, Run, WeightsStamp};

/// Why two runs must not be compared.
pub(crate) fn runs(a: &Run, b: &Run) -> Vec<String> {
    let device = |run: &Run| format!("{} ({})", run.device.name, run.device.kind);
    differing([("device", device(a), device(b))])
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
        ("cores", a.host.cores.to_string(), b.host.cores.to_string()),
        ("build profile", a.build.profile.clone(), b.build.profile.clone()),
        ("warpmark", version(a), version(b)),
        ("settings", settings(a), settings(b)),
    ])
}

fn version(run: &Run) -> String {
    format!("{} ({})", run.build.version, run.build.git)
}

fn settings(run: &Run) -> String {
    let settings: Vec<String> =
        run.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    settings.join(" ")
}
