//! Llama: 1, 2 and 3, `TinyLlama`, and others of their architecture.

mod candle;
mod gguf;

use std::rc::Rc;

use warpmark_measure::{Offer, WorkloadError};

use super::Family;
use super::text::fused::{self, FusedNet};
use super::text::graph;
use super::text::{self, Implementation, Inputs, Numbers, PlainLogits};
use crate::bench::PlannedGroup;
use crate::catalog::{CatalogError, Model, Quantisation};
use crate::configuration::{self, Configuration, ConfigurationError, Find};
use crate::engine::{CANDLE, GRAPH, OWN, workload_error};
use crate::options::RunOptions;
use crate::weights::gguf::{ROPE_FACTORS, StoredTensor};
use crate::weights::{Copied, Init, Loaded, TensorNames, TensorSpec};
use candle::Published;
use candle_core::Tensor;
use warpmark_fused::{Activation, NormKind, Part, Positions, Shape};
use warpmark_harness::ServiceSettings;
use warpmark_nets::llama::{Architecture, Llama, inverse_frequencies};
use warpmark_nets::{NetError, reference};

/// Llama in all its sizes.
pub struct LlamaFamily;

static OWN_NET: Implementation<Llama> = Implementation {
    name: OWN,
    caveats: &[],
    quantised: true,
    kernels_of_a_block: 34,
    most: usize::MAX,
    build,
};

/// The same, its decode steps captured as graphs.
static GRAPH_NET: Implementation<Llama> =
    Implementation { name: GRAPH, quantised: false, kernels_of_a_block: 0, ..OWN_NET };

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

/// What to do with a head of a checkpoint's own.
const UNTIED: &str =
    "the checkpoint has a head of its own: set tied = false in the entry's architecture";

impl Family for LlamaFamily {
    fn name(&self) -> &'static str {
        "llama"
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
            Some(found) => configuration::llama::compare(model, &architecture(model)?, &found),
            None => Ok(()),
        }
    }

    fn check_metadata(
        &self,
        model: &Model,
        metadata: &Configuration,
    ) -> Result<(), ConfigurationError> {
        configuration::llama::compare_metadata(model, &architecture(model)?, metadata)
    }

    fn tensor_names(&self) -> TensorNames {
        TensorNames {
            // Rotary frequencies and their tables, causal masks and lists of positions; and a GGUF
            // file's factors of Llama 3.1's stretching, which are compared with the architecture.
            ignored: &[
                "*.rotary_emb.inv_freq",
                "*.rotary_emb.original_inv_freq",
                "*.rotary_emb.cos_cached",
                "*.rotary_emb.sin_cached",
                "*.self_attn.bias",
                "*.self_attn.masked_bias",
                "*.position_ids",
                ROPE_FACTORS,
            ],
            copies: &[
                Copied { copy: "lm_head.weight", of: "model.embed_tokens.weight", advice: UNTIED },
                Copied { copy: "output.weight", of: "token_embd.weight", advice: UNTIED },
            ],
            not_computed: &[
                (".q_norm.weight", "norms of queries and keys, as Qwen3 has them"),
                (".k_norm.weight", "norms of queries and keys, as Qwen3 has them"),
                (".q_proj.bias", "biases of queries, keys and values, as Qwen2 has them"),
                (".gate_proj.bias", "biases of the feed-forward layers (mlp_bias)"),
                (
                    ".q_proj.weight",
                    "heads whose width is not that of the net over their number (head_dim)",
                ),
            ],
            ..TensorNames::default()
        }
    }

    fn quantised(
        &self,
        model: &Model,
        quantisation: Quantisation,
    ) -> Result<Option<Vec<StoredTensor>>, CatalogError> {
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
        let architecture = architecture(model)?;
        let numbers = numbers(&architecture, Inputs::of(model, architecture.context)?.longest());
        let mut groups = text::groups(model, &numbers, options, &OWN_NET)?;
        if options.full {
            groups.extend(text::groups(model, &numbers, options, &PUBLISHED)?);
        }
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
        let architecture = architecture(model)?;
        let numbers = numbers(&architecture, Inputs::of(model, architecture.context)?.longest());
        text::offers(model, &numbers, (options, settings), &OWN_NET)
    }
}

/// The net as fused kernels see it.
fn fused_net(architecture: &Architecture) -> FusedNet {
    let shape = Shape {
        layers: architecture.layers,
        heads: architecture.heads,
        key_value_heads: architecture.key_value_heads,
        head_width: architecture.head_width(),
        width: architecture.width,
        hidden: architecture.hidden,
        vocabulary: architecture.vocabulary,
        norm: NormKind::Rms,
        epsilon: architecture.norm_epsilon,
        activation: Activation::Swiglu,
        positions: Positions::Rotary(inverse_frequencies(architecture)),
        tied: architecture.tied,
    };
    let checked = |model: &Model, loaded: &Loaded| Ok(plain(self::architecture(model)?, loaded));
    FusedNet { shape, read: fused_part, plain: checked }
}

/// A part of the weights; what is read by one kernel is put together.
fn fused_part(loaded: &Loaded, part: Part) -> candle_core::Result<(Tensor, Option<Tensor>)> {
    let get = |name: &str| match loaded.tensors.get(&format!("{name}.weight")) {
        Some(tensor) => Ok(tensor.clone()),
        None => candle_core::bail!("the weights have no tensor {name:?}"),
    };
    let of = |layer: usize, name: &str| get(&format!("model.layers.{layer}.{name}"));
    let weight = match part {
        Part::Embedding => get("model.embed_tokens")?,
        Part::Head => get("lm_head")?,
        Part::Positions => candle_core::bail!("a Llama learns no positions"),
        Part::AttentionNorm(layer) => of(layer, "input_layernorm")?,
        Part::Qkv(layer) => {
            let parts = ["q", "k", "v"].map(|part| of(layer, &format!("self_attn.{part}_proj")));
            let [q, k, v] = parts;
            Tensor::cat(&[q?, k?, v?], 0)?
        }
        Part::Output(layer) => of(layer, "self_attn.o_proj")?,
        Part::FeedForwardNorm(layer) => of(layer, "post_attention_layernorm")?,
        // Gates and values row by row in turn.
        Part::Up(layer) => {
            let (gate, up) = (of(layer, "mlp.gate_proj")?, of(layer, "mlp.up_proj")?);
            Tensor::stack(&[gate, up], 1)?.flatten(0, 1)?
        }
        Part::Down(layer) => of(layer, "mlp.down_proj")?,
        Part::LastNorm => get("model.norm")?,
    };
    Ok((weight, None))
}

fn build(
    model: &Model,
    positions: usize,
    loaded: &Loaded,
) -> Result<(Llama, PlainLogits), NetError> {
    let architecture = architecture(model).map_err(candle_core::Error::wrap)?;
    let net = net(&architecture, positions, loaded)?;
    Ok((net, plain(architecture, loaded)))
}

fn net(architecture: &Architecture, positions: usize, loaded: &Loaded) -> Result<Llama, NetError> {
    let Loaded { tensors, blocks, .. } = loaded;
    if blocks.is_empty() {
        Llama::new(architecture, positions, tensors)
    } else {
        Llama::quantised(architecture, positions, tensors, blocks)
    }
}

/// What checks both engines.
fn plain(architecture: Architecture, loaded: &Loaded) -> PlainLogits {
    let (tensors, blocks) = (loaded.tensors.clone(), loaded.blocks.clone());
    if blocks.is_empty() {
        return Rc::new(move |sequence, rounding| {
            reference::llama::rounded_logits(&architecture, &tensors, sequence, rounding)
        });
    }
    // Activations between quantised products are f32: nothing is rounded.
    Rc::new(move |(tokens, count), _| {
        reference::llama::quantised_logits(&architecture, &tensors, &blocks, tokens, count)
    })
}

/// What is counted of an architecture, for sequences of up to so many positions.
fn numbers(architecture: &Architecture, positions: usize) -> Numbers {
    let (width, vocabulary) = (architecture.width, architecture.vocabulary);
    let embedding = (vocabulary * width) as f64;
    Numbers {
        parameters: text::parameters(&architecture.tensors()),
        looked_up: if architecture.tied { 0.0 } else { embedding },
        tables: if architecture.tied { &[] } else { &["model.embed_tokens.weight"] },
        quantised: None,
        block_weights: architecture.block_weights() as f64,
        layers: architecture.layers,
        heads: architecture.heads,
        width,
        vocabulary,
        context: architecture.context,
        cache_elements: architecture.cache_elements() as f64,
        // The residual stream twice and either the queries, keys and values before and after their
        // rotation, or the gate, the values and their product.
        stream: 2.0 * width as f64
            + (2 * (width + 2 * architecture.key_value_width())).max(3 * architecture.hidden)
                as f64,
        mask: positions,
    }
}

/// The entry's architecture, refused where its numbers are invalid.
fn architecture(model: &Model) -> Result<Architecture, CatalogError> {
    let architecture: Architecture = model.section("architecture")?;
    text::check_numbers(
        model,
        "a Llama",
        &[
            ("layers", architecture.layers, 1_000),
            ("heads", architecture.heads, 1_000),
            ("key_value_heads", architecture.key_value_heads, 1_000),
            ("width", architecture.width, 100_000),
            ("hidden", architecture.hidden, 1_000_000),
            ("context", architecture.context, 10_000_000),
            ("vocabulary", architecture.vocabulary, 10_000_000),
        ],
    )?;
    let heads = ("heads", architecture.heads);
    text::check_multiple(model, ("width", architecture.width), heads)?;
    text::check_multiple(model, heads, ("key_value_heads", architecture.key_value_heads))?;
    if !architecture.head_width().is_multiple_of(2) {
        let advice = "a head must have an even width: its halves are rotated against each other";
        return Err(model.invalid("architecture.width", architecture.width, advice));
    }
    let positive = |value: f64| value.is_finite() && value > 0.0;
    if !positive(architecture.rope_theta) || !positive(f64::from(architecture.norm_epsilon)) {
        let advice = "rope_theta and norm_epsilon are positive numbers";
        return Err(model.invalid("architecture.rope_theta", architecture.rope_theta, advice));
    }
    if let Some(scaling) = architecture.rope_scaling {
        let ordered = positive(scaling.low_frequency_factor)
            && scaling.high_frequency_factor > scaling.low_frequency_factor;
        if !ordered || !positive(scaling.factor) || scaling.original_context == 0 {
            let advice = "the factors are positive, and high_frequency_factor is the larger one";
            return Err(model.invalid("architecture.rope_scaling", scaling.factor, advice));
        }
    }
    Ok(architecture)
}

/// As its published training code: normal with 0.02, and products that add to the residual stream scaled
/// down by the root of their number, so that synthetic activations stay finite in f16.
fn init(name: &str, layers: usize) -> Init {
    let path: Vec<&str> = name.split('.').collect();
    match path[..] {
        [.., "input_layernorm" | "post_attention_layernorm" | "norm", _] => Init::Ones,
        [.., "o_proj" | "down_proj", _] => {
            Init::Normal { std: 0.02 / (2.0 * layers as f32).sqrt() }
        }
        _ => Init::Normal { std: 0.02 },
    }
}
