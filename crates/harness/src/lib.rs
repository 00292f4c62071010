//! The harness of every family's benchmarks: what a case is, how it is timed on an engine, what a row says
//! whatever the family, and how an answer is held against the reference.
//!
//! A family says what varies: its cases as [`Parameters`], and its engines. An [`Engine`] prepares a
//! case as a [`Program`], which launches and compares. Nothing here knows a model or a family.

pub mod by_batch;
mod check;
mod context;
pub mod device;
mod engine;
pub mod estimate;
mod input_cache;
mod noise;
mod parameters;
mod peak_memory;
mod replay;
mod session;

pub use by_batch::ServiceSettings;
pub use check::{Allowed, Comparison, Held, error, finite, sampled};
pub use context::{BenchContext, Context};
pub use engine::{Engine, Notes, Program};
pub use noise::{noise, stream};
pub use parameters::{Parameters, PlannedGroup};
pub use peak_memory::PeakMemory;
pub use replay::{FixedPass, ReplayedPass};
pub use session::{Case, Engines, ModelSession};
