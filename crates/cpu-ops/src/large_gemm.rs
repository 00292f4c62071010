//! Products with many rows.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::contiguous;
use super::product::Weights;

/// `x · w` in f32 for many rows: `x` is `[m, k]`; `w` is `[k, n]`, either as stored or as the transposed
/// view of `[n, k]`. Returns `[m, n]`.
///
/// candle's product packs the weights for each thread, which takes as long as half of the product where
/// they are transposed and the rows are those of a prompt.
pub fn large_gemm(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2_no_bwd(w, &ManyRows)
}

struct ManyRows;

impl CustomOp2 for ManyRows {
    fn name(&self) -> &'static str {
        "many-rows-matmul"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (m, k) = x_layout.shape().dims2()?;
        let weights = Weights::<f32>::new(w, w_layout, (m, k))?;
        let Weights { elements, columns: n, transposed, .. } = weights;
        let x = MatRef::from_row_major_slice(contiguous::<f32>(x, x_layout)?, m, k);
        let w = if transposed {
            MatRef::from_column_major_slice(elements, k, n)
        } else {
            MatRef::from_row_major_slice(elements, k, n)
        };
        // A row of sums lies in vector registers, for which faer lays out what is multiplied in the same
        // order: all transposed weights. Where that is more than both the rows and the sums, columns of
        // sums are made and turned.
        let across = transposed && m * (n + k) < n * k;
        let (next_row, next_column) = if across { (1, m) } else { (n, 1) };
        // Zeros would be written once for nothing: as much memory as the product reads, or more.
        let mut product = Vec::with_capacity(m * n);
        // SAFETY: the sums lie within the capacity, which nothing else looks at; `Accum::Replace` writes
        // every element and reads none, and all of them are written when the call returns.
        unsafe {
            let (next_row, next_column) = (next_row.cast_signed(), next_column.cast_signed());
            let y = MatMut::from_raw_parts_mut(product.as_mut_ptr(), m, n, next_row, next_column);
            // As many threads as rayon has.
            matmul(y, Accum::Replace, x, w, 1.0, Par::rayon(0));
            product.set_len(m * n);
        }
        let product = if across { exchange(&product, n, m) } else { product };
        Ok((CpuStorage::F32(product), Shape::from((m, n))))
    }
}

/// Edge of the squares that are copied: a cache line of f32.
const EDGE: usize = 16;

/// `[rows, columns]` as `[columns, rows]`: candle copies one element at a time, on one thread.
fn exchange(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    if y.is_empty() {
        return y;
    }
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
    y
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::fixture::normal;
    use warpmark_record::agreement::relative_error;

    fn random(rows: usize, columns: usize) -> Tensor {
        normal((0.0, 1.0), (rows, columns))
    }

    fn assert_same(found: &Tensor, expected: &Tensor) {
        let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let off = relative_error(&flat(found), &flat(expected));
        assert_eq!(found.dims(), expected.dims());
        assert!(off <= 2e-6, "{:?}: {off:e}", found.dims());
    }

    #[test]
    fn it_equals_candle_s_product_with_weights_of_either_layout() {
        for (m, k, n) in [(1, 1, 1), (33, 7, 5), (40, 300, 130), (65, 300, 130), (200, 129, 257)] {
            let x = random(m, k);
            for w in
                [random(k, n), random(n, k).t().unwrap(), random(k + 2, n).narrow(0, 1, k).unwrap()]
            {
                assert_same(&large_gemm(&x, &w).unwrap(), &x.matmul(&w).unwrap());
            }
        }
    }

    #[test]
    fn products_that_begin_at_the_same_time_all_end() {
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let (x, w) = (random(70, 90), random(110, 90));
                    let expected = x.matmul(&w.t().unwrap()).unwrap();
                    for _ in 0..200 {
                        assert_same(&large_gemm(&x, &w.t().unwrap()).unwrap(), &expected);
                    }
                });
            }
        });
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(large_gemm(&random(3, 4), &random(5, 4)).is_err());
        let gaps = random(4, 8).narrow(1, 0, 3).unwrap();
        assert!(large_gemm(&random(3, 4), &gaps).is_err());
    }
}
