//! Attention of many positions over many.

use std::ops::Range;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use half::{bf16, f16};
use rayon::prelude::*;

use super::elementary::LANES;
use super::mixture::{Mixture, Seen};
use super::product::Strided;
use super::{Element, by_dtype, contiguous};

/// Attention of every query over every key: `q` is `[b, n, h·d]`, `k` and `v` are `[b, t, h·d]`, with
/// the heads beside each other. Returns `[b, n, h·d]`.
///
/// `mask` is what a query sees of the keys.
///
/// A task takes a block of queries, one head of it after the other, so that of all scores only a few
/// rows are ever held.
pub fn whole_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    mask: AttentionMask,
) -> Result<Tensor> {
    let op = WholeAttention { heads, mask };
    q.contiguous()?.apply_op3_no_bwd(&k.contiguous()?, &v.contiguous()?, &op)
}

/// What each query attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionMask {
    /// Every key.
    Full,
    /// The keys up to its own place; there are as many as queries.
    Causal,
}

struct WholeAttention {
    heads: usize,
    mask: AttentionMask,
}

impl CustomOp3 for WholeAttention {
    fn name(&self) -> &'static str {
        "whole-attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, queries, width) = q_layout.shape().dims3()?;
        let (sets, keys, columns) = k_layout.shape().dims3()?;
        let fits = sets == batch && columns == width && k_layout.dims() == v_layout.dims();
        if !fits || self.heads == 0 || width % self.heads != 0 {
            bail!("{} heads cannot attend with {:?} to {:?}", self.heads, q_layout, k_layout);
        }
        if self.mask == AttentionMask::Causal && queries != keys {
            bail!("{queries} queries have no places among {keys} keys");
        }
        let (heads, mask) = (self.heads, self.mask);
        let extents = Extents { queries, keys, width, heads, head_width: width / heads, mask };
        let y = by_dtype!(q, attend((q, q_layout), (k, k_layout), (v, v_layout), &extents))?;
        Ok((y, q_layout.shape().clone()))
    }
}

struct Extents {
    queries: usize,
    keys: usize,
    width: usize,
    heads: usize,
    head_width: usize,
    mask: AttentionMask,
}

/// Queries of a block at least and at most, and scores that a block should hold: with half a MiB of
/// them, what is written by one product is still in the second-level cache when the other one reads it.
/// A single row would be summed up in one go, with an error that grows with the number of keys.
const BLOCK: (usize, usize) = (16, 128);
const SCORES: usize = 1 << 17;

type Operand<'a> = (&'a CpuStorage, &'a Layout);

fn attend<T: Element>(
    q: Operand<'_>,
    k: Operand<'_>,
    v: Operand<'_>,
    extents: &Extents,
) -> Result<CpuStorage> {
    let Extents { queries, width, heads, .. } = *extents;
    let q = contiguous::<T>(q.0, q.1)?;
    let (k, v) = (contiguous::<T>(k.0, k.1)?, contiguous::<T>(v.0, v.1)?);
    let images = q.len() / (queries * width).max(1);
    let all: Vec<Head> = (0..images * heads)
        .into_par_iter()
        .map(|index| Head::of(extents, k, v, (index / heads, index % heads)))
        .collect();
    let mut mixed = vec![T::narrow(0.0); q.len()];
    let block = (SCORES / extents.row()).clamp(BLOCK.0, BLOCK.1);
    // A block of queries is one stretch of memory with all its heads; its task takes one after the
    // other.
    let per_image = queries.div_ceil(block);
    let tasks: Vec<(usize, usize)> = (0..images)
        .flat_map(|image| (0..per_image).map(move |index| (image, index * block)))
        .collect();
    let mut parts = Vec::with_capacity(tasks.len());
    let mut rest = mixed.as_mut_slice();
    for (_, first) in &tasks {
        let (own, others) = rest.split_at_mut(block.min(queries - first) * width);
        parts.push(own);
        rest = others;
    }
    tasks.into_par_iter().zip(parts).for_each_init(Scratch::default, |scratch, (task, mixed)| {
        let (image, first) = task;
        let start = (image * queries + first) * width;
        let q = &q[start..start + mixed.len()];
        for (index, head) in all[image * heads..][..heads].iter().enumerate() {
            scratch.attend(extents, (first, index), head, q, mixed);
        }
    });
    Ok(T::storage(mixed))
}

impl Extents {
    /// Scores of a row: one for each key and zeros after them. Whole vectors, and an odd number of
    /// cache lines: at a power of two, all rows would compete for the same few sets of the cache.
    fn row(&self) -> usize {
        (self.keys.div_ceil(LANES) | 1) * LANES
    }

    /// Where a head's columns are.
    fn columns(&self, head: usize) -> Range<usize> {
        head * self.head_width..(head + 1) * self.head_width
    }
}

/// Keys and values of one head in f32, laid out as the two products read them, so that no block of
/// queries has to do it again.
struct Head {
    /// `[head width, row]`.
    keys: Vec<f32>,
    /// `[keys, head width]`.
    values: Vec<f32>,
}

impl Head {
    fn of<T: Element>(extents: &Extents, k: &[T], v: &[T], (image, head): (usize, usize)) -> Self {
        let Extents { keys: count, width, head_width, .. } = *extents;
        let (set, row) = (image * count * width..(image + 1) * count * width, extents.row());
        let columns = extents.columns(head);
        let mut values = Vec::new();
        gather(&v[set.clone()], width, columns.clone(), &mut values);
        let mut keys = vec![0f32; head_width * row];
        let mut tile = Vec::new();
        for (first, k) in k[set].chunks(LANES * width).enumerate() {
            gather(k, width, columns.clone(), &mut tile);
            for (index, key) in tile.chunks(head_width).enumerate() {
                for (position, value) in key.iter().enumerate() {
                    keys[position * row + first * LANES + index] = *value;
                }
            }
        }
        Self { keys, values }
    }
}

/// Buffers of a thread.
#[derive(Default)]
struct Scratch {
    queries: Vec<f32>,
    mixture: Mixture,
}

impl Scratch {
    /// One head of a block of queries, the first of which stands at `first`.
    fn attend<T: Element>(
        &mut self,
        extents: &Extents,
        (first, index): (usize, usize),
        head: &Head,
        q: &[T],
        mixed: &mut [T],
    ) {
        let Extents { keys, width, head_width, .. } = *extents;
        let (row, columns) = (extents.row(), extents.columns(index));
        gather(q, width, columns.clone(), &mut self.queries);
        let scale = 1.0 / (head_width as f32).sqrt();
        for query in &mut self.queries {
            *query *= scale;
        }
        let seen = match extents.mask {
            AttentionMask::Full => Seen { first: keys, more: 0 },
            AttentionMask::Causal => Seen { first: first + 1, more: 1 },
        };
        let transposed = Strided { elements: &head.keys, strides: (row, 1) };
        let values = Strided { elements: &head.values, strides: (head_width, 1) };
        let queries = (self.queries.as_slice(), head_width);
        let mixture = self.mixture.of(queries, (&transposed, row), (&values, keys), seen);
        for (mixture, mixed) in mixture.chunks(head_width).zip(mixed.chunks_mut(width)) {
            T::narrow_all(mixture, &mut mixed[columns.clone()]);
        }
    }
}

/// Some columns of a matrix with `width` of them, in f32 and without gaps.
fn gather<T: Element>(from: &[T], width: usize, columns: Range<usize>, into: &mut Vec<f32>) {
    into.resize(from.len() / width * columns.len(), 0.0);
    for (row, target) in from.chunks(width).zip(into.chunks_mut(columns.len())) {
        T::widen(&row[columns.clone()], target);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::fixture::normal;
    use crate::fixture::upper_triangle;
    use warpmark_record::agreement::relative_error;

    /// The plain formula, `[b, n, h·d]`.
    fn plain(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, mask: AttentionMask) -> Tensor {
        let split = |x: &Tensor| {
            let (batch, count, width) = x.dims3().unwrap();
            let x = x.reshape((batch, count, heads, width / heads)).unwrap();
            x.transpose(1, 2).unwrap().contiguous().unwrap()
        };
        let (batch, count, width) = q.dims3().unwrap();
        let scores = split(q).matmul(&split(k).t().unwrap()).unwrap();
        let scale = 1.0 / ((width / heads) as f64).sqrt();
        let scores = (scores * scale).unwrap();
        let scores = match mask {
            AttentionMask::Full => scores,
            AttentionMask::Causal => {
                scores.broadcast_add(&upper_triangle(count, &Device::Cpu).unwrap()).unwrap()
            }
        };
        let scores = candle_nn::ops::softmax_last_dim(&scores).unwrap();
        let mixed = scores.matmul(&split(v)).unwrap().transpose(1, 2).unwrap();
        mixed.reshape((batch, count, width)).unwrap()
    }

    #[test]
    fn attention_equals_the_plain_formula_in_every_dtype_and_over_blocks() {
        for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F16, 1e-3), (DType::BF16, 8e-3)] {
            // One key; fewer than a vector of them; more queries than a block; blocks cut short by
            // the number of keys.
            for (queries, keys, mask) in [
                (3, 1, AttentionMask::Full),
                (5, 7, AttentionMask::Full),
                (300, 77, AttentionMask::Full),
                (9, 70_001, AttentionMask::Full),
                (1, 1, AttentionMask::Causal),
                (150, 150, AttentionMask::Causal),
            ] {
                let random = |count: usize| {
                    let x = normal((0.0, 1.0), (2, count, 24));
                    x.to_dtype(dtype).unwrap()
                };
                let (q, k, v) = (random(queries), random(keys), random(keys));
                let found = whole_attention(&q, &k, &v, 3, mask).unwrap();
                let wide = |x: &Tensor| x.to_dtype(DType::F32).unwrap();
                let expected = plain(&wide(&q), &wide(&k), &wide(&v), 3, mask);
                let flat = |x: &Tensor| wide(x).flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let off = relative_error(&flat(&found), &flat(&expected));
                assert!(off <= tolerance, "{dtype:?} {queries} x {keys}: {off:e}");
            }
        }
    }

    #[test]
    fn heads_that_do_not_divide_the_width_are_refused() {
        let x = Tensor::zeros((1, 2, 10), DType::F32, &Device::Cpu).unwrap();
        assert!(whole_attention(&x, &x, &x, 3, AttentionMask::Full).is_err());
        let y = Tensor::zeros((1, 3, 10), DType::F32, &Device::Cpu).unwrap();
        assert!(whole_attention(&x, &y, &y, 2, AttentionMask::Causal).is_err());
    }
}
