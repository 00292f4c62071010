//! Load on services: each is loaded, checked, loaded with every level, and checked again; each level is a
//! row that is kept before the next begins.

use warpmark_device::{Described, Device, Sampler};
use warpmark_measure::{Offer, Service, WorkloadError, timestamp};
use warpmark_record::load::Arrivals;
use warpmark_record::{BenchmarkId, Load, Outcome, Record, RunId, Telemetry};
use warpmark_serve::{Cancellation, Dynamic, Wall, batched, streaming};

use crate::arguments::{Selection, Serve, Traffic};
use crate::campaign::{alone, open, settings};
use crate::progress::Bars;
use crate::recorder::{Recorder, Results};
use crate::{environment, sources};

pub(crate) use warpmark_serve::Level;

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
        window: traffic.window,
        timeout: traffic.timeout,
        queue_limit: traffic.queue as usize,
        target: traffic.target,
        cancellation: cancellation.map(|(share, after)| Cancellation { share, after, seed: SEED }),
    };
    let levels: Vec<Level> = closed.chain(open).map(level).collect();
    for level in &levels {
        level.check()?;
    }
    Ok(levels)
}

/// The seed of arrivals and cancellations: two runs are asked at the same moments.
const SEED: u64 = 7;

/// The id of a level: that of its service, and how requests come.
pub(crate) fn id(offer: &Offer, level: &Level) -> BenchmarkId {
    let last = match level.arrivals {
        Arrivals::Closed { users } => format!("closed-{users}"),
        Arrivals::Open { rate, .. } => format!("open-{rate}"),
    };
    let segments = offer.id.segments().iter().cloned().chain([last]);
    // The service's id is one, and the new segment is made of what ids may hold.
    BenchmarkId::new(segments, offer.id.engine()).unwrap_or_else(|_| offer.id.clone())
}

impl Serving<'_> {
    /// Loads the services one after the other and puts the levels on them.
    pub(crate) fn run(self, offers: Vec<Offer>, id: RunId) -> anyhow::Result<Results> {
        let cache = sources::cache()?;
        let _alone = alone(&cache, &self.described.spec)?;
        let device = open(&self.described.spec)?;
        let mut run = environment::run(self.selection, device.spec(), settings(&device), id);
        "serve".clone_into(&mut run.suite);
        let mut recorder = Recorder::open(&self.options.results, run.clone())?;
        let mut sensors = matches!(device, Device::Cuda(_)).then(|| device.telemetry());
        for offer in offers {
            let ids: Vec<BenchmarkId> =
                self.levels.iter().map(|level| self::id(&offer, level)).collect();
            self.bars.line(&offer.name);
            let mut service = match offer.skip {
                Some(reason) => Err(WorkloadError::Unsupported(reason)),
                None => (offer.open)(&device),
            };
            for (level, id) in self.levels.iter().zip(ids) {
                let now = timestamp();
                let outcome = Outcome::Measured;
                let mut row = Record::without_samples(run.run.clone(), id, now, outcome);
                row.outcome = match &mut service {
                    Ok(service) => outcome_of(&self.level(service, level, &mut sensors, &mut row)),
                    Err(error) => refused(error),
                };
                self.bars.line(&summary(recorder.keep(row)?));
            }
        }
        Ok(recorder.finish())
    }

    /// Puts one level on a service, and writes down what came of it.
    fn level(
        &self,
        service: &mut Service,
        level: &Level,
        sensors: &mut Option<Result<Sampler, String>>,
        row: &mut Record,
    ) -> Result<(), WorkloadError> {
        let described = service.describe();
        row.parameters = described.parameters;
        row.work = described.work;
        row.data = described.data;
        row.weights = described.weights;
        row.caveats = described.caveats;
        row.check = Some(service.verify()?);
        service.prepare();
        if let Some(Ok(sensors)) = sensors {
            sensors.start();
        }
        let load = self.load(service, level);
        row.telemetry = match sensors {
            Some(Ok(sensors)) => Some(sensors.stop().telemetry),
            Some(Err(reason)) => Some(Telemetry::absent(reason)),
            None => None,
        };
        row.memory = service.memory();
        let load = load?;
        row.check = Some(service.verify()?);
        row.load = Some(Box::new(load));
        Ok(())
    }

    fn load(&self, service: &mut Service, level: &Level) -> Result<Load, WorkloadError> {
        let wall = Wall::start();
        let load = match service {
            Service::Streaming(service) => streaming(service.as_mut(), level, &wall),
            Service::Batched(service) => {
                let wanted = &self.options.service;
                let most = service.most().min(wanted.most as usize);
                let dynamic = Dynamic { most, delay: wanted.delay };
                batched(service.as_mut(), level, dynamic, &wall)
            }
        };
        load.map_err(WorkloadError::failed)
    }
}

fn outcome_of(result: &Result<(), WorkloadError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Measured,
        Err(error) => refused(error),
    }
}

/// What a row says that could not be had.
fn refused(error: &WorkloadError) -> Outcome {
    let reason = error.to_string();
    match error {
        WorkloadError::OutOfMemory { .. } | WorkloadError::Unsupported(_) => {
            Outcome::Skipped { reason }
        }
        _ => Outcome::Failed { reason },
    }
}

/// A finished level in a line.
fn summary(row: &Record) -> String {
    match (&row.outcome, &row.load) {
        (Outcome::Skipped { reason }, _) => format!("- {}: skipped, {reason}", row.id),
        (Outcome::Failed { reason }, _) => format!("! {}: FAILED, {reason}", row.id),
        (Outcome::Measured, Some(load)) => {
            let mean = load.latency.mean().map_or("no answer".to_owned(), |time| time.to_string());
            format!("  {}: {:.3} answers/s, {mean} each", row.id, load.rate())
        }
        (Outcome::Measured, None) => format!("  {}: no load", row.id),
    }
}
