//! Attention of one position over a cache.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use half::{bf16, f16};
use rayon::prelude::*;

use super::elementary::exp_rows;
use super::{Element, by_dtype, contiguous};

/// Attention of one new position over a cache: `q` is `[b, h, 1, d]` and already scaled, `k` and `v`
/// are the first `t` positions of caches, `[b, g, t, d]` with any stride between heads, each of which
/// serves `h / g` neighbouring heads of `q`. `lengths` are the positions in front of each sequence's new
/// one; without them every sequence attends to all `t`. Returns `[b, h, 1, d]`.
pub fn decode_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    lengths: Option<&[usize]>,
) -> Result<Tensor> {
    let lengths = lengths.map(<[usize]>::to_vec);
    q.contiguous()?.apply_op3_no_bwd(k, v, &DecodeAttention { lengths })
}

struct DecodeAttention {
    lengths: Option<Vec<usize>>,
}

impl CustomOp3 for DecodeAttention {
    fn name(&self) -> &'static str {
        "decode-attention"
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
        let lengths = self.lengths.as_deref();
        by_dtype!(q, decode_attention_of((q, q_layout), (k, k_layout), (v, v_layout), lengths))
    }
}

type Operand<'a> = (&'a CpuStorage, &'a Layout);

fn decode_attention_of<T: Element>(
    q: Operand<'_>,
    k: Operand<'_>,
    v: Operand<'_>,
    lengths: Option<&[usize]>,
) -> Result<(CpuStorage, Shape)> {
    let (batch, heads, _, width) = q.1.shape().dims4()?;
    let attended = k.1.shape().dims4()?.2;
    if lengths.is_some_and(|all| all.len() != batch || all.iter().any(|&one| one >= attended)) {
        bail!("lengths {lengths:?} do not suit {batch} sequences of up to {attended} positions");
    }
    let (keys, values) = (Heads::<T>::new(k, heads)?, Heads::<T>::new(v, heads)?);
    let queries = contiguous::<T>(q.0, q.1)?;
    let mut mixed = vec![T::narrow(0.0); queries.len()];
    mixed.par_chunks_mut(width).zip(queries.par_chunks(width)).enumerate().for_each(
        |(head, (mixed, query))| {
            let mut wide_query = vec![0f32; width];
            T::widen(query, &mut wide_query);
            let length = lengths.map_or(attended, |lengths| lengths[head / heads] + 1) * width;
            let (keys, values) = (&keys.head(head)[..length], &values.head(head)[..length]);
            let mixture = attend(&wide_query, keys, values);
            for (target, value) in mixed.iter_mut().zip(mixture) {
                *target = T::narrow(value);
            }
        },
    );
    Ok((T::storage(mixed), q.1.shape().clone()))
}

/// The heads of a cache, each one contiguous.
pub(super) struct Heads<'a, T> {
    elements: &'a [T],
    /// Heads of the queries: of a sequence, and of those that share one of these.
    queries: (usize, usize),
    /// Elements from a sequence to the next, and from a head to the next.
    strides: (usize, usize),
    length: usize,
}

impl<'a, T: Element> Heads<'a, T> {
    pub(super) fn new((storage, layout): Operand<'a>, heads: usize) -> Result<Self> {
        let (_, own_heads, positions, width) = layout.shape().dims4()?;
        let Some(elements) = T::slice(storage) else { bail!("operands differ in dtype") };
        if own_heads == 0 || !heads.is_multiple_of(own_heads) {
            bail!("{heads} heads cannot share {own_heads}");
        }
        match layout.stride() {
            &[batch, head, position, 1] if position == width => Ok(Self {
                elements: &elements[layout.start_offset()..],
                queries: (heads, heads / own_heads),
                strides: (batch, head),
                length: positions * width,
            }),
            other => bail!("a cache of {own_heads} heads cannot have strides {other:?}"),
        }
    }

    /// What the head of that number among all queries attends to.
    pub(super) fn head(&self, index: usize) -> &'a [T] {
        let (of_sequence, sharing) = self.queries;
        let (sequence, head) = (index / of_sequence, index % of_sequence / sharing);
        let start = sequence * self.strides.0 + head * self.strides.1;
        &self.elements[start..start + self.length]
    }
}

/// `softmax(query · keysᵀ) · values` of one head.
fn attend<T: Element>(query: &[f32], keys: &[T], values: &[T]) -> Vec<f32> {
    let width = query.len();
    let mut wide = vec![0f32; width];
    let mut scores: Vec<f32> = keys
        .chunks(width)
        .map(|key| {
            T::widen(key, &mut wide);
            dot(query, &wide)
        })
        .collect();
    let (count, mut totals) = (scores.len(), [0f32]);
    exp_rows(&mut scores, count, &mut totals, count, 0);
    let [total] = totals;
    let mut mixture = vec![0f32; width];
    for (value, score) in values.chunks(width).zip(&scores) {
        T::widen(value, &mut wide);
        for (sum, value) in mixture.iter_mut().zip(&wide) {
            *sum += score / total * value;
        }
    }
    mixture
}

/// A dot product in sixteen partial sums, which the compiler keeps in vector registers.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0f32; LANES];
    let (left_chunks, right_chunks) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let rest: f32 =
        left_chunks.remainder().iter().zip(right_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in left_chunks.zip(right_chunks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    rest + sums.iter().sum::<f32>()
}
