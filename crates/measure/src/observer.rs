//! Who is told how a measurement goes on.

use serde::{Deserialize, Serialize};
use warpmark_record::{BenchmarkId, Record};

/// A step of one benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The shared thing of its group is being made: weights loaded, buffers filled.
    Opening,
    /// The answer is being checked.
    Verifying,
    /// It runs until its times converge.
    WarmingUp,
    /// criterion takes samples.
    Sampling {
        /// Samples taken.
        done: usize,
        /// Samples wanted.
        total: usize,
    },
    /// Load is put on it.
    UnderLoad,
}

/// Is told what happens, between the timed parts and never inside them.
pub trait Observer {
    /// A benchmark takes a step.
    fn step(&mut self, id: &BenchmarkId, step: Step);

    /// A benchmark is done, and this is its row.
    fn done(&mut self, record: &Record);
}

/// Nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn step(&mut self, _: &BenchmarkId, _: Step) {}
    fn done(&mut self, _: &Record) {}
}
