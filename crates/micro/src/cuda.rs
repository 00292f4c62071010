//! The little of CUDA that the GPU benchmarks share: buffers, kernels compiled at run time, launches.
//!
//! Launches go through cudarc's thin layer with arguments in place, since its launch builder allocates
//! for each launch and that time would be in every row.

pub(crate) mod compile;
pub(crate) mod contest;
pub(crate) mod hold;
pub(crate) mod sum;
pub(crate) mod timer;

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::result;
use cudarc::driver::sys::{CUdeviceptr, CUfunction_attribute};
use cudarc::driver::{CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, DriverError};
use warpmark_device::{CudaDevice, Device, describe, libraries};
use warpmark_measure::WorkloadError;
use warpmark_record::{Bytes, Field};

use crate::data::{Dtype, Stream};

/// `CUDA_ERROR_OUT_OF_MEMORY`.
const OUT_OF_MEMORY: u32 = 2;

/// A driver's refusal as a workload's error; `what` says what was being done.
pub(crate) fn refused(what: &str) -> impl Fn(DriverError) -> WorkloadError {
    move |error| {
        // cudarc's own text asks the driver for it, which can end the process.
        if error.0 as u32 == OUT_OF_MEMORY {
            return WorkloadError::OutOfMemory { what: what.to_owned(), needed: None };
        }
        WorkloadError::Failed(format!("{what}: {}", describe(&error)))
    }
}

/// A library that a benchmark calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Library {
    /// The run-time compiler.
    Nvrtc,
    /// Matrix products.
    Cublaslt,
}

/// The GPU behind `device`, if the libraries that are needed on it are there: cudarc panics at the
/// first call into one that is not.
pub(crate) fn required<'a>(
    device: &'a Device,
    needed: &[Library],
) -> Result<&'a CudaDevice, WorkloadError> {
    let Device::Cuda(device) = device else {
        return Err(WorkloadError::Unsupported("this benchmark runs on a GPU only".to_owned()));
    };
    let found = libraries();
    for library in needed {
        let (name, found) = match library {
            Library::Nvrtc => ("NVRTC", &found.nvrtc),
            Library::Cublaslt => ("cuBLASLt", &found.cublaslt),
        };
        if let Some(reason) = found.reason() {
            return Err(WorkloadError::Unsupported(format!("{name} is not usable: {reason}")));
        }
    }
    Ok(device)
}

/// How many multiprocessors the device has, which decides how many blocks fill it.
pub(crate) fn multiprocessors(device: &CudaDevice) -> Result<u32, WorkloadError> {
    let told = device.spec.gpu.as_ref().map(|gpu| &gpu.sm_count);
    told.and_then(Field::known).copied().ok_or_else(|| {
        let reason = told.and_then(Field::reason).unwrap_or("it was not asked");
        WorkloadError::Unsupported(format!("the count of multiprocessors is unknown: {reason}"))
    })
}

/// Device memory, and its address for launches.
pub(crate) struct Buffer {
    slice: CudaSlice<u8>,
    pub(crate) address: CUdeviceptr,
}

impl Buffer {
    /// `bytes` of uninitialised memory; `what` names it if the device is full.
    pub(crate) fn new(
        stream: &Arc<CudaStream>,
        bytes: usize,
        what: &str,
    ) -> Result<Self, WorkloadError> {
        // SAFETY: u8 has no invalid values, and every reader waits for a kernel or memset that fills
        // the buffer.
        let slice =
            unsafe { stream.alloc::<u8>(bytes) }.map_err(|error| match refused(what)(error) {
                WorkloadError::OutOfMemory { what, .. } => {
                    WorkloadError::OutOfMemory { what, needed: Some(Bytes::from_count(bytes)) }
                }
                other => other,
            })?;
        let (address, guard) = slice.device_ptr(stream);
        drop(guard);
        Ok(Self { slice, address })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.slice.num_bytes()
    }

    /// Sets every byte; 0xFF makes a NaN of every floating-point type.
    pub(crate) fn set(&mut self, stream: &CudaStream, byte: u8) -> Result<(), WorkloadError> {
        // SAFETY: the range is this buffer's own allocation, which outlives the stream's work because
        // freeing it is ordered on the same stream.
        unsafe { result::memset_d8_async(self.address, byte, self.bytes(), stream.cu_stream()) }
            .map_err(refused("setting device memory"))
    }

    /// Copies `host` to the beginning, and waits until it is there.
    pub(crate) fn write(
        &mut self,
        stream: &Arc<CudaStream>,
        host: &[u8],
    ) -> Result<(), WorkloadError> {
        let room = self.bytes();
        let mut part = self.slice.try_slice_mut(..host.len()).ok_or_else(|| {
            WorkloadError::Failed(format!("{} bytes do not fit into {room}", host.len()))
        })?;
        stream.memcpy_htod(host, &mut part).map_err(refused("copying to the device"))?;
        wait(stream)
    }

    /// Copies `host.len()` bytes from `offset` on, and waits for them.
    pub(crate) fn read(
        &self,
        stream: &Arc<CudaStream>,
        offset: usize,
        host: &mut [u8],
    ) -> Result<(), WorkloadError> {
        let part = self.slice.try_slice(offset..offset + host.len()).ok_or_else(|| {
            WorkloadError::Failed(format!(
                "bytes {offset} to {} are not in a buffer of {}",
                offset + host.len(),
                self.bytes()
            ))
        })?;
        stream.memcpy_dtoh(&part, host).map_err(refused("copying to the host"))?;
        wait(stream)
    }
}

/// Waits for everything on the stream.
pub(crate) fn wait(stream: &CudaStream) -> Result<(), WorkloadError> {
    stream.synchronize().map_err(refused("waiting for the device"))
}

/// The address of a kernel argument, as a launch takes it.
pub(crate) fn argument<T>(value: &T) -> *mut c_void {
    std::ptr::from_ref(value).cast_mut().cast()
}

/// Enqueues a kernel without allocating.
///
/// # Safety
/// `arguments` point to values of the types and in the order of the kernel's parameters, and the
/// addresses among them to allocations as large as the kernel and the grid make of them.
pub(crate) unsafe fn launch(
    stream: &CudaStream,
    function: &CudaFunction,
    blocks: u32,
    threads: u32,
    arguments: &mut [*mut c_void],
) -> Result<(), WorkloadError> {
    // SAFETY: the function belongs to a loaded module that it keeps alive; the arguments are the
    // caller's promise.
    unsafe {
        result::launch_kernel(
            function.cu_function(),
            (blocks, 1, 1),
            (threads, 1, 1),
            0,
            stream.cu_stream(),
            arguments,
        )
    }
    .map_err(refused("launching a kernel"))
}

/// A function of a compiled module.
pub(crate) fn function(
    module: &Arc<CudaModule>,
    name: &str,
) -> Result<CudaFunction, WorkloadError> {
    module.load_function(name).map_err(refused(name))
}

/// How much of a multiprocessor's memory a kernel leaves to the L1 cache, where the driver would guess.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Split {
    /// All that can be had.
    Cache,
    /// As little as there is, for shared memory.
    Shared,
}

/// Settles the split of a kernel; a hint, which older cards round to one of a few.
pub(crate) fn prefer(function: &CudaFunction, split: Split) -> Result<(), WorkloadError> {
    let percent = match split {
        Split::Cache => 0,
        Split::Shared => 100,
    };
    let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT;
    function.set_attribute(attribute, percent).map_err(refused("splitting L1 and shared memory"))
}

/// The kernel that fills memory with numbers of each type; TF32 lies in memory as f32.
const FILLS: [(Dtype, &str); 7] = [
    (Dtype::F64, "fill_f64"),
    (Dtype::F32, "fill_f32"),
    (Dtype::Tf32, "fill_f32"),
    (Dtype::F16, "fill_f16"),
    (Dtype::Bf16, "fill_bf16"),
    (Dtype::Fp8, "fill_fp8"),
    (Dtype::Int8, "fill_int8"),
];

/// The kernels that fill buffers with random numbers.
pub(crate) struct Filler(Vec<(Dtype, CudaFunction)>);

impl Filler {
    /// Compiles `kernels/fill.cu` for the device.
    pub(crate) fn new(compiler: &compile::Compiler) -> Result<Self, WorkloadError> {
        let source = include_str!("../../../kernels/fill.cu");
        let module = compiler.compile("fill.cu", source)?.module;
        let kernels = FILLS.map(|(dtype, name)| Ok((dtype, function(&module, name)?)));
        Ok(Self(kernels.into_iter().collect::<Result<_, WorkloadError>>()?))
    }

    /// Fills the whole buffer with the numbers of `numbers` as `dtype`.
    pub(crate) fn fill(
        &self,
        stream: &CudaStream,
        buffer: &mut Buffer,
        dtype: Dtype,
        numbers: Stream,
    ) -> Result<(), WorkloadError> {
        let elements = buffer.bytes() / dtype.size();
        self.fill_part(stream, buffer, 0, elements, dtype, numbers)
    }

    /// Fills `elements` elements from byte `offset` on with the first numbers of `numbers`.
    pub(crate) fn fill_part(
        &self,
        stream: &CudaStream,
        buffer: &mut Buffer,
        offset: usize,
        elements: usize,
        dtype: Dtype,
        numbers: Stream,
    ) -> Result<(), WorkloadError> {
        let end = offset + elements * dtype.size();
        let kernel = self.0.iter().find(|(filled, _)| *filled == dtype).map(|(_, kernel)| kernel);
        let Some(kernel) = kernel.filter(|_| end <= buffer.bytes()) else {
            return Err(WorkloadError::Failed(format!(
                "bytes {offset} to {end} of a buffer of {} cannot be filled with {}",
                buffer.bytes(),
                dtype.name()
            )));
        };
        let (address, elements) = (buffer.address + offset as u64, elements as u64);
        let mut arguments = [argument(&address), argument(&elements), argument(&numbers.key)];
        // SAFETY: the kernels take a pointer, a count and a key, and write `elements` elements of
        // `dtype`, for which there is room behind the offset.
        unsafe { launch(stream, kernel, 1024, 256, &mut arguments) }
    }
}
