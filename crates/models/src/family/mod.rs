//! Model families: how each kind of net is named, filled, run and measured.
//!
//! A new family is one file here and its line in [`FAMILIES`].

pub mod diffusion;
pub mod gpt2;
pub mod llama;
mod text;
pub mod whisper;

use warpmark_measure::{Offer, WorkloadError};

use crate::bench::PlannedGroup;
use crate::catalog::{CatalogError, Model, Quantisation};
use crate::configuration::{self, Configuration, ConfigurationError};
use crate::request::Request;
use crate::service::{self, Form};
use crate::weights::gguf::StoredTensor;
use crate::weights::{Loaded, TensorNames, TensorSpec};

/// A kind of net: every variant of it differs in numbers only.
pub trait Family: Sync {
    /// The name by which `models.toml` calls it: `gpt2`.
    fn name(&self) -> &'static str;

    /// The bench target its workloads belong to: `text`.
    fn group(&self) -> &'static str;

    /// The phases it can measure apart, as stanzas name them; loading is everybody's.
    fn phases(&self) -> &'static [&'static str];

    /// Refuses a stanza whose sections hold what cannot be meant, architecture and inputs alike.
    fn check(&self, model: &Model) -> Result<(), CatalogError>;

    /// The tensors a variant consists of: names, shapes, and how a synthetic one is filled. Refuses an
    /// architecture table that lacks a number, has an unknown one, or asks for an absurd size.
    fn tensors(&self, model: &Model) -> Result<Vec<TensorSpec>, CatalogError>;

    /// What it passes over, renames and compares among the tensors of a checkpoint.
    fn tensor_names(&self) -> TensorNames;

    /// Refuses weights whose own configurations are not the stanza's, those that `find` finds.
    fn check_configuration(
        &self,
        model: &Model,
        find: &configuration::Find<'_>,
    ) -> Result<(), ConfigurationError>;

    /// Refuses a quantised file whose metadata is not the stanza's.
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
    fn groups(&self, model: &Model, request: &Request) -> Result<Vec<PlannedGroup>, CatalogError>;

    /// The services that a variant can be under load: without a family's own, its last phase, the whole of
    /// it, in batches.
    fn services(
        &self,
        model: &Model,
        request: &Request,
        form: &Form,
    ) -> Result<Vec<Offer>, CatalogError> {
        let every = Request { full: true, ..request.clone() };
        let last = self.phases().iter().rfind(|phase| model.has_phase(phase));
        service::by_batch::offers(model, last, self.groups(model, &every)?, form)
    }
}

/// Every family there is.
pub const FAMILIES: &[&dyn Family] =
    &[&gpt2::Gpt2Family, &llama::LlamaFamily, &diffusion::DiffusionFamily, &whisper::WhisperFamily];
