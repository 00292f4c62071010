//! A weight matrix as a net multiplies with it: plain numbers, or blocks of a quantised file.

use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
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
    pub(super) fn blocks(stored: &Arc<QTensor>) -> Result<Self> {
        if cfg!(debug_assertions) && has_an_odd_number_of_blocks(stored) {
            return Self::plain(&stored.dequantize(&stored.device())?);
        }
        // Not `from_arc`, which turns to plain numbers where an environment variable says so.
        Ok(Self::Blocks(QMatMul::QTensor(Arc::clone(stored))))
    }

    /// `[rows, in]` to `[rows, out]`.
    pub(super) fn multiply(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(matrix) => ops::multiply(x, matrix),
            Self::Blocks(blocks) => blocks.forward(&x.contiguous()?),
        }
    }

    /// `[sequences, new, in]` to `[sequences, new, out]`.
    pub(super) fn linear(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, count, width) = x.dims3()?;
        self.multiply(&x.reshape((batch * count, width))?)?.reshape((batch, count, ()))
    }
}

/// Whether candle's product asserts, in unoptimised builds and on a CPU, that rows of these kinds have
/// an even number of blocks (`vec_dot` of `Q4_1`, `Q5_0` and `Q5_1`). Its sums take any number, and
/// optimised builds use them; no other kind asks for more than whole blocks. llama.cpp stores rows of
/// 96 weights so.
fn has_an_odd_number_of_blocks(stored: &QTensor) -> bool {
    let kind = stored.dtype();
    let row = stored.shape().dims().last().copied().unwrap_or(0);
    matches!(kind, GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1)
        && stored.device().is_cpu()
        && !(row / kind.block_size()).is_multiple_of(2)
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

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Waves of a size that blocks of five bits keep well.
    fn waves(rows: usize, width: usize, step: f32) -> Tensor {
        let values = (0..rows * width).map(|at| (at as f32 * step).sin());
        Tensor::from_iter(values, &Device::Cpu).unwrap().reshape((rows, width)).unwrap()
    }

    #[test]
    fn rows_of_any_number_of_blocks_are_multiplied_in_every_kind_that_is_loaded() {
        for (kind, width) in [
            (GgmlDType::Q4_0, 96),
            (GgmlDType::Q4_1, 96),
            (GgmlDType::Q5_0, 32),
            (GgmlDType::Q5_0, 96),
            (GgmlDType::Q5_1, 96),
            (GgmlDType::Q5_1, 160),
            (GgmlDType::Q8_0, 96),
            (GgmlDType::Q4K, 768),
            (GgmlDType::Q5K, 768),
            (GgmlDType::Q6K, 768),
        ] {
            let stored = Arc::new(QTensor::quantize(&waves(5, width, 0.37), kind).unwrap());
            let x = waves(3, width, 0.61);
            let matrix = Matrix::blocks(&stored).unwrap();
            let found: Vec<Vec<f32>> = matrix.multiply(&x).unwrap().to_vec2().unwrap();
            let weights: Vec<Vec<f32>> =
                stored.dequantize(&Device::Cpu).unwrap().to_vec2().unwrap();
            let x: Vec<Vec<f32>> = x.to_vec2().unwrap();
            for (x, found) in x.iter().zip(&found) {
                for (row, found) in weights.iter().zip(found) {
                    let products = x.iter().zip(row).map(|(x, w)| f64::from(*x) * f64::from(*w));
                    let expected: f64 = products.sum();
                    // Activations are rounded to eight bits of the largest of their block.
                    let reach = (width as f64).sqrt() / 128.0;
                    let off = (f64::from(*found) - expected).abs();
                    assert!(off < reach, "{kind:?} {width}: {found} for {expected}");
                }
            }
        }
    }
}
