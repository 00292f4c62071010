//! The CUDA runtime, as far as code that nvcc compiled into a program calls it: kernels are registered
//! when the program is loaded, and launched by the address of their host function.
//!
//! The functions are those of a build with `--default-stream per-thread`, whose names end in `_ptsz`.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::call::{put, with_context};
use crate::driver::launch_by_name;

const INVALID_VALUE: u32 = 1;
const INVALID_CONFIGURATION: u32 = 9;
const INVALID_DEVICE_FUNCTION: u32 = 98;

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

thread_local! {
    static PUSHED: Cell<Option<Configuration>> = const { Cell::new(None) };
}

/// Kernels by the address of their host function.
static KERNELS: LazyLock<Mutex<HashMap<u64, String>>> = LazyLock::new(Mutex::default);

fn kernels<T>(act: impl FnOnce(&mut HashMap<u64, String>) -> T) -> T {
    act(&mut KERNELS.lock().unwrap_or_else(PoisonError::into_inner))
}

// Registering is not counted as a call: it happens in every process that is started.

#[unsafe(no_mangle)]
extern "C" fn __cudaRegisterFatBinary(binary: u64) -> u64 {
    binary
}

#[unsafe(no_mangle)]
extern "C" fn __cudaRegisterFatBinaryEnd(_binary: u64) {}

#[unsafe(no_mangle)]
extern "C" fn __cudaUnregisterFatBinary(_binary: u64) {}

#[unsafe(no_mangle)]
extern "C" fn __cudaRegisterFunction(
    _binary: u64,
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
    kernels(|kernels| kernels.insert(host, name));
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

#[unsafe(no_mangle)]
extern "C" fn cudaLaunchKernel_ptsz(
    host: u64,
    grid: Dimensions,
    block: Dimensions,
    _arguments: *const *const c_void,
    _shared: usize,
    stream: u64,
) -> u32 {
    with_context("cudaLaunchKernel_ptsz", |machine| {
        let name = kernels(|kernels| kernels.get(&host).cloned()).ok_or(INVALID_DEVICE_FUNCTION)?;
        let threads = u64::from(block.x) * u64::from(block.y) * u64::from(block.z);
        if grid.x * grid.y * grid.z == 0 || !(1..=1024).contains(&threads) {
            return Err(INVALID_CONFIGURATION);
        }
        launch_by_name(machine, &name, stream)
    })
}
