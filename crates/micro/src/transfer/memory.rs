//! What copies need beside the working stream: host memory of either kind, and a second stream.

use std::ops::{Deref, DerefMut};

use cudarc::driver::sys::{CUevent, CUevent_flags, CUevent_wait_flags, CUstream};
use cudarc::driver::{CudaStream, result};
use warpmark_measure::WorkloadError;

use crate::cuda::refused;

/// How the host's memory is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Locked into place.
    Pinned,
    /// As any program's.
    Pageable,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Pinned, Self::Pageable];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Pageable => "pageable",
        }
    }
}

/// Bytes of the host, all of them written once, so that their pages are there.
pub(super) enum HostMemory {
    Pinned(Pinned),
    Pageable(Vec<u8>),
}

/// Memory that the driver has locked.
pub(super) struct Pinned {
    start: *mut u8,
    len: usize,
}

impl HostMemory {
    pub(super) fn new(kind: Kind, len: usize) -> Result<Self, WorkloadError> {
        Ok(match kind {
            Kind::Pageable => {
                let mut memory = vec![0; len];
                memory.fill(1);
                Self::Pageable(memory)
            }
            Kind::Pinned => {
                // Not cudarc's own: that is write-combined, and reading it back takes for ever.
                // SAFETY: it is given back in `drop`.
                let start = unsafe { result::malloc_host(len, 0) }
                    .map_err(refused("pinning memory of the host"))?;
                let memory = Pinned { start: start.cast(), len };
                // SAFETY: the allocation is that long.
                unsafe { memory.start.write_bytes(1, len) };
                Self::Pinned(memory)
            }
        })
    }
}

impl Deref for HostMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            // SAFETY: the allocation is that long, and was written in `new`.
            Self::Pinned(memory) => unsafe { std::slice::from_raw_parts(memory.start, memory.len) },
            Self::Pageable(memory) => memory,
        }
    }
}

impl DerefMut for HostMemory {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            // SAFETY: as in `deref`, and borrowed mutably.
            Self::Pinned(memory) => unsafe {
                std::slice::from_raw_parts_mut(memory.start, memory.len)
            },
            Self::Pageable(memory) => memory,
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: made by `malloc_host`, and given back only here. A refusal is a lost context, in which
        // nothing can be given back.
        let _ = unsafe { result::free_host(self.start.cast()) };
    }
}

/// A second stream, tied to the working one by two events.
///
/// Made without cudarc: a stream of its own would let it order streams by events at every call.
pub(super) struct SideStream {
    stream: CUstream,
    begun: CUevent,
    done: CUevent,
}

impl SideStream {
    pub(super) fn new(working: &CudaStream) -> Result<Self, WorkloadError> {
        let failed = refused("making a second stream");
        working.context().bind_to_thread().map_err(&failed)?;
        let flags = CUevent_flags::CU_EVENT_DISABLE_TIMING;
        let stream =
            result::stream::create(result::stream::StreamKind::NonBlocking).map_err(&failed)?;
        // What is made is in place before the next call can fail, so that it is given back.
        let mut side = Self { stream, begun: std::ptr::null_mut(), done: std::ptr::null_mut() };
        side.begun = result::event::create(flags).map_err(&failed)?;
        side.done = result::event::create(flags).map_err(&failed)?;
        Ok(side)
    }

    pub(super) fn handle(&self) -> CUstream {
        self.stream
    }

    /// Lets this stream begin when the working one has come as far as it is now.
    pub(super) fn fork(&self, working: &CudaStream) -> Result<(), WorkloadError> {
        after(self.begun, working.cu_stream(), self.stream)
    }

    /// Lets the working stream go on when this one has come as far as it is now.
    pub(super) fn join(&self, working: &CudaStream) -> Result<(), WorkloadError> {
        after(self.done, self.stream, working.cu_stream())
    }
}

/// Lets `later` wait for what is on `earlier` now.
fn after(event: CUevent, earlier: CUstream, later: CUstream) -> Result<(), WorkloadError> {
    let flags = CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
    // SAFETY: the event and both streams are alive, and of this thread's context.
    unsafe {
        result::event::record(event, earlier)
            .and_then(|()| result::stream::wait_event(later, event, flags))
    }
    .map_err(refused("ordering two streams"))
}

impl Drop for SideStream {
    fn drop(&mut self) {
        // SAFETY: made in `new` and destroyed only here; the driver lets work on them finish. A refusal is
        // a lost context, in which nothing can be given back.
        unsafe {
            let _ = result::stream::destroy(self.stream);
            for event in [self.begun, self.done].into_iter().filter(|event| !event.is_null()) {
                let _ = result::event::destroy(event);
            }
        }
    }
}
