//! In what ways two rows or runs are unlike: too much so to compare them, or enough to mention.

use warpmark_record::machine::{CpuSpec, GpuSpec, PcieLink};
use warpmark_record::{ClockKind, Field, Record, Run, WeightsStamp};

/// Two amounts of memory are one where they differ by less than this share: kernels keep more or less of it.
const SAME_MEMORY: f64 = 0.1;

/// Two power limits are one where they differ by less than this share: it moves clocks by a third of it at most.
const SAME_POWER: f64 = 0.05;

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
    if let (Some(gpu_a), Some(gpu_b)) = (&a.device.gpu, &b.device.gpu) {
        reasons.extend(cards(gpu_a, gpu_b));
    }
    reasons
}

/// In what ways two cards of one name are set up so differently that their figures are of two devices: parts of
/// them are off, memory is checked or not, or they may draw another power. What a card does not tell is no
/// difference.
fn cards(a: &GpuSpec, b: &GpuSpec) -> Vec<String> {
    let told = |field: &Field<u32>| field.known().map(ToString::to_string);
    let on =
        |field: &Field<bool>| field.known().map(|on| if *on { "on" } else { "off" }.to_owned());
    let mut reasons: Vec<String> = [
        where_told("SMs", told(&a.sm_count), told(&b.sm_count)),
        where_told("ECC", on(&a.ecc), on(&b.ecc)),
        where_told("multi-instance mode", on(&a.mig), on(&b.mig)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let (Field::Known(a), Field::Known(b)) = (&a.power_limit, &b.power_limit)
        && (a.get() - b.get()).abs() > SAME_POWER * a.get().max(b.get())
    {
        reasons.push(format!("power limit: {a} in A, {b} in B"));
    }
    reasons
}

/// How the links of two cards to their hosts differ: the lanes in use, and the fastest generation that card and
/// slot can do. The generation in use falls at rest, and says nothing.
pub(crate) fn links(a: &Run, b: &Run) -> Option<String> {
    let link = |run: &Run| {
        let gpu = run.device.gpu.as_ref()?;
        let (now, most) = (gpu.pcie_now.known()?, gpu.pcie_max.known()?);
        Some(PcieLink { generation: most.generation, width: now.width }.to_string())
    };
    where_told("link to the host", link(a), link(b))
}

/// Whether a row is of bytes on their way between host and card.
pub(crate) fn crosses_the_link(row: &Record) -> bool {
    row.id.group() == "load" || (row.id.group() == "micro" && row.id.subject() == "transfer")
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
    let limit =
        |run: &Run| run.device.gpu.as_ref().and_then(|gpu| gpu.power_limit.known().copied());
    let uuid = |run: &Run| run.device.gpu.as_ref().and_then(|gpu| gpu.uuid_hash.known().cloned());
    let mut notes: Vec<String> = [
        where_told("card", uuid(a), uuid(b)),
        where_told("host", a.host.name.clone(), b.host.name.clone()),
    ]
    .into_iter()
    .flatten()
    .collect();
    // Larger differences are of unlike machines.
    if let (Some(a), Some(b)) = (limit(a), limit(b))
        && (a.get() - b.get()).abs() <= SAME_POWER * a.get().max(b.get())
    {
        notes.extend(differing([("power limit", a.to_string(), b.to_string())]));
    }
    notes.extend(differing([
        ("driver", driver(a), driver(b)),
        ("host processor", a.host.cpu.clone(), b.host.cpu.clone()),
        ("cores of the host", cores(a), cores(b)),
        ("build profile", a.build.profile.clone(), b.build.profile.clone()),
        ("warpmark", version(a), version(b)),
        ("settings", settings(a), settings(b)),
    ]));
    notes
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
