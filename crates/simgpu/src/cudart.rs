//! The CUDA runtime, as far as code that nvcc compiled into a program calls it: kernels are registered
//! when the program is loaded, and launched by the address of their host function.
//!
//! The functions are those of a build with `--default-stream per-thread`, whose names end in `_ptsz`. The
//! texts of the kernels are in the program, in fat binaries ([`fatbin`]); each is loaded into a device when
//! the first of its kernels is launched there.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use crate::call::{anywhere, put, with_context};
use crate::driver::{begin, module_variable};
use crate::fatbin;
use crate::machine::Machine;
use crate::source::{self, Entry, Image};
use warpmark_ptx::Geometry;

const INVALID_VALUE: u32 = 1;
const INVALID_CONFIGURATION: u32 = 9;
const INVALID_DEVICE_FUNCTION: u32 = 98;
const INVALID_IMAGE: u32 = 200;
const NO_BINARY_FOR_GPU: u32 = 209;
const INVALID_PTX: u32 = 218;
const NOT_SUPPORTED: u32 = 801;

/// What a fat binary's wrapper begins with, in the program's data.
const WRAPPER: u32 = 0x4662_43B1;

/// `cudaFuncAttributeMaxDynamicSharedMemorySize`.
const MOST_DYNAMIC_SHARED: c_int = 8;

/// `dim3`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Dimensions {
    x: u32,
    y: u32,
    z: u32,
}

#[derive(Clone, Copy)]
struct Configuration {
    grid: Dimensions,
    block: Dimensions,
    shared: usize,
    stream: u64,
}

/// What nvcc passes when a program is loaded.
#[repr(C)]
struct Wrapper {
    magic: u32,
    version: u32,
    binary: *const u8,
    file: *const c_void,
}

/// What the program has registered.
#[derive(Default)]
struct Registered {
    /// Fat binaries, each for as long as the program that has it in its data.
    binaries: Vec<Option<&'static [u8]>>,
    /// Kernels by the address of their host function: the binary's place, and their names in it.
    kernels: HashMap<u64, (usize, String)>,
}

thread_local! {
    static PUSHED: Cell<Option<Configuration>> = const { Cell::new(None) };
    /// What the last call that failed answered.
    static LAST: Cell<u32> = const { Cell::new(0) };
}

static REGISTERED: LazyLock<Mutex<Registered>> = LazyLock::new(Mutex::default);

fn registered<T>(act: impl FnOnce(&mut Registered) -> T) -> T {
    act(&mut REGISTERED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// An answer, which the thread remembers if it is an error.
fn remembered(code: u32) -> u32 {
    if code != 0 {
        LAST.set(code);
    }
    code
}

/// The fat binary behind what nvcc passes; `None` where there is none.
fn binary(wrapper: Option<&Wrapper>) -> Option<&'static [u8]> {
    let wrapper = wrapper.filter(|wrapper| wrapper.magic == WRAPPER)?;
    if wrapper.binary.is_null() {
        return None;
    }
    // SAFETY: nvcc's wrapper points to a fat binary, which has a header, in data of the program.
    let header = unsafe { &*wrapper.binary.cast::<[u8; 16]>() };
    let len = fatbin::len(header)?;
    // SAFETY: the header tells how long it is.
    Some(unsafe { std::slice::from_raw_parts(wrapper.binary, len) })
}

// Registering is not counted as a call: it happens in every process that is started.

#[unsafe(no_mangle)]
extern "C" fn __cudaRegisterFatBinary(wrapper: Option<&Wrapper>) -> u64 {
    registered(|all| {
        all.binaries.push(binary(wrapper));
        all.binaries.len() as u64
    })
}

#[unsafe(no_mangle)]
extern "C" fn __cudaRegisterFatBinaryEnd(_binary: u64) {}

#[unsafe(no_mangle)]
extern "C" fn __cudaUnregisterFatBinary(binary: u64) {
    registered(|all| {
        let index = (binary as usize).wrapping_sub(1);
        if let Some(binary) = all.binaries.get_mut(index) {
            *binary = None;
        }
        all.kernels.retain(|_, (of, _)| *of != index);
    });
}

#[unsafe(no_mangle)]
extern "C" fn __cudaRegisterFunction(
    binary: u64,
    host: u64,
    _device: *const c_char,
    name: *const c_char,
    _limit: c_int,
    _thread: *const c_void,
    _block: *const c_void,
    _block_dim: *const c_void,
    _grid_dim: *const c_void,
    _warp: *const c_int,
) {
    // SAFETY: the compiler passes a name that ends with a zero.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    registered(|all| all.kernels.insert(host, ((binary as usize).wrapping_sub(1), name)));
}

/// A variable of a module, which its kernels find by its name in their text.
#[unsafe(no_mangle)]
extern "C" fn __cudaRegisterVar(
    _binary: u64,
    _host: u64,
    _device: *const c_char,
    _name: *const c_char,
    _extern: c_int,
    _bytes: usize,
    _constant: c_int,
    _global: c_int,
) {
}

#[unsafe(no_mangle)]
extern "C" fn __cudaPushCallConfiguration(
    grid: Dimensions,
    block: Dimensions,
    shared: usize,
    stream: u64,
) -> u32 {
    PUSHED.set(Some(Configuration { grid, block, shared, stream }));
    0
}

#[unsafe(no_mangle)]
extern "C" fn __cudaPopCallConfiguration(
    grid: Option<&mut Dimensions>,
    block: Option<&mut Dimensions>,
    shared: Option<&mut usize>,
    stream: Option<&mut u64>,
) -> u32 {
    let Some(pushed) = PUSHED.take() else { return INVALID_CONFIGURATION };
    let put = put(grid, pushed.grid, INVALID_VALUE)
        .and_then(|()| put(block, pushed.block, INVALID_VALUE))
        .and_then(|()| put(shared, pushed.shared, INVALID_VALUE))
        .and_then(|()| put(stream, pushed.stream, INVALID_VALUE));
    put.err().unwrap_or(0)
}

/// The text of a fat binary for a card: the one of the newest architecture that the card runs.
fn loaded(machine: &mut Machine, index: usize) -> Result<Image, u32> {
    let binary = registered(|all| all.binaries.get(index).copied().flatten());
    let texts = binary.and_then(fatbin::texts).ok_or(INVALID_IMAGE)?;
    let device = machine.working()?;
    let (major, minor) = device.profile.compute_capability;
    let fits = texts.into_iter().filter(|text| text.architecture <= 10 * major + minor);
    let text = fits.max_by_key(|text| text.architecture).ok_or(NO_BINARY_FOR_GPU)?;
    // The variables of the runtime's modules go with the context.
    let image = source::many(text.ptx, |align, bytes| {
        module_variable(&mut device.memory, align, bytes).unwrap_or(0)
    });
    image.map_err(|refusal| {
        machine.refusals.push(format!("a module of the program is refused: {refusal}"));
        INVALID_PTX
    })
}

/// The kernel of a host function on the current device.
fn kernel(machine: &mut Machine, host: u64) -> Result<Arc<Entry>, u32> {
    let known = registered(|all| all.kernels.get(&host).cloned());
    let (index, name) = known.ok_or(INVALID_DEVICE_FUNCTION)?;
    let key = (machine.working()?.slot, index);
    if !machine.runtime.contains_key(&key) {
        let image = loaded(machine, index)?;
        machine.runtime.insert(key, image);
    }
    let image = machine.runtime.get_mut(&key).ok_or(INVALID_DEVICE_FUNCTION)?;
    match image.entry(&name).ok_or(INVALID_DEVICE_FUNCTION)? {
        Ok(entry) => Ok(entry),
        Err(refusal) => {
            machine.refusals.push(format!("a kernel of the program is refused: {refusal}"));
            Err(INVALID_PTX)
        }
    }
}

/// The handle of a kernel is the address of its host function.
#[unsafe(no_mangle)]
extern "C" fn __cudaGetKernel(kernel: Option<&mut u64>, host: u64) -> u32 {
    remembered(put(kernel, host, INVALID_VALUE).err().unwrap_or(0))
}

fn launch(
    name: &'static str,
    host: u64,
    grid: Dimensions,
    block: Dimensions,
    arguments: *const *const u8,
    shared: usize,
    stream: u64,
) -> u32 {
    remembered(with_context(name, |machine| {
        let entry = kernel(machine, host)?;
        let sides = |of: Dimensions| [of.x, of.y, of.z];
        let shared = u32::try_from(shared).map_err(|_| INVALID_VALUE)?;
        let geometry = Geometry { grid: sides(grid), block: sides(block), shared };
        let fits = geometry.blocks() > 0 && (1..=1024).contains(&geometry.threads());
        fits.then_some(()).ok_or(INVALID_CONFIGURATION)?;
        begin(machine, entry, geometry, arguments, stream)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn __cudaLaunchKernel_ptsz(
    kernel: u64,
    grid: Dimensions,
    block: Dimensions,
    arguments: *const *const u8,
    shared: usize,
    stream: u64,
) -> u32 {
    launch("cudaLaunchKernel", kernel, grid, block, arguments, shared, stream)
}

#[unsafe(no_mangle)]
extern "C" fn cudaLaunchKernel_ptsz(
    host: u64,
    grid: Dimensions,
    block: Dimensions,
    arguments: *const *const u8,
    shared: usize,
    stream: u64,
) -> u32 {
    launch("cudaLaunchKernel", host, grid, block, arguments, shared, stream)
}

#[unsafe(no_mangle)]
extern "C" fn cudaFuncSetAttribute(host: u64, which: c_int, value: c_int) -> u32 {
    remembered(with_context("cudaFuncSetAttribute", |machine| {
        let entry = kernel(machine, host)?;
        if which != MOST_DYNAMIC_SHARED {
            return Err(INVALID_VALUE);
        }
        let most = machine.working()?.profile.shared_per_block_kib << 10;
        entry.grant_at_most(value, most).ok_or(INVALID_VALUE)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudaGetDevice(device: Option<&mut c_int>) -> u32 {
    remembered(with_context("cudaGetDevice", |machine| {
        put(device, machine.current_index()?, INVALID_VALUE)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudaMallocAsync_ptsz(address: Option<&mut u64>, bytes: usize, stream: u64) -> u32 {
    remembered(crate::driver::cuMemAllocAsync(address, bytes, stream))
}

#[unsafe(no_mangle)]
extern "C" fn cudaFreeAsync_ptsz(address: u64, stream: u64) -> u32 {
    remembered(crate::driver::cuMemFreeAsync(address, stream))
}

#[unsafe(no_mangle)]
extern "C" fn cudaMemsetAsync_ptsz(at: u64, byte: c_int, bytes: usize, stream: u64) -> u32 {
    remembered(crate::driver::cuMemsetD8Async(at, byte as u8, bytes, stream))
}

#[unsafe(no_mangle)]
extern "C" fn cudaStreamSynchronize_ptsz(stream: u64) -> u32 {
    remembered(crate::driver::cuStreamSynchronize(stream))
}

#[unsafe(no_mangle)]
extern "C" fn cudaGetLastError() -> u32 {
    LAST.replace(0)
}

#[unsafe(no_mangle)]
extern "C" fn cudaPeekAtLastError() -> u32 {
    LAST.get()
}

#[unsafe(no_mangle)]
extern "C" fn cudaGetErrorName(_code: u32) -> *const c_char {
    c"an error of the simulated runtime".as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn cudaGetErrorString(code: u32) -> *const c_char {
    cudaGetErrorName(code)
}

/// What only kernels ask for that no net of ours launches (mixtures of experts): there, since a program
/// that names them does not start without, and refused.
macro_rules! refused {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> u32 {
            remembered(anywhere(stringify!($name), |machine| {
                machine.refused += 1;
                Err(NOT_SUPPORTED)
            }))
        }
    )*};
}

refused! {
    cudaDeviceGetAttribute cudaFree cudaFuncGetAttributes cudaGetDeviceCount cudaMalloc
    cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags cudaSetDevice
}

#[cfg(test)]
#[path = "cudart_tests.rs"]
mod tests;
