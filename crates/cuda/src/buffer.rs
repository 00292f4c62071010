//! Device memory.

use std::sync::Arc;

use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, result};
use warpmark_measure::WorkloadError;
use warpmark_record::Bytes;

use crate::{refused, wait};

/// Device memory, and its address for launches.
pub struct Buffer {
    slice: CudaSlice<u8>,
    /// Where it begins on the device.
    pub address: CUdeviceptr,
}

impl Buffer {
    /// `bytes` of uninitialised memory; `what` names it if the device is full.
    ///
    /// # Errors
    /// [`WorkloadError::OutOfMemory`] where the device has not so much.
    pub fn new(stream: &Arc<CudaStream>, bytes: usize, what: &str) -> Result<Self, WorkloadError> {
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

    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        self.slice.num_bytes()
    }

    /// Sets every byte; 0xFF makes a NaN of every floating-point type.
    ///
    /// # Errors
    /// The driver's refusal.
    pub fn set(&mut self, stream: &CudaStream, byte: u8) -> Result<(), WorkloadError> {
        // SAFETY: the range is this buffer's own allocation, which outlives the stream's work because
        // freeing it is ordered on the same stream.
        unsafe { result::memset_d8_async(self.address, byte, self.bytes(), stream.cu_stream()) }
            .map_err(refused("setting device memory"))
    }

    /// Copies `host` to the beginning, and waits until it is there.
    ///
    /// # Errors
    /// There is no room for it, or the driver refuses.
    pub fn write(&mut self, stream: &Arc<CudaStream>, host: &[u8]) -> Result<(), WorkloadError> {
        self.write_at(stream, 0, host)
    }

    /// Copies `host` to the place from byte `offset` on, and waits until it is there.
    ///
    /// # Errors
    /// There is no room for it, or the driver refuses.
    pub fn write_at(
        &mut self,
        stream: &Arc<CudaStream>,
        offset: usize,
        host: &[u8],
    ) -> Result<(), WorkloadError> {
        let room = self.bytes();
        let end = offset.saturating_add(host.len());
        let mut part = self.slice.try_slice_mut(offset..end).ok_or_else(|| {
            WorkloadError::Failed(format!(
                "{} bytes from {offset} on do not fit into {room}",
                host.len()
            ))
        })?;
        stream.memcpy_htod(host, &mut part).map_err(refused("copying to the device"))?;
        wait(stream)
    }

    /// Copies `host.len()` bytes from `offset` on, and waits for them.
    ///
    /// # Errors
    /// There are not so many, or the driver refuses.
    pub fn read(
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
