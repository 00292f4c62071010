//! What of a checkpoint is passed over and compared, and how synthetic weights are filled.

use crate::weights::gguf::ROPE_FACTORS;
use crate::weights::{Copied, Init, TensorNames};
use warpmark_nets::decoder::{Architecture, Norm, Variant};

/// What to do with a head of a checkpoint's own.
const UNTIED: &str =
    "the checkpoint has a head of its own: set tied = false in the entry's architecture";

/// Rotary frequencies and their tables, causal masks and lists of positions; and a GGUF file's factors of
/// Llama 3.1's stretching, which are compared with the architecture.
const DERIVED: &[&str] = &[
    "*.rotary_emb.inv_freq",
    "*.rotary_emb.original_inv_freq",
    "*.rotary_emb.cos_cached",
    "*.rotary_emb.sin_cached",
    "*.self_attn.bias",
    "*.self_attn.masked_bias",
    "*.position_ids",
    ROPE_FACTORS,
];

const GPT2: TensorNames = TensorNames {
    prefix: "transformer.",
    ignored: &["*.attn.bias", "*.attn.masked_bias", "*.position_ids"],
    renamed: &[],
    copies: &[Copied { copy: "lm_head.weight", of: "wte.weight", advice: UNTIED }],
    not_computed: &[
        (".mlp.c_fc.weight", "a hidden layer of another width than the entry's (n_inner)"),
        (".crossattention.c_attn.weight", "attention to an encoder (add_cross_attention)"),
    ],
};

const OPT: TensorNames = TensorNames {
    prefix: "",
    ignored: DERIVED,
    renamed: &[],
    copies: &[Copied {
        copy: "lm_head.weight",
        of: "model.decoder.embed_tokens.weight",
        advice: UNTIED,
    }],
    not_computed: &[(
        ".project_in.weight",
        "embeddings narrower than the net (word_embed_proj_dim)",
    )],
};

const LLAMA: TensorNames = TensorNames {
    prefix: "",
    ignored: DERIVED,
    renamed: &[],
    copies: &[
        Copied { copy: "lm_head.weight", of: "model.embed_tokens.weight", advice: UNTIED },
        Copied { copy: "output.weight", of: "token_embd.weight", advice: UNTIED },
    ],
    not_computed: &[
        (".q_norm.weight", "norms of queries and keys, which the family qwen3 has"),
        (".k_norm.weight", "norms of queries and keys, which the family qwen3 has"),
        (".q_proj.bias", "biases of queries, keys and values (qkv_bias, or the family qwen2)"),
        (".gate_proj.bias", "biases of the feed-forward layers (mlp_bias)"),
        (".q_proj.weight", "heads of another width than the entry's (head_width)"),
    ],
};

pub(super) fn of(variant: Variant) -> TensorNames {
    match variant {
        Variant::Gpt2 => GPT2,
        Variant::Opt => OPT,
        _ => LLAMA,
    }
}

/// As the published training code of most: normal with 0.02, GPT-2's positions with 0.01 (Radford et al. 2019,
/// §2.3), and products that add to the residual stream scaled down by the root of their number, so that
/// synthetic activations stay finite in f16.
pub(in crate::family) fn init(name: &str, architecture: &Architecture) -> Init {
    let added = Init::Normal { std: 0.02 / (2.0 * architecture.layers as f32).sqrt() };
    let path: Vec<&str> = name.split('.').collect();
    match path[..] {
        [.., "bias"] => Init::Zeros,
        [.., norm, _] if norm.contains("norm") || norm.starts_with("ln_") => {
            if architecture.norm == Norm::RmsOne { Init::Zeros } else { Init::Ones }
        }
        ["wpe", _] => Init::Normal { std: 0.01 },
        [.., "c_proj" | "o_proj" | "out_proj" | "down_proj" | "fc2" | "w2", _] => added,
        _ => Init::Normal { std: 0.02 },
    }
}
