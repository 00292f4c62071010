//! What is planned of a model in one format, before anything is loaded.

use warpmark_measure::{Entry, Group, Sampling, WorkloadError};
use warpmark_record::{Bytes, Seconds};

use warpmark_harness::{Case, Engines, ModelSession, Parameters, PlannedGroup};

use super::loader::{Loader, Opened};
use crate::catalog::{CatalogError, Format, Model};
use crate::options::RunOptions;

/// A case, and guesses at what it takes.
pub(crate) struct Planned<C> {
    pub(crate) case: C,
    pub(crate) parameters: Parameters,
    /// A guess at the time of an iteration.
    pub(crate) iteration: Seconds,
    /// A guess at the time of what comes before its warm-up and is no loading.
    pub(crate) preparation: Seconds,
    /// A guess at the memory that it needs beside the weights.
    pub(crate) memory: Bytes,
    pub(crate) sampling: Sampling,
    /// Why it cannot run here.
    pub(crate) skip: Option<String>,
}

/// A model in one format, whose cases are planned.
pub(crate) struct Plan<'a> {
    pub(crate) model: &'a Model,
    pub(crate) options: &'a RunOptions,
    pub(crate) format: Format,
    /// Bytes that its weights will take.
    pub(crate) weights: Bytes,
}

impl Plan<'_> {
    /// The group of some cases; none where there are none. `open` makes the engines out of what was loaded.
    pub(crate) fn group<C: Copy + 'static>(
        &self,
        planned: Vec<Planned<C>>,
        open: impl FnOnce(&mut Opened) -> Result<Engines<C>, WorkloadError> + 'static,
    ) -> Result<Option<PlannedGroup>, CatalogError> {
        self.group_from(false, planned, open)
    }

    /// The same of kernels of our own, which take the weights from the host.
    pub(crate) fn group_on_card<C: Copy + 'static>(
        &self,
        planned: Vec<Planned<C>>,
        open: impl FnOnce(&mut Opened) -> Result<Engines<C>, WorkloadError> + 'static,
    ) -> Result<Option<PlannedGroup>, CatalogError> {
        self.group_from(true, planned, open)
    }

    fn group_from<C: Copy + 'static>(
        &self,
        on_host: bool,
        planned: Vec<Planned<C>>,
        open: impl FnOnce(&mut Opened) -> Result<Engines<C>, WorkloadError> + 'static,
    ) -> Result<Option<PlannedGroup>, CatalogError> {
        let Self { model, options, format, weights } = *self;
        if planned.is_empty() {
            return Ok(None);
        }
        let mut entries = Vec::with_capacity(planned.len());
        let mut cases = Vec::with_capacity(planned.len());
        let mut parameters = Vec::with_capacity(planned.len());
        for one in planned {
            let id = one.parameters.id(&model.id);
            let id = id.map_err(|error| model.invalid("id", &model.id, error.to_string()))?;
            entries.push(Entry {
                id: id.clone(),
                sampling: one.sampling,
                iteration_estimate: one.iteration,
                preparation_estimate: one.preparation,
                memory_estimate: weights + one.memory,
                sweep: Some(one.parameters.sweep(&model.id)),
                skip: one.skip,
            });
            parameters.push(one.parameters.clone());
            cases.push(Case { id, parameters: one.parameters, of_family: one.case });
        }
        let loader = Loader {
            model: model.clone(),
            wanted: model.weight_spec(format)?,
            checkpoint: model.checkpoint_in(format)?,
            format,
            weights,
            options: options.clone(),
            on_host,
        };
        let group = Group {
            name: format!("{} {format}", model.title),
            entries,
            open: Box::new(move |device| {
                let mut opened = loader.load(device)?;
                let engines = open(&mut opened)?;
                Ok(Box::new(ModelSession { engines, context: opened.context, cases }))
            }),
        };
        Ok(Some(PlannedGroup { group, parameters }))
    }
}
