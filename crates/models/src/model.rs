//! A model and its family: what all of the rest takes of the two.

use std::fmt;
use std::ops::Deref;

use warpmark_catalog::configuration::{Configuration, ConfigurationError, Find};
use warpmark_catalog::{CatalogError, Format, MAX_PARAMETERS, Model as Entry, Quantisation};
use warpmark_harness::{PlannedGroup, ServiceSettings, by_batch};
use warpmark_measure::{Offer, WorkloadError};

use crate::options::RunOptions;
use crate::weights::gguf::StoredTensor;
use crate::weights::{Checkpoint, Loaded, TensorNames, TensorSpec, WeightSpec};

/// A model of the catalog, with the family that knows how to build it.
#[derive(Clone)]
pub struct Model {
    entry: Entry,
    of_family: &'static dyn Family,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry.fmt(f)
    }
}

impl Deref for Model {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

impl Model {
    /// An entry of the catalog, and the family that knows how to build it.
    pub(crate) fn new(entry: Entry, family: &'static dyn Family) -> Self {
        Self { entry, of_family: family }
    }

    /// The family that knows how to build it.
    pub fn family(&self) -> &'static dyn Family {
        self.of_family
    }

    /// The number of parameters, summed over the family's tensors.
    pub fn count_parameters(&self) -> Result<u64, CatalogError> {
        let tensors = self.of_family.tensors(self)?;
        let mut total: u64 = 0;
        for tensor in &tensors {
            total = tensor
                .elements()
                .and_then(|count| total.checked_add(count))
                .filter(|total| *total <= MAX_PARAMETERS)
                .ok_or_else(|| too_large(self, tensor))?;
        }
        Ok(total)
    }

    /// What of the model is loaded in a format.
    ///
    /// # Errors
    /// Where the model's family cannot compute with quantised weights.
    pub fn weight_spec(&self, format: Format) -> Result<WeightSpec, CatalogError> {
        let family = self.of_family;
        match format {
            Format::Plain(dtype) => Ok(WeightSpec::Plain(family.tensors(self)?, dtype)),
            Format::Quantised(quantisation) => {
                let Some(tensors) = family.quantised(self, quantisation)? else {
                    let advice = format!("a {} is measured in f32, f16 and bf16", self.family);
                    return Err(self.invalid("suites", format, advice));
                };
                Ok(WeightSpec::Quantised(tensors, quantisation))
            }
        }
    }

    /// The model's files in a format, with what its family knows of the tensors in them.
    pub fn checkpoint_in(&self, format: impl Into<Format>) -> Result<Checkpoint, CatalogError> {
        self.checkpoint(format.into(), self.of_family.tensor_names())
    }
}

fn too_large(model: &Model, tensor: &TensorSpec) -> CatalogError {
    model.invalid(
        "architecture",
        format!("{} of shape {:?}", tensor.name, tensor.shape),
        format!("the model would have more than {MAX_PARAMETERS:e} parameters; check the digits"),
    )
}

/// A kind of net: every variant of it differs in numbers only.
pub trait Family: Sync {
    /// The name by which `models.toml` calls it: `gpt2`.
    fn name(&self) -> &'static str;

    /// The bench target its workloads belong to: `text`.
    fn group(&self) -> &'static str;

    /// The phases it can measure apart, as entries name them; loading is everybody's.
    fn phases(&self) -> &'static [&'static str];

    /// Refuses an entry whose sections hold invalid values, architecture and inputs alike.
    fn check(&self, model: &Model) -> Result<(), CatalogError>;

    /// The tensors a variant consists of: names, shapes, and how a synthetic one is filled. Refuses an
    /// architecture table that lacks a number, has an unknown one, or asks for an absurd size.
    fn tensors(&self, model: &Model) -> Result<Vec<TensorSpec>, CatalogError>;

    /// What it passes over, renames and compares among the tensors of a checkpoint.
    fn tensor_names(&self) -> TensorNames;

    /// Refuses weights whose own configurations are not the entry's, those that `find` finds.
    fn check_configuration(&self, model: &Model, find: &Find<'_>)
    -> Result<(), ConfigurationError>;

    /// Refuses a quantised file whose metadata is not the entry's.
    fn check_metadata(
        &self,
        model: &Model,
        metadata: &Configuration,
    ) -> Result<(), ConfigurationError> {
        let _ = (model, metadata);
        Ok(())
    }

    /// The same tensors as a quantised file has them; `None` where the family cannot compute with such.
    fn quantised(
        &self,
        model: &Model,
        quantisation: Quantisation,
    ) -> Result<Option<Vec<StoredTensor>>, CatalogError> {
        let _ = (model, quantisation);
        Ok(None)
    }

    /// Builds the net from loaded weights, runs its smallest forward pass and waits for it: the last
    /// phase of loading, after which a model answers.
    fn first_run(&self, model: &Model, weights: &Loaded) -> Result<(), WorkloadError>;

    /// The workloads of a variant that suit the request, in the order in which they run.
    fn groups(
        &self,
        model: &Model,
        options: &RunOptions,
    ) -> Result<Vec<PlannedGroup>, CatalogError>;

    /// The services that a variant can be under load: without a family's own, its last phase, the whole of
    /// it, in batches.
    fn services(
        &self,
        model: &Model,
        options: &RunOptions,
        settings: &ServiceSettings,
    ) -> Result<Vec<Offer>, CatalogError> {
        let every = RunOptions { full: true, ..options.clone() };
        let last = self.phases().iter().rfind(|phase| model.has_phase(phase));
        by_batch::offers(&model.id, last, self.groups(model, &every)?, settings)
            .map_err(|error| model.invalid("id", &model.id, error.to_string()))
    }
}
