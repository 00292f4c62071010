//! Rows and columns exchanged.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use half::{bf16, f16};
use rayon::prelude::*;

use super::{Element, by_dtype, contiguous};

/// `[b, m, n]` to `[b, n, m]`, laid out anew: candle does it one element at a time, on one thread.
pub fn transpose(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1_no_bwd(&Transpose)
}

struct Transpose;

impl CustomOp1 for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, rows, columns) = layout.shape().dims3()?;
        let y = by_dtype!(x, exchange_all((x, layout), rows, columns))?;
        Ok((y, Shape::from((batch, columns, rows))))
    }
}

/// Edge of the squares that are copied: a cache line of f32.
const EDGE: usize = 16;

fn exchange_all<T: Element>(
    x: (&CpuStorage, &Layout),
    rows: usize,
    columns: usize,
) -> Result<CpuStorage> {
    Ok(T::storage(exchange(contiguous::<T>(x.0, x.1)?, rows, columns)))
}

/// Images of so many rows and columns, with the columns as rows.
pub(super) fn exchange<T: Element>(x: &[T], rows: usize, columns: usize) -> Vec<T> {
    let mut y = vec![T::narrow(0.0); x.len()];
    if y.is_empty() {
        return y;
    }
    let images = y.par_chunks_mut(rows * columns).zip(x.par_chunks(rows * columns));
    images.for_each(|(y, x)| {
        y.par_chunks_mut(EDGE * rows).enumerate().for_each(|(stripe, y)| {
            let first = stripe * EDGE;
            for top in (0..rows).step_by(EDGE) {
                let bottom = (top + EDGE).min(rows);
                for (column, y) in y.chunks_mut(rows).enumerate() {
                    for (row, y) in y[top..bottom].iter_mut().enumerate() {
                        *y = x[(top + row) * columns + first + column];
                    }
                }
            }
        });
    });
    y
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn every_element_is_where_candle_puts_it() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            for shape in [(2, 1, 5), (1, 40, 33), (3, 16, 32), (1, 0, 4)] {
                let x = Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
                let x = x.to_dtype(dtype).unwrap();
                let found = transpose(&x).unwrap();
                let expected = x.transpose(1, 2).unwrap().contiguous().unwrap();
                let flat = |x: &Tensor| {
                    let x = x.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
                    x.to_vec1::<f32>().unwrap()
                };
                assert_eq!(found.dims(), expected.dims());
                assert_eq!(flat(&found), flat(&expected), "{dtype:?} {shape:?}");
            }
        }
    }
}
