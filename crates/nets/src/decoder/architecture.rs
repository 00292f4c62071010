//! What decoders differ in, as the net computes with it.

use super::names::{self, Names};
use super::rope::Rope;
use super::variant::Variant;

/// A decoder: everything that its answers depend on, weights apart.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a choice of published nets")]
pub struct Architecture {
    /// The published net whose tensors it has.
    pub variant: Variant,
    /// Rows of the table of embeddings, those that no token uses included.
    pub vocabulary: usize,
    /// The longest sequence that it was trained for.
    pub context: usize,
    /// The width of the residual stream.
    pub width: usize,
    /// The width of a feed-forward layer, or of one expert's.
    pub hidden: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values, a divisor of the heads: each serves as many neighbouring heads.
    pub key_value_heads: usize,
    /// The width of a head.
    pub head_width: usize,
    /// How residuals are normalised.
    pub norm: Norm,
    /// Added to the variance or the mean square in every norm.
    pub norm_epsilon: f32,
    /// Whether what a layer adds to the residuals is normalised too.
    pub norms_after: bool,
    /// Whether the queries and keys of each head are normalised.
    pub qk_norm: bool,
    /// Of a feed-forward layer.
    pub activation: Activation,
    /// Whether the activation of one product multiplies another.
    pub gated: bool,
    /// Which products add something.
    pub biases: Biases,
    /// Rotary positions; without them there is a table of learned ones.
    pub rope: Option<Rope>,
    /// The base of the rotary frequencies of layers with a window, where it is another one. Nothing is scaled there.
    pub local_theta: Option<f64>,
    /// How many positions a layer with a window attends to, its own included.
    pub window: Option<usize>,
    /// The layers, in rising order, that have no window although others do.
    pub full_layers: Vec<usize>,
    /// What scores are multiplied by.
    pub attention_scale: f64,
    /// The `c` in `c · tanh(scores / c)`.
    pub attention_cap: Option<f64>,
    /// The same of logits.
    pub logit_cap: Option<f64>,
    /// What embeddings are multiplied by.
    pub embedding_scale: f64,
    /// What is multiplied before it is added to the residuals.
    pub residual_scale: f64,
    /// What logits are divided by.
    pub logit_divisor: f64,
    /// Whether the head is the table of embeddings.
    pub tied: bool,
    /// Where each token passes a few of many feed-forward layers.
    pub experts: Option<Experts>,
}

/// How residuals are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// Centred, over the standard deviation, with a gain and a bias (Ba et al. 2016).
    Layer,
    /// Over the root of the mean square, with a gain (Zhang and Sennrich 2019).
    Rms,
    /// The same with one added to the gain, as Gemma has it.
    RmsOne,
}

/// The activation of a feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Zero in the place of what is below it.
    Relu,
    /// GELU by its tanh formula (Hendrycks and Gimpel 2016).
    GeluTanh,
    /// GELU by the error function.
    Gelu,
    /// `x · logistic(x)`.
    Silu,
}

/// Which products add a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Biases {
    /// Those of queries, keys and values.
    pub qkv: bool,
    /// That of what attention gives.
    pub output: bool,
    /// Those of a feed-forward layer.
    pub mlp: bool,
}

/// A mixture of experts (Shazeer et al. 2017): feed-forward layers of which each token passes a few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experts {
    /// How many there are in a layer.
    pub count: usize,
    /// How many of them a token passes.
    pub per_token: usize,
    /// Whether the weights of those that were chosen are divided by their sum.
    pub normalised: bool,
}

/// A product of a block: `[tokens, input] · [input, output]`.
pub(crate) struct Product {
    pub(crate) name: String,
    pub(crate) output: usize,
    pub(crate) input: usize,
    pub(crate) bias: bool,
}

impl Architecture {
    /// Width of all heads of the queries together.
    pub fn attention_width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Width of the keys of one position, and of the values.
    pub fn key_value_width(&self) -> usize {
        self.key_value_heads * self.head_width
    }

    /// Whether a layer attends to no more than the window.
    pub fn is_windowed(&self, layer: usize) -> bool {
        self.window.is_some() && !self.full_layers.contains(&layer)
    }

    /// The names of its tensors.
    pub(crate) fn names(&self) -> &'static Names {
        names::of(self.variant)
    }

    /// The products of attention.
    pub(crate) fn attention_products(&self, layer: usize) -> Vec<Product> {
        let names = self.names();
        let (width, queries, shared) = (self.width, self.attention_width(), self.key_value_width());
        let product = |name: &str, output, input, bias| Product {
            name: names.in_layer(layer, name),
            output,
            input,
            bias,
        };
        let bias = self.biases.qkv;
        let mut products = match names.qkv {
            Some(together) => vec![product(together, queries + 2 * shared, width, bias)],
            None => vec![
                product(names.query, queries, width, bias),
                product(names.key, shared, width, bias),
                product(names.value, shared, width, bias),
            ],
        };
        products.push(product(names.output, width, queries, self.biases.output));
        products
    }

    /// The products of a feed-forward layer whose names begin so.
    fn mlp_products(&self, prefix: &str) -> Vec<Product> {
        let names = self.names();
        let (width, hidden) = (self.width, self.hidden);
        let product = |name: &str, output, input| Product {
            name: format!("{prefix}.{name}"),
            output,
            input,
            bias: self.biases.mlp,
        };
        let mut products = match names.gate_up {
            Some(together) => vec![product(together, 2 * hidden, width)],
            None if self.gated => {
                vec![product(names.gate, hidden, width), product(names.up, hidden, width)]
            }
            None => vec![product(names.up, hidden, width)],
        };
        products.push(product(names.down, width, hidden));
        products
    }

    /// The products of the feed-forward layer or layers of a block, the router's first.
    pub(crate) fn feed_forward_products(&self, layer: usize) -> Vec<Product> {
        let names = self.names();
        let Some(experts) = self.experts else {
            return self.mlp_products(&names.layer(layer));
        };
        let router = Product {
            name: names.in_layer(layer, names.router),
            output: experts.count,
            input: self.width,
            bias: false,
        };
        let of_expert = |expert| self.mlp_products(&names.expert(layer, expert));
        std::iter::once(router).chain((0..experts.count).flat_map(of_expert)).collect()
    }

    fn products(&self, layer: usize) -> Vec<Product> {
        let mut products = self.attention_products(layer);
        products.extend(self.feed_forward_products(layer));
        products
    }

    /// The norms of a block, those of the residuals' width and those of a head's.
    fn norms(&self, layer: usize) -> Vec<(String, usize)> {
        let names = self.names();
        let mut norms = vec![names.attention_norm];
        if self.norms_after {
            norms.push(names.attention_after);
        }
        norms.push(names.mlp_norm);
        if self.norms_after {
            norms.push(names.mlp_after);
        }
        let mut norms: Vec<(String, usize)> =
            norms.into_iter().map(|name| (names.in_layer(layer, name), self.width)).collect();
        if self.qk_norm {
            let own = [names.query_norm, names.key_norm];
            norms.extend(own.map(|name| (names.in_layer(layer, name), self.head_width)));
        }
        norms
    }

    /// Every tensor of the net with its shape, under its published name without a prefix. Weights of products
    /// are `[out, in]`, those of GPT-2 `[in, out]`.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let names = self.names();
        let weight = |name: &str| format!("{name}.weight");
        let mut tensors = vec![(weight(names.embedding), vec![self.vocabulary, self.width])];
        if self.rope.is_none() {
            let rows = self.context + names.position_offset;
            tensors.push((weight(names.positions), vec![rows, self.width]));
        }
        let norm = |tensors: &mut Vec<_>, name: &str, width: usize| {
            tensors.push((weight(name), vec![width]));
            if self.norm == Norm::Layer {
                tensors.push((format!("{name}.bias"), vec![width]));
            }
        };
        for layer in 0..self.layers {
            for (name, width) in self.norms(layer) {
                norm(&mut tensors, &name, width);
            }
            for Product { name, output, input, bias } in self.products(layer) {
                let shape =
                    if names.transposed { vec![input, output] } else { vec![output, input] };
                tensors.push((weight(&name), shape));
                if bias {
                    tensors.push((format!("{name}.bias"), vec![output]));
                }
            }
        }
        norm(&mut tensors, names.last_norm, self.width);
        if !self.tied {
            tensors.push((weight(names.head), vec![self.vocabulary, self.width]));
        }
        tensors
    }

    /// The name of the table of embeddings.
    pub fn embedding_name(&self) -> String {
        format!("{}.weight", self.names().embedding)
    }

    /// Weights of the products that every token of a block passes: all but those of experts.
    pub fn block_weights(&self) -> usize {
        let of = |products: Vec<Product>| -> usize {
            products.iter().map(|product| product.output * product.input).sum()
        };
        let layer = of(self.attention_products(0))
            + match self.experts {
                None => of(self.feed_forward_products(0)),
                Some(experts) => experts.count * self.width,
            };
        self.layers * layer
    }

    /// Weights of one expert of every layer together; 0 without experts.
    pub fn expert_weights(&self) -> usize {
        let each: usize = self.mlp_products("").iter().map(|one| one.output * one.input).sum();
        self.experts.map_or(0, |_| self.layers * each)
    }

    /// Elements that one position of one sequence takes in the cache: keys and values of every layer.
    pub fn cache_elements(&self) -> usize {
        2 * self.layers * self.key_value_width()
    }
}
