//! The line that opens a run: which machine, which build, which settings.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::BenchmarkId;
use crate::machine::{DeviceSpec, HostSpec};

/// The name of a run: its start, its process, and a mark of host, container and chance,
/// `20261121T233046Z-4711-0badc0de`; older ones have no mark. Names sort by time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub String);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Everything that all rows of a run have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The layout of this line; see [`crate::SCHEMA`].
    pub schema: u32,
    /// The method of measuring; see [`crate::METHOD`].
    pub method: u32,
    /// Its name.
    pub run: RunId,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// The command that started it.
    pub command: Vec<String>,
    /// `quick` or `full`.
    pub suite: String,
    /// The seed of inputs and synthetic weights.
    pub seed: u64,
    /// The device under test.
    pub device: DeviceSpec,
    /// The host that feeds it.
    pub host: HostSpec,
    /// What measured.
    pub build: Build,
    /// Settings that change what is measured: thread count, reduced-precision flags, pool threshold.
    pub settings: BTreeMap<String, String>,
    /// What its user says of it, by key: provider, instance, node, price ([`crate::Tag`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The benchmarks that it set out to measure, in their order, so that what an interrupted run lacks
    /// is known; empty in older records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub planned: Vec<BenchmarkId>,
}

/// The program that measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// warpmark's version.
    pub version: String,
    /// Its git revision, with `-dirty` when the tree had changes, or the reason why it is unknown.
    pub git: String,
    /// The compiler.
    pub rustc: String,
    /// `release`, `debug`, ...
    pub profile: String,
    /// Cargo features that were on.
    pub features: Vec<String>,
    /// What candle's CUDA kernels were compiled for, as `sm_90a, PTX 9.0`; `None` in a build without
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda_kernels: Option<String>,
    /// Versions of the crates that do the measured work.
    pub crates: BTreeMap<String, String>,
}
