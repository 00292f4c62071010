//! A service on an open device, and load on it.

use warpmark_device::{Device, Sampler};
use warpmark_measure::{
    Admission, Entry, Observer, Offer, Service, Step, WorkloadError, timestamp,
};
use warpmark_record::message::shortened;
use warpmark_record::{LoadTest, Outcome, Record, RunId, Telemetry};
use warpmark_serve::{Dynamic, Wall, batched, streaming};

use super::Level;
use crate::arguments::ServiceOptions;

/// The sensors of a card, or why they cannot be read; none on a CPU.
type Sensors = Option<Result<Sampler, String>>;

/// Starts the sensors of a card.
pub(crate) fn sensors(device: &Device) -> Sensors {
    matches!(device, Device::Cuda(_)).then(|| device.telemetry())
}

/// Where services are loaded and asked.
pub(crate) struct ServiceRunner<'a> {
    pub(crate) device: &'a Device,
    pub(crate) run: RunId,
    pub(crate) service: ServiceOptions,
    pub(crate) sensors: Sensors,
    /// Asked before each level whether it may begin.
    pub(crate) admission: Admission<'a>,
}

impl ServiceRunner<'_> {
    /// Loads a service for the first level that may begin, and puts the levels on it. Each row is handed to
    /// `keep` before the next level begins.
    ///
    /// # Errors
    /// Those of `keep`, which end it.
    pub(crate) fn put<E>(
        &mut self,
        levels: Vec<(Entry, Level)>,
        offer: Offer,
        observer: &mut dyn Observer,
        keep: &mut dyn FnMut(Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut offer = Some(offer);
        let mut service = None;
        for (entry, level) in levels {
            let began = timestamp();
            let run = self.run.clone();
            let mut row = Record::without_samples(run, entry.id.clone(), began, Outcome::Measured);
            if let Some(reason) = entry.skip.clone().or_else(|| (self.admission)(&entry)) {
                row.outcome = Outcome::Skipped { reason };
                keep(row)?;
                continue;
            }
            if let Some(offer) = offer.take() {
                observer.step(&entry.id, Step::Opening);
                service = Some((offer.open)(self.device));
            }
            row.outcome = match &mut service {
                Some(Ok(service)) => outcome_of(&self.level(service, &level, observer, &mut row)),
                Some(Err(error)) => refused(error),
                None => Outcome::Failed { reason: "its service was not loaded".to_owned() },
            };
            keep(row)?;
        }
        Ok(())
    }

    /// Puts one level on a service, and writes down what came of it.
    fn level(
        &mut self,
        service: &mut Service,
        level: &Level,
        observer: &mut dyn Observer,
        row: &mut Record,
    ) -> Result<(), WorkloadError> {
        let described = service.describe();
        row.parameters = described.parameters;
        row.work = described.work;
        row.data = described.data;
        row.weights = described.weights;
        row.caveats = described.caveats;
        observer.step(&row.id, Step::Verifying);
        row.check = Some(service.verify()?);
        service.prepare();
        observer.step(&row.id, Step::UnderLoad);
        if let Some(Ok(sensors)) = &mut self.sensors {
            sensors.start();
        }
        let load = self.load(service, level);
        row.telemetry = match &mut self.sensors {
            Some(Ok(sensors)) => Some(sensors.stop().telemetry),
            Some(Err(reason)) => Some(Telemetry::absent(reason)),
            None => None,
        };
        row.memory = service.memory();
        let load = load?;
        observer.step(&row.id, Step::Verifying);
        row.check = Some(service.verify()?);
        row.load_test = Some(Box::new(load));
        Ok(())
    }

    fn load(&self, service: &mut Service, level: &Level) -> Result<LoadTest, WorkloadError> {
        let wall = Wall::start();
        let load = match service {
            Service::Streaming(service) => streaming(service.as_mut(), level, &wall),
            Service::Batched(service) => {
                let max_batch = service.max_batch().min(self.service.max_batch as usize);
                let dynamic = Dynamic { max_batch, max_queue_delay: self.service.max_queue_delay };
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
    let reason = shortened(&error.to_string()).into_owned();
    match error {
        WorkloadError::OutOfMemory { .. }
        | WorkloadError::Unsupported(_)
        | WorkloadError::OutOfTime(_) => Outcome::Skipped { reason },
        _ => Outcome::Failed { reason },
    }
}
