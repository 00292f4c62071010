//! NVML: what the suite asks of it. Power and use follow from the work that was queued.

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong};

use crate::call::{elsewhere, put};
use crate::card::{Device, uuid_words};
use crate::driver::bus;
use crate::faults::Listing;
use crate::machine::Machine;
use crate::timeline::now;

const UNINITIALIZED: u32 = 1;
const INVALID_ARGUMENT: u32 = 2;
const NOT_FOUND: u32 = 6;
const INSUFFICIENT_SIZE: u32 = 7;
const NOT_SUPPORTED: u32 = 3;

/// `NVML_FI_DEV_POWER_INSTANT`.
const POWER_INSTANT: u32 = 186;
/// The value is an unsigned int.
const UNSIGNED: u32 = 1;

/// Device handles are indices plus this.
const HANDLES: u64 = 0x100;

fn card(machine: &mut Machine, handle: u64) -> Result<&mut Device, u32> {
    let index = handle.checked_sub(HANDLES).ok_or(INVALID_ARGUMENT)?;
    machine.device(index as i32).map_err(|_| INVALID_ARGUMENT)
}

/// A function that asks a card for one value.
macro_rules! values {
    ($($name:ident($type:ty) = $value:expr;)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name(handle: u64, value: Option<&mut $type>) -> u32 {
            let found: fn(&mut Device) -> $type = $value;
            elsewhere(stringify!($name), |machine| {
                put(value, found(card(machine, handle)?), INVALID_ARGUMENT)
            })
        }
    )*};
}

values! {
    nvmlDeviceGetPowerUsage(c_uint) = |card| milliwatts(card);
    nvmlDeviceGetEnforcedPowerLimit(c_uint) = |card| limit(card);
    nvmlDeviceGetPowerManagementDefaultLimit(c_uint) = |card| limit(card);
    nvmlDeviceGetPowerManagementLimit(c_uint) = |card| limit(card);
    nvmlDeviceGetTotalEnergyConsumption(c_ulonglong) = millijoules;
    nvmlDeviceGetCurrentClocksThrottleReasons(c_ulonglong) = |card| card.throttled();
    nvmlDeviceGetCurrPcieLinkGeneration(c_uint) = |card| card.profile.pcie.0;
    nvmlDeviceGetMaxPcieLinkGeneration(c_uint) = |card| card.profile.pcie.0;
    nvmlDeviceGetCurrPcieLinkWidth(c_uint) = |card| card.profile.pcie.1;
    nvmlDeviceGetMaxPcieLinkWidth(c_uint) = |card| card.profile.pcie.1;
    nvmlDeviceGetPersistenceMode(c_uint) = |_| 1;
    nvmlDeviceGetUtilizationRates([c_uint; 2]) = |card| [if works(card) { 100 } else { 0 }; 2];
}

fn works(card: &Device) -> bool {
    card.busy_until > now()
}

fn limit(card: &Device) -> c_uint {
    (card.profile.power_limit_w * 1e3) as c_uint
}

fn milliwatts(card: &Device) -> c_uint {
    let watts = if works(card) { card.profile.power_limit_w } else { card.profile.idle_w };
    (watts * 1e3) as c_uint
}

/// The integral of the power: idle all the time, and the rest while there was work.
fn millijoules(card: &mut Device) -> c_ulonglong {
    card.energy_readings += 1;
    let anew = card.wrong.energy_back == Some(card.energy_readings);
    let ahead = card.busy_until.saturating_duration_since(now()).as_secs_f64();
    let worked = (card.worked - ahead).max(0.0);
    let idle = card.profile.idle_w * (now() - card.started).as_secs_f64();
    let all = (idle + (card.profile.power_limit_w - card.profile.idle_w) * worked) * 1e3;
    if anew {
        card.energy_forgotten = all;
    }
    if card.wrong.energy_step == Some(card.energy_readings) {
        card.energy_added = 1e6;
    }
    (all - card.energy_forgotten + card.energy_added) as c_ulonglong
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> u32 {
    elsewhere("nvmlInit_v2", |_| Ok(()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> u32 {
    elsewhere("nvmlShutdown", |_| Ok(()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(_code: u32) -> *const c_char {
    c"an error of the simulated NVML".as_ptr()
}

/// Copies text and its zero to where the caller has room for `len` bytes.
fn tell(text: &CStr, to: *mut c_char, len: c_uint) -> Result<(), u32> {
    let bytes = text.to_bytes_with_nul();
    if to.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    if bytes.len() > len as usize {
        return Err(INSUFFICIENT_SIZE);
    }
    // SAFETY: there is room for `len` bytes, which are no fewer.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), to, bytes.len()) };
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetDriverVersion(text: *mut c_char, len: c_uint) -> u32 {
    elsewhere("nvmlSystemGetDriverVersion", |_| tell(c"580.65.06", text, len))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetNVMLVersion(text: *mut c_char, len: c_uint) -> u32 {
    elsewhere("nvmlSystemGetNVMLVersion", |_| tell(c"13.580.65.06", text, len))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCount_v2(count: Option<&mut c_uint>) -> u32 {
    elsewhere("nvmlDeviceGetCount_v2", |machine| {
        put(count, machine.devices.len() as c_uint, INVALID_ARGUMENT)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, handle: Option<&mut u64>) -> u32 {
    elsewhere("nvmlDeviceGetHandleByIndex_v2", |machine| {
        machine.device(index as i32).map_err(|_| INVALID_ARGUMENT)?;
        put(handle, HANDLES + u64::from(index), INVALID_ARGUMENT)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(id: *const c_char, handle: Option<&mut u64>) -> u32 {
    elsewhere("nvmlDeviceGetHandleByPciBusId_v2", |machine| {
        if id.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: NVML's callers promise a zero-terminated id.
        let id = unsafe { CStr::from_ptr(id) }.to_string_lossy().to_ascii_lowercase();
        let at = |card: &Device| id.ends_with(&format!("0000:{:02x}:00.0", bus(card)));
        let index = machine.devices.iter().position(at).ok_or(NOT_FOUND)?;
        put(handle, HANDLES + index as u64, INVALID_ARGUMENT)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetName(handle: u64, text: *mut c_char, len: c_uint) -> u32 {
    elsewhere("nvmlDeviceGetName", |machine| {
        let name =
            std::ffi::CString::new(card(machine, handle)?.name()).map_err(|_| UNINITIALIZED)?;
        tell(&name, text, len)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUUID(handle: u64, text: *mut c_char, len: c_uint) -> u32 {
    elsewhere("nvmlDeviceGetUUID", |machine| {
        let words = format!("GPU-{}", uuid_words(&card(machine, handle)?.uuid()));
        tell(&std::ffi::CString::new(words).map_err(|_| UNINITIALIZED)?, text, len)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperature(
    handle: u64,
    _sensor: c_int,
    value: Option<&mut c_uint>,
) -> u32 {
    elsewhere("nvmlDeviceGetTemperature", |machine| {
        let degrees = if works(card(machine, handle)?) { 61 } else { 38 };
        put(value, degrees, INVALID_ARGUMENT)
    })
}

fn clock(
    name: &'static str,
    handle: u64,
    which: c_int,
    value: Option<&mut c_uint>,
    share: fn(&Device) -> f64,
) -> u32 {
    elsewhere(name, |machine| {
        let card = card(machine, handle)?;
        let profile = &card.profile;
        // Graphics and SM clocks are one; then memory, then video.
        let megahertz = match which {
            0 | 1 => (f64::from(profile.sm_clock_mhz) * share(card)) as c_uint,
            2 => profile.memory_clock_mhz,
            _ => return Err(NOT_SUPPORTED),
        };
        put(value, megahertz, INVALID_ARGUMENT)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetClockInfo(handle: u64, which: c_int, value: Option<&mut c_uint>) -> u32 {
    clock("nvmlDeviceGetClockInfo", handle, which, value, Device::clock_share)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxClockInfo(
    handle: u64,
    which: c_int,
    value: Option<&mut c_uint>,
) -> u32 {
    clock("nvmlDeviceGetMaxClockInfo", handle, which, value, |_| 1.0)
}

/// Only cards that can be sliced have the mode.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigMode(
    handle: u64,
    now: Option<&mut c_uint>,
    later: Option<&mut c_uint>,
) -> u32 {
    elsewhere("nvmlDeviceGetMigMode", |machine| {
        let sliceable = matches!(card(machine, handle)?.profile.compute_capability, (8 | 9, 0));
        if !sliceable {
            return Err(NOT_SUPPORTED);
        }
        let on = c_uint::from(card(machine, handle)?.wrong.mig);
        put(now, on, INVALID_ARGUMENT)?;
        put(later, on, INVALID_ARGUMENT)
    })
}

/// `nvmlMemory_v2_t`.
#[repr(C)]
struct Memory {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo_v2(handle: u64, memory: Option<&mut Memory>) -> u32 {
    elsewhere("nvmlDeviceGetMemoryInfo_v2", |machine| {
        let card = card(machine, handle)?;
        let memory = memory.ok_or(INVALID_ARGUMENT)?;
        let (total, used) = (card.total_memory(), card.held_memory());
        (memory.total, memory.reserved, memory.free, memory.used) = (total, 0, total - used, used);
        Ok(())
    })
}

/// A process on the card, as version 3 of the functions tells it.
#[repr(C)]
struct Process {
    pid: c_uint,
    memory: c_ulonglong,
    instances: [c_uint; 2],
}

/// The other processes of the plan, and this one once it has a context.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    handle: u64,
    count: Option<&mut c_uint>,
    list: *mut Process,
) -> u32 {
    elsewhere("nvmlDeviceGetComputeRunningProcesses_v3", |machine| {
        let card = card(machine, handle)?;
        let count = count.ok_or(INVALID_ARGUMENT)?;
        // No process of a running system has so high a number.
        let this =
            if card.wrong.processes == Listing::Foreign { u32::MAX } else { std::process::id() };
        let own = (card.retained > 0).then_some(this);
        let others = (1..=card.wrong.tenants).map(|nth| u32::MAX - nth);
        let listed = |_: &u32| card.wrong.processes != Listing::Hidden;
        let pids: Vec<u32> = own.into_iter().chain(others).filter(listed).collect();
        let room = std::mem::replace(count, pids.len() as c_uint) as usize;
        if pids.len() > room {
            return Err(INSUFFICIENT_SIZE);
        }
        if !pids.is_empty() && list.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        let memory = card.held_memory() + card.wrong.own_memory;
        for (place, pid) in pids.into_iter().enumerate() {
            // SAFETY: there is room for all of them.
            unsafe { list.add(place).write(Process { pid, memory, instances: [u32::MAX; 2] }) };
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    handle: u64,
    count: Option<&mut c_uint>,
    _list: Option<&mut Process>,
) -> u32 {
    elsewhere("nvmlDeviceGetGraphicsRunningProcesses_v3", |machine| {
        card(machine, handle)?;
        put(count, 0, INVALID_ARGUMENT)
    })
}

/// What the ways of two cards meet at: cards 0 and 1, 2 and 3, … share a switch, four a host bridge, and the
/// others are on another socket.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTopologyCommonAncestor(
    one: u64,
    other: u64,
    level: Option<&mut c_uint>,
) -> u32 {
    elsewhere("nvmlDeviceGetTopologyCommonAncestor", |machine| {
        let (one, other) = (card(machine, one)?.slot, card(machine, other)?.slot);
        let (internal, single, bridge, system) = (0, 10, 30, 50);
        let found = match (one == other, one / 2 == other / 2, one / 4 == other / 4) {
            (true, ..) => internal,
            (_, true, _) => single,
            (.., true) => bridge,
            _ => system,
        };
        put(level, found, INVALID_ARGUMENT)
    })
}

/// `NVML_P2P_STATUS_OK` and `NVML_P2P_STATUS_NOT_SUPPORTED`.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetP2PStatus(
    one: u64,
    other: u64,
    what: c_uint,
    status: Option<&mut c_uint>,
) -> u32 {
    const NVLINK: c_uint = 2;
    elsewhere("nvmlDeviceGetP2PStatus", |machine| {
        let linked = card(machine, one)?.profile.nvlinks.min(card(machine, other)?.profile.nvlinks);
        let possible = what != NVLINK || linked > 0;
        put(status, if possible { 0 } else { 5 }, INVALID_ARGUMENT)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNvLinkState(handle: u64, link: c_uint, on: Option<&mut c_uint>) -> u32 {
    elsewhere("nvmlDeviceGetNvLinkState", |machine| {
        let others = machine.devices.len() > 1;
        match card(machine, handle)?.profile.nvlinks {
            0 => Err(NOT_SUPPORTED),
            links => put(on, c_uint::from(others && link < links), INVALID_ARGUMENT),
        }
    })
}

/// `nvmlPciInfo_t`.
#[repr(C)]
struct PciInfo {
    old_bus_id: [u8; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    pci_device: c_uint,
    pci_subsystem: c_uint,
    bus_id: [u8; 32],
}

impl PciInfo {
    fn at(bus: u32) -> Self {
        let text = format!("00000000:{bus:02X}:00.0");
        let mut bus_id = [0; 32];
        bus_id[..text.len()].copy_from_slice(text.as_bytes());
        let mut old_bus_id = [0; 16];
        let old = &text[4..];
        old_bus_id[..old.len()].copy_from_slice(old.as_bytes());
        Self { old_bus_id, domain: 0, bus, device: 0, pci_device: 0, pci_subsystem: 0, bus_id }
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPciInfo_v3(handle: u64, info: Option<&mut PciInfo>) -> u32 {
    elsewhere("nvmlDeviceGetPciInfo_v3", |machine| {
        put(info, PciInfo::at(bus(card(machine, handle)?)), INVALID_ARGUMENT)
    })
}

/// Two cards are joined by all of their links; more by a switch.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNvLinkRemotePciInfo_v2(
    handle: u64,
    link: c_uint,
    info: Option<&mut PciInfo>,
) -> u32 {
    const SWITCH: u32 = 0xC0;
    elsewhere("nvmlDeviceGetNvLinkRemotePciInfo_v2", |machine| {
        let own = card(machine, handle)?;
        let (slot, links) = (own.slot, own.profile.nvlinks);
        if link >= links {
            return Err(NOT_SUPPORTED);
        }
        let others: Vec<u32> =
            machine.devices.iter().filter(|card| card.slot != slot).map(bus).collect();
        let remote = match others.as_slice() {
            [] => return Err(NOT_SUPPORTED),
            [only] => *only,
            _ => SWITCH,
        };
        put(info, PciInfo::at(remote), INVALID_ARGUMENT)
    })
}

/// A value by number, `nvmlFieldValue_t`.
#[repr(C)]
struct FieldValue {
    id: c_uint,
    scope: c_uint,
    timestamp: i64,
    latency: i64,
    kind: c_uint,
    code: c_uint,
    value: u64,
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetFieldValues(handle: u64, count: c_int, values: *mut FieldValue) -> u32 {
    elsewhere("nvmlDeviceGetFieldValues", |machine| {
        let card = card(machine, handle)?;
        for index in 0..usize::try_from(count).unwrap_or(0) {
            // SAFETY: the caller passes as many values as it says.
            let field = unsafe { &mut *values.add(index) };
            if field.id == POWER_INSTANT {
                (field.code, field.kind, field.value) = (0, UNSIGNED, milliwatts(card).into());
            } else {
                field.code = NOT_SUPPORTED;
            }
        }
        Ok(())
    })
}
