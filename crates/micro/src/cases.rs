//! Groups of benchmarks that share a session and differ by one thing: a size, a direction, a call.

use warpmark_device::Device;
use warpmark_measure::{Entry, Group, Session, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, DeviceSpec, Seconds};

use crate::{RunOptions, guess};

/// What each benchmark of a group stands for.
#[derive(Default)]
pub(crate) struct Cases<C>(Vec<(BenchmarkId, C)>);

impl<C> Cases<C> {
    /// The cases of planned entries.
    pub(crate) fn of(planned: Vec<(Entry, C)>) -> Self {
        Self(planned.into_iter().map(|(entry, case)| (entry.id, case)).collect())
    }
}

impl<C: Clone> Cases<C> {
    /// The case of an entry, and the id to record it under.
    pub(crate) fn find(&self, entry: &Entry) -> Result<(BenchmarkId, C), WorkloadError> {
        let known = self.0.iter().find(|(id, _)| *id == entry.id).cloned();
        known.ok_or_else(|| WorkloadError::Failed(format!("{} is not of this group", entry.id)))
    }
}

/// A group of cases whose session `open` makes.
pub(crate) fn group<C: 'static, S: Session + 'static>(
    name: impl Into<String>,
    planned: Vec<(Entry, C)>,
    open: impl FnOnce(&Device, Cases<C>) -> Result<S, WorkloadError> + 'static,
) -> Group {
    let entries = planned.iter().map(|(entry, _)| entry.clone()).collect();
    let cases = Cases::of(planned);
    Group {
        name: name.into(),
        entries,
        open: Box::new(move |device| Ok(Box::new(open(device, cases)?))),
    }
}

/// The entry of `micro/<segments>@engine`; an iteration takes about `iteration`.
pub(crate) fn entry(
    (spec, options): (&DeviceSpec, &RunOptions),
    segments: &[&str],
    engine: &str,
    iteration: Seconds,
    memory: Bytes,
) -> Option<Entry> {
    let id = BenchmarkId::new(["micro"].iter().chain(segments).copied(), engine).ok()?;
    Some(Entry {
        sweep: Some(format!("micro/{}@{engine}", id.subject())),
        id,
        sampling: guess::brief_sampling(options, iteration),
        iteration_estimate: iteration,
        preparation_estimate: Seconds(0.0),
        memory_estimate: memory,
        skip: guess::too_large(spec, memory),
    })
}
