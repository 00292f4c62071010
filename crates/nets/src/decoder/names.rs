//! The names that published checkpoints give to the tensors of a decoder.

use super::variant::Variant;

/// The names of a variant's tensors, without `.weight` and `.bias`. Those of a block stand behind its number.
pub(crate) struct Names {
    pub(crate) embedding: &'static str,
    pub(crate) positions: &'static str,
    /// Rows of the table of positions that no position uses, in front of the others.
    pub(crate) position_offset: usize,
    pub(crate) last_norm: &'static str,
    pub(crate) head: &'static str,
    layers: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) attention_after: &'static str,
    pub(crate) mlp_norm: &'static str,
    pub(crate) mlp_after: &'static str,
    /// Queries, keys and values as one product, where they are.
    pub(crate) qkv: Option<&'static str>,
    pub(crate) query: &'static str,
    pub(crate) key: &'static str,
    pub(crate) value: &'static str,
    pub(crate) output: &'static str,
    pub(crate) query_norm: &'static str,
    pub(crate) key_norm: &'static str,
    pub(crate) gate: &'static str,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
    /// The gate and what it multiplies as one product, where they are.
    pub(crate) gate_up: Option<&'static str>,
    pub(crate) router: &'static str,
    experts: &'static str,
    /// Whether weights are `[in, out]`.
    pub(crate) transposed: bool,
}

impl Names {
    /// A block's.
    pub(crate) fn layer(&self, layer: usize) -> String {
        format!("{}.{layer}", self.layers)
    }

    /// A name in a block.
    pub(crate) fn in_layer(&self, layer: usize, name: &str) -> String {
        format!("{}.{layer}.{name}", self.layers)
    }

    /// An expert's.
    pub(crate) fn expert(&self, layer: usize, expert: usize) -> String {
        format!("{}.{layer}.{}.{expert}", self.layers, self.experts)
    }
}

const LLAMA: Names = Names {
    embedding: "model.embed_tokens",
    positions: "",
    position_offset: 0,
    last_norm: "model.norm",
    head: "lm_head",
    layers: "model.layers",
    attention_norm: "input_layernorm",
    attention_after: "",
    mlp_norm: "post_attention_layernorm",
    mlp_after: "",
    qkv: None,
    query: "self_attn.q_proj",
    key: "self_attn.k_proj",
    value: "self_attn.v_proj",
    output: "self_attn.o_proj",
    query_norm: "self_attn.q_norm",
    key_norm: "self_attn.k_norm",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
    gate_up: None,
    router: "mlp.gate",
    experts: "mlp.experts",
    transposed: false,
};

const GPT2: Names = Names {
    embedding: "wte",
    positions: "wpe",
    last_norm: "ln_f",
    layers: "h",
    attention_norm: "ln_1",
    mlp_norm: "ln_2",
    qkv: Some("attn.c_attn"),
    output: "attn.c_proj",
    up: "mlp.c_fc",
    down: "mlp.c_proj",
    transposed: true,
    ..LLAMA
};

const OPT: Names = Names {
    embedding: "model.decoder.embed_tokens",
    positions: "model.decoder.embed_positions",
    position_offset: 2,
    last_norm: "model.decoder.final_layer_norm",
    layers: "model.decoder.layers",
    attention_norm: "self_attn_layer_norm",
    mlp_norm: "final_layer_norm",
    output: "self_attn.out_proj",
    up: "fc1",
    down: "fc2",
    ..LLAMA
};

const GEMMA: Names = Names {
    attention_after: "post_attention_layernorm",
    mlp_norm: "pre_feedforward_layernorm",
    mlp_after: "post_feedforward_layernorm",
    ..LLAMA
};

const PHI3: Names =
    Names { qkv: Some("self_attn.qkv_proj"), gate_up: Some("mlp.gate_up_proj"), ..LLAMA };

const MIXTRAL: Names = Names {
    router: "block_sparse_moe.gate",
    experts: "block_sparse_moe.experts",
    gate: "w1",
    up: "w3",
    down: "w2",
    ..LLAMA
};

/// The expert's part of the names stands in front of them.
const QWEN3_MOE: Names = Names { gate: "gate_proj", up: "up_proj", down: "down_proj", ..LLAMA };

pub(super) fn of(variant: Variant) -> &'static Names {
    match variant {
        Variant::Gpt2 => &GPT2,
        Variant::Opt => &OPT,
        Variant::Llama | Variant::Mistral | Variant::Qwen2 | Variant::Qwen3 | Variant::Granite => {
            &LLAMA
        }
        Variant::Gemma2 | Variant::Gemma3 => &GEMMA,
        Variant::Phi3 => &PHI3,
        Variant::Mixtral => &MIXTRAL,
        Variant::Qwen3Moe => &QWEN3_MOE,
    }
}
