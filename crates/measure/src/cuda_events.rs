//! CUDA events on the working stream.
//!
//! The start event is queued before the first launch and the end event after the last one, so the
//! device times the work on its own clock (about 0.5 µs resolution); the wall is read beside it, from
//! before the first launch to after the synchronisation, and once more when all is launched. Where the
//! host launches more slowly than the device works, the gaps between launches are in the device's time:
//! such an interval ends as soon as its last launch is queued, which is how a row shows it. Short kernels are
//! therefore held back until they are queued ([`crate::Blocking`]).
//!
//! In front of the first event and after the last one the device's own counters are read, which tell its
//! clock meanwhile ([`crate::Counted`]).

use std::sync::Arc;

use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaEvent, CudaStream};
use warpmark_record::{ClockKind, Seconds};

use crate::clock::{Clock, ClockError, TimedInterval, WallClock};
use crate::stamps::{End, Stamps};

/// Two timing events on one stream, reused for every interval, and the wall beside them.
pub struct CudaEvents {
    stream: Arc<CudaStream>,
    start: CudaEvent,
    end: CudaEvent,
    wall: WallClock,
    launched: Option<Seconds>,
    /// Once they were wanted; or why there are none.
    stamps: Option<Result<Stamps, String>>,
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
            stamps: None,
        })
    }
}

impl CudaEvents {
    fn stamps(&self) -> Option<&Stamps> {
        self.stamps.as_ref()?.as_ref().ok()
    }

    fn stamp(&self, end: End) -> Result<(), ClockError> {
        self.stamps().map_or(Ok(()), |stamps| stamps.take(end)).map_err(device)
    }
}

impl Clock for CudaEvents {
    fn kind(&self) -> ClockKind {
        ClockKind::CudaEvents
    }

    /// A first launch behind a hold would wait for it, so that the kernel is loaded and run here.
    fn get_ready(&mut self) {
        if self.stamps.is_none() {
            let stamps = Stamps::new(&self.stream);
            self.stamps = Some(stamps.map_err(|error| warpmark_device::describe(&error)));
        }
    }

    fn start(&mut self) -> Result<(), ClockError> {
        self.stamp(End::Start)?;
        self.wall.start()?;
        self.start.record(&self.stream).map_err(device)
    }

    fn queued(&mut self) -> Result<(), ClockError> {
        self.end.record(&self.stream).map_err(device)?;
        self.launched = Some(self.wall.elapsed()?);
        self.stamp(End::Stop)
    }

    fn finish(&mut self) -> Result<TimedInterval, ClockError> {
        self.end.synchronize().map_err(device)?;
        let wall = self.wall.finish()?.wall;
        // Both events are complete, so this costs no wait.
        let elapsed = warpmark_device::elapsed(&self.start, &self.end);
        let device = elapsed.map_err(|error| ClockError::Device(error.to_string()))?;
        let counted = self.stamps().map_or(Ok(None), Stamps::read).map_err(self::device)?;
        Ok(TimedInterval { device: Some(device), wall, launch: self.launched.take(), counted })
    }

    fn lacks_counters(&self) -> Option<&str> {
        self.stamps.as_ref()?.as_ref().err().map(String::as_str)
    }
}

fn device(error: cudarc::driver::DriverError) -> ClockError {
    ClockError::Device(warpmark_device::describe(&error))
}
