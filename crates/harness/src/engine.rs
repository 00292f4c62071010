//! The seam between the harness and an engine.

use std::collections::BTreeMap;

use warpmark_measure::WorkloadError;
use warpmark_record::{Bytes, Value, Work};

use crate::check::Comparison;
use crate::context::BenchContext;

/// A program for a family's nets on loaded weights.
pub trait Engine {
    /// What a family measures.
    type Case;

    /// Bytes that the case takes of the host beside the weights, where it runs on a CPU. What was kept for
    /// another case and does not serve this one is given back before.
    fn host_memory(&mut self, case: Self::Case) -> Bytes;

    /// Gets a case ready to be launched.
    fn prepare<'a>(
        &'a mut self,
        case: Self::Case,
        bench: BenchContext<'a>,
    ) -> Result<Box<dyn Program + 'a>, WorkloadError>;
}

/// A case that an engine has prepared.
pub trait Program {
    /// What a reader of the row needs to know.
    fn notes(&self) -> Notes;

    /// Goes back to the start; not timed.
    fn reset(&mut self) -> Result<(), WorkloadError> {
        Ok(())
    }

    /// Starts one iteration; timed.
    fn launch(&mut self) -> Result<(), WorkloadError>;

    /// Holds the answers against the reference; not timed.
    fn compare(&mut self) -> Result<Comparison, WorkloadError>;

    /// Parts of the last iteration's wall time by name.
    fn stages(&mut self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    /// Seconds of what happened within the iterations since the last reset, by name.
    fn distributions(&mut self) -> BTreeMap<String, Vec<f64>> {
        BTreeMap::new()
    }
}

/// What a reader of a row needs to know of a case beyond its parameters.
pub struct Notes {
    /// What one iteration does.
    pub work: Work,
    /// The distribution of its inputs and their seed.
    pub data: String,
    /// What to know before trusting it.
    pub caveats: Vec<String>,
    /// Fields beside those of its parameters.
    pub fields: Vec<(&'static str, Value)>,
}
