//! What is planned of a model and loaded for all of its cases; the harness beneath knows of neither.

#[cfg(test)]
pub(crate) mod fixture;
mod loader;
mod plan;

pub(crate) use warpmark_harness::{
    Allowed, BenchContext, Comparison, Context, Engine, Engines, FixedPass, Held, Notes,
    PeakMemory, Program, ReplayedPass, error, estimate, finite, noise, sampled, stream,
};
pub use warpmark_harness::{Parameters, PlannedGroup};

pub(crate) use loader::{Loader, Opened};
pub(crate) use plan::{Plan, Planned};
