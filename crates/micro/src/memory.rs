//! Memory bandwidth: what the six access patterns of STREAM and its successors have in common.
//!
//! Three arrays of f32, each several times the size of the last cache: `a` and `b` are read, `c` is
//! written. Unlike STREAM's, the operations never read what another one wrote, so their answers do not
//! depend on how often they ran and can be checked to the bit.
//!
//! Traffic is what the algorithm needs, reads and writes together: a copy counts twice its size. Some
//! tools count a copy once; their figures are half of these.

pub(crate) mod array;
pub(crate) mod host;
pub(crate) mod nvrtc;
pub(crate) mod sweep;
pub(crate) mod thread_pool;
pub(crate) mod variants;

use std::collections::BTreeMap;

use warpmark_device::Device;
use warpmark_measure::{Entry, Group, Session, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, DeviceSpec, Seconds, Value, Work};

use crate::cases::{self, Cases};
use crate::data::Stream;
use crate::{RunOptions, guess, sustained};

/// The factor of `scale` and `triad`.
const FACTOR: f32 = 0.4;

/// The last cache of a device that does not tell its size. Few processors have more.
pub(crate) const ASSUMED_CACHE: f64 = 64.0 * 1024.0 * 1024.0;

/// The last cache of a device, as far as it tells.
fn last_cache(spec: &DeviceSpec) -> f64 {
    spec.last_level_cache.known().map_or(ASSUMED_CACHE, |cache| cache.0)
}

/// What is done with the arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Reads `a` and folds it by exclusive or: the one operation whose result is exact in any order.
    Read,
    /// `c = pattern`.
    Write,
    /// `c = a`.
    Copy,
    /// `c = 0.4 a`.
    Scale,
    /// `c = a + b`.
    Add,
    /// `c = a + 0.4 b`.
    Triad,
}

impl Operation {
    const ALL: [Self; 6] =
        [Self::Read, Self::Write, Self::Copy, Self::Scale, Self::Add, Self::Triad];

    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Copy => "copy",
            Self::Scale => "scale",
            Self::Add => "add",
            Self::Triad => "triad",
        }
    }

    /// How many arrays cross the memory bus.
    fn arrays(self) -> usize {
        match self {
            Self::Read | Self::Write => 1,
            Self::Copy | Self::Scale => 2,
            Self::Add | Self::Triad => 3,
        }
    }

    fn writes(self) -> bool {
        self != Self::Read
    }

    /// What belongs into `c` where the inputs are `a` and `b`.
    fn value(self, a: f32, b: f32, pattern: f32) -> f32 {
        match self {
            Self::Read | Self::Write => pattern,
            Self::Copy => a,
            Self::Scale => FACTOR * a,
            Self::Add => a + b,
            Self::Triad => a + FACTOR * b,
        }
    }
}

/// What fills the arrays.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contents {
    pub(crate) seed: u64,
    a: Stream,
    b: Stream,
    /// What `write` writes, over and over.
    pattern: [f32; 4],
}

impl Contents {
    pub(crate) fn new(seed: u64) -> Self {
        let stream = Stream::new(seed, 2);
        Self {
            seed,
            a: Stream::new(seed, 0),
            b: Stream::new(seed, 1),
            pattern: [0, 1, 2, 3].map(|i| stream.uniform(i)),
        }
    }

    fn pattern_at(&self, index: u64) -> f32 {
        self.pattern[(index % 4) as usize]
    }
}

/// The bytes of one array, for each size that is wanted: the smallest power of two that is at least `least`,
/// and in the full suite twice and four times that.
fn sizes(options: &RunOptions, least: usize) -> Vec<usize> {
    let least = least.next_power_of_two();
    let factors: &[usize] = if options.full { &[1, 2, 4] } else { &[1] };
    factors.iter().map(|factor| factor * least).collect()
}

/// `128MiB`, or `16KiB` where a test asks for less.
pub(crate) fn size_name(bytes: usize) -> String {
    if bytes.is_multiple_of(1 << 20) {
        format!("{}MiB", bytes >> 20)
    } else {
        format!("{}KiB", bytes >> 10)
    }
}

/// A group for each size, of the operations planned there; `open` makes its session.
fn groups<S: Session + 'static>(
    (spec, options): (&DeviceSpec, &RunOptions),
    (processor, engine): (&str, &str),
    least: usize,
    open: fn(&Device, Cases<Operation>, usize, Contents) -> Result<S, WorkloadError>,
) -> Vec<Group> {
    let contents = Contents::new(options.seed);
    let sizes = sizes(options, least);
    let group = |size| {
        let each = Operation::ALL.into_iter();
        let mut planned: Vec<(Entry, Operation)> = each
            .filter_map(|operation| entry(operation, size, engine, spec, options, &[]))
            .collect();
        // The stream with the most traffic, on the smallest of the sizes, once.
        if spec.gpu.is_some() && Some(&size) == sizes.first() {
            let name = [sustained::NAME];
            let kept = entry(Operation::Triad, size, engine, spec, options, &name);
            planned.extend(kept.map(|(mut entry, operation)| {
                sustained::plan(&mut entry, options);
                (entry, operation)
            }));
        }
        let name = format!("memory of the {processor}, arrays of {}", size_name(size));
        cases::group(name, planned, move |device, cases| open(device, cases, size, contents))
    };
    sizes.iter().copied().map(group).collect()
}

/// The entry of `operation` on arrays of `size` bytes under `engine`.
fn entry(
    operation: Operation,
    size: usize,
    engine: &str,
    spec: &DeviceSpec,
    options: &RunOptions,
    more: &[&str],
) -> Option<(Entry, Operation)> {
    let name = size_name(size);
    let segments = ["micro", "memory", operation.name(), "f32", &name].into_iter();
    let id = BenchmarkId::new(segments.chain(more.iter().copied()), engine).ok()?;
    let iteration = Bytes::from_count(operation.arrays() * size) / guess::bandwidth(spec);
    let memory = Bytes::from_count(3 * size);
    let entry = Entry {
        id,
        sampling: guess::sampling(options, iteration),
        iteration_estimate: iteration,
        preparation_estimate: Seconds(0.0),
        memory_estimate: memory,
        sweep: Some(format!("micro/memory@{engine}")),
        skip: guess::too_large(spec, memory),
    };
    Some((entry, operation))
}

/// What every row on memory says about itself.
fn parameters(operation: Operation, size: usize) -> BTreeMap<String, Value> {
    [
        ("operation", Value::from(operation.name())),
        ("dtype", Value::from("f32")),
        ("array_bytes", Value::from(size)),
        ("traffic", Value::from("reads + writes")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn work(operation: Operation, size: usize) -> Work {
    Work { flops: None, bytes: Some(Bytes::from_count(operation.arrays() * size)), items: None }
}

/// What to know of a row on a device whose cache size is not known.
pub(crate) fn cache_caveat(spec: &DeviceSpec) -> Option<String> {
    let reason = spec.last_level_cache.reason()?;
    Some(format!(
        "the size of the last cache is unknown ({reason}); the arrays assume {}",
        Bytes(ASSUMED_CACHE).binary()
    ))
}
