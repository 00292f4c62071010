//! Load on services: each is loaded, checked, loaded with every level, and checked again; each level is a
//! row that is kept before the next begins.

mod runner;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use warpmark_device::Described;
use warpmark_measure::{Entry, Observer, Offer, Sampling};
use warpmark_models::service::{self, ServiceSettings};
use warpmark_models::weights::Progress;
use warpmark_record::load_test::Arrivals;
use warpmark_record::{BenchmarkId, DeviceKind, DeviceSpec, Field, Seconds};
use warpmark_serve::Cancellation;

use crate::arguments::{Selection, Serve, Traffic, WrongUsage};
use crate::campaign::{open, settings};
use crate::environment::Identity;
use crate::lock::lock_device;
use crate::progress::Bars;
use crate::recorder::{Recorder, Results};
use crate::{environment, sources, threads};

pub(crate) use runner::{ServiceRunner, sensors};
pub(crate) use warpmark_serve::Level;

/// What the stamp of a run calls it.
pub(crate) const SUITE: &str = "serve";

/// Everything that a load needs beside the services.
pub(crate) struct Serving<'a> {
    pub(crate) described: &'a Described,
    pub(crate) selection: &'a Selection,
    pub(crate) options: &'a Serve,
    pub(crate) levels: &'a [Level],
    pub(crate) bars: &'a Bars,
}

/// The levels that are asked for, closed loops before open ones, in the order in which they are given.
pub(crate) fn levels(traffic: &Traffic) -> anyhow::Result<Vec<Level>> {
    let cancellation = traffic.cancel.zip(traffic.cancel_after);
    let closed = traffic.closed().iter().map(|users| Arrivals::Closed { users: *users });
    let open = traffic.rate.iter().map(|rate| Arrivals::Open { rate: *rate, seed: SEED });
    let level = |arrivals| Level {
        arrivals,
        warm_up: traffic.warm_up,
        window: traffic.duration,
        timeout: traffic.timeout,
        queue_limit: traffic.queue as usize,
        target: traffic.target,
        cancellation: cancellation.map(|(share, after)| Cancellation { share, after, seed: SEED }),
    };
    let levels: Vec<Level> = closed.chain(open).map(level).collect();
    for level in &levels {
        level.check()?;
    }
    once(levels.iter().map(|level| segment(level.arrivals)))?;
    Ok(levels)
}

/// Refuses what is named twice: it would be measured twice under one id, and be lost at the second.
fn once(names: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name.clone()) {
            return Err(WrongUsage(format!("{name} stands twice: name each once")).into());
        }
    }
    Ok(())
}

/// What an id calls how requests come.
fn segment(arrivals: Arrivals) -> String {
    match arrivals {
        Arrivals::Closed { users } => format!("closed-{users}"),
        Arrivals::Open { rate, .. } => format!("open-{rate}"),
    }
}

/// The seed of arrivals and cancellations: two runs are asked at the same moments.
const SEED: u64 = 7;

/// The id of a level: that of its service, and how requests come.
pub(crate) fn id(offer: &Offer, level: &Level) -> BenchmarkId {
    let segments = offer.id.segments().iter().cloned().chain([segment(level.arrivals)]);
    // The service's id is one, and the new segment is made of what ids may hold.
    BenchmarkId::new(segments, offer.id.engine()).unwrap_or_else(|_| offer.id.clone())
}

/// The services that are asked for: of each model and dtype one.
pub(crate) fn offers(
    options: &Serve,
    selection: &Selection,
    spec: &DeviceSpec,
    progress: Arc<dyn Progress>,
) -> anyhow::Result<Vec<Offer>> {
    let catalog = sources::catalog(&options.catalog)?;
    let request = sources::request(selection, spec, progress)?;
    let wanted = &options.service;
    once(options.names.iter().cloned())?;
    let mut offers = Vec::new();
    for name in &options.names {
        let model = catalog.model(name)?;
        let mut listed = [false, true].into_iter().flat_map(|full| model.dtypes(full, spec));
        let Some(dtype) = wanted.dtype.or_else(|| listed.next()) else {
            bail!(
                "no suite measures {name} on a device of this kind; name a number format to try it \
                   all the same, such as `--dtype f16`"
            );
        };
        let settings = ServiceSettings {
            phase: wanted.phase.clone(),
            dtype: Some(dtype),
            max_batch: wanted.max_batch as usize,
            prompt: wanted.prompt.map(|tokens| tokens as usize),
            tokens: wanted.tokens.map(|tokens| tokens as usize),
        };
        let found = service::offers(&catalog, std::slice::from_ref(name), &request, &settings)?;
        match (found.into_iter().next(), &wanted.phase) {
            (Some(offer), _) => offers.push(held_against(offer, spec)),
            (None, Some(phase)) => bail!("{name} answers no requests for {phase:?}"),
            (None, None) => bail!("{name} lists no phase that answers requests"),
        }
    }
    Ok(offers)
}

/// An offer that the device cannot hold is skipped, before any weights are fetched or written for it. On a
/// CPU what others hold, and limits of this process, count as well.
fn held_against(mut offer: Offer, spec: &DeviceSpec) -> Offer {
    let free = match spec.kind {
        DeviceKind::Cpu => warpmark_device::available_memory(),
        DeviceKind::Cuda | DeviceKind::Simulated => Field::absent("told when it is opened"),
    };
    let (whole, free) = (spec.memory.known().copied(), free.known().copied());
    let needed = offer.memory_estimate;
    let reason = match (whole, free) {
        (Some(whole), _) if needed > whole => Some(format!("device has {}", whole.binary())),
        (_, Some(free)) if needed > free => Some(format!("{} are free", free.binary())),
        _ => None,
    };
    if let (None, Some(reason)) = (&offer.skip, reason) {
        let needed = needed.binary();
        offer.skip =
            Some(format!("needs {needed}, {reason}; ask for fewer at a time with `--max-batch`"));
    }
    offer
}

/// The levels of a service as benchmarks of a plan. How they are sampled is the load's own affair.
pub(crate) fn entries(offer: &Offer, levels: &[Level]) -> Vec<Entry> {
    let none = Seconds(0.0);
    let entry = |level| Entry {
        id: id(offer, level),
        sampling: Sampling {
            samples: 1,
            target: none,
            warm_up: none,
            single: true,
            may_end_early: false,
        },
        iteration_estimate: offer.request_estimate,
        preparation_estimate: none,
        memory_estimate: offer.memory_estimate,
        sweep: None,
        skip: offer.skip.clone(),
    };
    levels.iter().map(entry).collect()
}

/// The longest that a level of load may take, the last answers included.
pub(crate) fn longest(traffic: &Traffic) -> Duration {
    traffic.warm_up + traffic.duration + traffic.timeout
}

impl Serving<'_> {
    /// Draws the bars, and says on what is measured.
    pub(crate) fn begin(&self, offers: &[Offer]) {
        let Described { spec, note } = self.described;
        self.bars.begin(offers.len() * self.levels.len());
        for note in note.iter().cloned().chain(threads::note()) {
            self.bars.notice(&note);
        }
        self.bars.line(&format!("{} ({})", spec.name, spec.kind));
    }

    /// Loads the services in this process, one after the other, and puts the levels on them.
    pub(crate) fn run(&self, offers: Vec<Offer>, identity: Identity) -> anyhow::Result<Results> {
        threads::join(&self.described.spec);
        let cache = sources::cache()?;
        let _lock = lock_device(&cache, &self.described.spec)?;
        let device = open(&self.described.spec)?;
        let mut run = environment::run(self.selection, device.spec(), settings(&device), identity);
        SUITE.clone_into(&mut run.suite);
        let mut runner = ServiceRunner {
            device: &device,
            run: run.run.clone(),
            service: self.options.service.clone(),
            sensors: sensors(&device),
            admission: Box::new(|_| None),
        };
        let mut recorder = Recorder::open(&self.options.results, run)?;
        self.begin(&offers);
        let mut bars = self.bars.clone();
        let mut shown = self.bars.clone();
        for offer in offers {
            let levels = entries(&offer, self.levels).into_iter().zip(self.levels.iter().cloned());
            runner.put(levels.collect(), offer, &mut bars, &mut |row| {
                recorder.keep(row).map(|row| shown.done(row))
            })?;
        }
        bars.clear();
        Ok(recorder.finish())
    }
}

#[cfg(test)]
mod tests {
    use warpmark_measure::WorkloadError;
    use warpmark_record::Bytes;

    use super::*;

    fn offer(needed: f64) -> Offer {
        Offer {
            id: "text/tiny/decode/f32@warpmark".parse().unwrap(),
            name: "tiny".to_owned(),
            request_estimate: Seconds(0.1),
            memory_estimate: Bytes(needed),
            skip: None,
            open: Box::new(|_| Err(WorkloadError::Unsupported("a test".to_owned()))),
        }
    }

    #[test]
    fn a_service_that_the_machine_cannot_hold_is_skipped_with_both_figures() {
        let mut spec = warpmark_device::cpu::device_spec();
        assert_eq!(held_against(offer(1e6), &spec).skip, None);
        let reason = held_against(offer(1e15), &spec).skip.unwrap();
        assert!(reason.starts_with("needs 909 TiB, device has "), "{reason}");
        assert!(reason.contains("--max-batch"), "{reason}");
        // Within what is there and above what is left.
        spec.memory = Field::Known(Bytes(1e18));
        let reason = held_against(offer(1e15), &spec).skip.unwrap();
        assert!(reason.contains(" are free"), "{reason}");
    }
}
