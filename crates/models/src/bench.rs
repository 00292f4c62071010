//! The harness of every family's benchmarks: what is planned of a case, how a model is loaded once for all
//! of them, what a row says whatever the family, and how an answer is held against the reference.
//!
//! A family says what varies: its cases as [`Parameters`], what each costs as `Planned`, and its engines.
//! An `Engine` prepares a case as a `Program`, which launches and compares.

mod check;
mod context;
mod engine;
pub(crate) mod estimate;
mod input_cache;
mod parameters;
mod peak_memory;
mod plan;
mod session;

pub(crate) use check::{Allowed, Comparison, Held, error, finite, sampled};
pub(crate) use context::{Bench, Context};
pub(crate) use engine::{Engine, Notes, Program};
pub use parameters::Parameters;
pub(crate) use peak_memory::PeakMemory;
pub use plan::PlannedGroup;
pub(crate) use plan::{Plan, Planned};
pub(crate) use session::{Engines, Loader, Opened};
#[cfg(test)]
pub(crate) use session::{ModelSession, entry};
