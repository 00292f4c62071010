//! Read bandwidth against the size of what is read again and again: from the first cache to memory.
//!
//! The working set of a row is what one reader sweeps: on a GPU every block sweeps the same one, on a
//! CPU every thread has one of its own.

pub(crate) mod host;
pub(crate) mod nvrtc;

use std::collections::BTreeMap;

use warpmark_measure::Entry;
use warpmark_record::{Bytes, DeviceSpec, Value, Work};

use crate::memory::size_name;
use crate::{RunOptions, cases, guess};

/// The entry of a working set; `traffic` is what an iteration reads, `memory` what it takes.
fn entry(
    (spec, options): (&DeviceSpec, &RunOptions),
    engine: &str,
    size: usize,
    traffic: usize,
    memory: usize,
) -> Option<Entry> {
    let segments = ["cache", "read", "f32", &size_name(size)];
    // Caches are faster, so that this is the most it takes.
    let iteration = Bytes::from_count(traffic) / guess::bandwidth(spec);
    cases::entry((spec, options), &segments, engine, iteration, Bytes::from_count(memory))
}

/// What every row on caches says about itself.
fn parameters(size: usize) -> BTreeMap<String, Value> {
    [
        ("dtype", Value::from("f32")),
        ("working_set_bytes", Value::from(size)),
        ("traffic", Value::from("reads")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn work(traffic: usize) -> Work {
    Work { flops: None, bytes: Some(Bytes::from_count(traffic)), items: None }
}
