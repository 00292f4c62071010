//! NVML: sensors and settings that the CUDA driver does not tell.
//!
//! A card is found by its PCI id, never by its index: NVML counts all cards in bus order, CUDA counts
//! those that `CUDA_VISIBLE_DEVICES` leaves, fastest first.

mod processes;
pub(crate) mod topology;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::{SampleValue, UsedGpuMemory};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id::NVML_FI_DEV_POWER_INSTANT;
use nvml_wrapper::{Device, Nvml};
use warpmark_record::machine::{GpuState, PcieLink};
use warpmark_record::{Bytes, Celsius, Field, Hertz, Joules, Watts};

use crate::loader::{LibraryInfo, full_reason, mapped_file};
use crate::sensors::Sensors;
use processes::{memory_of, others_beside};

/// The name that nvml-wrapper loads; it tries no other.
const LIBRARY: &str = "libnvidia-ml.so.1";

static NVML: OnceLock<Result<Nvml, String>> = OnceLock::new();

fn nvml() -> Result<&'static Nvml, String> {
    let loaded = NVML.get_or_init(|| {
        Nvml::init().map_err(|error| match error {
            NvmlError::LibloadingError(error) => unloadable(&error),
            other => words(&other),
        })
    });
    loaded.as_ref().map_err(Clone::clone)
}

/// Takes anything that prints: nvml-wrapper's libloading is not ours.
fn unloadable(error: &dyn std::error::Error) -> String {
    let reason = full_reason(error);
    if reason.contains("No such file") {
        format!("{LIBRARY} was not found")
    } else {
        format!("{LIBRARY} cannot be loaded: {reason}")
    }
}

/// NVML as a library, for [`crate::libraries`].
pub(crate) fn library() -> Field<LibraryInfo> {
    let info = nvml().map(|nvml| LibraryInfo {
        name: LIBRARY.to_owned(),
        path: mapped_file(LIBRARY),
        version: nvml.sys_nvml_version().unwrap_or_default(),
    });
    info.into()
}

/// An NVML error for a person, in the terms of someone who rented the machine.
fn words(error: &NvmlError) -> String {
    match error {
        NvmlError::NotSupported => "not supported on this card".to_owned(),
        NvmlError::NoPermission => "not permitted for this user or in this container".to_owned(),
        NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => {
            "this driver's NVML does not have it".to_owned()
        }
        NvmlError::LibRmVersionMismatch => {
            "NVML and the kernel module differ in version; reboot after a driver update".to_owned()
        }
        NvmlError::DriverNotLoaded => "the NVIDIA kernel module is not loaded".to_owned(),
        other => format!("NVML says: {other}"),
    }
}

fn field<T>(answer: Result<T, NvmlError>) -> Field<T> {
    answer.map_err(|error| words(&error)).into()
}

/// Why a slice has no power of its own, nor other processes.
const WHOLE_CARD: &str =
    "the device is a slice of a card (MIG), and NVML tells this of the whole card alone";

/// One card, seen through NVML.
pub(crate) struct Card {
    device: Device<'static>,
    /// Whether it is cut into slices: what CUDA sees is one of them.
    sliced: bool,
}

impl Card {
    /// The card at `domain:bus:device.function`.
    ///
    /// # Errors
    /// The reason in words, fit for [`Field::absent`].
    pub(crate) fn at(pci_id: &str) -> Result<Self, String> {
        let device = nvml()?.device_by_pci_bus_id(pci_id).map_err(|error| {
            format!("NVML does not know the card at {pci_id}: {}", words(&error))
        })?;
        let sliced = device.mig_mode().is_ok_and(|mode| mode.current == 1);
        Ok(Self { device, sliced })
    }

    /// What NVML tells of the whole card, unless the device is a slice of it.
    fn whole<T>(&self, ask: impl FnOnce(&Self) -> Field<T>) -> Field<T> {
        if self.sliced { Field::absent(WHOLE_CARD) } else { ask(self) }
    }

    /// The instantaneous power where the card has it. `power_usage` is the mean of the last second from
    /// Ampere on (but on the A100 and A30), and would carry the last workload's power into this one.
    fn power(&self) -> Field<Watts> {
        let milliwatts = match self.instantaneous_power() {
            Some(milliwatts) => Ok(milliwatts),
            None => self.device.power_usage().map(f64::from),
        };
        field(milliwatts).map(|mw| Watts(mw / 1e3))
    }

    fn instantaneous_power(&self) -> Option<f64> {
        let fields = self.device.field_values_for(&[FieldId(NVML_FI_DEV_POWER_INSTANT)]).ok()?;
        match fields.into_iter().next()?.ok()?.value.ok()? {
            SampleValue::U32(milliwatts) if milliwatts > 0 => Some(f64::from(milliwatts)),
            SampleValue::U64(milliwatts) if milliwatts > 0 => Some(milliwatts as f64),
            _ => None,
        }
    }

    /// Which of the two the power readings of this card are, for the run's record.
    pub(crate) fn power_sensor(&self) -> &'static str {
        match self.instantaneous_power() {
            Some(_) => "instantaneous",
            None => {
                "mean of the last second (from Ampere on, but for A100 and A30; those and older cards: \
                 instantaneous)"
            }
        }
    }

    fn clock(&self, which: Clock) -> Field<Hertz> {
        field(self.device.clock_info(which)).map(megahertz)
    }

    fn state(&self) -> GpuState {
        let utilisation = field(self.device.utilization_rates());
        GpuState {
            sm_clock: self.clock(Clock::SM),
            memory_clock: self.clock(Clock::Memory),
            power: self.whole(Self::power),
            energy: self.whole(|card| {
                field(card.device.total_energy_consumption()).map(|mj| Joules(mj as f64 / 1e3))
            }),
            temperature: field(self.device.temperature(TemperatureSensor::Gpu))
                .map(|degrees| Celsius(f64::from(degrees))),
            throttle_causes: field(self.device.current_throttle_reasons()).map(throttle_words),
            gpu_utilisation: self
                .whole(|_| utilisation.clone().map(|share| f64::from(share.gpu) / 100.0)),
            memory_utilisation: self
                .whole(|_| utilisation.clone().map(|share| f64::from(share.memory) / 100.0)),
            other_processes: Field::absent("not counted in this look"),
        }
    }

    fn link(
        &self,
        generation: fn(&Device<'static>) -> Result<u32, NvmlError>,
        width: fn(&Device<'static>) -> Result<u32, NvmlError>,
    ) -> Field<PcieLink> {
        let link = generation(&self.device)
            .and_then(|generation| width(&self.device).map(|width| PcieLink { generation, width }));
        field(link)
    }

    /// All processes with compute or graphics contexts, by NVML's numbers.
    fn processes(&self) -> Field<BTreeSet<u32>> {
        let compute = self.device.running_compute_processes();
        // A data-centre card may refuse the graphics list, which then is empty.
        let graphics = self.device.running_graphics_processes().unwrap_or_default();
        field(compute).map(|compute| compute.into_iter().chain(graphics).map(|p| p.pid).collect())
    }

    /// What is taken of the card's memory, by whomever.
    fn memory_used(&self) -> Field<Bytes> {
        field(self.device.memory_info()).map(|memory| Bytes(memory.used as f64))
    }

    /// What this process has of the card's memory: all of it, context and libraries included.
    pub(crate) fn own_memory(&self) -> Field<Bytes> {
        let listed = field(self.device.running_compute_processes());
        let listed = listed.map(|list| -> BTreeMap<u32, Option<Bytes>> {
            let used = |memory| match memory {
                UsedGpuMemory::Used(bytes) => Some(Bytes(bytes as f64)),
                UsedGpuMemory::Unavailable => None,
            };
            list.into_iter().map(|p| (p.pid, used(p.used_gpu_memory))).collect()
        });
        match listed {
            Field::Known(list) => memory_of(std::process::id(), &list),
            Field::Absent { absent } => Field::Absent { absent },
        }
    }

    /// The other processes before this one has a context.
    fn others_beforehand(&self) -> Field<u32> {
        let own = std::process::id();
        self.whole(Self::processes)
            .map(|pids| pids.iter().filter(|pid| **pid != own).count() as u32)
    }
}

/// What NVML counts as used on a card.
pub(crate) fn used(card: Result<&Card, &String>) -> Field<Bytes> {
    card.map_or_else(|reason| Field::absent(reason.clone()), Card::memory_used)
}

/// What is used on a card beyond what was.
pub(crate) fn grown(card: Result<&Card, &String>, before: Field<Bytes>) -> Field<Bytes> {
    match before {
        Field::Known(before) => used(card).map(|now| (now - before).max(Bytes(0.0))),
        absent @ Field::Absent { .. } => absent,
    }
}

impl Sensors for Card {
    fn read(&mut self) -> GpuState {
        self.state()
    }

    fn other_processes(&mut self) -> Field<u32> {
        match self.whole(Self::processes) {
            Field::Known(pids) => others_beside(std::process::id(), &pids),
            Field::Absent { absent } => Field::Absent { absent },
        }
    }
}

fn megahertz(clock: u32) -> Hertz {
    Hertz(f64::from(clock) * 1e6)
}

/// NVML's names of what holds clocks down. Idling is not a cause: an idle card has low clocks because
/// nobody asks for more.
fn throttle_words(reasons: ThrottleReasons) -> Vec<String> {
    const WORDS: [(ThrottleReasons, &str); 8] = [
        (ThrottleReasons::APPLICATIONS_CLOCKS_SETTING, "applications clocks setting"),
        (ThrottleReasons::SW_POWER_CAP, "software power cap"),
        (ThrottleReasons::HW_SLOWDOWN, "hardware slowdown"),
        (ThrottleReasons::SYNC_BOOST, "sync boost"),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, "software thermal slowdown"),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, "hardware thermal slowdown"),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "hardware power brake slowdown"),
        (ThrottleReasons::DISPLAY_CLOCK_SETTING, "display clock setting"),
    ];
    WORDS
        .iter()
        .filter(|(reason, _)| reasons.contains(*reason))
        .map(|(_, word)| (*word).to_owned())
        .collect()
}

/// What NVML tells of a card for its spec.
pub(crate) struct Told {
    pub(crate) driver_version: Field<String>,
    pub(crate) power_limit: Field<Watts>,
    pub(crate) power_limit_default: Field<Watts>,
    pub(crate) pcie_now: Field<PcieLink>,
    pub(crate) pcie_max: Field<PcieLink>,
    pub(crate) mig: Field<bool>,
    pub(crate) persistence: Field<bool>,
    pub(crate) other_processes: Field<u32>,
    pub(crate) memory_clock_max: Field<Hertz>,
    pub(crate) state: Field<GpuState>,
}

impl Told {
    /// Asks the card; every field is absent with the same reason where there is none to ask.
    pub(crate) fn by(card: Result<&Card, &String>) -> Self {
        fn ask<T>(
            card: Result<&Card, &String>,
            question: impl FnOnce(&Card) -> Field<T>,
        ) -> Field<T> {
            card.map_or_else(|reason| Field::absent(reason.clone()), question)
        }
        let watts = |milliwatts: u32| Watts(f64::from(milliwatts) / 1e3);
        Self {
            driver_version: nvml()
                .and_then(|nvml| nvml.sys_driver_version().map_err(|error| words(&error)))
                .into(),
            power_limit: ask(card, |c| field(c.device.enforced_power_limit()).map(watts)),
            power_limit_default: ask(card, |c| {
                field(c.device.power_management_limit_default()).map(watts)
            }),
            pcie_now: ask(card, |c| {
                c.link(Device::current_pcie_link_gen, Device::current_pcie_link_width)
            }),
            pcie_max: ask(card, |c| c.link(Device::max_pcie_link_gen, Device::max_pcie_link_width)),
            mig: ask(card, |c| field(c.device.mig_mode()).map(|mode| mode.current == 1)),
            persistence: ask(card, |c| field(c.device.is_in_persistent_mode())),
            other_processes: ask(card, Card::others_beforehand),
            memory_clock_max: ask(card, |c| {
                field(c.device.max_clock_info(Clock::Memory)).map(megahertz)
            }),
            state: ask(card, |c| Field::Known(c.state())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_named_and_idling_is_none() {
        let reasons = ThrottleReasons::GPU_IDLE | ThrottleReasons::SW_POWER_CAP;
        assert_eq!(throttle_words(reasons), ["software power cap"]);
        assert_eq!(throttle_words(ThrottleReasons::GPU_IDLE), Vec::<String>::new());
        let both = ThrottleReasons::HW_SLOWDOWN | ThrottleReasons::HW_THERMAL_SLOWDOWN;
        assert_eq!(throttle_words(both), ["hardware slowdown", "hardware thermal slowdown"]);
    }

    #[test]
    fn refusals_are_told_in_words_of_the_reader() {
        assert_eq!(words(&NvmlError::NotSupported), "not supported on this card");
        assert!(words(&NvmlError::NoPermission).contains("container"));
        assert!(words(&NvmlError::GpuLost).starts_with("NVML says: "));
    }
}
