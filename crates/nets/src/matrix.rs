//! A weight matrix as a net multiplies with it: plain numbers, or blocks of a quantised file.

use std::sync::Arc;

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Module, Result, Tensor};

use super::ops;

/// A weight matrix, `[out, in]` as it is stored.
pub(super) enum Matrix {
    /// Its `[in, out]` view.
    Plain(Tensor),
    /// Blocks along its rows, multiplied as they are.
    Blocks(QMatMul),
}

impl Matrix {
    /// Of numbers, `[out, in]`, shared and not copied.
    pub(super) fn plain(stored: &Tensor) -> Result<Self> {
        Ok(Self::Plain(stored.t()?))
    }

    /// Of blocks, shared and not copied.
    pub(super) fn blocks(stored: &Arc<QTensor>) -> Self {
        // Not `from_arc`, which turns to plain numbers where an environment variable says so.
        Self::Blocks(QMatMul::QTensor(Arc::clone(stored)))
    }

    /// `[rows, in]` to `[rows, out]`.
    pub(super) fn multiply(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(matrix) => ops::multiply(x, matrix),
            Self::Blocks(blocks) => blocks.forward(&x.contiguous()?),
        }
    }

    /// `[sequences, new, in]` to `[sequences, new, out]`.
    pub(super) fn multiply_each(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, count, width) = x.dims3()?;
        self.multiply(&x.reshape((batch * count, width))?)?.reshape((batch, count, ()))
    }
}

/// A table of rows that are looked up.
pub(super) enum Table {
    /// Numbers, `[rows, width]`.
    Plain(Tensor),
    /// Blocks along its rows, of which only those that are looked up are widened.
    Blocks(Arc<QTensor>),
}

impl Table {
    /// The rows of some ids: `[ids]` to `[ids, width]`.
    pub(super) fn rows(&self, ids: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(table) => table.embedding(ids),
            Self::Blocks(table) => table.embedding(ids),
        }
    }
}
