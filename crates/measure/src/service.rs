//! A loaded model that answers requests as they come: the seam between models and the load on them.

use warpmark_device::Device;
use warpmark_record::{BenchmarkId, Bytes, Check, Memory, Seconds};

use crate::workload::{Description, WorkloadError};

/// A service that a model can be, before it is loaded.
pub struct Offer {
    /// Its id, to which a level of load adds how requests came.
    pub id: BenchmarkId,
    /// What the progress line calls it.
    pub name: String,
    /// A guess at the time of one request alone.
    pub request_estimate: Seconds,
    /// A guess at the device memory it needs, everything included.
    pub memory_estimate: Bytes,
    /// Why it cannot be had on this device or in this build.
    pub skip: Option<String>,
    /// Loads it. Called once, and only if there is no reason to skip it.
    pub open: OpenService,
}

/// Loads a service on an open device.
pub type OpenService = Box<dyn FnOnce(&Device) -> Result<Service, WorkloadError>>;

/// A loaded service.
pub enum Service {
    /// Answers whole requests.
    Batched(Box<dyn Batched>),
    /// Writes tokens.
    Streaming(Box<dyn Streaming>),
}

impl Service {
    /// What a reader of its rows needs to know about it; the work is that of one request.
    pub fn describe(&self) -> Description {
        match self {
            Self::Batched(service) => service.describe(),
            Self::Streaming(service) => service.describe(),
        }
    }

    /// Checks its answers against an independent computation; not under load.
    pub fn verify(&mut self) -> Result<Check, WorkloadError> {
        match self {
            Self::Batched(service) => service.verify(),
            Self::Streaming(service) => service.verify(),
        }
    }

    /// Gets ready for a level of load: marks of memory begin anew.
    pub fn prepare(&mut self) {
        match self {
            Self::Batched(service) => service.prepare(),
            Self::Streaming(service) => service.prepare(),
        }
    }

    /// Memory it holds and held at most since it was prepared, if it can tell.
    pub fn memory(&mut self) -> Option<Memory> {
        match self {
            Self::Batched(service) => service.memory(),
            Self::Streaming(service) => service.memory(),
        }
    }
}

/// Answers whole requests, several in one pass.
pub trait Batched {
    /// What a reader of its rows needs to know about it; the work is that of one request.
    fn describe(&self) -> Description;

    /// The most requests that fit into one pass.
    fn max_batch(&self) -> usize;

    /// Answers `requests` of them in one pass, and waits for the answers. Between 1 and
    /// [`max_batch`](Self::max_batch).
    fn answer(&mut self, requests: usize) -> Result<(), WorkloadError>;

    /// Checks its answers against an independent computation; not under load.
    fn verify(&mut self) -> Result<Check, WorkloadError>;

    /// Gets ready for a level of load: marks of memory begin anew.
    fn prepare(&mut self) {}

    /// Memory it holds and held at most since it was prepared, if it can tell.
    fn memory(&mut self) -> Option<Memory> {
        None
    }
}

/// Writes tokens for sequences that come and go, each in a slot of its own.
pub trait Streaming {
    /// What a reader of its rows needs to know about it; the work is that of one request.
    fn describe(&self) -> Description;

    /// Sequences that it can hold side by side.
    fn slots(&self) -> usize;

    /// Tokens that each request gets, the first included.
    fn tokens(&self) -> usize;

    /// Reads the prompts of new requests into these slots, whatever was in them, and waits for their
    /// first tokens.
    fn admit(&mut self, slots: &[usize]) -> Result<(), WorkloadError>;

    /// Writes one more token in each of these slots, and waits for them.
    fn step(&mut self, slots: &[usize]) -> Result<(), WorkloadError>;

    /// Checks its answers against an independent computation; not under load.
    fn verify(&mut self) -> Result<Check, WorkloadError>;

    /// Gets ready for a level of load: marks of memory begin anew.
    fn prepare(&mut self) {}

    /// Memory it holds and held at most since it was prepared, if it can tell.
    fn memory(&mut self) -> Option<Memory> {
        None
    }
}
