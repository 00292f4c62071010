//! The measuring seam: what a workload is, how it is timed, and the criterion glue that drives it.
//!
//! criterion decides how many iterations make a sample and when it has enough of them; a [`Clock`]
//! inside `iter_custom` takes the times; what criterion saw is kept as the row's samples.

pub mod clock;
pub mod plan;
pub mod workload;

pub use clock::{Clock, ClockError, Lap, WallClock};
pub use plan::{Entry, Group, Sampling, Session};
pub use workload::{Description, Workload, WorkloadError};
