//! The numbers in which Llama variants differ, and the tensors that follow from them.

use serde::Deserialize;

/// The numbers in which Llama variants differ, as their entry in `models.toml` gives them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// The number of tokens.
    pub vocabulary: usize,
    /// The longest sequence that it was trained for.
    pub context: usize,
    /// The width of the residual stream, a multiple of the heads.
    pub width: usize,
    /// The width of a feed-forward layer.
    pub hidden: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values, a divisor of the heads: each serves as many neighbouring heads.
    pub key_value_heads: usize,
    /// Added to the mean square in every norm.
    pub norm_epsilon: f32,
    /// The base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies were stretched for long contexts.
    pub rope_scaling: Option<RopeScaling>,
    /// Whether the head is the table of embeddings.
    pub tied: bool,
}

/// Llama 3.1's stretching of the rotary frequencies (`rope_type` `llama3` in its `config.json`).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeScaling {
    /// By how much low frequencies are lowered.
    pub factor: f64,
    /// Waves of which fewer than this fit into the original context are low.
    pub low_frequency_factor: f64,
    /// Waves of which more than this fit stay as they are.
    pub high_frequency_factor: f64,
    /// The context before the stretching.
    pub original_context: usize,
}

impl Architecture {
    /// Width of one attention head.
    pub fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// Width of the keys of one position, and of the values.
    pub fn key_value_width(&self) -> usize {
        self.key_value_heads * self.head_width()
    }

    /// The products of a block by the name of their weight, out and in.
    fn products(&self) -> [(&'static str, usize, usize); 7] {
        let (e, shared, hidden) = (self.width, self.key_value_width(), self.hidden);
        [
            ("self_attn.q_proj", e, e),
            ("self_attn.k_proj", shared, e),
            ("self_attn.v_proj", shared, e),
            ("self_attn.o_proj", e, e),
            ("mlp.gate_proj", hidden, e),
            ("mlp.up_proj", hidden, e),
            ("mlp.down_proj", e, hidden),
        ]
    }

    /// Every tensor of the net with its shape, under its published name. Weights of products are `[out,
    /// in]`.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let e = self.width;
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocabulary, e])];
        for layer in 0..self.layers {
            let layer = format!("model.layers.{layer}");
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                tensors.push((format!("{layer}.{norm}.weight"), vec![e]));
            }
            for (name, outer, inner) in self.products() {
                tensors.push((format!("{layer}.{name}.weight"), vec![outer, inner]));
            }
        }
        tensors.push(("model.norm.weight".to_owned(), vec![e]));
        if !self.tied {
            tensors.push(("lm_head.weight".to_owned(), vec![self.vocabulary, e]));
        }
        tensors
    }

    /// Weights that take part in a product for each token of a block.
    pub fn block_weights(&self) -> usize {
        self.layers * self.products().iter().map(|(_, outer, inner)| outer * inner).sum::<usize>()
    }

    /// Elements that one position of one sequence takes in the cache: keys and values of every layer.
    pub fn cache_elements(&self) -> usize {
        2 * self.layers * self.key_value_width()
    }
}
