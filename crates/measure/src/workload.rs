//! A thing worth timing.

use std::collections::BTreeMap;

use warpmark_record::{BenchmarkId, Bytes, Check, Memory, Seconds, Value, WeightsStamp, Work};

/// A thing worth timing, loaded and ready on its device.
pub trait Workload {
    /// What a reader of the row needs to know about it.
    fn describe(&self) -> Description;

    /// Gets ready for `iterations` launches; not timed. Positions are reset here, caches evicted.
    fn prepare(&mut self, iterations: u64) -> Result<(), WorkloadError> {
        let _ = iterations;
        Ok(())
    }

    /// Starts one iteration; timed. On a GPU it only enqueues: no allocation that could be made before,
    /// no copy to the host, no synchronisation.
    fn launch(&mut self) -> Result<(), WorkloadError>;

    /// Waits until everything launched is done; timed. On a CPU there is nothing to wait for.
    fn wait(&mut self) -> Result<(), WorkloadError> {
        Ok(())
    }

    /// What can block the device while launches are queued; for work that only enqueues kernels
    /// and never waits for one of them, since it would wait for ever.
    fn blocking(&self) -> Option<&dyn Blocking> {
        None
    }

    /// How long the device rests before the warm-up, for work whose fall from its first speed to the
    /// one it can keep is what is measured. The warm-up then lasts as long as the entry's limit says.
    fn rest(&self) -> Option<Seconds> {
        None
    }

    /// Checks the answer against an independent computation; not timed, called before and after
    /// sampling. An answer outside the tolerance is [`WorkloadError::WrongAnswer`].
    fn verify(&mut self) -> Result<Check, WorkloadError>;

    /// Parts of the last iteration's wall time by name, for workloads that have stages.
    fn stages(&mut self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    /// Seconds of what happened within the iterations since the last `prepare`, by name: the time to the
    /// first token of each generation, the time between two tokens. Asked once after each sample.
    fn distributions(&mut self) -> BTreeMap<String, Vec<f64>> {
        BTreeMap::new()
    }

    /// Memory it holds and held at most since the last `prepare`, if it can tell.
    fn memory(&mut self) -> Option<Memory> {
        None
    }
}

/// Blocks a device's queue, so that the host's launches are not in the device's times.
pub trait Blocking {
    /// Blocks the queue: what is launched from here on begins after [`Blocking::unblock`].
    ///
    /// # Errors
    /// The device's refusal; then nothing is blocked.
    fn block(&self) -> Result<(), WorkloadError>;

    /// Lets the queue go on.
    fn unblock(&self);

    /// Whether the queue was blocked until it was unblocked; false where it went on before that, which
    /// it does so that nothing can wait for ever. Asked when everything is done.
    fn lasted(&self) -> bool;
}

/// What a reader of a row needs to know about its workload.
#[derive(Debug, Clone)]
pub struct Description {
    /// Its id.
    pub id: BenchmarkId,
    /// The parameters of the id as data.
    pub parameters: BTreeMap<String, Value>,
    /// What one iteration does.
    pub work: Work,
    /// The distribution of its inputs and their seed.
    pub data: Option<String>,
    /// Where its weights came from.
    pub weights: Option<WeightsStamp>,
    /// What to know before trusting it.
    pub caveats: Vec<String>,
}

/// Why a workload could not be built, run or believed.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// The device is full. The sweep it belongs to stops here.
    #[error("out of memory: {what}{}", .needed.map(|n| format!(" (needs {})", n.binary())).unwrap_or_default())]
    OutOfMemory {
        /// What did not fit.
        what: String,
        /// How much it would have taken, if known.
        needed: Option<Bytes>,
    },
    /// The device or this build cannot do it; no fault, and the reason is recorded.
    #[error("{0}")]
    Unsupported(String),
    /// The run's budget was used up while it was prepared; no fault, and the reason is recorded.
    #[error("{0}")]
    OutOfTime(String),
    /// The answer is outside the tolerance; its times are worth nothing.
    #[error("wrong answer: {what}: error {error:.3e} is above the tolerance {tolerance:.3e}")]
    WrongAnswer {
        /// What was compared with what.
        what: String,
        /// The largest relative error seen.
        error: f64,
        /// The largest relative error allowed.
        tolerance: f64,
    },
    /// Anything else that went wrong, in words with the next step.
    #[error("{0}")]
    Failed(String),
}

impl WorkloadError {
    /// A failure in words, from any error.
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Turns a comparison into a [`Check`], or into [`WorkloadError::WrongAnswer`] where the error is above
/// the tolerance or not a number.
pub fn checked(
    what: impl Into<String>,
    worst_error: f64,
    tolerance: f64,
) -> Result<Check, WorkloadError> {
    let what = what.into();
    // Written so that NaN fails.
    if worst_error <= tolerance {
        Ok(Check { what, worst_error, tolerance })
    } else {
        Err(WorkloadError::WrongAnswer { what, error: worst_error, tolerance })
    }
}
