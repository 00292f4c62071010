//! Products with few rows.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use half::{bf16, f16};
use rayon::prelude::*;

use super::{Element, by_dtype, contiguous};

/// `x · w` for few rows: `x` is `[m, k]`; `w` is `[k, n]`, either as stored or as the transposed view
/// of `[n, k]`. Returns `[m, n]`.
pub fn skinny_gemm(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2_no_bwd(w, &FewRows)
}

struct FewRows;

impl CustomOp2 for FewRows {
    fn name(&self) -> &'static str {
        "few-rows-matmul"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x, few_rows_of(x, x_layout, w, w_layout))
    }
}

fn few_rows_of<T: Element>(
    x: &CpuStorage,
    x_layout: &Layout,
    w: &CpuStorage,
    w_layout: &Layout,
) -> Result<(CpuStorage, Shape)> {
    let (m, k) = x_layout.shape().dims2()?;
    let weights = Weights::<T>::new(w, w_layout, (m, k))?;
    let n = weights.columns;
    let mut rows = vec![0f32; m * k];
    T::widen(contiguous::<T>(x, x_layout)?, &mut rows);
    let width = weights.columns_of_a_task(m);
    // [task][m][width]: each task owns one stretch of the sums.
    let mut sums = vec![0f32; m * n];
    sums.par_chunks_mut(m * width).enumerate().for_each_init(Vec::new, |tile, (task, sums)| {
        weights.multiply(&rows, task * width, sums, tile);
    });
    let mut product = vec![T::narrow(0.0); m * n];
    for (task, sums) in sums.chunks(m * width).enumerate() {
        let filled = sums.len() / m;
        for (row, sums) in sums.chunks(filled).enumerate() {
            let start = row * n + task * width;
            T::narrow_all(sums, &mut product[start..start + filled]);
        }
    }
    Ok((T::storage(product), Shape::from((m, n))))
}

/// Up to so many rows, gemm takes its kernel for dot products with transposed weights.
pub const DOTS_ROWS: usize = 32;

/// A `[depth, columns]` matrix in memory as `[depth, columns]` or as `[columns, depth]`.
pub(super) struct Weights<'a, T> {
    pub(super) elements: &'a [T],
    pub(super) depth: usize,
    pub(super) columns: usize,
    pub(super) transposed: bool,
}

impl<'a, T: Element> Weights<'a, T> {
    /// Depth that is widened at a time: a tile of it stays in the second-level cache.
    const TILE_DEPTH: usize = 256;

    /// The weights that `[m, k]` is multiplied by.
    pub(super) fn new(
        storage: &'a CpuStorage,
        layout: &Layout,
        (m, k): (usize, usize),
    ) -> Result<Self> {
        let (depth, columns) = layout.shape().dims2()?;
        if k != depth {
            bail!("cannot multiply [{m}, {k}] by [{depth}, {columns}]");
        }
        let Some(elements) = T::slice(storage) else { bail!("operands differ in dtype") };
        let transposed = match *layout.stride() {
            [next_row, 1] if next_row == columns => false,
            [1, next_column] if next_column == depth => true,
            ref other => bail!("weights [{depth}, {columns}] cannot have strides {other:?}"),
        };
        let start = layout.start_offset();
        let elements = &elements[start..start + depth * columns];
        Ok(Self { elements, depth, columns, transposed })
    }

    /// Columns that one task computes for `m` rows.
    fn columns_of_a_task(&self, m: usize) -> usize {
        if self.transposed && m <= DOTS_ROWS {
            // gemm has a kernel for dot products, which it takes for up to 256 of them.
            256 / m
        } else {
            // Two tasks a thread even out a thread that is late; whole vectors.
            (self.columns / (2 * rayon::current_num_threads())).next_multiple_of(16).clamp(16, 1024)
        }
    }

    /// `sums = rows · w[.., first ..]`, as many columns as `sums` has.
    fn multiply(&self, rows: &[f32], first: usize, sums: &mut [f32], tile: &mut Vec<f32>) {
        let m = rows.len() / self.depth;
        let width = sums.len() / m;
        if let Some(elements) = T::as_f32(self.elements) {
            let (start, strides) = if self.transposed {
                (first * self.depth, (1, self.depth))
            } else {
                (first, (self.columns, 1))
            };
            let w = Strided { elements: &elements[start..], strides };
            add_product(sums, width, (rows, self.depth), &w, self.depth, false);
            return;
        }
        for from in (0..self.depth).step_by(Self::TILE_DEPTH) {
            let depth = Self::TILE_DEPTH.min(self.depth - from);
            tile.resize(Self::TILE_DEPTH * width, 0.0);
            let strides = if self.transposed {
                for (column, tile) in tile.chunks_mut(depth).take(width).enumerate() {
                    let start = (first + column) * self.depth + from;
                    T::widen(&self.elements[start..start + depth], tile);
                }
                (1, depth)
            } else {
                for (row, tile) in tile.chunks_mut(width).take(depth).enumerate() {
                    let start = (from + row) * self.columns + first;
                    T::widen(&self.elements[start..start + width], tile);
                }
                (width, 1)
            };
            let w = Strided { elements: tile, strides };
            add_product(sums, width, (&rows[from..], self.depth), &w, depth, from > 0);
        }
    }
}

pub(super) struct Strided<'a> {
    pub(super) elements: &'a [f32],
    /// Elements from a row to the next, and from a column to the next.
    pub(super) strides: (usize, usize),
}

/// `sums [+]= rows · w` on the calling thread, `sums` being `[m, width]`, `rows` `[m, depth]` with
/// `next_row` elements from one to the next, and `w` `[depth, width]`.
pub(super) fn add_product(
    sums: &mut [f32],
    width: usize,
    (rows, next_row): (&[f32], usize),
    w: &Strided<'_>,
    depth: usize,
    add: bool,
) {
    let m = sums.len() / width;
    assert!(rows.len() >= (m - 1) * next_row + depth);
    assert!(w.elements.len() > (depth - 1) * w.strides.0 + (width - 1) * w.strides.1);
    // SAFETY: the largest offset into each operand is inside its slice by the assertions above; `sums` is
    // borrowed exclusively.
    unsafe {
        gemm::gemm(
            m,
            width,
            depth,
            sums.as_mut_ptr(),
            1,
            width.cast_signed(),
            add,
            rows.as_ptr(),
            1,
            next_row.cast_signed(),
            w.elements.as_ptr(),
            w.strides.1.cast_signed(),
            w.strides.0.cast_signed(),
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
