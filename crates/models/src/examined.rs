//! Groups and services whose failures have the model's cached files examined.

use warpmark_device::Device;
use warpmark_measure::{
    Batched, Description, Entry, Group, Offer, Service, Session, Streaming, Workload, WorkloadError,
};
use warpmark_record::{Check, Memory};

use crate::catalog::{Format, Model, Quantisation};
use crate::options::RunOptions;
use crate::weights::WeightsError;

/// The group, where a failure to load or a wrong answer says whether a cached file is damaged.
pub(crate) fn examined(group: Group, model: &Model, options: &RunOptions) -> Group {
    let Group { name, entries, open } = group;
    let (model, options) = (model.clone(), options.clone());
    let cause = move || cause(&model, &options);
    let open = Box::new(move |device: &Device| {
        let inner = open(device).map_err(|error| explained(error, &cause))?;
        Ok(Box::new(Examined { inner, cause: Box::new(cause) }) as Box<dyn Session>)
    });
    Group { name, entries, open }
}

/// The service, where a failure to load or a wrong answer says the same.
pub(crate) fn examined_offer(offer: Offer, model: &Model, options: &RunOptions) -> Offer {
    let Offer { id, name, request_estimate, memory_estimate, skip, open } = offer;
    let (model, options) = (model.clone(), options.clone());
    let cause = move || cause(&model, &options);
    let open = Box::new(move |device: &Device| {
        let service = open(device).map_err(|error| explained(error, &cause))?;
        let cause = Box::new(cause);
        Ok(match service {
            Service::Batched(inner) => Service::Batched(Box::new(Examined { inner, cause })),
            Service::Streaming(inner) => Service::Streaming(Box::new(Examined { inner, cause })),
        })
    });
    Offer { id, name, request_estimate, memory_estimate, skip, open }
}

struct Examined<T: ?Sized> {
    inner: Box<T>,
    cause: Box<dyn Fn() -> Option<String>>,
}

impl<T: ?Sized> Examined<T> {
    /// What was checked, or why it is wrong.
    fn explained(&self, checked: Result<Check, WorkloadError>) -> Result<Check, WorkloadError> {
        match checked {
            Err(error @ WorkloadError::WrongAnswer { .. }) => Err(match (self.cause)() {
                Some(cause) => WorkloadError::Failed(format!("{error}: {cause}")),
                None => error,
            }),
            other => other,
        }
    }
}

impl Batched for Examined<dyn Batched> {
    fn describe(&self) -> Description {
        self.inner.describe()
    }

    fn max_batch(&self) -> usize {
        self.inner.max_batch()
    }

    fn answer(&mut self, requests: usize) -> Result<(), WorkloadError> {
        self.inner.answer(requests)
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        let checked = self.inner.verify();
        self.explained(checked)
    }

    fn prepare(&mut self) {
        self.inner.prepare();
    }

    fn memory(&mut self) -> Option<Memory> {
        self.inner.memory()
    }
}

impl Streaming for Examined<dyn Streaming> {
    fn describe(&self) -> Description {
        self.inner.describe()
    }

    fn slots(&self) -> usize {
        self.inner.slots()
    }

    fn tokens(&self) -> usize {
        self.inner.tokens()
    }

    fn admit(&mut self, slots: &[usize]) -> Result<(), WorkloadError> {
        self.inner.admit(slots)
    }

    fn step(&mut self, slots: &[usize]) -> Result<(), WorkloadError> {
        self.inner.step(slots)
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        let checked = self.inner.verify();
        self.explained(checked)
    }

    fn prepare(&mut self) {
        self.inner.prepare();
    }

    fn memory(&mut self) -> Option<Memory> {
        self.inner.memory()
    }
}

impl Session for Examined<dyn Session> {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        self.inner.workload(entry)
    }

    fn check_sticky_error(&mut self) -> Result<(), WorkloadError> {
        self.inner.check_sticky_error()
    }

    fn keep_inputs(&mut self) {
        self.inner.keep_inputs();
    }

    fn cause(&self) -> Option<String> {
        (self.cause)()
    }
}

fn explained(error: WorkloadError, cause: &dyn Fn() -> Option<String>) -> WorkloadError {
    match error {
        WorkloadError::Failed(reason) => {
            let cause = cause().map_or(String::new(), |cause| format!(": {cause}"));
            WorkloadError::Failed(format!("{reason}{cause}"))
        }
        other => other,
    }
}

fn cause(model: &Model, options: &RunOptions) -> Option<String> {
    match examine(model, options) {
        Ok(damaged) => Some(damaged.join("; ")).filter(|words| !words.is_empty()),
        Err(error @ WeightsError::Damaged { .. }) => Some(error.to_string()),
        // Whatever else keeps the files from being read has made the row fail already.
        Err(_) => None,
    }
}

/// Examines what is cached of the model in every format.
fn examine(model: &Model, options: &RunOptions) -> Result<Vec<String>, WeightsError> {
    let formats = std::iter::once(Format::Plain(model.checkpoint))
        .chain([Quantisation::Q8_0, Quantisation::Q4KM].map(Format::Quantised));
    let mut damaged = Vec::new();
    for format in formats {
        // Not every family has all formats.
        let (Ok(wanted), Ok(checkpoint)) = (model.weight_spec(format), model.checkpoint_in(format))
        else {
            continue;
        };
        let progress = options.progress.as_ref();
        damaged.extend(wanted.examine(&checkpoint, &options.source, &options.cache, progress)?);
    }
    Ok(damaged)
}
