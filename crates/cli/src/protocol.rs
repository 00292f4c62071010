//! What a supervisor and its worker say to each other: a JSON object a line, over the worker's standard
//! input and output.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use warpmark_measure::{Mode, Step};
use warpmark_record::{BenchmarkId, Bytes, DeviceSpec, Record, RunId};

use crate::arguments::{Selection, Serve};

/// The first thing that a worker is told. The second is the list of ids that it has to measure, all of
/// one group; a worker that is told no second thing ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The device, as the supervisor has seen it: both make their plans from the same description.
    pub spec: DeviceSpec,
    /// The run that the rows belong to.
    pub run: RunId,
    /// What was selected; filter and device are the supervisor's, and the budget is what is left of it.
    pub selection: Selection,
    /// How far benchmarks are taken.
    pub mode: Mode,
    /// Whether criterion's own report is shown.
    pub verbose: bool,
    /// The load to put on services, where it is not benchmarks that are measured.
    pub serve: Option<Box<Serve>>,
}

/// What a worker tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Message {
    /// The device is open.
    Ready {
        /// How it was set up.
        settings: BTreeMap<String, String>,
    },
    /// The device could not be opened.
    Refused {
        /// Why, with the next step.
        reason: String,
    },
    /// May this benchmark run? The worker waits for an [`Answer`].
    Ask {
        /// Which.
        id: BenchmarkId,
    },
    /// A benchmark takes a step.
    Step {
        /// Which.
        id: BenchmarkId,
        /// The step.
        step: Step,
    },
    /// A benchmark is done.
    Row {
        /// Its row.
        row: Box<Record>,
    },
    /// A file of weights is on its way.
    Begin {
        /// Its name.
        file: String,
        /// Its size, if known.
        total: Option<Bytes>,
    },
    /// So much of it is there.
    Advance {
        /// Its name.
        file: String,
        /// How much.
        done: Bytes,
    },
    /// All of it is there.
    Finish {
        /// Its name.
        file: String,
    },
}

/// Whether a benchmark may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It may.
    Go,
    /// It may not.
    Skip {
        /// Why.
        reason: String,
    },
}
