//! GPT-2: 124M, 355M, 774M, 1.5B.

use std::rc::Rc;

use warpmark_measure::{Offer, WorkloadError};

use super::Family;
use super::text::fused::{self, FusedNet};
use super::text::graph;
use super::text::{self, Implementation, Inputs, Numbers, PlainLogits};
use crate::bench::PlannedGroup;
use crate::catalog::{CatalogError, Model};
use crate::configuration::{self, ConfigurationError, Find};
use crate::engine::{GRAPH, OWN, workload_error};
use crate::options::RunOptions;
use crate::weights::{Copied, Init, Loaded, TensorNames, TensorSpec};
use candle_core::Tensor;
use warpmark_fused::{Activation, NormKind, Part, Positions, Shape};
use warpmark_harness::ServiceSettings;
use warpmark_nets::gpt2::{Architecture, Gpt2, LAYER_NORM_EPSILON};
use warpmark_nets::{NetError, reference};

/// GPT-2 in all its sizes.
pub struct Gpt2Family;

static OWN_NET: Implementation<Gpt2> = Implementation {
    name: OWN,
    caveats: &[],
    quantised: false,
    kernels_of_a_block: 32,
    most: usize::MAX,
    build,
};

/// The same, its decode steps captured as graphs.
static GRAPH_NET: Implementation<Gpt2> =
    Implementation { name: GRAPH, quantised: false, kernels_of_a_block: 0, ..OWN_NET };

impl Family for Gpt2Family {
    fn name(&self) -> &'static str {
        "gpt2"
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
            init: init(&name, architecture.layers),
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
            Some(found) => configuration::gpt2::compare(model, &architecture(model)?, &found),
            None => Ok(()),
        }
    }

    fn tensor_names(&self) -> TensorNames {
        TensorNames {
            prefix: "transformer.",
            // Causal masks, and lists of positions.
            ignored: &["*.attn.bias", "*.attn.masked_bias", "*.position_ids"],
            copies: &[Copied {
                copy: "lm_head.weight",
                of: "wte.weight",
                advice: "a GPT-2 with a head of its own is not computed here; give a checkpoint whose \
                         tie_word_embeddings is true",
            }],
            not_computed: &[
                (".mlp.c_fc.weight", "a hidden layer other than four times the width (n_inner)"),
                (".crossattention.c_attn.weight", "attention to an encoder (add_cross_attention)"),
            ],
            ..TensorNames::default()
        }
    }

    fn first_run(&self, model: &Model, weights: &Loaded) -> Result<(), WorkloadError> {
        let architecture = architecture(model).map_err(WorkloadError::failed)?;
        let net = Gpt2::new(architecture, &weights.tensors).map_err(workload_error)?;
        text::first_run(&net).map_err(workload_error)
    }

    fn groups(
        &self,
        model: &Model,
        options: &RunOptions,
    ) -> Result<Vec<PlannedGroup>, CatalogError> {
        let architecture = architecture(model)?;
        let numbers = numbers(&architecture);
        let mut groups = text::groups(model, &numbers, options, &OWN_NET)?;
        groups.extend(graph::groups(model, &numbers, options, &GRAPH_NET)?);
        groups.extend(fused::groups(model, &numbers, options, || fused_net(&architecture))?);
        Ok(groups)
    }

    fn services(
        &self,
        model: &Model,
        options: &RunOptions,
        settings: &ServiceSettings,
    ) -> Result<Vec<Offer>, CatalogError> {
        text::offers(model, &numbers(&architecture(model)?), (options, settings), &OWN_NET)
    }
}

/// The net as fused kernels see it.
fn fused_net(architecture: &Architecture) -> FusedNet {
    let Architecture { layers, heads, width, context, vocabulary } = *architecture;
    let shape = Shape {
        layers,
        heads,
        key_value_heads: heads,
        head_width: architecture.head_width(),
        width,
        hidden: 4 * width,
        vocabulary,
        norm: NormKind::Layer,
        epsilon: LAYER_NORM_EPSILON,
        activation: Activation::GeluTanh,
        positions: Positions::Learned(context),
        tied: true,
    };
    FusedNet { shape, read: fused_part, plain }
}

/// A part of the weights; products are stored `[in, out]`.
fn fused_part(loaded: &Loaded, part: Part) -> candle_core::Result<(Tensor, Option<Tensor>)> {
    let get = |name: String| match loaded.tensors.get(&name) {
        Some(tensor) => Ok(tensor.clone()),
        None => candle_core::bail!("the weights have no tensor {name:?}"),
    };
    let product = |name: String| {
        let weight = get(format!("{name}.weight"))?.t()?.contiguous()?;
        Ok((weight, Some(get(format!("{name}.bias"))?)))
    };
    let norm =
        |name: String| Ok((get(format!("{name}.weight"))?, Some(get(format!("{name}.bias"))?)));
    match part {
        Part::Embedding | Part::Head => Ok((get("wte.weight".to_owned())?, None)),
        Part::Positions => Ok((get("wpe.weight".to_owned())?, None)),
        Part::AttentionNorm(layer) => norm(format!("h.{layer}.ln_1")),
        Part::Qkv(layer) => product(format!("h.{layer}.attn.c_attn")),
        Part::Output(layer) => product(format!("h.{layer}.attn.c_proj")),
        Part::FeedForwardNorm(layer) => norm(format!("h.{layer}.ln_2")),
        Part::Up(layer) => product(format!("h.{layer}.mlp.c_fc")),
        Part::Down(layer) => product(format!("h.{layer}.mlp.c_proj")),
        Part::LastNorm => norm("ln_f".to_owned()),
    }
}

fn build(
    model: &Model,
    _positions: usize,
    loaded: &Loaded,
) -> Result<(Gpt2, PlainLogits), NetError> {
    let architecture = architecture(model).map_err(candle_core::Error::wrap)?;
    let net = Gpt2::new(architecture, &loaded.tensors)?;
    Ok((net, plain(model, loaded).map_err(candle_core::Error::wrap)?))
}

/// What checks every engine.
fn plain(model: &Model, loaded: &Loaded) -> Result<PlainLogits, CatalogError> {
    let (architecture, tensors) = (architecture(model)?, loaded.tensors.clone());
    Ok(Rc::new(move |sequence: (&[u32], usize), rounding| {
        reference::gpt2::rounded_logits(&architecture, &tensors, sequence, rounding)
    }))
}

/// What is counted of an architecture.
pub(super) fn numbers(architecture: &Architecture) -> Numbers {
    let width = architecture.width;
    Numbers {
        parameters: text::parameters(&architecture.tensors()),
        looked_up: (architecture.context * width) as f64,
        tables: &["wpe.weight"],
        quantised: None,
        block_weights: architecture.block_weights() as f64,
        layers: architecture.layers,
        heads: architecture.heads,
        width,
        vocabulary: architecture.vocabulary,
        context: architecture.context,
        cache_elements: architecture.cache_elements() as f64,
        // The residual stream twice, the queries, keys and values twice, and one hidden layer of four
        // widths and a half.
        stream: 14.0 * width as f64,
        mask: architecture.context,
    }
}

/// The entry's architecture, refused where its numbers are invalid.
fn architecture(model: &Model) -> Result<Architecture, CatalogError> {
    let architecture: Architecture = model.section("architecture")?;
    text::check_numbers(
        model,
        "a GPT-2",
        &[
            ("layers", architecture.layers, 1_000),
            ("heads", architecture.heads, 1_000),
            ("width", architecture.width, 100_000),
            ("context", architecture.context, 1_000_000),
            ("vocabulary", architecture.vocabulary, 10_000_000),
        ],
    )?;
    text::check_multiple(model, ("width", architecture.width), ("heads", architecture.heads))?;
    Ok(architecture)
}

/// GPT-2's own initialisation (Radford et al. 2019, §2.3): normal with 0.02, 0.01 for positions, and
/// products that add to the residual stream scaled down by the root of their number.
pub(super) fn init(name: &str, layers: usize) -> Init {
    let path: Vec<&str> = name.split('.').collect();
    match path[..] {
        [.., "bias"] => Init::Zeros,
        [.., "ln_1" | "ln_2" | "ln_f", _] => Init::Ones,
        ["wpe", _] => Init::Normal { std: 0.01 },
        [.., "c_proj", _] => Init::Normal { std: 0.02 / (2.0 * layers as f32).sqrt() },
        _ => Init::Normal { std: 0.02 },
    }
}
