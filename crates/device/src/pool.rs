//! How much device memory is held, by the marks of the driver's memory pool and of its graphs.
//!
//! The pool counts every stream-ordered allocation of this process on the device (cudarc's, and
//! candle's, which shares the pool), spikes between two looks included. It does not count the context,
//! loaded modules, and what cuBLAS and cuDNN take for themselves. What graphs allocate lies in a pool of
//! their own, with marks of its own.

use std::ptr;

use cudarc::driver::sys::{self, CUgraphMem_attribute as GraphMark, CUmemPool_attribute as Mark};
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

    /// What the pool has taken from the device, in use or not.
    pub fn reserved(&self) -> Field<Bytes> {
        self.mark(Mark::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)
    }

    /// The most that the memory of graphs held since [`CudaDevice::reset_peak`].
    pub fn graphs_peak(&self) -> Field<Bytes> {
        self.graph_mark(GraphMark::CU_GRAPH_MEM_ATTR_USED_MEM_HIGH)
    }

    /// What the memory of graphs has taken from the device.
    pub fn graphs_reserved(&self) -> Field<Bytes> {
        self.graph_mark(GraphMark::CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT)
    }

    /// Starts [`CudaDevice::peak`] and [`CudaDevice::graphs_peak`] anew at what is held now.
    ///
    /// # Errors
    /// The driver's refusal; without memory pools, `CUDA_ERROR_NOT_SUPPORTED`.
    pub fn reset_peak(&self) -> Result<(), CudaError> {
        let mut zero = 0u64;
        // SAFETY: the mark is a u64, for which 0 means "reset"; it outlives the call.
        self.with_pool(|pool| unsafe {
            let value = ptr::from_mut(&mut zero).cast();
            result::mem_pool::set_attribute(pool, Mark::CU_MEMPOOL_ATTR_USED_MEM_HIGH, value)
        })?;
        // SAFETY: as above, of the device's graphs.
        let reset = unsafe {
            sys::cuDeviceSetGraphMemAttribute(
                self.context.cu_device(),
                GraphMark::CU_GRAPH_MEM_ATTR_USED_MEM_HIGH,
                ptr::from_mut(&mut zero).cast(),
            )
        };
        reset.result().map_err(CudaError::of("cuDeviceSetGraphMemAttribute"))
    }

    /// Gives memory that nothing holds back to the device, so that the next workload starts even.
    ///
    /// # Errors
    /// As [`CudaDevice::reset_peak`].
    pub fn trim(&self) -> Result<(), CudaError> {
        // SAFETY: the pool is the device's own; what is in use is not touched.
        self.with_pool(|pool| unsafe { result::mem_pool::trim_to(pool, 0) })
    }

    /// What the device has free, as `cuMemGetInfo` counts it: whoever holds the rest.
    pub(crate) fn free(&self) -> Field<Bytes> {
        let asked = self.context.mem_get_info().map_err(CudaError::of("cuMemGetInfo"));
        asked.map(|(free, _total)| Bytes::from_count(free)).into()
    }

    /// Memory that can still be allocated: what the device has free, and what the pool keeps unused.
    pub fn free_memory(&self) -> Field<Bytes> {
        match (self.reserved().known(), self.held().known()) {
            (Some(reserved), Some(held)) => {
                self.free().map(|free| free + (*reserved - *held).max(Bytes(0.0)))
            }
            _ => self.free(),
        }
    }

    fn graph_mark(&self, mark: GraphMark) -> Field<Bytes> {
        let mut value = 0u64;
        // SAFETY: all marks are u64; the driver writes one and keeps no pointer.
        let asked = unsafe {
            sys::cuDeviceGetGraphMemAttribute(
                self.context.cu_device(),
                mark,
                ptr::from_mut(&mut value).cast(),
            )
        };
        let asked = asked.result().map_err(CudaError::of("cuDeviceGetGraphMemAttribute"));
        asked.map(|()| Bytes(value as f64)).into()
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
        act: impl FnOnce(sys::CUmemoryPool) -> Result<(), DriverError>,
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
