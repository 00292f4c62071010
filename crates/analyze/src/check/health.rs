//! A card's settings and what its sensors saw, judged: a sentence each, with the next step where something is
//! to be done.

use std::collections::BTreeMap;

use serde::Serialize;
use warpmark_record::machine::GpuSpec;
use warpmark_record::{DeviceSpec, Field, Outcome, Record};

use super::measured;

/// What a remark means for the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// As it should be.
    Fine,
    /// To be known, and no fault.
    Note,
    /// Could not be looked at, or nothing is known to hold it against.
    Unknown,
    /// A fault of the card, its setting or its surroundings.
    Fault,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// What it means.
    pub weight: Weight,
    /// What was looked at.
    pub about: &'static str,
    /// What was found, in a sentence.
    pub text: String,
}

fn remark(weight: Weight, about: &'static str, text: impl Into<String>) -> Remark {
    Remark { weight, about, text: text.into() }
}

/// What the card says of itself before anything was run.
pub(super) fn of_settings(device: &DeviceSpec) -> Vec<Remark> {
    let Some(gpu) = &device.gpu else {
        return vec![remark(Weight::Unknown, "card", format!("{} is no card", device.name))];
    };
    let mut remarks = vec![ecc(device, gpu), slice(gpu), link(gpu), limit(gpu), tenants(gpu)];
    remarks.extend(gpu.datasheet.reason().map(|reason| {
        let step = "hold it against a run of a good one (`warpmark compare A B`)";
        remark(
            Weight::Unknown,
            "datasheet",
            format!("{reason}: what it should reach is not known; {step}"),
        )
    }));
    remarks.extend(gpu.idle.reason().map(|reason| {
        let step = "in a container ask for the `utility` capability";
        remark(Weight::Unknown, "sensors", format!("NVML tells nothing ({reason}); {step}"))
    }));
    remarks
}

/// Cards for graphics have it off or not at all.
fn ecc(device: &DeviceSpec, gpu: &GpuSpec) -> Remark {
    let graphics = device.name.contains("GeForce") || device.name.contains("RTX");
    match &gpu.ecc {
        Field::Known(true) => remark(Weight::Fine, "ECC", "memory errors are corrected"),
        Field::Known(false) if graphics => {
            remark(Weight::Note, "ECC", "off, as on most cards for graphics")
        }
        Field::Known(false) => remark(
            Weight::Fault,
            "ECC",
            "off: memory errors go unnoticed; `sudo nvidia-smi -e 1` and a reset turn it on",
        ),
        Field::Absent { absent } => remark(Weight::Unknown, "ECC", absent.clone()),
    }
}

fn slice(gpu: &GpuSpec) -> Remark {
    match &gpu.mig {
        Field::Known(true) => remark(
            Weight::Note,
            "MIG",
            "this is a slice of a card: it has a share of its SMs, memory and power, and no figure of the \
             whole judges it",
        ),
        Field::Known(false) => remark(Weight::Fine, "MIG", "off: the whole card"),
        Field::Absent { absent } => remark(Weight::Fine, "MIG", format!("none ({absent})")),
    }
}

/// The width alone: an idle link falls back to an older generation, and the copies judge its rate.
fn link(gpu: &GpuSpec) -> Remark {
    match (&gpu.pcie_now, &gpu.pcie_max) {
        (Field::Known(now), Field::Known(max)) if now.width < max.width => remark(
            Weight::Fault,
            "PCIe",
            format!(
                "{} of {} lanes: look at the slot, the riser and the seat of the card",
                now.width, max.width
            ),
        ),
        (Field::Known(_), Field::Known(max)) => {
            remark(Weight::Fine, "PCIe", format!("all {} lanes", max.width))
        }
        (now, max) => {
            let reason = now.reason().or(max.reason()).unwrap_or_default();
            remark(Weight::Unknown, "PCIe", reason)
        }
    }
}

fn limit(gpu: &GpuSpec) -> Remark {
    match (&gpu.power_limit, &gpu.power_limit_default) {
        (Field::Known(now), Field::Known(usual)) if now.0 < 0.99 * usual.0 => remark(
            Weight::Fault,
            "power limit",
            format!(
                "{now} of {usual} that it left the factory with; `sudo nvidia-smi -pl {:.0}` sets it back",
                usual.0
            ),
        ),
        (Field::Known(now), Field::Known(_)) => {
            remark(Weight::Fine, "power limit", format!("{now}, as it left the factory"))
        }
        (now, usual) => {
            let reason = now.reason().or(usual.reason()).unwrap_or_default();
            remark(Weight::Unknown, "power limit", reason)
        }
    }
}

fn tenants(gpu: &GpuSpec) -> Remark {
    match &gpu.other_processes {
        Field::Known(0) => remark(Weight::Fine, "other processes", "none on the card"),
        Field::Known(count) => remark(
            Weight::Fault,
            "other processes",
            format!("{count} on the card share its time and memory; `nvidia-smi` lists them"),
        ),
        Field::Absent { absent } => remark(Weight::Unknown, "other processes", absent.clone()),
    }
}

/// Causes that hold clocks down by heat, by the board or by the machine's power supply.
const FAULTS: [&str; 4] = [
    "hardware slowdown",
    "hardware thermal slowdown",
    "software thermal slowdown",
    "hardware power brake slowdown",
];

/// Words of errors that a driver answers where the card itself is at fault, and what they mean.
const LIKE_XID: [(&str, &str); 5] = [
    ("ECC_UNCORRECTABLE", "an uncorrectable memory error (Xid 48, 63, 64 or 94)"),
    ("CUDA_ERROR_UNKNOWN", "the card was lost (Xid 79: it has fallen off the bus)"),
    ("sees no device", "the card was lost (Xid 79: it has fallen off the bus)"),
    ("it hung", "a kernel never ended (Xid 8 or 109)"),
    ("HARDWARE_STACK_ERROR", "an error of the card's hardware (Xid 13)"),
];

/// What happened while rows were measured.
pub(super) fn of_rows(records: &[&Record]) -> Vec<Remark> {
    let mut remarks = vec![throttling(records)];
    // The same reason once, however many rows it cost.
    let mut skipped: BTreeMap<&str, usize> = BTreeMap::new();
    for record in records {
        match &record.outcome {
            Outcome::Failed { reason } => {
                let xid = LIKE_XID.iter().find(|(word, _)| reason.contains(word));
                let means = xid.map(|(_, means)| {
                    format!(": {means}; `dmesg | grep Xid` tells, and the card is to be looked at")
                });
                let text = format!("{} failed: {reason}{}", record.id, means.unwrap_or_default());
                remarks.push(remark(Weight::Fault, "errors", text));
            }
            Outcome::Skipped { reason } => *skipped.entry(reason).or_default() += 1,
            Outcome::Measured => {}
        }
    }
    for (reason, count) in skipped {
        let rows = if count == 1 { "one row".to_owned() } else { format!("{count} rows") };
        let text = format!("{rows} could not be measured: {reason} (`warpmark doctor` says more)");
        remarks.push(remark(Weight::Unknown, "measuring", text));
    }
    remarks
}

fn throttling(records: &[&Record]) -> Remark {
    let told = records.iter().filter(|record| measured(record)).map(|record| &record.telemetry);
    let causes: Vec<_> = told.flatten().map(|told| &told.throttle_causes).collect();
    let mut seen: Vec<&str> = Vec::new();
    for cause in causes.iter().filter_map(|field| field.known()).flat_map(BTreeMap::keys) {
        if !seen.contains(&cause.as_str()) {
            seen.push(cause);
        }
    }
    let faults: Vec<&str> = seen.iter().copied().filter(|cause| FAULTS.contains(cause)).collect();
    if !faults.is_empty() {
        let text = format!(
            "the card held its clocks down: {}; look at its cooling and its power supply",
            faults.join(", ")
        );
        return remark(Weight::Fault, "throttling", text);
    }
    if !seen.is_empty() {
        let text = format!("clocks followed {}, as under full load they may", seen.join(", "));
        return remark(Weight::Note, "throttling", text);
    }
    match causes.iter().find_map(|field| field.reason()) {
        Some(reason) => remark(Weight::Unknown, "throttling", reason),
        None if causes.is_empty() => {
            remark(Weight::Unknown, "throttling", "no row was measured beside the sensors")
        }
        None => remark(Weight::Fine, "throttling", "nothing held its clocks down"),
    }
}
