//! The word that checking launches add up in: what a kernel has read, where it stores nothing of it.

use std::sync::Arc;

use cudarc::driver::CudaStream;
use cudarc::driver::sys::CUdeviceptr;
use warpmark_measure::WorkloadError;
use warpmark_measure::workload::checked;
use warpmark_record::Check;

use super::Buffer;

/// A word on the device.
pub(crate) struct Sum(Buffer);

impl Sum {
    pub(crate) fn new(stream: &Arc<CudaStream>) -> Result<Self, WorkloadError> {
        Buffer::new(stream, size_of::<u32>(), "the sum").map(Self)
    }

    /// Its address where it lies, as a launch's argument has to be.
    pub(crate) fn address(&self) -> &CUdeviceptr {
        &self.0.address
    }

    /// Lets the sum begin from zero.
    pub(crate) fn clear(&mut self, stream: &CudaStream) -> Result<(), WorkloadError> {
        self.0.set(stream, 0)
    }

    /// Holds what was added up since then against the sum of all words of `what`, which has one right
    /// value, so that nothing is tolerated.
    pub(crate) fn check(
        &self,
        stream: &Arc<CudaStream>,
        expected: u32,
        what: &str,
    ) -> Result<Check, WorkloadError> {
        let mut bytes = [0; 4];
        self.0.read(stream, 0, &mut bytes)?;
        let wrong = u32::from(u32::from_le_bytes(bytes) != expected);
        let what = format!("whether the sum of all words read is that of {what} (0 if so)");
        checked(what, wrong.into(), 0.0)
    }
}
