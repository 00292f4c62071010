//! What warpmark writes down: units, benchmark ids, the record schema, the results store, statistics.
//!
//! Pure data. Nothing here opens a device, reads a clock or prints; a laptop without a GPU can read
//! every results file. Quantities are stored in SI units as they were measured, and everything that
//! can be derived (throughput, shares of a limit, verdicts) is derived when read.

pub mod agreement;
pub mod filter;
pub mod group;
pub mod id;
pub mod load_test;
pub mod machine;
pub mod message;
pub mod row;
pub mod run;
pub mod source;
pub mod stats;
pub mod store;
pub mod tag;
pub mod units;

pub use filter::Filter;
pub use group::{GROUPS, Group};
pub use id::{BenchmarkId, IdError};
pub use load_test::LoadTest;
pub use machine::{DeviceKind, DeviceSpec, Field, HostSpec};
pub use row::{
    Burst, Check, ClockKind, DeviceMemory, Ended, HostLoad, Memory, Outcome, Record, Samples,
    Telemetry, Value, WeightsStamp,
};
pub use run::{Build, Run, RunId};
pub use tag::Tag;
pub use units::{
    Bytes, BytesPerSecond, Celsius, Flops, FlopsPerSecond, Hertz, ItemUnit, Items, ItemsPerSecond,
    Joules, Seconds, Watts, Work,
};

/// The layout of a results file. It rises when an old reader would misread a new line; a reader
/// refuses every other number.
pub const SCHEMA: u32 = 1;

/// The method of measuring. It rises when numbers stop being comparable with older ones, and
/// `compare` refuses rows whose methods differ.
pub const METHOD: u32 = 2;
