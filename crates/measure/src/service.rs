//! A loaded model that answers requests as they come: the seam between models and the load on them.

use warpmark_record::Memory;

use crate::workload::{Description, WorkloadError};

/// Answers whole requests, several in one pass.
pub trait Batched {
    /// What a reader of its rows needs to know about it; the work is that of one request.
    fn describe(&self) -> Description;

    /// The most requests that fit into one pass.
    fn most(&self) -> usize;

    /// Answers `requests` of them in one pass, and waits for the answers. Between 1 and
    /// [`most`](Self::most).
    fn answer(&mut self, requests: usize) -> Result<(), WorkloadError>;

    /// Memory it holds and held at most, if it can tell.
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

    /// Memory it holds and held at most, if it can tell.
    fn memory(&mut self) -> Option<Memory> {
        None
    }
}
