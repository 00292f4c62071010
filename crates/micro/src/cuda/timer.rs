//! Timing a few launches when one of several variants is chosen, before anything is sampled.

use std::cell::Cell;

use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaEvent, CudaStream};
use warpmark_measure::{Blocking, WorkloadError};

use super::blocking::BlockingKernel;
use super::refused;

/// A pair of events on a stream, and the kernel that blocks it, where what is tried takes microseconds:
/// all of it would else take as long as its launches.
pub(crate) struct Timer<'a> {
    blocking: Option<&'a BlockingKernel>,
    stream: &'a CudaStream,
    start: CudaEvent,
    end: CudaEvent,
    /// Whether a timing was taken without the blocking kernel that there is.
    not_blocked: Cell<bool>,
}

/// Unblocks the stream at the end, whatever happens before it.
struct Unblock<'a>(&'a dyn Blocking);

impl Drop for Unblock<'_> {
    fn drop(&mut self) {
        self.0.unblock();
    }
}

impl<'a> Timer<'a> {
    pub(crate) fn new(
        stream: &'a CudaStream,
        blocking: Option<&'a BlockingKernel>,
    ) -> Result<Self, WorkloadError> {
        let event = || {
            let made = stream.context().new_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
            made.map_err(refused("making an event"))
        };
        Ok(Self { blocking, stream, start: event()?, end: event()?, not_blocked: Cell::new(false) })
    }

    /// Whether the host's pace is in a time that was told, since the stream could not be blocked.
    pub(crate) fn was_not_blocked(&self) -> bool {
        self.not_blocked.get()
    }

    /// Queues launches between the two events.
    fn queue(
        &self,
        launches: usize,
        launch: &mut dyn FnMut() -> Result<(), WorkloadError>,
    ) -> Result<(), WorkloadError> {
        self.start.record(self.stream).map_err(refused("recording an event"))?;
        (0..launches).try_for_each(|_| launch())?;
        self.end.record(self.stream).map_err(refused("recording an event"))
    }

    /// Seconds that `launches` take on the device.
    ///
    /// A block that gave up before all was queued is tried once more; after a second time blocking is given
    /// up for good, since what waits behind it would wait at every launch.
    pub(crate) fn time(
        &self,
        launches: usize,
        mut launch: impl FnMut() -> Result<(), WorkloadError>,
    ) -> Result<f64, WorkloadError> {
        for _ in 0..2 {
            let Some(blocking) = self.blocking.filter(|blocking| blocking.blocks()) else { break };
            blocking.block()?;
            let unblock = Unblock(blocking);
            let queued = self.queue(launches, &mut launch);
            drop(unblock);
            queued?;
            let seconds = self.elapsed()?;
            if blocking.lasted() {
                return Ok(seconds);
            }
        }
        if let Some(blocking) = self.blocking {
            blocking.give_up();
            self.not_blocked.set(true);
        }
        self.queue(launches, &mut launch)?;
        self.elapsed()
    }

    fn elapsed(&self) -> Result<f64, WorkloadError> {
        self.end.synchronize().map_err(refused("waiting for an event"))?;
        // Not cudarc's: it calls a function that drivers before 12.8 lack.
        Ok(warpmark_device::elapsed(&self.start, &self.end).map_err(WorkloadError::failed)?.0)
    }
}
