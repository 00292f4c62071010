//! Timing a few launches when one of several ways is chosen, before anything is measured.

use std::sync::Arc;

use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaEvent, CudaStream};
use warpmark_cuda::refused;
use warpmark_measure::WorkloadError;

/// A pair of events on a stream.
pub(crate) struct Timer {
    stream: Arc<CudaStream>,
    start: CudaEvent,
    end: CudaEvent,
}

impl Timer {
    pub(crate) fn new(stream: &Arc<CudaStream>) -> Result<Self, WorkloadError> {
        let event = || {
            let made = stream.context().new_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
            made.map_err(refused("making an event"))
        };
        Ok(Self { stream: Arc::clone(stream), start: event()?, end: event()? })
    }

    /// Seconds that so many launches take, one behind the other.
    pub(crate) fn time(
        &self,
        launches: usize,
        mut launch: impl FnMut() -> Result<(), WorkloadError>,
    ) -> Result<f64, WorkloadError> {
        self.start.record(&self.stream).map_err(refused("recording an event"))?;
        (0..launches).try_for_each(|_| launch())?;
        self.end.record(&self.stream).map_err(refused("recording an event"))?;
        self.end.synchronize().map_err(refused("waiting for an event"))?;
        // Not cudarc's: it calls a function that drivers before 12.8 lack.
        Ok(warpmark_device::elapsed(&self.start, &self.end).map_err(WorkloadError::failed)?.0)
    }
}
