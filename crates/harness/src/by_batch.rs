//! Any phase of any family as a service: its benchmarks of rising batch sizes answer requests, each pass
//! by the smallest that takes them all.

use warpmark_device::Device;
use warpmark_measure::{
    Batched, Description, Entry, Group, Offer, Service, Session, WorkloadError,
};
use warpmark_record::{BenchmarkId, Bytes, Check, IdError, Memory};

use warpmark_weights::Dtype;

use crate::device::OWN;
use crate::parameters::{Parameters, PlannedGroup};

/// The settings of a service; what they leave open is the entry's or the family's choice.
#[derive(Debug, Clone, Default)]
pub struct ServiceSettings {
    /// What a request asks for: `generate`, `prefill`, `transcribe/30s`; what the family offers first without
    /// it.
    pub phase: Option<String>,
    /// The dtype; those of the run without it.
    pub dtype: Option<Dtype>,
    /// The most requests side by side.
    pub max_batch: usize,
    /// Tokens of a prompt, for text.
    pub prompt: Option<usize>,
    /// Tokens of an answer, for text.
    pub tokens: Option<usize>,
}

/// The service of a model's phase, out of the groups of its benchmarks; none where they have no such phase.
///
/// A form's phase may name more segments of the ids than the phase: `transcribe/30s/beam5`. What it leaves
/// open is the first that there is.
///
/// # Errors
/// Where the model's name cannot be part of an id.
pub fn offers(
    model: &str,
    last: Option<&&'static str>,
    groups: Vec<PlannedGroup>,
    settings: &ServiceSettings,
) -> Result<Vec<Offer>, IdError> {
    let wanted = settings.phase.as_deref().or(last.copied()).unwrap_or_default();
    let wanted: Vec<String> = wanted
        .split('/')
        .map(str::to_owned)
        .chain(settings.dtype.map(|dtype| dtype.to_string()))
        .collect();
    for mut group in groups {
        let batches = batches(&group, &wanted, settings.max_batch);
        // What is said of a request is that of the smallest pass.
        let Some((smallest, _)) = batches.first().filter(|(alone, _)| alone.batch() == 1) else {
            continue;
        };
        let most = batches[batches.len() - 1].0.batch();
        let id = smallest.served(model, most)?;
        group.group.entries.retain(|entry| batches.iter().any(|(_, batch)| batch.id == entry.id));
        let batches =
            batches.into_iter().map(|(parameters, batch)| (parameters.batch(), batch)).collect();
        return Ok(vec![offer(id, group.group, batches)]);
    }
    Ok(Vec::new())
}

/// The benchmarks of rising batches that have all the wanted segments and, those of the batch apart, the
/// same ones.
fn batches(group: &PlannedGroup, wanted: &[String], most: usize) -> Vec<(Parameters, Entry)> {
    let entries = group.group.entries.iter();
    let fits = |(parameters, entry): &(&Parameters, &Entry)| {
        let segments = entry.id.segments();
        parameters.engine() == OWN
            && parameters.batch() <= most
            && wanted.iter().all(|part| segments.contains(part))
    };
    let mut batches: Vec<(Parameters, Entry)> = Vec::new();
    for (parameters, entry) in group.parameters.iter().zip(entries).filter(fits) {
        if batches.iter().all(|(first, _)| first.is_of_the_sweep(parameters)) {
            batches.push((parameters.clone(), entry.clone()));
        }
    }
    batches.sort_by_key(|(parameters, _)| parameters.batch());
    batches
}

fn offer(id: BenchmarkId, group: Group, batches: Vec<(usize, Entry)>) -> Offer {
    let alone = batches[0].1.clone();
    let named = id.clone();
    Offer {
        name: format!("{}, {}", group.name, alone.id),
        request_estimate: alone.iteration_estimate,
        memory_estimate: batches
            .iter()
            .map(|(_, entry)| entry.memory_estimate)
            .fold(Bytes(0.0), Bytes::max),
        skip: batches.iter().find_map(|(_, entry)| entry.skip.clone()),
        open: Box::new(move |device: &Device| {
            let session = (group.open)(device)?;
            Ok(Service::Batched(Box::new(ByBatch::new(session, batches, named)?)))
        }),
        id,
    }
}

/// A session whose benchmarks answer.
struct ByBatch {
    session: Box<dyn Session>,
    /// By the requests that each takes, rising.
    batches: Vec<(usize, Entry)>,
    about: Description,
    /// The check, as long as nothing was answered after it.
    checked: Option<Check>,
    /// The most that a pass held.
    memory: Option<Memory>,
}

impl ByBatch {
    fn new(
        mut session: Box<dyn Session>,
        batches: Vec<(usize, Entry)>,
        id: BenchmarkId,
    ) -> Result<Self, WorkloadError> {
        session.keep_inputs();
        let mut about = session.workload(&batches[0].1)?.describe();
        // What passes are fed is made here, in no answer's time.
        for (_, batch) in &batches[1..] {
            session.workload(batch)?;
        }
        about.id = id;
        about.parameters.remove("batch");
        about.parameters.insert("most".to_owned(), batches[batches.len() - 1].0.into());
        let sizes: Vec<String> = batches.iter().map(|(size, _)| size.to_string()).collect();
        about.caveats.push(format!(
            "passes take {} requests: a smaller batch costs as much as the next larger one",
            sizes.join(", ")
        ));
        Ok(Self { session, batches, about, checked: None, memory: None })
    }
}

impl Batched for ByBatch {
    fn describe(&self) -> Description {
        self.about.clone()
    }

    fn max_batch(&self) -> usize {
        self.batches[self.batches.len() - 1].0
    }

    fn answer(&mut self, requests: usize) -> Result<(), WorkloadError> {
        self.checked = None;
        let Some((_, batch)) = self.batches.iter().find(|(size, _)| *size >= requests) else {
            return Err(WorkloadError::Failed(format!("{requests} requests fit into no pass")));
        };
        let mut pass = self.session.workload(batch)?;
        pass.prepare(1)?;
        pass.launch()?;
        pass.wait()?;
        let held = pass.memory();
        let peak = |memory: &Option<Memory>| {
            memory.as_ref().and_then(|memory| memory.peak.known().copied()).map(|peak| peak.0)
        };
        if peak(&held) >= peak(&self.memory) {
            self.memory = held;
        }
        Ok(())
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        if let Some(check) = &self.checked {
            return Ok(check.clone());
        }
        let check = self.session.workload(&self.batches[0].1)?.verify()?;
        self.checked = Some(check.clone());
        Ok(check)
    }

    fn prepare(&mut self) {
        self.memory = None;
    }

    fn memory(&mut self) -> Option<Memory> {
        self.memory.clone()
    }
}

#[cfg(test)]
#[path = "by_batch_tests.rs"]
mod tests;
