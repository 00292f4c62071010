//! Everything the simulator knows: devices, contexts, handles, faults, counts.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::env;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::address_space::AddressSpace;
use crate::card::{Device, visible};
use crate::driver::Node;
use crate::faults::{Fault, Faults};
use crate::loss;
use crate::profile::Profile;
use crate::source::{Entry, Image};
use crate::timeline::Moment;
use warpmark_ptx::Findings;

const NO_DEVICE: u32 = 100;
const INVALID_CONTEXT: u32 = 201;
const INVALID_HANDLE: u32 = 400;
const NOT_INITIALIZED: u32 = 3;

/// Context handles are these numbers and the device's index.
const CONTEXTS: u64 = 0xC0_0000;

static MACHINE: LazyLock<Mutex<Machine>> =
    LazyLock::new(|| Mutex::new(Machine::from_environment()));

thread_local! {
    static CURRENT: Cell<u64> = const { Cell::new(0) };
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

/// An event: recorded or not, with times or without.
pub(crate) struct Event {
    pub(crate) timing: bool,
    pub(crate) recorded: Option<Moment>,
}

/// A loaded module.
pub(crate) struct Loaded {
    pub(crate) image: Image,
    /// Its functions, as handles that were given out.
    pub(crate) functions: Vec<u64>,
    /// Its variables in device memory.
    pub(crate) variables: Vec<u64>,
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
    pub(crate) modules: HashMap<u64, Loaded>,
    pub(crate) functions: HashMap<u64, Arc<Entry>>,
    /// What the program brought with it and the runtime has loaded: by the card's slot, and the binary.
    pub(crate) runtime: HashMap<(u32, usize), Image>,
    /// What is wrong with kernels, found while they ran.
    pub(crate) findings: Findings,
    /// Why images could not be loaded.
    pub(crate) refusals: Vec<String>,
    /// Instructions that each kernel's text has been run for.
    pub(crate) run: HashMap<String, u64>,
    /// What each kernel with a model has spent of its budget.
    pub(crate) spent: HashMap<String, u64>,
    /// Pinned host memory, by address.
    pub(crate) pinned: BTreeMap<usize, usize>,
    /// What was captured, whether it can be launched already or not.
    pub(crate) graphs: HashMap<u64, Vec<Node>>,
    /// Bytes of device memory that the kernels of the last graph touched that was launched, each sector once a
    /// kernel.
    pub(crate) touched: u64,
    next_handle: u64,
}

impl Machine {
    fn from_environment() -> Self {
        let plan = env::var("SIMGPU_FAULTS").unwrap_or_default();
        let faults = Faults::parse(&plan).unwrap_or_else(|error| panic!("SIMGPU_FAULTS: {error}"));
        let names = env::var("SIMGPU_PROFILE").unwrap_or_else(|_| "t4".to_owned());
        let all: Vec<Device> = (0..)
            .zip(names.split(',').map(str::trim).filter(|name| !name.is_empty()))
            .filter(|(slot, _)| !loss::is_lost(*slot))
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
            runtime: HashMap::new(),
            findings: Findings::default(),
            refusals: Vec::new(),
            run: HashMap::new(),
            spent: HashMap::new(),
            pinned: BTreeMap::new(),
            graphs: HashMap::new(),
            touched: 0,
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

    /// The index of the device of this thread's context.
    pub(crate) fn current_index(&mut self) -> Result<i32, u32> {
        self.working()?;
        Ok((current() - CONTEXTS) as i32)
    }

    /// Lets a fault have what lasts of it.
    pub(crate) fn strike(&mut self, fault: Fault) {
        if fault == Fault::Lost
            && let Ok(device) = self.working()
        {
            loss::note_loss(device.slot);
        }
        if let Some(code) = fault.stays() {
            self.poison_context(code);
        }
    }

    /// The device of a context handle.
    pub(crate) fn of_context(&mut self, context: u64) -> Result<&mut Device, u32> {
        let index = context.checked_sub(CONTEXTS).ok_or(INVALID_CONTEXT)?;
        let device = self.devices.get_mut(index as usize);
        device.filter(|device| device.retained > 0).ok_or(INVALID_CONTEXT)
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
            device.reaches.clear();
            device.memory = AddressSpace::new(device.total_memory(), device.wrong.memory);
            let gone = device.slot;
            self.runtime.retain(|(slot, _), _| *slot != gone);
        }
        Ok(())
    }

    pub(crate) fn event(&mut self, handle: u64) -> Result<&mut Event, u32> {
        self.events.get_mut(&handle).ok_or(INVALID_HANDLE)
    }
}

#[cfg(test)]
pub(crate) mod test_context {
    use super::*;

    /// There is one machine in a process; each test has it for itself.
    static ALONE: Mutex<()> = Mutex::new(());

    /// A context of the first card, which is a T4.
    pub(crate) struct Context(
        #[allow(dead_code, reason = "held, not read")] MutexGuard<'static, ()>,
    );

    impl Context {
        pub(crate) fn new() -> Self {
            let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
            let mut machine = machine();
            machine.initialise().unwrap();
            (machine.findings, machine.refusals) = Default::default();
            let context = machine.retain(0).unwrap();
            set_current(context);
            Self(alone)
        }
    }

    impl Drop for Context {
        fn drop(&mut self) {
            let _ = machine().release(0);
        }
    }
}
