//! The measuring seam: what a workload is, how it is timed, and the criterion glue that drives it.
//!
//! criterion decides how many iterations make a sample and when it has enough of them; a [`Clock`]
//! inside `iter_custom` takes the times; what criterion saw is kept as the row's samples.

pub mod clock;
mod contained;
mod criterion_output;
mod cuda_events;
mod ending;
mod fake;
mod interval;
pub mod observer;
pub mod plan;
mod runner;
mod sampling;
pub mod service;
mod stamps;
mod warm_up;
pub mod workload;

pub use clock::{Clock, ClockError, Stopwatch, TimedInterval, WallClock, timestamp};
pub use contained::{LibraryPanic, contained};
pub use criterion_output::CriterionOutput;
pub use cuda_events::CudaEvents;
pub use fake::FakeClock;
pub use observer::{Observer, Silent, Step};
pub use plan::{Entry, Group, Open, Sampling, Session};
pub use runner::{Admission, Alarm, Mode, Runner, Sink};
pub use service::{Batched, Offer, OpenService, Service, Streaming};
pub use stamps::Counted;
pub use warm_up::WarmUp;
pub use workload::{Blocking, Description, Workload, WorkloadError};
