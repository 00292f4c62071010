//! candle-transformers' Llama as published, its faults left in.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Config, Llama, Llama3RopeConfig, Llama3RopeType};

use super::{PUBLISHED, architecture, plain};
use crate::bench::PlannedGroup;
use crate::catalog::{CatalogError, Model};
use crate::engine::CANDLE;
use crate::family::text::{self, CausalLm, Memory, Numbers, PlainLogits, refused};
use crate::options::RunOptions;
use crate::weights::Loaded;
use warpmark_nets::NetError;
use warpmark_nets::decoder::{Activation, Architecture, Biases, RopeScaling};

/// Its benchmarks; of a net that it does not compute, with what it does not.
pub(super) fn groups(
    model: &Model,
    (architecture, numbers): (&Architecture, &Numbers),
    options: &RunOptions,
) -> Result<Vec<PlannedGroup>, CatalogError> {
    match not_computed(architecture) {
        None => text::groups(model, numbers, options, &PUBLISHED),
        Some(what) => {
            let reason = format!("candle-transformers' Llama has no {what}; @warpmark does");
            refused::groups(model, numbers, options, (CANDLE, &reason))
        }
    }
}

fn not_computed(a: &Architecture) -> Option<&'static str> {
    let none = Biases { qkv: false, output: false, mlp: false };
    let scaling = a.rope.and_then(|rope| rope.scaling);
    [
        (a.biases != none, "biases"),
        (a.activation != Activation::Silu, "other activation than SiLU"),
        (a.head_width * a.heads != a.width, "width of heads of its own"),
        (a.qk_norm, "norms of queries and keys"),
        (a.window.is_some(), "windows of attention"),
        (a.rope.is_some_and(|rope| rope.turned != a.head_width), "heads that turn in part"),
        (
            matches!(scaling, Some(RopeScaling::Linear { .. } | RopeScaling::Yarn { .. })),
            "linear scaling and no YaRN",
        ),
    ]
    .into_iter()
    .find_map(|(is, what)| is.then_some(what))
}

/// The published net.
pub(super) struct Published {
    net: Llama,
    /// An empty cache with its rotations, which take time to compute.
    empty: Cache,
    dtype: DType,
    device: Device,
}

/// The published cache, which only grows, and the last state that can be gone back to.
pub(super) struct Grown {
    batch: usize,
    empty: Cache,
    marked: (usize, Cache),
    now: (usize, Cache),
}

pub(super) fn build(
    model: &Model,
    positions: usize,
    loaded: &Loaded,
) -> Result<(Published, PlainLogits), NetError> {
    let architecture = architecture(model).map_err(candle_core::Error::wrap)?;
    let tensors = &loaded.tensors;
    let name = "model.embed_tokens.weight";
    let some = tensors.get(name).ok_or_else(|| NetError::Missing(name.to_owned()))?;
    let (dtype, device) = (some.dtype(), some.device().clone());
    let config = config(&architecture, positions);
    // Its constructor panics where a tensor is not there or has another shape.
    for (name, expected) in architecture.tensors() {
        let tensor = tensors.get(&name).ok_or_else(|| NetError::Missing(name.clone()))?;
        if tensor.dims() != expected {
            return Err(NetError::Shape { name, found: tensor.dims().to_vec(), expected });
        }
    }
    let builder = VarBuilder::from_tensors(tensors.clone(), dtype, &device);
    let net = Published {
        net: Llama::load(builder, &config)?,
        empty: Cache::new(true, dtype, &config, &device)?,
        dtype,
        device,
    };
    Ok((net, plain(architecture, loaded)))
}

fn config(architecture: &Architecture, positions: usize) -> Config {
    let scaling = architecture.rope.and_then(|rope| rope.scaling);
    Config {
        hidden_size: architecture.width,
        intermediate_size: architecture.hidden,
        vocab_size: architecture.vocabulary,
        num_hidden_layers: architecture.layers,
        num_attention_heads: architecture.heads,
        num_key_value_heads: architecture.key_value_heads,
        use_flash_attn: false,
        rms_norm_eps: f64::from(architecture.norm_epsilon),
        rope_theta: architecture.rope.map_or(0.0, |rope| rope.theta as f32),
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: scaling.and_then(stretching),
        // Rotations are computed for each of them, so no more than are needed.
        max_position_embeddings: positions,
        tie_word_embeddings: architecture.tied,
    }
}

fn stretching(scaling: RopeScaling) -> Option<Llama3RopeConfig> {
    let RopeScaling::Llama3 {
        factor,
        low_frequency_factor,
        high_frequency_factor,
        original_context,
    } = scaling
    else {
        return None;
    };
    Some(Llama3RopeConfig {
        factor: factor as f32,
        low_freq_factor: low_frequency_factor as f32,
        high_freq_factor: high_frequency_factor as f32,
        original_max_position_embeddings: original_context,
        rope_type: Llama3RopeType::Llama3,
    })
}

impl CausalLm for Published {
    type Memory = Grown;

    const JOINS: bool = false;

    fn device(&self) -> &Device {
        &self.device
    }

    fn memory(&self, batch: usize, _capacity: usize) -> Result<Grown, NetError> {
        let state = || (0, self.empty.clone());
        Ok(Grown { batch, empty: self.empty.clone(), marked: state(), now: state() })
    }

    fn read(&self, tokens: &Tensor, memory: &mut Grown) -> Result<Tensor, NetError> {
        let count = tokens.dim(1)?;
        let (length, cache) = &mut memory.now;
        // It has no room for more positions than it has rotations, and says so itself.
        let logits = self.net.forward(tokens, *length, cache)?;
        *length += count;
        Ok(logits.to_dtype(self.dtype)?)
    }
}

impl Memory for Grown {
    fn length(&self) -> usize {
        self.now.0
    }

    fn batch(&self) -> usize {
        self.batch
    }

    fn rewind(&mut self, length: usize) {
        if length == 0 {
            self.now = (0, self.empty.clone());
        } else if length == self.marked.0 {
            self.now = self.marked.clone();
        }
    }

    fn mark(&mut self) {
        self.marked = self.now.clone();
    }

    fn take_over(&mut self, _at: usize, other: &Self, _count: usize) -> Result<(), NetError> {
        // Its tensors are private; `JOINS` says so before.
        Err(NetError::Batch { tokens: other.batch, cache: self.batch })
    }
}
