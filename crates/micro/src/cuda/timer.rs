//! Timing a few launches when one of several ways is chosen, before anything is sampled.

use std::cell::Cell;

use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaEvent, CudaStream};
use warpmark_measure::{Hold, WorkloadError};

use super::hold::Gate;
use super::refused;

/// A pair of events on a stream, and the gate that holds it back, where what is tried takes microseconds:
/// all of it would else take as long as its launches.
pub(crate) struct Timer<'a> {
    gate: Option<&'a Gate>,
    stream: &'a CudaStream,
    start: CudaEvent,
    end: CudaEvent,
    /// Whether a timing was taken without the gate that there is.
    unheld: Cell<bool>,
}

/// Opens a gate at the end, whatever happens before it.
struct Opening<'a>(&'a dyn Hold);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

impl<'a> Timer<'a> {
    pub(crate) fn new(
        stream: &'a CudaStream,
        gate: Option<&'a Gate>,
    ) -> Result<Self, WorkloadError> {
        let event = || {
            let made = stream.context().new_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
            made.map_err(refused("making an event"))
        };
        Ok(Self { gate, stream, start: event()?, end: event()?, unheld: Cell::new(false) })
    }

    /// Whether the host's pace is in a time that was told, since the gate could not be held.
    pub(crate) fn was_unheld(&self) -> bool {
        self.unheld.get()
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
    /// A hold that gave up before all was queued is tried once more; after a second time the gate is left
    /// open for good, since what waits behind it would wait at every launch.
    pub(crate) fn time(
        &self,
        launches: usize,
        mut launch: impl FnMut() -> Result<(), WorkloadError>,
    ) -> Result<f64, WorkloadError> {
        for _ in 0..2 {
            let Some(gate) = self.gate.filter(|gate| gate.holds()) else { break };
            gate.close()?;
            let opening = Opening(gate);
            let queued = self.queue(launches, &mut launch);
            drop(opening);
            queued?;
            let seconds = self.elapsed()?;
            if gate.lasted() {
                return Ok(seconds);
            }
        }
        if let Some(gate) = self.gate {
            gate.leave_open();
            self.unheld.set(true);
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
