//! Kernels of a module, and their launches.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys::CUfunction_attribute;
use cudarc::driver::{CudaFunction, CudaModule, CudaStream, result};
use warpmark_measure::WorkloadError;

use crate::refused;

/// How a kernel is launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks along each axis.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of dynamic shared memory.
    pub shared: u32,
}

impl Geometry {
    /// Blocks along one axis, without dynamic shared memory.
    pub fn line(blocks: u32, threads: u32) -> Self {
        Self { grid: [blocks, 1, 1], threads, shared: 0 }
    }
}

/// The address of a kernel argument, as a launch takes it.
pub fn argument<T>(value: &T) -> *mut c_void {
    std::ptr::from_ref(value).cast_mut().cast()
}

/// Enqueues a kernel without allocating.
///
/// # Safety
/// `arguments` point to values of the types and in the order of the kernel's parameters, and the
/// addresses among them to allocations as large as the kernel and the grid make of them.
///
/// # Errors
/// The driver's refusal.
pub unsafe fn launch(
    stream: &CudaStream,
    function: &CudaFunction,
    geometry: Geometry,
    arguments: &mut [*mut c_void],
) -> Result<(), WorkloadError> {
    let Geometry { grid: [x, y, z], threads, shared } = geometry;
    // SAFETY: the function belongs to a loaded module that it keeps alive; the arguments are the
    // caller's promise.
    unsafe {
        result::launch_kernel(
            function.cu_function(),
            (x, y, z),
            (threads, 1, 1),
            shared,
            stream.cu_stream(),
            arguments,
        )
    }
    .map_err(refused("launching a kernel"))
}

/// A function of a compiled module.
///
/// # Errors
/// The module has none of this name.
pub fn function(module: &Arc<CudaModule>, name: &str) -> Result<CudaFunction, WorkloadError> {
    module.load_function(name).map_err(refused(name))
}

/// How much of a multiprocessor's memory a kernel leaves to the L1 cache, where the driver would guess.
#[derive(Debug, Clone, Copy)]
pub enum Split {
    /// All that can be had.
    Cache,
    /// As little as there is, for shared memory.
    Shared,
}

/// Settles the split of a kernel; a hint, which older cards round to one of a few.
///
/// # Errors
/// The driver's refusal.
pub fn prefer(function: &CudaFunction, split: Split) -> Result<(), WorkloadError> {
    let percent = match split {
        Split::Cache => 0,
        Split::Shared => 100,
    };
    let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT;
    function.set_attribute(attribute, percent).map_err(refused("splitting L1 and shared memory"))
}

/// Lets a kernel be launched with so many bytes of dynamic shared memory, which needs leave above 48 KiB.
///
/// # Errors
/// The card has not so much for a block.
pub fn room(function: &CudaFunction, bytes: u32) -> Result<(), WorkloadError> {
    let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    function
        .set_attribute(attribute, bytes.cast_signed())
        .map_err(refused("giving a kernel more shared memory"))
}
