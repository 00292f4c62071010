//! Decoders of text: every variant that the one net computes.

mod candle;
mod counted;
mod fused;
mod gguf;
mod names;

use std::rc::Rc;

use warpmark_measure::{Offer, WorkloadError};

use super::Family;
use super::text::{self, Implementation, Inputs, PlainLogits, graph, refused};
use crate::bench::PlannedGroup;
use crate::catalog::{CatalogError, Model, Quantisation};
use crate::configuration::{self, Configuration, ConfigurationError, Find};
use crate::engine::{CANDLE, GRAPH, OWN, compiled_kernels, workload_error};
use crate::options::RunOptions;
use crate::weights::gguf::StoredTensor;
use crate::weights::{Loaded, TensorNames, TensorSpec};
use candle::Published;
use warpmark_harness::ServiceSettings;
use warpmark_nets::decoder::{Architecture, Decoder, Numbers, Pairing, Variant};
use warpmark_nets::{NetError, reference};

pub(super) use counted::numbers;
pub(super) use names::init;

/// One variant in all its sizes.
pub struct DecoderFamily(pub Variant);

const PLAIN: Implementation<Decoder> = Implementation {
    name: OWN,
    caveats: &[],
    quantised: true,
    kernels_of_a_block: 34,
    most: usize::MAX,
    build,
};

static OWN_NET: Implementation<Decoder> = PLAIN;

static GPT2: Implementation<Decoder> =
    Implementation { quantised: false, kernels_of_a_block: 32, ..PLAIN };

/// Products follow from what the host has read: a GPU waits for it once a layer.
static MIXTURE: Implementation<Decoder> = Implementation {
    caveats: &[
        "which experts a token passes is read by the host, once a layer: on a GPU the time between \
         launches is part of the row",
    ],
    quantised: false,
    // As many as a token passes, each of some products.
    kernels_of_a_block: 120,
    ..PLAIN
};

/// The same, its decode steps captured as graphs.
static GRAPH_NET: Implementation<Decoder> =
    Implementation { name: GRAPH, quantised: false, kernels_of_a_block: 0, ..PLAIN };

/// Why a step of a mixture is not captured.
const NOT_CAPTURED: &str =
    "which experts a token passes is read by the host: no graph can hold that";

/// candle-transformers as published. Its batches end at 32: it reads all prompts at once, and holds the
/// scores of all of them in f32.
static PUBLISHED: Implementation<Published> = Implementation {
    name: CANDLE,
    caveats: &[
        "candle-transformers as published: its cache is copied and grown by every token, and keys and \
         values are repeated for every head",
    ],
    quantised: false,
    kernels_of_a_block: 48,
    most: 32,
    build: candle::build,
};

impl DecoderFamily {
    fn own_net(&self) -> &'static Implementation<Decoder> {
        match self.0 {
            Variant::Gpt2 | Variant::Opt => &GPT2,
            Variant::Mixtral | Variant::Qwen3Moe => &MIXTURE,
            _ => &OWN_NET,
        }
    }
}

impl Family for DecoderFamily {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn group(&self) -> &'static str {
        "text"
    }

    fn phases(&self) -> &'static [&'static str] {
        text::PHASES
    }

    fn check(&self, model: &Model) -> Result<(), CatalogError> {
        Inputs::of(model, architecture(model)?.context).map(drop)
    }

    fn tensors(&self, model: &Model) -> Result<Vec<TensorSpec>, CatalogError> {
        let architecture = architecture(model)?;
        let spec = |(name, shape): (String, Vec<usize>)| TensorSpec {
            init: init(&name, &architecture),
            name,
            shape,
        };
        Ok(architecture.tensors().into_iter().map(spec).collect())
    }

    fn check_configuration(
        &self,
        model: &Model,
        find: &Find<'_>,
    ) -> Result<(), ConfigurationError> {
        match find("config.json")? {
            Some(found) => configuration::decoder::compare(model, &architecture(model)?, &found),
            None => Ok(()),
        }
    }

    fn check_metadata(
        &self,
        model: &Model,
        metadata: &Configuration,
    ) -> Result<(), ConfigurationError> {
        configuration::decoder::gguf::compare_metadata(model, &architecture(model)?, metadata)
    }

    fn tensor_names(&self) -> TensorNames {
        names::of(self.0)
    }

    fn quantised(
        &self,
        model: &Model,
        quantisation: Quantisation,
    ) -> Result<Option<Vec<StoredTensor>>, CatalogError> {
        if self.0 != Variant::Llama {
            return Ok(None);
        }
        let architecture = architecture(model)?;
        let store = |spec: TensorSpec| gguf::stored(spec, &architecture, quantisation);
        Ok(Some(self.tensors(model)?.into_iter().map(store).collect()))
    }

    fn first_run(&self, model: &Model, weights: &Loaded) -> Result<(), WorkloadError> {
        let architecture = architecture(model).map_err(WorkloadError::failed)?;
        let net = net(&architecture, 1, weights).map_err(workload_error)?;
        text::first_run(&net).map_err(workload_error)
    }

    fn groups(
        &self,
        model: &Model,
        options: &RunOptions,
    ) -> Result<Vec<PlannedGroup>, CatalogError> {
        if options.formats(model).is_empty() {
            return Ok(Vec::new());
        }
        let architecture = architecture(model)?;
        let positions = Inputs::of(model, architecture.context)?.longest();
        let numbers = numbers(&architecture, positions);
        let mut groups = text::groups(model, &numbers, options, self.own_net())?;
        if options.full && self.0 == Variant::Llama {
            groups.extend(candle::groups(model, (&architecture, &numbers), options)?);
        }
        groups.extend(match architecture.experts {
            None => graph::groups(model, &numbers, options, &GRAPH_NET)?,
            Some(_) if options.spec.gpu.is_some() && compiled_kernels().is_some() => {
                refused::groups(model, &numbers, options, (GRAPH, NOT_CAPTURED))?
            }
            Some(_) => Vec::new(),
        });
        groups.extend(fused::groups(model, (&architecture, &numbers), options)?);
        Ok(groups)
    }

    fn services(
        &self,
        model: &Model,
        options: &RunOptions,
        settings: &ServiceSettings,
    ) -> Result<Vec<Offer>, CatalogError> {
        let architecture = architecture(model)?;
        let positions = Inputs::of(model, architecture.context)?.longest();
        let numbers = numbers(&architecture, positions);
        text::offers(model, &numbers, (options, settings), self.own_net())
    }
}

fn build(
    model: &Model,
    positions: usize,
    loaded: &Loaded,
) -> Result<(Decoder, PlainLogits), NetError> {
    let architecture = architecture(model).map_err(candle_core::Error::wrap)?;
    let net = net(&architecture, positions, loaded)?;
    Ok((net, plain(architecture, loaded)))
}

fn net(
    architecture: &Architecture,
    positions: usize,
    loaded: &Loaded,
) -> Result<Decoder, NetError> {
    let Loaded { tensors, blocks, .. } = loaded;
    let positions = counted::positions(architecture, positions);
    if blocks.is_empty() {
        Decoder::new(architecture, positions, tensors)
    } else {
        Decoder::quantised(architecture, positions, tensors, blocks, Pairing::Neighbours)
    }
}

/// What checks every engine.
fn plain(architecture: Architecture, loaded: &Loaded) -> PlainLogits {
    let (tensors, blocks) = (loaded.tensors.clone(), loaded.blocks.clone());
    if blocks.is_empty() {
        return Rc::new(move |sequence, rounding| {
            reference::decoder::rounded_logits(&architecture, &tensors, sequence, rounding)
        });
    }
    // Activations between quantised products are f32: nothing is rounded.
    Rc::new(move |sequence, _| {
        let pairing = Pairing::Neighbours;
        reference::decoder::quantised_logits(&architecture, &tensors, &blocks, pairing, sequence)
    })
}

/// The entry's architecture, refused where its numbers are invalid.
fn architecture(model: &Model) -> Result<Architecture, CatalogError> {
    let numbers: Numbers = model.section("architecture")?;
    let Some(variant) = Variant::named(&model.family) else {
        return Err(model.invalid("family", &model.family, "is no decoder"));
    };
    variant.architecture(&numbers).map_err(|invalid| {
        model.invalid(&format!("architecture.{}", invalid.field), invalid.value, invalid.advice)
    })
}
