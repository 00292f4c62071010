//! Load inside the process: requests that come to a loaded model without a server, a network or a
//! client in between.
//!
//! There are no client threads. Who asks when is a schedule: after each pass of the device, everybody
//! whose moment has come is put into the queue with that moment, not with the time at which the
//! generator looked. A slow answer therefore delays no later question of an open loop, and its wait is
//! counted in full (no coordinated omission); nobody has to be woken, so that 512 users cost the host no
//! more than one.

mod batched;
mod level;
mod streaming;
mod tally;
#[cfg(test)]
mod tests;
mod timeline;
mod traffic;

pub use batched::{Dynamic, batched};
pub use level::{Cancellation, Level, ServeError};
pub use streaming::streaming;
pub use timeline::{Timeline, Wall};
