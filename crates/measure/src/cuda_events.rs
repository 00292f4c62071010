//! CUDA events on the working stream.
//!
//! The start event is queued before the first launch and the end event behind the last one, so the
//! device times the work on its own clock (about 0.5 µs resolution); the wall is read beside it, from
//! before the first launch to after the synchronisation, and once more when all is launched. Where the
//! host launches more slowly than the device works, the gaps between launches are in the device's time:
//! such a lap ends as soon as its last launch is queued, which is how a row shows it. Short kernels are
//! therefore held back until they are queued ([`crate::Hold`]).

use std::sync::Arc;

use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaEvent, CudaStream};
use warpmark_record::{ClockKind, Seconds};

use crate::clock::{Clock, ClockError, Lap, WallClock};

/// Two timing events on one stream, reused for every lap, and the wall beside them.
pub struct CudaEvents {
    stream: Arc<CudaStream>,
    start: CudaEvent,
    end: CudaEvent,
    wall: WallClock,
    launched: Option<Seconds>,
}

impl CudaEvents {
    /// A clock for the work of `stream`.
    pub fn new(stream: &Arc<CudaStream>) -> Result<Self, ClockError> {
        // cudarc's own default leaves timing out of its events.
        let flags = Some(CUevent_flags::CU_EVENT_DEFAULT);
        let context = stream.context();
        Ok(Self {
            stream: Arc::clone(stream),
            start: context.new_event(flags).map_err(device)?,
            end: context.new_event(flags).map_err(device)?,
            wall: WallClock::default(),
            launched: None,
        })
    }
}

impl Clock for CudaEvents {
    fn kind(&self) -> ClockKind {
        ClockKind::CudaEvents
    }

    fn start(&mut self) -> Result<(), ClockError> {
        self.wall.start()?;
        self.start.record(&self.stream).map_err(device)
    }

    fn queued(&mut self) -> Result<(), ClockError> {
        self.end.record(&self.stream).map_err(device)?;
        self.launched = Some(self.wall.elapsed()?);
        Ok(())
    }

    fn finish(&mut self) -> Result<Lap, ClockError> {
        self.end.synchronize().map_err(device)?;
        let wall = self.wall.finish()?.wall;
        // Both events are complete, so this costs no wait.
        let elapsed = warpmark_device::elapsed(&self.start, &self.end);
        let device = elapsed.map_err(|error| ClockError::Device(error.to_string()))?;
        Ok(Lap { device: Some(device), wall, launch: self.launched.take() })
    }
}

fn device(error: cudarc::driver::DriverError) -> ClockError {
    ClockError::Device(warpmark_device::describe(&error))
}
