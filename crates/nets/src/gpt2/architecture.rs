//! The numbers in which GPT-2 variants differ, and the tensors that follow from them.

use serde::Deserialize;

/// The numbers in which GPT-2 variants differ, as their entry in `models.toml` gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads of a block.
    pub heads: usize,
    /// The width of the residual stream, a multiple of the heads.
    pub width: usize,
    /// The longest sequence: the number of learned positions.
    pub context: usize,
    /// The number of tokens.
    pub vocabulary: usize,
}

/// A product of the shapes `[tokens, in] · [in, out]`, by the name of its weight.
const PRODUCTS: [(&str, usize, usize); 4] = [
    // name, in and out as multiples of width
    ("attn.c_attn", 1, 3),
    ("attn.c_proj", 1, 1),
    ("mlp.c_fc", 1, 4),
    ("mlp.c_proj", 4, 1),
];

impl Architecture {
    /// Width of one attention head.
    pub fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// Every tensor of the net with its shape, under its published name without a prefix. Weights of
    /// products are `[in, out]`.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let e = self.width;
        let mut tensors = vec![
            ("wte.weight".to_owned(), vec![self.vocabulary, e]),
            ("wpe.weight".to_owned(), vec![self.context, e]),
        ];
        for layer in 0..self.layers {
            for norm in ["ln_1", "ln_2"] {
                tensors.push((format!("h.{layer}.{norm}.weight"), vec![e]));
                tensors.push((format!("h.{layer}.{norm}.bias"), vec![e]));
            }
            for (name, inner, outer) in PRODUCTS {
                tensors.push((format!("h.{layer}.{name}.weight"), vec![inner * e, outer * e]));
                tensors.push((format!("h.{layer}.{name}.bias"), vec![outer * e]));
            }
        }
        tensors.push(("ln_f.weight".to_owned(), vec![e]));
        tensors.push(("ln_f.bias".to_owned(), vec![e]));
        tensors
    }

    /// Weights that take part in a product for each token of a block: `12 · width²` a layer.
    pub fn block_weights(&self) -> usize {
        let e = self.width;
        self.layers * PRODUCTS.iter().map(|(_, inner, outer)| inner * outer * e * e).sum::<usize>()
    }

    /// Elements that one position of one sequence takes in the cache: keys and values of every layer.
    pub fn cache_elements(&self) -> usize {
        2 * self.layers * self.width
    }
}
