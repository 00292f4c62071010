//! Modules, functions and launches.

use std::ffi::{CStr, c_char, c_int};
use std::sync::Arc;

use super::INVALID_VALUE;
use super::graph::Kind;
use crate::address_space::AddressSpace;
use crate::call::{put, with_context};
use crate::faults::Fault as Planned;
use crate::kernels::{ASSERT, BUDGET, Launch, Ran};
use crate::machine::{Loaded, Machine};
use crate::occupancy::Multiprocessor;
use crate::source::{self, Entry, Unusable};
use warpmark_ptx::{Clocks, DeviceMemory, Fault, Geometry, Limits, SECTOR};

const INVALID_IMAGE: u32 = 200;
const NO_BINARY_FOR_GPU: u32 = 209;
const INVALID_PTX: u32 = 218;
const UNSUPPORTED_PTX_VERSION: u32 = 222;
const INVALID_HANDLE: u32 = 400;
const NOT_FOUND: u32 = 500;
const ILLEGAL_ADDRESS: u32 = 700;
const OUT_OF_RESOURCES: u32 = 701;
const TIMEOUT: u32 = 702;
const MISALIGNED_ADDRESS: u32 = 716;
const LAUNCH_FAILED: u32 = 719;

/// Seconds that a kernel takes that never ends: thirty years.
const FOR_EVER: f64 = 1e9;

#[unsafe(no_mangle)]
extern "C" fn cuModuleLoadData(module: Option<&mut u64>, image: *const c_char) -> u32 {
    with_context("cuModuleLoadData", |machine| {
        if image.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: a simulated image ends with a zero, and a real one has a zero among its first bytes.
        let text = unsafe { CStr::from_ptr(image) }.to_str().map_err(|_| INVALID_IMAGE)?;
        let mut variables = Vec::new();
        let memory = &mut machine.working()?.memory;
        let image =
            source::load(text, |align, bytes| variable(memory, align, bytes, &mut variables));
        let image = image.map_err(|unusable| match unusable {
            Unusable::Foreign => INVALID_IMAGE,
            Unusable::Ptx(refusal) => {
                machine.refusals.push(format!("a module is refused: {refusal}"));
                if refusal.newer { UNSUPPORTED_PTX_VERSION } else { INVALID_PTX }
            }
        });
        // ptxas refuses what no card can launch.
        let image = image.and_then(|image| {
            let Some(entry) = image.greedy() else { return Ok(image) };
            let (name, bytes, most) = (&entry.name, entry.shared(), source::SHARED);
            let refusal = format!("{name} has {bytes} bytes of shared memory, of at most {most}");
            machine.refusals.push(format!("a module is refused: {refusal}"));
            Err(INVALID_PTX)
        });
        let fits = image.and_then(|image| {
            let fits = runs_on(&image.target, machine.working()?.profile.compute_capability);
            fits.then_some(image).ok_or(NO_BINARY_FOR_GPU)
        });
        let image = match fits {
            Ok(image) => image,
            Err(code) => {
                free(&mut machine.working()?.memory, &variables);
                return Err(code);
            }
        };
        machine.working()?.memory.modules += 1;
        let handle = machine.handle();
        let loaded = Loaded { image, functions: Vec::new(), variables };
        machine.modules.insert(handle, loaded);
        put(module, handle, INVALID_VALUE)
    })
}

/// Gives a variable of a module its memory; one for which there is none is out of bounds everywhere.
fn variable(memory: &mut AddressSpace, align: u32, bytes: Vec<u8>, all: &mut Vec<u64>) -> u64 {
    let Some(address) = module_variable(memory, align, bytes) else { return 0 };
    all.push(address);
    address
}

/// Memory that holds a variable's first value.
pub(crate) fn module_variable(
    memory: &mut AddressSpace,
    align: u32,
    bytes: Vec<u8>,
) -> Option<u64> {
    let len = (bytes.len() as u64).next_multiple_of(u64::from(align.max(1)));
    let address = memory.allocate(len, false).ok()?;
    memory.write(address, bytes);
    Some(address)
}

fn free(memory: &mut AddressSpace, variables: &[u64]) {
    for variable in variables {
        // Each was allocated here, and nobody else knows it.
        let _ = memory.free(*variable);
    }
}

/// Machine code runs on its own major version from its minor one on, PTX on everything newer.
fn runs_on(target: &str, (major, minor): (u32, u32)) -> bool {
    let Some((kind, number)) = target.split_once('_') else { return false };
    let Ok(number) = number.parse::<u32>() else { return false };
    let card = 10 * major + minor;
    number <= card && (kind == "compute" || number / 10 == major)
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleUnload(module: u64) -> u32 {
    with_context("cuModuleUnload", |machine| {
        let loaded = machine.modules.remove(&module).ok_or(INVALID_HANDLE)?;
        let device = machine.working()?;
        device.memory.modules = device.memory.modules.saturating_sub(1);
        free(&mut device.memory, &loaded.variables);
        for function in loaded.functions {
            machine.functions.remove(&function);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleGetFunction(
    function: Option<&mut u64>,
    module: u64,
    name: *const c_char,
) -> u32 {
    with_context("cuModuleGetFunction", |machine| {
        if name.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: the caller passes a zero-terminated name.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
        let handle = machine.handle();
        let loaded = machine.modules.get_mut(&module).ok_or(INVALID_HANDLE)?;
        let entry = loaded.image.entry(&name).ok_or(NOT_FOUND)?.map_err(|refusal| {
            machine.refusals.push(format!("a kernel is refused: {refusal}"));
            INVALID_PTX
        })?;
        loaded.functions.push(handle);
        machine.functions.insert(handle, entry);
        put(function, handle, INVALID_VALUE)
    })
}

fn entry(machine: &Machine, function: u64) -> Result<Arc<Entry>, u32> {
    machine.functions.get(&function).cloned().ok_or(INVALID_HANDLE)
}

/// Registers of a kernel of which ptxas's word is not known: those of a small one.
const REGISTERS: u32 = 32;

/// `CUfunction_attribute`: what the text says.
#[unsafe(no_mangle)]
extern "C" fn cuFuncGetAttribute(value: Option<&mut c_int>, which: c_int, function: u64) -> u32 {
    with_context("cuFuncGetAttribute", |machine| {
        let entry = entry(machine, function)?;
        let code = &entry.code;
        let found = match which {
            0 => code.most_threads.unwrap_or(1024).min(1024),
            1 => entry.shared(),
            2 | 7 => 0, // constant memory, cache mode
            3 => code.local,
            4 => entry
                .assembled_for(&machine.working()?.profile)
                .map_or(REGISTERS, |assembled| assembled.registers),
            5 => entry.compiled.0,
            6 => entry.compiled.1,
            8 => entry.most_dynamic(),
            _ => return Err(INVALID_VALUE),
        };
        put(value, found.cast_signed(), INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetAttribute(function: u64, which: c_int, value: c_int) -> u32 {
    with_context("cuFuncSetAttribute", |machine| {
        let entry = entry(machine, function)?;
        match which {
            8 => {
                let most = machine.working()?.profile.shared_per_block_kib << 10;
                entry.grant_at_most(value, most).ok_or(INVALID_VALUE)
            }
            // How shared memory and the cache share what a multiprocessor has.
            9 => Ok(()),
            _ => Err(INVALID_VALUE),
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    blocks: Option<&mut c_int>,
    function: u64,
    threads: c_int,
    shared: usize,
) -> u32 {
    with_context("cuOccupancyMaxActiveBlocksPerMultiprocessor", |machine| {
        let entry = entry(machine, function)?;
        if !(1..=1024).contains(&threads) {
            return Err(INVALID_VALUE);
        }
        let profile = &machine.working()?.profile;
        let shared =
            u32::try_from(shared).map_err(|_| INVALID_VALUE)?.saturating_add(entry.shared());
        let multiprocessor = Multiprocessor::of(profile.compute_capability);
        let assembled = entry.assembled_for(profile);
        let resident = multiprocessor.resident(threads.cast_unsigned(), shared, assembled);
        put(blocks, resident.cast_signed(), INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuOccupancyMaxPotentialBlockSize(
    grid: Option<&mut c_int>,
    block: Option<&mut c_int>,
    function: u64,
    _shared_of: usize,
    _shared: usize,
    _limit: c_int,
) -> u32 {
    with_context("cuOccupancyMaxPotentialBlockSize", |machine| {
        entry(machine, function)?;
        let multiprocessors = machine.working()?.profile.sm_count;
        put(grid, multiprocessors as c_int, INVALID_VALUE)?;
        put(block, 1024, INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLaunchKernel(
    function: u64,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared: u32,
    stream: u64,
    parameters: *const *const u8,
    _extra: *const u8,
) -> u32 {
    with_context("cuLaunchKernel", |machine| {
        let entry = entry(machine, function)?;
        let geometry =
            Geometry { grid: [grid_x, grid_y, grid_z], block: [block_x, block_y, block_z], shared };
        if geometry.blocks() == 0 || !(1..=1024).contains(&geometry.threads()) {
            return Err(INVALID_VALUE);
        }
        begin(machine, entry, geometry, parameters, stream)
    })
}

/// Launches a kernel, or lets the graph have it that is being captured.
pub(crate) fn begin(
    machine: &mut Machine,
    entry: Arc<Entry>,
    geometry: Geometry,
    parameters: *const *const u8,
    stream: u64,
) -> Result<(), u32> {
    refused(machine, &entry, &geometry)?;
    let arguments = arguments(&entry, parameters)?;
    let kernel = Captured { entry, arguments, geometry };
    if let Some(capture) = machine.working()?.capture(stream) {
        capture.node(Kind::Kernel, move |machine, stream| replay(machine, kernel.clone(), stream));
        return Ok(());
    }
    machine.working()?.launched(stream)?;
    let least = machine.working()?.profile.launch_us;
    launch(machine, kernel, stream, least)
}

/// Refuses a launch that the kernel's text rules out.
fn refused(machine: &mut Machine, entry: &Entry, geometry: &Geometry) -> Result<(), u32> {
    let multiprocessors = machine.working()?.profile.sm_count;
    let shared = entry.most_shared();
    let limits = Limits { multiprocessors, shared, instructions: 0, clocks: Clocks::default() };
    let Some(fault) = entry.code.refuses(geometry, &limits) else { return Ok(()) };
    machine.refusals.push(format!("a launch of {} is refused: {fault}", entry.name));
    Err(if fault == Fault::TooManyThreads { OUT_OF_RESOURCES } else { INVALID_VALUE })
}

/// Copies the arguments: the caller may change them as soon as the launch returns.
fn arguments(entry: &Entry, parameters: *const *const u8) -> Result<Vec<Vec<u8>>, u32> {
    if parameters.is_null() && !entry.parameters.is_empty() {
        return Err(INVALID_VALUE);
    }
    let each = entry.parameters.iter().enumerate().map(|(index, parameter)| {
        // SAFETY: a launch passes one address for each parameter.
        let value = unsafe { *parameters.add(index) };
        if value.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: a value of the parameter's type lies there.
        Ok(unsafe { std::slice::from_raw_parts(value, parameter.bytes) }.to_vec())
    });
    each.collect()
}

/// A launch that is kept: the kernel and its arguments as they were.
#[derive(Clone)]
struct Captured {
    entry: Arc<Entry>,
    arguments: Vec<Vec<u8>>,
    geometry: Geometry,
}

/// A kernel of a graph, which takes less time to begin than one of its own.
fn replay(machine: &mut Machine, kernel: Captured, stream: u64) -> Result<(), u32> {
    let least = machine.working()?.profile.graph_node_us;
    launch(machine, kernel, stream, least)
}

/// Runs a kernel that takes at least this many microseconds.
fn launch(machine: &mut Machine, kernel: Captured, stream: u64, least_us: f64) -> Result<(), u32> {
    let Captured { entry, arguments, geometry } = kernel;
    let planned = machine.on_launch(&entry.name);
    match planned {
        Some(Planned::Hangs) => return machine.working()?.busy(stream, FOR_EVER),
        Some(Planned::Tenant) => machine.working()?.wrong.tenants += 1,
        None | Some(Planned::Late) => {}
        // Whatever a kernel runs into, its launch went well.
        Some(fault) => {
            machine.strike(fault.of_a_kernel());
            return Ok(());
        }
    }
    let pinned = machine.pinned.clone();
    let of_the_host = |p: u64| {
        let before = pinned.range(..=p as usize).next_back();
        before.is_some_and(|(start, bytes)| (p as usize) < start + bytes)
    };
    let left = BUDGET.saturating_sub(machine.spent.get(&entry.name).copied().unwrap_or(0));
    let device = machine.working()?;
    let clocks = device.clocks(stream)?;
    let (memory, profile) = (&mut device.memory, &device.profile);
    let mut launch =
        Launch { entry: &entry, arguments, geometry, memory, profile, clocks, flag: None };
    let pointers = launch.pointers();
    // A kernel may be given a null pointer to mean "none".
    let dangling = pointers
        .iter()
        .filter(|&&p| p != 0 && !launch.memory.is_live(p) && !of_the_host(p))
        .count();
    // The text finds wild pointers itself; a model is not asked with them.
    let wild = dangling > 0 && !launch.has_text_alone();
    let (result, ran) =
        if wild { (Err(ILLEGAL_ADDRESS), Ran::default()) } else { launch.run(left) };
    let flag = launch.flag.take();
    if let Some(flag) = flag.filter(|_| result.is_ok()) {
        let queue = device.stream(stream)?;
        queue.block(flag);
        if planned == Some(Planned::Late) {
            queue.give_up();
        }
        return Ok(());
    }
    machine.findings.merge(ran.findings);
    machine.touched += ran.counts.areas.iter().map(|area| area.touched * SECTOR).sum::<u64>();
    *machine.run.entry(entry.name.clone()).or_default() += ran.counts.lanes;
    *machine.spent.entry(entry.name.clone()).or_default() += ran.spent;
    match result {
        Ok(work) => {
            let device = machine.working()?;
            let seconds = device.profile.seconds_from(least_us * 1e-6, work);
            device.busy(stream, seconds)
        }
        // A kernel faults while it runs: the launch went well, and the next call hears of it.
        Err(code @ (ILLEGAL_ADDRESS | TIMEOUT | ASSERT | MISALIGNED_ADDRESS | LAUNCH_FAILED)) => {
            if code == ILLEGAL_ADDRESS {
                machine.dangling += dangling.max(1) as u64;
            }
            machine.poison_context(code);
            Ok(())
        }
        Err(other) => Err(other),
    }
}

#[cfg(test)]
#[path = "module_tests.rs"]
mod tests;
