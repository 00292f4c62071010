//! A decoder as fused kernels see it, and which ones they do not compute.

use candle_core::Tensor;

use super::plain;
use crate::bench::PlannedGroup;
use crate::catalog::{CatalogError, Model};
use crate::family::text::fused::{self, FusedNet};
use crate::family::text::{Numbers, refused};
use crate::options::RunOptions;
use crate::weights::Loaded;
use warpmark_fused::{Activation, NormKind, Part, Positions, Shape};
use warpmark_nets::decoder::{self, Architecture, Biases, Norm, Variant};

/// The benchmarks under fused kernels; where they do not compute the net, with what of it they do not.
pub(super) fn groups(
    model: &Model,
    (architecture, numbers): (&Architecture, &Numbers),
    options: &RunOptions,
) -> Result<Vec<PlannedGroup>, CatalogError> {
    match not_computed(architecture) {
        None => fused::groups(model, numbers, options, || net(architecture)),
        Some(_) if options.spec.gpu.is_none() => Ok(Vec::new()),
        Some(what) => {
            let reason = format!("fused kernels do not compute {what}; @warpmark does");
            refused::groups(model, numbers, options, (fused::FUSED, &reason))
        }
    }
}

/// What of a net fused kernels do not compute.
fn not_computed(a: &Architecture) -> Option<&'static str> {
    let learned = a.rope.is_none();
    let close = |value: f64, usual: f64| (value - usual).abs() <= 1e-9 * usual;
    let usual_scale = 1.0 / (a.head_width as f64).sqrt();
    let biases = Biases { qkv: learned, output: learned, mlp: learned };
    let activation =
        if learned { decoder::Activation::GeluTanh } else { decoder::Activation::Silu };
    [
        (a.experts.is_some(), "a mixture of experts"),
        (a.norm == Norm::RmsOne || a.norms_after, "Gemma's norms"),
        (a.qk_norm, "norms of queries and keys"),
        (a.biases != biases, "this choice of biases"),
        (a.activation != activation, "this activation"),
        (a.window.is_some_and(|window| window < a.context), "windows of attention"),
        (a.attention_cap.is_some() || a.logit_cap.is_some(), "caps"),
        (!close(a.attention_scale, usual_scale), "this scale of scores"),
        (
            !close(a.embedding_scale, 1.0)
                || !close(a.residual_scale, 1.0)
                || !close(a.logit_divisor, 1.0),
            "scales of embeddings, residuals or logits",
        ),
        (learned && !a.tied, "a head beside learned positions"),
        (
            a.rope.is_some_and(|rope| rope.turned != a.head_width || !close(rope.scale(), 1.0)),
            "heads that turn in part, or YaRN",
        ),
        (a.variant == Variant::Opt, "positions that begin at 2"),
        (a.variant == Variant::Phi3, "products that are stored together"),
    ]
    .into_iter()
    .find_map(|(is, what)| is.then_some(what))
}

fn net(architecture: &Architecture) -> FusedNet {
    let a = architecture;
    let shape = Shape {
        layers: a.layers,
        heads: a.heads,
        key_value_heads: a.key_value_heads,
        head_width: a.head_width,
        width: a.width,
        hidden: a.hidden,
        vocabulary: a.vocabulary,
        norm: if a.norm == Norm::Layer { NormKind::Layer } else { NormKind::Rms },
        epsilon: a.norm_epsilon,
        activation: match a.rope {
            None => Activation::GeluTanh,
            Some(_) => Activation::Swiglu,
        },
        positions: match a.rope {
            None => Positions::Learned(a.context),
            Some(rope) => Positions::Rotary(rope.inverse_frequencies()),
        },
        tied: a.tied,
    };
    let read = if a.rope.is_none() { part_of_gpt2 } else { part_of_llama };
    let checked = |model: &Model, loaded: &Loaded| Ok(plain(super::architecture(model)?, loaded));
    FusedNet { shape, read, plain: checked }
}

fn get(loaded: &Loaded, name: &str) -> candle_core::Result<Tensor> {
    match loaded.tensors.get(name) {
        Some(tensor) => Ok(tensor.clone()),
        None => candle_core::bail!("the weights have no tensor {name:?}"),
    }
}

/// A part of the weights; products are stored `[in, out]`.
fn part_of_gpt2(loaded: &Loaded, part: Part) -> candle_core::Result<(Tensor, Option<Tensor>)> {
    let get = |name: String| get(loaded, &name);
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

/// A part of the weights; what is read by one kernel is put together.
fn part_of_llama(loaded: &Loaded, part: Part) -> candle_core::Result<(Tensor, Option<Tensor>)> {
    let get = |name: &str| get(loaded, &format!("{name}.weight"));
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
