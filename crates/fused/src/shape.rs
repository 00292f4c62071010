//! The numbers in which language models differ, and what is refused of them before anything is launched.

use warpmark_measure::WorkloadError;

use crate::Dtype;
use crate::attention::AttentionBuild;
use crate::kernels::{MOST_SEQUENCES, VECTOR, WIDEST_HEAD};
use crate::pass::WIDEST_ROW;

/// How the input of a product is normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// By the root of the mean square (Zhang and Sennrich 2019).
    Rms,
    /// By mean and standard deviation, with a bias (Ba et al. 2016).
    Layer,
}

/// What is between the two products of a feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `silu(gate) * up`; gates and values are rows in turn.
    Swiglu,
    /// GELU by its approximation with tanh.
    GeluTanh,
    /// GELU by the error function.
    GeluErf,
}

/// How positions are told.
#[derive(Debug, Clone, PartialEq)]
pub enum Positions {
    /// A learned vector for each of so many positions, added to the embedding.
    Learned(usize),
    /// Queries and keys are turned: the radians that a position adds to each pair `(i, i + width / 2)` of a head.
    Rotary(Vec<f64>),
}

/// The numbers of a decoder-only transformer with norms before its layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Blocks.
    pub layers: usize,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values, a divisor of the heads.
    pub key_value_heads: usize,
    /// The width of a head.
    pub head_width: usize,
    /// The width of the residual stream.
    pub width: usize,
    /// The width of a feed-forward layer.
    pub hidden: usize,
    /// Tokens.
    pub vocabulary: usize,
    /// All its norms.
    pub norm: NormKind,
    /// Added to the variance, or the mean square.
    pub epsilon: f32,
    /// Its feed-forward layers.
    pub activation: Activation,
    /// How positions are told.
    pub positions: Positions,
    /// Whether the head is the table of embeddings.
    pub tied: bool,
}

impl Shape {
    /// The width of what attention mixes, each head in whole vectors: the columns of the product behind it.
    pub(crate) fn mixed(&self) -> usize {
        self.heads * self.head_padded()
    }

    /// Rows of the product that makes queries, keys and values.
    pub(crate) fn qkv(&self) -> usize {
        (self.heads + 2 * self.key_value_heads) * self.head_width
    }

    /// Rows of the first product of a feed-forward layer.
    pub(crate) fn up(&self) -> usize {
        if self.activation == Activation::Swiglu { 2 * self.hidden } else { self.hidden }
    }

    /// Elements of one head at one position in the cache.
    pub(crate) fn head_padded(&self) -> usize {
        self.head_width.next_multiple_of(VECTOR)
    }

    /// Why a card of this compute capability takes no pass over many rows: reading prompts at once, and more sequences
    /// than [`crate::MOST_BY_VECTORS`].
    ///
    /// # Errors
    /// [`WorkloadError::Unsupported`] with what it lacks, and what would do.
    pub fn check_rows(&self, dtype: Dtype, capability: (u32, u32)) -> Result<(), WorkloadError> {
        let head_size = self.head_padded() as u32;
        AttentionBuild { head_size, dtype, tiles: 1 }.check(capability)
    }

    /// Why no kernel takes this net with so many sequences of so many positions; nothing is launched.
    ///
    /// # Errors
    /// [`WorkloadError::Unsupported`] with the number that is too large, and the engine that would do.
    pub fn check(&self, batch: usize, capacity: usize) -> Result<(), WorkloadError> {
        let refuse = |what: String| {
            Err(WorkloadError::Unsupported(format!("{what}; the engine warpmark takes it")))
        };
        if !(1..=WIDEST_HEAD).contains(&self.head_width) {
            let width = self.head_width;
            return refuse(format!("heads of {width}: the kernels end at {WIDEST_HEAD}"));
        }
        if self.key_value_heads == 0 || !self.heads.is_multiple_of(self.key_value_heads) {
            let (heads, shared) = (self.heads, self.key_value_heads);
            return refuse(format!("{heads} heads cannot share the keys of {shared}"));
        }
        if !(1..=MOST_SEQUENCES).contains(&batch) {
            return refuse(format!("a batch of {batch}: the kernels end at {MOST_SEQUENCES}"));
        }
        if self.width > WIDEST_ROW {
            let width = self.width;
            return refuse(format!("a stream {width} wide: the kernels end at {WIDEST_ROW}"));
        }
        let turned = match &self.positions {
            Positions::Learned(positions) if capacity > *positions => {
                return refuse(format!("{capacity} positions of a net that learned {positions}"));
            }
            Positions::Learned(_) => None,
            Positions::Rotary(frequencies) => Some(2 * frequencies.len()),
        };
        if let Some(turned) = turned.filter(|turned| *turned != self.head_width) {
            return refuse(format!("{turned} of {} numbers of a head turn", self.head_width));
        }
        // Indices on the device are 32 bits wide where they count rows, columns and positions.
        let largest = [self.qkv(), self.up(), self.vocabulary, self.width, capacity];
        if largest.iter().any(|count| *count == 0 || *count > 1 << 24) {
            return refuse("a dimension of 0, or above 2^24".to_owned());
        }
        Ok(())
    }
}
