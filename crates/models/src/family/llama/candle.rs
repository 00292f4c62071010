//! candle-transformers' Llama as published, its faults left in.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Config, Llama, Llama3RopeConfig, Llama3RopeType};

use super::{architecture, plain};
use crate::catalog::Model;
use crate::family::text::{CausalLm, Memory, PlainLogits};
use crate::weights::Loaded;
use warpmark_nets::NetError;
use warpmark_nets::llama::Architecture;

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
    let rope = |scaling: warpmark_nets::llama::RopeScaling| Llama3RopeConfig {
        factor: scaling.factor as f32,
        low_freq_factor: scaling.low_frequency_factor as f32,
        high_freq_factor: scaling.high_frequency_factor as f32,
        original_max_position_embeddings: scaling.original_context,
        rope_type: Llama3RopeType::Llama3,
    };
    Config {
        hidden_size: architecture.width,
        intermediate_size: architecture.hidden,
        vocab_size: architecture.vocabulary,
        num_hidden_layers: architecture.layers,
        num_attention_heads: architecture.heads,
        num_key_value_heads: architecture.key_value_heads,
        use_flash_attn: false,
        rms_norm_eps: f64::from(architecture.norm_epsilon),
        rope_theta: architecture.rope_theta as f32,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: architecture.rope_scaling.map(rope),
        // Rotations are computed for each of them, so no more than are needed.
        max_position_embeddings: positions,
        tie_word_embeddings: architecture.tied,
    }
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
