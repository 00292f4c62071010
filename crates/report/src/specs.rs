//! What a machine said of itself, free of any format: every property with its value, or with the
//! reason why it is not known.

use std::collections::BTreeMap;
use std::fmt::Display;

use warpmark_record::machine::{CpuSpec, DatasheetEntry, GpuSpec, GpuState, Sourced};
use warpmark_record::{DeviceSpec, Field, HostSpec, Run};

/// Properties that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    /// What they describe.
    pub title: &'static str,
    /// The properties.
    pub facts: Vec<Fact>,
}

/// A property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Its name.
    pub name: String,
    /// Its value, or why it is not known.
    pub value: Result<String, String>,
}

/// The sheets of a device and its host.
pub fn of(device: &DeviceSpec, host: &HostSpec) -> Vec<Sheet> {
    let mut sheets = vec![device_sheet(device)];
    if let Some(cpu) = &device.cpu {
        sheets.push(Sheet { title: "processor", facts: cpu_facts(cpu) });
    }
    if let Some(gpu) = &device.gpu {
        sheets.push(Sheet { title: "multiprocessors", facts: multiprocessor_facts(gpu) });
        sheets.push(Sheet { title: "card", facts: card_facts(gpu) });
        sheets.push(Sheet { title: "idle state", facts: facts("sensors", &gpu.idle, idle_facts) });
        sheets.push(Sheet {
            title: "datasheet",
            facts: facts("entry", &gpu.datasheet, datasheet_facts),
        });
    }
    sheets.push(host_sheet(host));
    sheets
}

/// How a run was made: the command, the build, the settings.
pub(crate) fn run_sheet(run: &Run) -> Sheet {
    let build = &run.build;
    let pairs = |entries: &BTreeMap<String, String>| {
        let entries: Vec<String> =
            entries.iter().map(|(name, value)| format!("{name} {value}")).collect();
        entries.join(", ")
    };
    let mut facts = vec![
        known("run", &run.run),
        known("started", &run.started_at),
        known("command", run.command.join(" ")),
        known("suite", &run.suite),
        known("seed", run.seed),
        known("method", run.method),
        known("warpmark", format!("{} ({}), {}", build.version, build.git, build.profile)),
        known("compiler", &build.rustc),
        known("features", build.features.join(", ")),
        known("crates", pairs(&build.crates)),
    ];
    facts.push(known("tags", words(&run.tags)));
    facts.extend(run.settings.iter().map(|(name, value)| known(name, value)));
    facts.retain(|fact| fact.value.as_ref().is_ok_and(|value| !value.is_empty()));
    Sheet { title: "run", facts }
}

fn known(name: &str, value: impl Display) -> Fact {
    Fact { name: name.to_owned(), value: Ok(value.to_string()) }
}

fn absent(name: &str, reason: &str) -> Fact {
    Fact { name: name.to_owned(), value: Err(reason.to_owned()) }
}

fn field<T>(name: &str, field: &Field<T>, show: impl FnOnce(&T) -> String) -> Fact {
    let value = match field {
        Field::Known(value) => Ok(show(value)),
        Field::Absent { absent } => Err(absent.clone()),
    };
    Fact { name: name.to_owned(), value }
}

fn shown<T: Display>(name: &str, value: &Field<T>) -> Fact {
    field(name, value, ToString::to_string)
}

fn yes_or_no(name: &str, value: &Field<bool>) -> Fact {
    field(name, value, |yes| if *yes { "yes" } else { "no" }.to_owned())
}

fn share(name: &str, value: &Field<f64>) -> Fact {
    field(name, value, |share| crate::format::percent(*share))
}

fn capacity(name: &str, value: &Field<warpmark_record::Bytes>) -> Fact {
    field(name, value, |bytes| bytes.binary())
}

fn device_sheet(device: &DeviceSpec) -> Sheet {
    let facts = vec![
        known("name", &device.name),
        known("kind", format!("{}:{}", device.kind, device.index)),
        known("results folder", &device.slug),
        capacity("memory", &device.memory),
        shown("memory bandwidth", &device.memory_bandwidth),
        capacity("last-level cache", &device.last_level_cache),
    ];
    Sheet { title: "device", facts }
}

fn cpu_facts(cpu: &CpuSpec) -> Vec<Fact> {
    vec![
        known("cores", cpu.cores),
        known("vector instructions", &cpu.simd),
        yes_or_no("virtualised", &cpu.virtualised),
    ]
}

fn multiprocessor_facts(gpu: &GpuSpec) -> Vec<Fact> {
    let (major, minor) = gpu.compute_capability;
    vec![
        known("compute capability", format!("{major}.{minor}")),
        shown("SMs", &gpu.sm_count),
        shown("highest SM clock", &gpu.sm_clock),
        capacity("shared memory per SM", &gpu.shared_memory_per_sm),
        capacity("shared memory per block", &gpu.shared_memory_per_block),
        shown("32-bit registers per SM", &gpu.registers_per_sm),
        shown("threads per warp", &gpu.warp_size),
    ]
}

fn card_facts(gpu: &GpuSpec) -> Vec<Fact> {
    let cuda = gpu.cuda_driver_version;
    vec![
        shown("memory clock", &gpu.memory_clock),
        field("memory bus", &gpu.memory_bus_bits, |bits| format!("{bits} bits")),
        yes_or_no("ECC", &gpu.ecc),
        yes_or_no("shares memory with the host", &gpu.integrated),
        yes_or_no("memory pools", &gpu.memory_pools),
        shown("PCI id", &gpu.pci_id),
        shown("UUID hash", &gpu.uuid_hash),
        shown("driver", &gpu.driver_version),
        known("CUDA of the driver", format!("{}.{}", cuda / 1000, cuda % 1000 / 10)),
        shown("power limit", &gpu.power_limit),
        shown("default power limit", &gpu.power_limit_default),
        shown("PCIe link now", &gpu.pcie_now),
        shown("best PCIe link", &gpu.pcie_max),
        yes_or_no("multi-instance mode", &gpu.mig),
        yes_or_no("persistence mode", &gpu.persistence),
        shown("other processes", &gpu.other_processes),
    ]
}

/// The facts of something that may be absent as a whole; `name` then stands for all of them.
fn facts<T>(name: &str, field: &Field<T>, of: impl FnOnce(&T) -> Vec<Fact>) -> Vec<Fact> {
    match field {
        Field::Known(value) => of(value),
        Field::Absent { absent } => {
            vec![self::absent(name, absent)]
        }
    }
}

fn idle_facts(state: &GpuState) -> Vec<Fact> {
    vec![
        shown("SM clock", &state.sm_clock),
        shown("memory clock", &state.memory_clock),
        shown("power", &state.power),
        shown("energy since the driver was loaded", &state.energy),
        shown("temperature", &state.temperature),
        field("clocks held down by", &state.throttle_causes, |causes| match causes.as_slice() {
            [] => "nothing".to_owned(),
            causes => causes.join(", "),
        }),
        share("GPU in use", &state.gpu_utilisation),
        share("memory in use", &state.memory_utilisation),
    ]
}

fn datasheet_facts(datasheet: &DatasheetEntry) -> Vec<Fact> {
    let mut facts = vec![known("entry", &datasheet.name)];
    facts.extend(datasheet.peaks.iter().map(|(name, peak)| {
        let value = peak.value.to_string();
        // The operations of integers are no floating-point ones.
        let value = if name.starts_with("int") { value.replace("FLOP/s", "OP/s") } else { value };
        sourced(name, peak, value)
    }));
    facts.extend(datasheet.absent.iter().map(|(name, reason)| absent(name, reason)));
    let mut optional = |name: &str, fact: Option<Fact>| {
        facts.push(fact.unwrap_or_else(|| absent(name, "the datasheet does not say")));
    };
    let clock = datasheet.clock.as_ref();
    optional("clock of the peaks", clock.map(|c| sourced("clock of the peaks", c, c.value)));
    let clocks: Vec<String> = datasheet
        .clocks
        .iter()
        .map(|(name, clock)| format!("{name} at {} ({})", clock.value, clock.source))
        .collect();
    if !clocks.is_empty() {
        optional("other clocks", Some(known("other clocks", clocks.join("; "))));
    }
    let bandwidth = datasheet.bandwidth.as_ref();
    optional("bandwidth", bandwidth.map(|b| sourced("bandwidth", b, b.value)));
    let l2 = datasheet.l2.as_ref();
    optional("L2", l2.map(|size| sourced("L2", size, size.value.binary())));
    let tdp = datasheet.tdp.as_ref();
    optional("board power", tdp.map(|power| sourced("board power", power, power.value)));
    facts
}

fn sourced<T>(name: &str, figure: &Sourced<T>, value: impl Display) -> Fact {
    known(name, format!("{value} ({})", figure.source))
}

/// `key=value` of each.
pub(crate) fn words(all: &BTreeMap<String, String>) -> String {
    let each: Vec<String> = all.iter().map(|(key, value)| format!("{key}={value}")).collect();
    each.join(" ")
}

fn host_sheet(host: &HostSpec) -> Sheet {
    let mut facts: Vec<Fact> = host.name.iter().map(|name| known("name", name)).collect();
    facts.extend([
        known("processor", &host.cpu),
        known("cores", host.cores),
        capacity("memory", &host.memory),
        known("system", &host.os),
        shown("container", &host.container),
        field("load average", &host.load_average, |load| format!("{load:.2}")),
    ]);
    Sheet { title: "host", facts }
}
