//! Modules, functions and launches.

use std::ffi::{CStr, c_char, c_int};
use std::sync::Arc;

use super::INVALID_VALUE;
use crate::call::{put, with_context};
use crate::faults::Fault;
use crate::kernels::{ASSERT, Launch};
use crate::machine::Machine;
use crate::source::{self, Entry};

const INVALID_IMAGE: u32 = 200;
const NO_BINARY_FOR_GPU: u32 = 209;
const INVALID_HANDLE: u32 = 400;
const NOT_FOUND: u32 = 500;
const ILLEGAL_ADDRESS: u32 = 700;

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
        let (target, entries) = source::parse(text).ok_or(INVALID_IMAGE)?;
        if !runs_on(&target, machine.working()?.profile.compute_capability) {
            return Err(NO_BINARY_FOR_GPU);
        }
        machine.working()?.memory.modules += 1;
        let handle = machine.handle();
        machine.images.insert(handle, entries);
        machine.modules.insert(handle, Vec::new());
        put(module, handle, INVALID_VALUE)
    })
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
        let functions = machine.modules.remove(&module).ok_or(INVALID_HANDLE)?;
        machine.images.remove(&module);
        let device = machine.working()?;
        device.memory.modules = device.memory.modules.saturating_sub(1);
        for function in functions {
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
        let entries = machine.images.get(&module).ok_or(INVALID_HANDLE)?;
        let entry = entries.iter().find(|entry| entry.name == name).ok_or(NOT_FOUND)?;
        let entry = Arc::new(entry.clone());
        let handle = machine.handle();
        machine.functions.insert(handle, entry);
        machine.modules.get_mut(&module).ok_or(INVALID_HANDLE)?.push(handle);
        put(function, handle, INVALID_VALUE)
    })
}

fn entry(machine: &Machine, function: u64) -> Result<Arc<Entry>, u32> {
    machine.functions.get(&function).cloned().ok_or(INVALID_HANDLE)
}

/// `CUfunction_attribute`: the limits of every kernel are those of a small one.
#[unsafe(no_mangle)]
extern "C" fn cuFuncGetAttribute(value: Option<&mut c_int>, which: c_int, function: u64) -> u32 {
    with_context("cuFuncGetAttribute", |machine| {
        entry(machine, function)?;
        let found = match which {
            0 => 1024,          // threads of a block
            1 | 2 | 3 | 7 => 0, // shared, constant and local memory, cache mode
            4 => 32,            // registers
            5 | 6 => 90,        // versions
            8 => 48 * 1024,     // shared memory that may be asked for
            _ => return Err(INVALID_VALUE),
        };
        put(value, found, INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetAttribute(function: u64, which: c_int, _value: c_int) -> u32 {
    with_context("cuFuncSetAttribute", |machine| {
        entry(machine, function)?;
        // Shared memory, and how it is shared with the cache.
        matches!(which, 8 | 9).then_some(()).ok_or(INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    blocks: Option<&mut c_int>,
    function: u64,
    threads: c_int,
    _shared: usize,
) -> u32 {
    with_context("cuOccupancyMaxActiveBlocksPerMultiprocessor", |machine| {
        entry(machine, function)?;
        if !(1..=1024).contains(&threads) {
            return Err(INVALID_VALUE);
        }
        put(blocks, 1024 / threads, INVALID_VALUE)
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
    _shared: u32,
    stream: u64,
    parameters: *const *const u8,
    _extra: *const u8,
) -> u32 {
    with_context("cuLaunchKernel", |machine| {
        let entry = entry(machine, function)?;
        let product = |sides: [u32; 3]| sides.map(u64::from).iter().product::<u64>();
        let (blocks, threads) =
            (product([grid_x, grid_y, grid_z]), product([block_x, block_y, block_z]));
        if blocks == 0 || !(1..=1024).contains(&threads) {
            return Err(INVALID_VALUE);
        }
        let arguments = arguments(&entry, parameters)?;
        let kernel = Captured { entry, arguments, blocks, threads };
        if let Some(capture) = machine.working()?.capture(stream) {
            capture.kernels.push(kernel);
            return Ok(());
        }
        machine.working()?.launched(stream)?;
        let least = machine.working()?.profile.launch_us;
        launch(machine, kernel, stream, least)
    })
}

/// Copies the arguments: the caller may change them as soon as the launch returns.
fn arguments(entry: &Entry, parameters: *const *const u8) -> Result<Vec<Vec<u8>>, u32> {
    if parameters.is_null() && !entry.parameters.is_empty() {
        return Err(INVALID_VALUE);
    }
    let each = entry.parameters.iter().enumerate().map(|(index, parameter)| {
        // SAFETY: a launch passes one address for each parameter, where a value of its type lies.
        unsafe { std::slice::from_raw_parts(*parameters.add(index), parameter.bytes) }.to_vec()
    });
    Ok(each.collect())
}

/// A launch that is kept: the kernel and its arguments as they were.
#[derive(Clone)]
pub(crate) struct Captured {
    entry: Arc<Entry>,
    arguments: Vec<Vec<u8>>,
    blocks: u64,
    threads: u64,
}

/// A kernel of a graph, which takes less time to begin than one of its own.
pub(super) fn replay(machine: &mut Machine, kernel: Captured, stream: u64) -> Result<(), u32> {
    let least = machine.working()?.profile.graph_node_us;
    launch(machine, kernel, stream, least)
}

/// Runs a kernel that takes at least this many microseconds.
fn launch(machine: &mut Machine, kernel: Captured, stream: u64, least_us: f64) -> Result<(), u32> {
    let Captured { entry, arguments, blocks, threads } = kernel;
    match machine.on_launch(&entry.name) {
        Some(Fault::Hangs) => return machine.working()?.busy(stream, FOR_EVER),
        // Whatever a kernel runs into, its launch went well.
        Some(fault) => {
            machine.strike(fault.of_a_kernel());
            return Ok(());
        }
        None => {}
    }
    let pinned = machine.pinned.clone();
    let of_the_host = |p: u64| {
        let before = pinned.range(..=p as usize).next_back();
        before.is_some_and(|(start, bytes)| (p as usize) < start + bytes)
    };
    let device = machine.working()?;
    device.stream(stream)?;
    let (memory, profile) = (&mut device.memory, &device.profile);
    let mut launch =
        Launch { entry: &entry, arguments, blocks, threads, memory, profile, gate: None };
    let pointers = launch.pointers();
    // A kernel may be given a null pointer to mean "none".
    let dangling = pointers
        .iter()
        .filter(|&&p| p != 0 && !launch.memory.is_live(p) && !of_the_host(p))
        .count();
    let result = if dangling > 0 { Err(ILLEGAL_ADDRESS) } else { launch.run() };
    if let Some(gate) = launch.gate.take().filter(|_| result.is_ok()) {
        device.stream(stream)?.hold(gate);
        return Ok(());
    }
    match result {
        Ok(work) => {
            let seconds = device.profile.seconds_from(least_us * 1e-6, work);
            device.busy(stream, seconds)
        }
        // A kernel faults while it runs: the launch went well, and the next call hears of it.
        Err(ILLEGAL_ADDRESS) => {
            machine.dangling += dangling.max(1) as u64;
            machine.poison_context(ILLEGAL_ADDRESS);
            Ok(())
        }
        Err(ASSERT) => {
            machine.poison_context(ASSERT);
            Ok(())
        }
        Err(other) => Err(other),
    }
}

/// A launch of a kernel that is known by its name alone, without arguments: the runtime's.
pub(crate) fn launch_by_name(machine: &mut Machine, name: &str, stream: u64) -> Result<(), u32> {
    let entry = Arc::new(Entry { name: name.to_owned(), parameters: Vec::new() });
    let kernel = Captured { entry, arguments: Vec::new(), blocks: 1, threads: 32 };
    if let Some(capture) = machine.working()?.capture(stream) {
        capture.kernels.push(kernel);
        return Ok(());
    }
    machine.working()?.launched(stream)?;
    let least = machine.working()?.profile.launch_us;
    launch(machine, kernel, stream, least)
}

#[cfg(test)]
mod tests {
    use super::runs_on;

    #[test]
    fn machine_code_is_bound_to_its_major_version_and_ptx_is_not() {
        assert!(runs_on("sm_80", (8, 6)) && runs_on("compute_75", (9, 0)));
        assert!(!runs_on("sm_89", (8, 6)) && !runs_on("sm_80", (9, 0)) && !runs_on("sass", (9, 0)));
    }
}
