//! What a run is going to do, before any of it is done.

use warpmark_device::Device;
use warpmark_record::{BenchmarkId, Bytes, Seconds};

use crate::workload::{Workload, WorkloadError};

/// The least samples that a row is judged by; criterion's own minimum.
pub(crate) const FEWEST: usize = 10;

/// The least time that a row is sampled for before it may end, where its plan has as much: the card's energy
/// counter tells nothing about less than a second, and clocks need some of it to settle.
pub(crate) const LEAST: Seconds = Seconds(1.2);

/// Benchmarks that share something expensive: a loaded model, a pair of large buffers.
pub struct Group {
    /// What the progress line calls it.
    pub name: String,
    /// The benchmarks, in the order in which they run.
    pub entries: Vec<Entry>,
    /// Makes the shared thing. Called once, after the filter, and only if an entry is left.
    pub open: Open,
}

/// Makes the shared thing of a group on an open device.
pub type Open = Box<dyn FnOnce(&Device) -> Result<Box<dyn Session>, WorkloadError>>;

/// One benchmark of a plan.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its id.
    pub id: BenchmarkId,
    /// How it is sampled.
    pub sampling: Sampling,
    /// A guess at the time of one iteration on this device, for the plan and the budget.
    pub iteration_estimate: Seconds,
    /// A guess at the time that goes by before its first iteration and is none of it: a search for the
    /// fastest algorithm or shape. Loading is not counted here.
    pub preparation_estimate: Seconds,
    /// A guess at the device memory it needs, everything included.
    pub memory_estimate: Bytes,
    /// The sweep it belongs to: when an entry finds the device full, the later ones of its sweep are
    /// skipped with that reason.
    pub sweep: Option<String>,
    /// Why it cannot run on this device or in this build; it becomes a skipped row.
    pub skip: Option<String>,
}

/// How a benchmark is sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Samples, at least 10 (criterion's own minimum).
    pub samples: usize,
    /// The time that all samples together should take.
    pub target: Seconds,
    /// The longest time to spend on warming up.
    pub warm_up: Seconds,
    /// One iteration a sample, however short: for work that must be prepared anew each time.
    pub single: bool,
    /// Whether it may end before all its samples are taken, once its median is known to a percent or its
    /// noise has stopped changing; not for work that is meant to last.
    pub may_end_early: bool,
}

impl Sampling {
    /// The time that the samples should take, a warm-up of criterion's own included, where an iteration takes
    /// `iteration`: criterion runs one in each sample at least, and warms up with one more. The least of it
    /// and the most.
    pub fn expected(&self, iteration: Seconds) -> (Seconds, Seconds) {
        let lasting = |samples: usize, target: Seconds| {
            let shortest = iteration * (samples + 1) as f64;
            if self.single { shortest } else { shortest.max(target + self.target * 0.05) }
        };
        let most = lasting(self.samples, self.target);
        if !self.may_end_early {
            return (most, most);
        }
        let least = self.target.min(LEAST);
        (lasting(self.samples.min(FEWEST + 1), least), most)
    }
}

/// The shared thing of a group, from which its workloads are made one after the other.
pub trait Session {
    /// Makes the workload of one of the group's entries.
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError>;

    /// Errors that a context of the session's own noted while the last workload was dropped, which would else
    /// be the next one's. Nothing is asked where the device's own context is the only one.
    ///
    /// # Errors
    /// What was noted.
    fn check_sticky_error(&mut self) -> Result<(), WorkloadError> {
        Ok(())
    }

    /// From here on keeps what the workload of each entry is fed, for a caller that makes the same ones
    /// again and again and counts the time of it. Nothing is done where making one costs nothing.
    fn keep_inputs(&mut self) {}

    /// What may have made an answer wrong, such as a damaged file, in words with what was done about it.
    /// Asked after a wrong answer; it may take as long as reading the files.
    fn cause(&self) -> Option<String> {
        None
    }
}
