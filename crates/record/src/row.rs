//! One measured row: what was run, what came out, and what it was measured with.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::BenchmarkId;
use crate::load_test::LoadTest;
use crate::machine::Field;
use crate::run::RunId;
use crate::units::{Bytes, Celsius, Hertz, Joules, Seconds, Watts, Work};

/// One row of a results file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The layout of this line; see [`crate::SCHEMA`].
    pub schema: u32,
    /// The method of measuring; see [`crate::METHOD`].
    pub method: u32,
    /// The run this row belongs to; its line holds device, host and build.
    pub run: RunId,
    /// Which benchmark.
    pub id: BenchmarkId,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// Whether it was measured; if not, why.
    pub outcome: Outcome,
    /// The parameters of the id as data: dtype, batch, context, m, n, k, ...
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Value>,
    /// What one iteration does.
    #[serde(default)]
    pub work: Work,
    /// The distribution of the inputs and its seed; speed depends on it on real cards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Where the weights came from, for models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightsStamp>,
    /// How the answer was checked, and how far it was off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// The times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Samples>,
    /// What requests met, where the row is one of load rather than of iterations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "load")]
    pub load_test: Option<Box<LoadTest>>,
    /// Memory held on the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Clocks, power and temperature while it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<Telemetry>,
    /// What else the host did while the samples were taken; absent in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostLoad>,
    /// What a reader must know before trusting the row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caveats: Vec<String>,
}

impl Record {
    /// A row without times, for a benchmark that `outcome` says was not measured.
    pub fn without_samples(
        run: RunId,
        id: BenchmarkId,
        started_at: impl Into<String>,
        outcome: Outcome,
    ) -> Self {
        Self {
            schema: crate::SCHEMA,
            method: crate::METHOD,
            run,
            id,
            started_at: started_at.into(),
            outcome,
            parameters: BTreeMap::new(),
            work: Work::default(),
            data: None,
            weights: None,
            check: None,
            samples: None,
            load_test: None,
            memory: None,
            telemetry: None,
            host: None,
            caveats: Vec::new(),
        }
    }
}

/// What became of a benchmark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its times are in the row.
    Measured,
    /// It was not tried, or given up before timing, for a reason that is no fault.
    Skipped {
        /// The reason, for a person.
        reason: String,
    },
    /// It was tried and went wrong; no time of it is kept.
    Failed {
        /// The reason, for a person.
        reason: String,
    },
}

/// A parameter of a benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A count.
    Integer(u64),
    /// A word, such as a dtype.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => f.pad(&number.to_string()),
            Self::Text(text) => f.pad(text),
        }
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(number)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Integer(number as u64)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Which stopwatch timed a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockKind {
    /// The host's monotonic clock around the work and its completion.
    Wall,
    /// CUDA events on the working stream; the wall was read beside it.
    CudaEvents,
    /// A clock made of numbers, in tests.
    Fake,
}

/// What criterion saw: the calls of its measuring phase, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    /// The stopwatch of `device_s`.
    pub clock: ClockKind,
    /// Iterations in each sample.
    pub iterations: Vec<u64>,
    /// Device seconds of each sample, all its iterations together; absent on a CPU, where the wall
    /// is the device's own time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_s: Option<Vec<f64>>,
    /// Wall seconds of each sample, all its iterations together.
    pub wall_s: Vec<f64>,
    /// Seconds spent on warming up before the first sample.
    pub warm_up_s: f64,
    /// Whether times had converged when sampling began.
    #[serde(rename = "settled")]
    pub converged: bool,
    /// Parts of a sample's wall time by name, each as long as `wall_s`: the stages of a load.
    #[serde(default, rename = "phases", skip_serializing_if = "BTreeMap::is_empty")]
    pub stages: BTreeMap<String, Vec<f64>>,
    /// Seconds of what happened within iterations, by name, in the order in which it happened: the time
    /// to the first token of each generation, the time between two tokens. As many values as there were.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub distributions: BTreeMap<String, Vec<f64>>,
    /// Host seconds from before the first launch of each sample to after its last, without the wait
    /// for them; absent where the wall is the only clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_s: Option<Vec<f64>>,
    /// Whether the device was held back until the launches it then ran were queued: its times are its
    /// own, whatever the host's launches take. The wall then has launches and work one after the other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", rename = "held")]
    pub blocked: bool,
    /// The share of the time of the samples in which the device worked, 0 to 1, where it was held: it
    /// rests while launches are queued, and its power and clocks are those of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duty: Option<f64>,
    /// What the device did first after a rest; only where a row asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<Burst>,
    /// Why no more samples were taken; absent in older records, which took all of their plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// The samples, by their place from 0, that were taken while something held the clocks down, by
    /// its cause. They are kept like all others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub throttled: BTreeMap<String, Vec<usize>>,
    /// The mean SM clock of each sample in Hz, by the device's own counters; absent where they could not
    /// be read, and in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sm_clock_hz: Option<Vec<f64>>,
    /// The samples, by their place from 0, whose clock was below 75 % of the card's highest. They are kept
    /// like all others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slow_clock: Vec<usize>,
}

/// The share of the card's highest SM clock below which a sample is marked.
pub const SLOW_CLOCK: f64 = 0.75;

/// Why the sampling of a row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The 95 % interval of the median is within 1 % of it.
    Precise,
    /// It is not, and the noise has stopped changing.
    NoiseSteady,
    /// All samples of the plan were taken.
    Limit,
}

/// The first timed intervals under load after a rest, before clocks fall to what power and heat allow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Burst {
    /// Seconds of rest before the first timed interval.
    pub rest_s: f64,
    /// Iterations in each timed interval.
    pub iterations: Vec<u64>,
    /// Seconds of each timed interval by the row's own clock, all its iterations together.
    pub seconds: Vec<f64>,
    /// Seconds under load between the end of the last of these intervals and the first sample.
    pub load_s: f64,
}

impl Burst {
    /// Median time of one iteration.
    pub fn median(&self) -> Option<Seconds> {
        let intervals = self.seconds.iter().zip(&self.iterations);
        let each: Vec<f64> = intervals.map(|(time, n)| time / (*n).max(1) as f64).collect();
        crate::stats::median(&each).map(Seconds)
    }
}

impl Samples {
    /// Seconds per iteration, one figure a sample: the device's where there are any, else the wall's.
    pub fn per_iteration(&self) -> Vec<f64> {
        self.divide(self.device_s.as_ref().unwrap_or(&self.wall_s))
    }

    /// Wall seconds per iteration, one figure a sample.
    pub fn wall_per_iteration(&self) -> Vec<f64> {
        self.divide(&self.wall_s)
    }

    /// Median time of one iteration by the row's own clock.
    pub fn median(&self) -> Option<Seconds> {
        crate::stats::median(&self.per_iteration()).map(Seconds)
    }

    /// The mean SM clock of all samples together, each for as long as it took.
    pub fn sm_clock(&self) -> Option<Hertz> {
        let clocks = self.sm_clock_hz.as_ref()?;
        let times = self.device_s.as_ref().unwrap_or(&self.wall_s);
        let cycles: f64 = clocks.iter().zip(times).map(|(clock, time)| clock * time).sum();
        let all: f64 = times.iter().sum();
        (all > 0.0 && clocks.len() == times.len()).then_some(Hertz(cycles / all))
    }

    fn divide(&self, totals: &[f64]) -> Vec<f64> {
        totals.iter().zip(&self.iterations).map(|(total, n)| total / (*n).max(1) as f64).collect()
    }
}

/// How an answer was checked outside the timed region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was compared with what.
    pub what: String,
    /// The largest relative error seen.
    pub worst_error: f64,
    /// The largest relative error allowed.
    pub tolerance: f64,
}

/// Memory held while a workload ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// How the figures were got: `cuda pool high-water mark`, `resident set`, ...
    pub method: String,
    /// Held by the weights.
    pub weights: Field<Bytes>,
    /// The most that was held at any moment, weights included.
    pub peak: Field<Bytes>,
    /// What only a GPU tells of its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Box<DeviceMemory>>,
}

/// A GPU's memory, count by count. `peak` of [`Memory`] is the pool's; the others are not in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceMemory {
    /// Live in the pool when the weights were loaded; without weights, before the first launch. What
    /// the run itself takes is the difference between the peak and this.
    pub loaded: Field<Bytes>,
    /// What the pool had taken from the device when the samples were done, in use or not.
    pub pool_reserved: Field<Bytes>,
    /// The most that the memory of graphs held, which is no part of the pool.
    pub graphs: Field<Bytes>,
    /// What the memory of graphs had taken from the device when the samples were done.
    pub graphs_reserved: Field<Bytes>,
    /// What making the context took of the device; once a process.
    pub context: Field<Bytes>,
    /// What went beside pool and graphs since then: code, workspaces of libraries, direct allocations.
    pub libraries: Field<Bytes>,
    /// The whole of this process as NVML has it, against which the others are held.
    pub process: Field<Bytes>,
}

impl DeviceMemory {
    /// What the counts add up to that should make the whole of the process; `None` where one is absent.
    pub fn accounted(&self) -> Option<Bytes> {
        let parts = [&self.pool_reserved, &self.graphs_reserved, &self.context, &self.libraries];
        let parts: Option<Vec<f64>> = parts.iter().map(|part| Some(part.known()?.get())).collect();
        Some(Bytes(parts?.into_iter().sum()))
    }
}

/// The sensors while a workload ran, sampled off the timed path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Telemetry {
    /// How often the sensors were read.
    pub readings: u32,
    /// The mean SM clock.
    pub sm_clock_mean: Field<Hertz>,
    /// The lowest SM clock.
    pub sm_clock_min: Field<Hertz>,
    /// The mean memory clock.
    #[serde(default = "not_recorded")]
    pub memory_clock_mean: Field<Hertz>,
    /// The mean power.
    pub power_mean: Field<Watts>,
    /// Energy of the sampling window by the card's counter.
    pub energy: Field<Joules>,
    /// The same by adding up the power readings, against which the counter is held.
    #[serde(default = "not_recorded")]
    pub energy_by_power: Field<Joules>,
    /// Seconds of the window that `energy` covers.
    pub window: Field<Seconds>,
    /// The highest temperature.
    pub temperature_max: Field<Celsius>,
    /// The mean share of time in which a kernel ran, 0 to 1.
    #[serde(default = "not_recorded")]
    pub gpu_utilisation_mean: Field<f64>,
    /// The mean share of time in which memory was read or written, 0 to 1.
    #[serde(default = "not_recorded")]
    pub memory_utilisation_mean: Field<f64>,
    /// The most other processes that were seen on the card at once.
    #[serde(default = "not_recorded")]
    pub other_processes: Field<u32>,
    /// Throttle causes that were seen, and in how many readings each.
    pub throttle_causes: Field<BTreeMap<String, u32>>,
    /// Where the sensors contradict themselves or each other.
    #[serde(default, rename = "doubts", skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What a field of an older record holds.
fn not_recorded<T>() -> Field<T> {
    Field::absent("not recorded by the version that measured it")
}

impl Telemetry {
    /// Takes out what does not tell of the workload, for `reason`: power and energy.
    pub fn withhold_power(&mut self, reason: &str) {
        self.power_mean = Field::absent(reason);
        self.energy = Field::absent(reason);
        self.energy_by_power = Field::absent(reason);
        self.window = Field::absent(reason);
    }

    /// Telemetry that is absent in every field, for `reason`.
    pub fn absent(reason: &str) -> Self {
        Self {
            readings: 0,
            sm_clock_mean: Field::absent(reason),
            sm_clock_min: Field::absent(reason),
            memory_clock_mean: Field::absent(reason),
            power_mean: Field::absent(reason),
            energy: Field::absent(reason),
            energy_by_power: Field::absent(reason),
            window: Field::absent(reason),
            temperature_max: Field::absent(reason),
            gpu_utilisation_mean: Field::absent(reason),
            memory_utilisation_mean: Field::absent(reason),
            other_processes: Field::absent(reason),
            throttle_causes: Field::absent(reason),
            warnings: Vec::new(),
        }
    }
}

/// What the host did beside a workload while its samples were taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostLoad {
    /// The processors that the kernel counts, which may be more than this process may use.
    pub cores: u32,
    /// Processors that other processes kept busy, on average.
    pub others: f64,
    /// The share of the time this machine had work to do that a hypervisor gave to its other guests,
    /// 0 to 1.
    pub stolen: f64,
}

impl HostLoad {
    /// The share of `threads` threads, 0 to 1, for which the work of others left no processor, on average.
    pub fn crowded(&self, threads: u32) -> f64 {
        let threads = f64::from(threads.max(1));
        ((self.others + threads - f64::from(self.cores)) / threads).clamp(0.0, 1.0)
    }
}

/// Where a model's weights came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum WeightsStamp {
    /// Random values at the true shapes.
    Synthetic {
        /// The seed; each tensor's stream also depends on its name.
        seed: u64,
    },
    /// A pinned revision from the hub.
    Hub {
        /// `owner/name`.
        repo: String,
        /// Forty hex digits.
        revision: String,
    },
    /// Files that the user pointed at.
    Folder {
        /// The folder's name, without the path to it.
        name: String,
    },
}
