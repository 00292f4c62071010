//! Groups whose failures have the model's cached files examined.

use warpmark_measure::{Entry, Group, Session, Workload, WorkloadError};

use crate::catalog::{Format, Model, Quantisation};
use crate::request::Request;
use crate::weights::WeightsError;

/// The group, where a failure to load or a wrong answer says whether a cached file is damaged.
pub(crate) fn examined(group: Group, model: &Model, request: &Request) -> Group {
    let Group { name, entries, open } = group;
    let (model, request) = (model.clone(), request.clone());
    let cause = move || cause(&model, &request);
    let open = Box::new(move |device: &warpmark_device::Device| {
        let session = open(device).map_err(|error| explained(error, &cause))?;
        Ok(Box::new(Examined { session, cause: Box::new(cause) }) as Box<dyn Session>)
    });
    Group { name, entries, open }
}

struct Examined {
    session: Box<dyn Session>,
    cause: Box<dyn Fn() -> Option<String>>,
}

impl Session for Examined {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        self.session.workload(entry)
    }

    fn aftermath(&mut self) -> Result<(), WorkloadError> {
        self.session.aftermath()
    }

    fn keep_inputs(&mut self) {
        self.session.keep_inputs();
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

fn cause(model: &Model, request: &Request) -> Option<String> {
    match examine(model, request) {
        Ok(damaged) => Some(damaged.join("; ")).filter(|words| !words.is_empty()),
        Err(error @ WeightsError::Damaged { .. }) => Some(error.to_string()),
        // Whatever else keeps the files from being read has made the row fail already.
        Err(_) => None,
    }
}

/// Examines what is cached of the model in every format.
fn examine(model: &Model, request: &Request) -> Result<Vec<String>, WeightsError> {
    let formats = std::iter::once(Format::Plain(model.checkpoint))
        .chain([Quantisation::Q8_0, Quantisation::Q4KM].map(Format::Quantised));
    let mut damaged = Vec::new();
    for format in formats {
        // Not every family has all formats.
        let (Ok(wanted), Ok(checkpoint)) = (model.wanted(format), model.checkpoint_in(format))
        else {
            continue;
        };
        let progress = request.progress.as_ref();
        damaged.extend(wanted.examine(&checkpoint, &request.source, &request.cache, progress)?);
    }
    Ok(damaged)
}
