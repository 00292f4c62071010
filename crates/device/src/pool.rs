//! How much device memory is held, by the marks of the driver's memory pool.
//!
//! The pool counts every stream-ordered allocation of this process on the device (cudarc's, and
//! candle's, which shares the pool), spikes between two looks included. It does not count the context,
//! loaded modules, and what cuBLAS and cuDNN take for themselves.

use std::ptr;

use cudarc::driver::sys::CUmemPool_attribute as Mark;
use cudarc::driver::{DriverError, result};
use warpmark_record::{Bytes, Field};

use crate::CudaDevice;
use crate::code::CudaError;

/// How [`CudaDevice::held`] and [`CudaDevice::peak`] are measured, as records name it.
pub const METHOD: &str = "cuda pool high-water mark";

impl CudaDevice {
    /// Memory that live allocations hold now.
    pub fn held(&self) -> Field<Bytes> {
        self.mark(Mark::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)
    }

    /// The most that live allocations held at any moment since [`CudaDevice::reset_peak`].
    pub fn peak(&self) -> Field<Bytes> {
        self.mark(Mark::CU_MEMPOOL_ATTR_USED_MEM_HIGH)
    }

    /// Starts [`CudaDevice::peak`] anew at what is held now.
    ///
    /// # Errors
    /// The driver's refusal; without memory pools, `CUDA_ERROR_NOT_SUPPORTED`.
    pub fn reset_peak(&self) -> Result<(), CudaError> {
        let mut zero = 0u64;
        // SAFETY: the mark is a u64, for which 0 means "reset"; it outlives the call.
        self.with_pool(|pool| unsafe {
            let value = ptr::from_mut(&mut zero).cast();
            result::mem_pool::set_attribute(pool, Mark::CU_MEMPOOL_ATTR_USED_MEM_HIGH, value)
        })
    }

    /// Gives memory that nothing holds back to the device, so that the next workload starts even.
    ///
    /// # Errors
    /// As [`CudaDevice::reset_peak`].
    pub fn trim(&self) -> Result<(), CudaError> {
        // SAFETY: the pool is the device's own; what is in use is not touched.
        self.with_pool(|pool| unsafe { result::mem_pool::trim_to(pool, 0) })
    }

    /// Memory that can still be allocated: what the device has free, and what the pool keeps unused.
    pub fn free_memory(&self) -> Field<Bytes> {
        let free = match self.context.mem_get_info().map_err(CudaError::of("cuMemGetInfo")) {
            Ok((free, _total)) => Bytes::from_count(free),
            Err(error) => return Field::absent(error.to_string()),
        };
        match (self.mark(Mark::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT).known(), self.held().known()) {
            (Some(reserved), Some(held)) => {
                Field::Known(free + (*reserved - *held).max(Bytes(0.0)))
            }
            _ => Field::Known(free),
        }
    }

    fn mark(&self, mark: Mark) -> Field<Bytes> {
        let mut value = 0u64;
        // SAFETY: all marks asked for are u64; the driver writes one and keeps no pointer.
        let asked = self.with_pool(|pool| unsafe {
            result::mem_pool::get_attribute(pool, mark, ptr::from_mut(&mut value).cast())
        });
        asked.map(|()| Bytes(value as f64)).into()
    }

    fn with_pool(
        &self,
        act: impl FnOnce(cudarc::driver::sys::CUmemoryPool) -> Result<(), DriverError>,
    ) -> Result<(), CudaError> {
        if !self.context.has_async_alloc() {
            // 801 is CUDA_ERROR_NOT_SUPPORTED.
            return Err(CudaError { call: "cuDeviceGetDefaultMemPool", code: 801 });
        }
        // SAFETY: the handle belongs to the open context.
        unsafe { result::device::get_default_mem_pool(self.context.cu_device()) }
            .map_err(CudaError::of("cuDeviceGetDefaultMemPool"))
            .and_then(|pool| act(pool).map_err(CudaError::of("the memory pool")))
    }
}
