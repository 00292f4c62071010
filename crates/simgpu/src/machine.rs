//! Everything the simulator knows: devices, contexts, handles, faults, counts.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::env;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::address_space::AddressSpace;
use crate::contents::{Snapshot, Source};
use crate::driver::{Capture, Captured};
use crate::faults::{Cards, Fault, Faults, HOT, THROTTLED};
use crate::profile::{Profile, SUFFIX, Work};
use crate::report;
use crate::source::Entry;
use crate::timeline::{Moment, Timeline, now};

const NO_DEVICE: u32 = 100;
const INVALID_CONTEXT: u32 = 201;
const INVALID_HANDLE: u32 = 400;
const NOT_INITIALIZED: u32 = 3;
const CAPTURE_UNSUPPORTED: u32 = 900;

/// Context handles are these numbers and the device's index.
const CONTEXTS: u64 = 0xC0_0000;

static MACHINE: LazyLock<Mutex<Machine>> =
    LazyLock::new(|| Mutex::new(Machine::from_environment()));

thread_local! {
    static CURRENT: Cell<u64> = const { Cell::new(0) };
    /// Stands for this thread in the handles of per-thread streams.
    static THREAD: u64 = {
        static NEXT: Mutex<u64> = Mutex::new(0);
        let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
        *next += 1;
        *next
    };
}

/// The one simulated machine of this process.
pub(crate) fn machine() -> MutexGuard<'static, Machine> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The context that is current on this thread, as its handle; 0 for none.
pub(crate) fn current() -> u64 {
    CURRENT.get()
}

pub(crate) fn set_current(context: u64) {
    CURRENT.set(context);
}

/// One simulated card.
pub(crate) struct Device {
    pub(crate) profile: Profile,
    /// Its place on the machine, whatever `CUDA_VISIBLE_DEVICES` leaves.
    pub(crate) slot: u32,
    pub(crate) memory: AddressSpace,
    pub(crate) retained: u32,
    /// What is wrong with it from the start.
    pub(crate) wrong: Cards,
    /// Readings of its energy counter, and the millijoules that it has begun anew behind.
    pub(crate) energy_readings: u64,
    pub(crate) energy_forgotten: f64,
    /// What a broken context answers.
    broken: Option<u32>,
    streams: HashMap<u64, Timeline>,
    /// The capture under way, if any.
    pub(crate) capturing: Option<Capture>,
    /// Copies to pinned memory: nothing arrives before somebody waits.
    pub(crate) on_the_way: Vec<ToHost>,
    /// Seconds of work that were ever queued, and when the last of it is done.
    pub(crate) worked: f64,
    pub(crate) busy_until: Instant,
    pub(crate) started: Instant,
}

/// A copy that the host has not waited for yet.
pub(crate) struct ToHost {
    pub(crate) what: Snapshot,
    /// The address of pinned host memory.
    pub(crate) to: usize,
    pub(crate) len: usize,
}

/// An event: recorded or not, with times or without.
pub(crate) struct Event {
    pub(crate) timing: bool,
    pub(crate) recorded: Option<Moment>,
}

/// All state.
pub(crate) struct Machine {
    pub(crate) devices: Vec<Device>,
    pub(crate) driver_version: u32,
    pub(crate) initialised: bool,
    faults: Faults,
    pub(crate) calls: BTreeMap<&'static str, u64>,
    pub(crate) kernels: BTreeMap<String, u64>,
    /// Pointers in launches that pointed nowhere.
    pub(crate) dangling: u64,
    /// Calls of functions that are only there by name.
    pub(crate) refused: u64,
    pub(crate) events: HashMap<u64, Event>,
    pub(crate) modules: HashMap<u64, Vec<u64>>,
    pub(crate) functions: HashMap<u64, Arc<Entry>>,
    pub(crate) images: HashMap<u64, Vec<Entry>>,
    /// Pinned host memory, by address.
    pub(crate) pinned: BTreeMap<usize, usize>,
    /// What was captured, whether it can be launched already or not.
    pub(crate) graphs: HashMap<u64, Vec<Captured>>,
    next_handle: u64,
}

impl Machine {
    fn from_environment() -> Self {
        let plan = env::var("SIMGPU_FAULTS").unwrap_or_default();
        let faults = Faults::parse(&plan).unwrap_or_else(|error| panic!("SIMGPU_FAULTS: {error}"));
        let names = env::var("SIMGPU_PROFILE").unwrap_or_else(|_| "t4".to_owned());
        let all: Vec<Device> = (0..)
            .zip(names.split(',').map(str::trim).filter(|name| !name.is_empty()))
            .filter(|(slot, _)| !report::is_lost(*slot))
            .map(|(slot, name)| Device::new(Profile::named(name), slot, faults.cards))
            .collect();
        let devices = visible(all, env::var("CUDA_VISIBLE_DEVICES").ok().as_deref());
        let driver_version = env::var("SIMGPU_DRIVER").map_or(13_000, |version| {
            version.parse().unwrap_or_else(|_| panic!("SIMGPU_DRIVER: \"{version}\" is no version"))
        });
        Self {
            devices,
            driver_version,
            initialised: false,
            faults,
            calls: BTreeMap::new(),
            kernels: BTreeMap::new(),
            dangling: 0,
            refused: 0,
            events: HashMap::new(),
            modules: HashMap::new(),
            functions: HashMap::new(),
            images: HashMap::new(),
            pinned: BTreeMap::new(),
            graphs: HashMap::new(),
            next_handle: 0x1000,
        }
    }

    /// Counts a call and says what is to go wrong with it.
    pub(crate) fn on_call(&mut self, name: &'static str) -> Option<Fault> {
        *self.calls.entry(name).or_default() += 1;
        self.faults.on_call(name)
    }

    /// Counts a kernel's launch, and says what it runs into.
    pub(crate) fn on_launch(&mut self, kernel: &str) -> Option<Fault> {
        *self.kernels.entry(kernel.to_owned()).or_default() += 1;
        self.faults.on_call(kernel)
    }

    /// A number that no other object has.
    pub(crate) fn handle(&mut self) -> u64 {
        self.next_handle += 0x10;
        self.next_handle
    }

    /// `cuInit`.
    pub(crate) fn initialise(&mut self) -> Result<(), u32> {
        if self.devices.is_empty() {
            return Err(NO_DEVICE);
        }
        self.initialised = true;
        Ok(())
    }

    pub(crate) fn started(&self) -> Result<(), u32> {
        self.initialised.then_some(()).ok_or(NOT_INITIALIZED)
    }

    pub(crate) fn device(&mut self, index: i32) -> Result<&mut Device, u32> {
        let found = usize::try_from(index).ok().and_then(|index| self.devices.get_mut(index));
        found.ok_or(101)
    }

    /// The device of this thread's context, if that still works.
    pub(crate) fn working(&mut self) -> Result<&mut Device, u32> {
        self.started()?;
        let index = current().checked_sub(CONTEXTS).ok_or(INVALID_CONTEXT)?;
        let device = self.devices.get_mut(index as usize).filter(|device| device.retained > 0);
        let device = device.ok_or(INVALID_CONTEXT)?;
        device.broken.map_or(Ok(device), Err)
    }

    /// Lets a fault have what lasts of it.
    pub(crate) fn strike(&mut self, fault: Fault) {
        if fault == Fault::Lost
            && let Ok(device) = self.working()
        {
            report::note_loss(device.slot);
        }
        if let Some(code) = fault.stays() {
            self.poison_context(code);
        }
    }

    /// Leaves this thread's context unusable.
    pub(crate) fn poison_context(&mut self, code: u32) {
        if let Ok(device) = self.working() {
            device.broken = Some(code);
        }
    }

    /// Retains the primary context and returns its handle.
    pub(crate) fn retain(&mut self, index: i32) -> Result<u64, u32> {
        let device = self.device(index)?;
        device.retained += 1;
        Ok(CONTEXTS + index as u64)
    }

    /// Releases it; the last one to do so takes all memory with it, and whatever was broken.
    pub(crate) fn release(&mut self, index: i32) -> Result<(), u32> {
        let device = self.device(index)?;
        device.retained = device.retained.checked_sub(1).ok_or(INVALID_CONTEXT)?;
        if device.retained == 0 {
            device.broken = None;
            device.memory = AddressSpace::new(device.total_memory(), device.wrong.memory);
        }
        Ok(())
    }

    pub(crate) fn event(&mut self, handle: u64) -> Result<&mut Event, u32> {
        self.events.get_mut(&handle).ok_or(INVALID_HANDLE)
    }
}

impl Device {
    fn new(profile: Profile, slot: u32, wrong: Cards) -> Self {
        let profile = if wrong.mig { profile.slice() } else { profile };
        let total = profile.memory_mib << 20;
        let started = now();
        Self {
            profile,
            slot,
            memory: AddressSpace::new(total, wrong.memory),
            wrong,
            energy_readings: 0,
            energy_forgotten: 0.0,
            retained: 0,
            broken: None,
            streams: HashMap::new(),
            capturing: None,
            on_the_way: Vec::new(),
            worked: 0.0,
            busy_until: started,
            started,
        }
    }

    /// The name with its mark.
    pub(crate) fn name(&self) -> String {
        format!("{}{SUFFIX}", self.profile.name)
    }

    pub(crate) fn total_memory(&self) -> u64 {
        self.profile.memory_mib << 20
    }

    /// The same in every run, and another one for each card.
    pub(crate) fn uuid(&self) -> [u8; 16] {
        let mut uuid = *b"simulated gpu 00";
        uuid[15] += self.slot as u8;
        uuid
    }

    /// The queue behind a stream handle: 0 and 1 are the legacy stream, 2 is each thread's own.
    pub(crate) fn stream(&mut self, handle: u64) -> Result<&mut Timeline, u32> {
        let key = match handle {
            0 | 1 => 1,
            2 => u64::MAX - THREAD.with(|thread| *thread),
            other => return self.streams.get_mut(&other).ok_or(INVALID_HANDLE),
        };
        Ok(self.streams.entry(key).or_insert_with(|| Timeline::new(key)))
    }

    pub(crate) fn add_stream(&mut self, handle: u64) {
        self.streams.insert(handle, Timeline::new(handle));
    }

    pub(crate) fn remove_stream(&mut self, handle: u64) -> Result<(), u32> {
        self.streams.remove(&handle).map(drop).ok_or(INVALID_HANDLE)
    }

    /// The capture of a stream, if there is one.
    pub(crate) fn capture(&mut self, stream: u64) -> Option<&mut Capture> {
        self.capturing.as_mut().filter(|capture| capture.stream == stream)
    }

    /// Refuses what a capture does not take, and spoils the capture.
    pub(crate) fn not_captured(&mut self, stream: u64) -> Result<(), u32> {
        match self.capture(stream) {
            Some(capture) => {
                capture.spoiled = true;
                Err(CAPTURE_UNSUPPORTED)
            }
            None => Ok(()),
        }
    }

    /// Queues work on a stream.
    pub(crate) fn work(&mut self, stream: u64, work: Work) -> Result<(), u32> {
        self.busy(stream, self.profile.seconds(work))
    }

    /// Queues this many seconds of work on a stream.
    pub(crate) fn busy(&mut self, stream: u64, seconds: f64) -> Result<(), u32> {
        self.not_captured(stream)?;
        let seconds = seconds / self.clock_share();
        let queue = self.stream(stream)?;
        queue.work(seconds);
        let end = queue.end().at;
        self.worked += seconds;
        self.busy_until = self.busy_until.max(end);
        Ok(())
    }

    /// What holds its clocks down, in NVML's bits.
    pub(crate) fn throttled(&self) -> u64 {
        let hot = self.wrong.throttled_after.is_some_and(|seconds| self.worked > seconds);
        self.wrong.throttled | if hot { HOT } else { 0 }
    }

    /// The share of its clock that the card runs at.
    pub(crate) fn clock_share(&self) -> f64 {
        if self.throttled() == 0 { 1.0 } else { THROTTLED }
    }

    /// What everybody who waited for the device may rely on.
    pub(crate) fn waited(&mut self) {
        self.memory.synchronised();
        for copy in self.on_the_way.drain(..) {
            // SAFETY: `to` and `len` lie in memory of `cuMemHostAlloc`, which drops the copies into it
            // before it is freed; whoever reads it has to wait first, which is this call.
            let out = unsafe { std::slice::from_raw_parts_mut(copy.to as *mut u8, copy.len) };
            copy.what.read(0, out);
        }
    }
}

/// Those that `CUDA_VISIBLE_DEVICES` names, in its order, up to the first that does not exist.
fn visible(all: Vec<Device>, variable: Option<&str>) -> Vec<Device> {
    let Some(variable) = variable else { return all };
    let mut left: Vec<Option<Device>> = all.into_iter().map(Some).collect();
    let mut chosen = Vec::new();
    for word in variable.split(',').map(str::trim) {
        let place = word.strip_prefix("GPU-").map_or_else(
            || word.parse::<usize>().ok(),
            |id| {
                left.iter().position(|card| {
                    card.as_ref()
                        .is_some_and(|c| !id.is_empty() && uuid_words(&c.uuid()).starts_with(id))
                })
            },
        );
        match place.and_then(|place| left.get_mut(place)).and_then(Option::take) {
            Some(device) => chosen.push(device),
            None => break,
        }
    }
    chosen
}

/// A UUID as `nvidia-smi -L` prints it, without its `GPU-`.
pub(crate) fn uuid_words(uuid: &[u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(*uuid));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(variable: Option<&str>) -> Vec<u32> {
        let all =
            (0..3).map(|slot| Device::new(Profile::named("t4"), slot, Cards::default())).collect();
        visible(all, variable).into_iter().map(|device| device.slot).collect()
    }

    #[test]
    fn visible_devices_are_those_named_up_to_the_first_wrong_one() {
        assert_eq!(slots(None), [0, 1, 2]);
        assert_eq!(slots(Some("")), [] as [u32; 0]);
        assert_eq!(slots(Some("2,0")), [2, 0]);
        assert_eq!(slots(Some("1,7,0")), [1]);
        assert_eq!(slots(Some("1,1")), [1]);
        let second = Device::new(Profile::named("t4"), 1, Cards::default()).uuid();
        assert_eq!(slots(Some(&format!("GPU-{}", uuid_words(&second)))), [1]);
    }
}
