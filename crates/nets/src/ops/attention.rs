//! Attention, as the nets have it: on a CPU by our own operators; on a GPU by one kernel of ours where there is one for
//! the type and the head size, elsewhere by six of candle's.

#[cfg_attr(feature = "cuda", path = "attention/kernel.rs")]
#[cfg_attr(not(feature = "cuda"), path = "attention/no_kernel.rs")]
mod kernel;

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::softmax_last_dim;
use warpmark_cpu_ops::{self as cpu_ops, AttentionMask};

use crate::kv_cache::{Positions, RaggedPositions};

/// Which keys a query looks at.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "only the kernel of a GPU asks"))]
pub(super) enum Keys<'a> {
    /// All.
    All,
    /// Those at its own position and in front of it, so many in front of the first query.
    UpToItself {
        /// Positions in front of the first query.
        before: usize,
    },
    /// As many as each sequence has: `[sequences, 2]` of u32 on the device, the position of its query and how many keys
    /// it has.
    Ragged(&'a Tensor),
}

/// Why attention of heads of this size takes several launches on a device, its scores in memory; `None` where one kernel
/// does it, and on a CPU.
pub fn launches_note(device: &Device, dtype: DType, head_size: usize) -> Option<String> {
    let reason = kernel::refusal(device, dtype, head_size)?;
    Some(format!("attention takes six launches, and its scores lie in memory: {reason}"))
}

/// Attention of new positions over everything up to themselves.
///
/// `q` is `[sequences, heads, new, d]` and already scaled; `k` and `v` are `[sequences, key-value heads,
/// attended, d]`, narrowed from a cache's buffers. Where there are fewer key-value heads than heads,
/// neighbouring heads share one, and nothing is repeated in memory. `mask` holds 0 on and below the
/// diagonal and -inf above, of as many rows as the longest prompt. Returns `[sequences, heads, new, d]`.
pub(crate) fn causal_over_cache(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    positions: &Positions,
    mask: &Tensor,
) -> Result<Tensor> {
    if !q.device().is_cpu() {
        let keys = match positions {
            Positions::Uniform { length } => Keys::UpToItself { before: *length },
            Positions::Ragged(ragged) => Keys::Ragged(&ragged.keys),
        };
        return match kernel::attend(q, k, v, keys, 1.0)? {
            Some(mixed) => Ok(mixed),
            None => over_cache_by_candle(q, k, v, positions, mask),
        };
    }
    match positions {
        Positions::Uniform { length } if q.dim(2)? > 1 => {
            cpu_ops::prefill_attention(q, k, v, *length)
        }
        Positions::Uniform { .. } => cpu_ops::decode_attention(q, k, v, None),
        Positions::Ragged(RaggedPositions { lengths, .. }) => {
            cpu_ops::decode_attention(q, k, v, Some(lengths.as_slice()))
        }
    }
}

fn over_cache_by_candle(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    positions: &Positions,
    mask: &Tensor,
) -> Result<Tensor> {
    let (batch, heads, count, width) = q.dims4()?;
    let (shared, attended) = (k.dim(1)?, k.dim(2)?);
    let together = heads / shared * count;
    let q = q.reshape((batch, shared, together, width))?;
    let scores = q.matmul(&k.t()?)?.to_dtype(DType::F32)?;
    let scores = match positions {
        Positions::Uniform { .. } if count == 1 => scores,
        Positions::Uniform { length } => {
            let mask = mask.narrow(0, *length, count)?.narrow(1, 0, attended)?;
            let apart = scores.reshape((batch, shared, heads / shared, count, attended))?;
            apart.broadcast_add(&mask)?.reshape((batch, shared, together, attended))?
        }
        Positions::Ragged(ragged) => scores.broadcast_add(&ragged.mask()?)?,
    };
    let mixed = softmax_last_dim(&scores)?.to_dtype(q.dtype())?.matmul(v)?;
    mixed.reshape((batch, heads, count, width))
}

/// As [`causal_over_cache`], with a mask of its own, `[new, attended]` or `[sequences, 1, 1, attended]`, and scores
/// that are capped before it: `cap · tanh(scores / cap)`.
pub(crate) fn over_cache_masked(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    cap: Option<f64>,
) -> Result<Tensor> {
    let (batch, heads, count, width) = q.dims4()?;
    let (shared, attended) = (k.dim(1)?, k.dim(2)?);
    let together = heads / shared * count;
    let q = q.reshape((batch, shared, together, width))?;
    let (k, v) = (k.contiguous()?, v.contiguous()?);
    let mut scores = q.matmul(&k.t()?)?.to_dtype(DType::F32)?;
    if let Some(cap) = cap {
        scores = ((scores / cap)?.tanh()? * cap)?;
    }
    if let Some(mask) = mask {
        let apart = scores.reshape((batch, heads, count, attended))?;
        scores = apart.broadcast_add(mask)?.reshape((batch, shared, together, attended))?;
    }
    let mixed = softmax_last_dim(&scores)?.to_dtype(q.dtype())?.matmul(&v)?;
    mixed.reshape((batch, heads, count, width))
}

/// Scores that are held at a time on a GPU, in bytes.
const SCORE_BYTES: usize = 256 << 20;

/// Attention of every query over every key: `q` is `[b, n, h·d]`, `k` and `v` are `[b, t, h·d]`.
/// Returns `[b, n, h·d]`.
///
/// The queries are taken a block at a time, so that memory does not grow with the square of the image.
/// They are scaled before the product: in f16 the scores stay in range. The softmax sums in f32.
pub(crate) fn whole(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    if q.device().is_cpu() {
        return cpu_ops::whole_attention(q, k, v, heads, AttentionMask::Full);
    }
    let (batch, queries, width) = q.dims3()?;
    if let Some(mixed) = by_one_kernel(q, k, v, heads, Keys::All)? {
        return Ok(mixed);
    }
    let split = |x: &Tensor| {
        let x = x.reshape((batch, (), heads, width / heads))?;
        x.transpose(1, 2)?.contiguous()
    };
    let q = (split(q)? * (1.0 / ((width / heads) as f64).sqrt()))?;
    let (k, v) = (split(k)?.t()?, split(v)?);
    let row = batch * heads * k.dim(D::Minus1)? * q.dtype().size_in_bytes();
    let block = (SCORE_BYTES / row.max(1)).clamp(1, queries);
    let mut mixed = Vec::with_capacity(queries.div_ceil(block));
    for first in (0..queries).step_by(block) {
        let q = q.narrow(2, first, block.min(queries - first))?.contiguous()?;
        mixed.push(softmax_last_dim(&q.matmul(&k)?)?.matmul(&v)?);
    }
    let mixed = if mixed.len() == 1 { mixed.swap_remove(0) } else { Tensor::cat(&mixed, 2)? };
    mixed.transpose(1, 2)?.reshape((batch, queries, width))
}

/// Attention of `[b, n, h·d]` over keys and values `[b, t, h·d]`, as they lie; `None` where no kernel does it.
fn by_one_kernel(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    keys: Keys<'_>,
) -> Result<Option<Tensor>> {
    let (batch, queries, width) = q.dims3()?;
    let size = width / heads;
    let split = |x: &Tensor| x.reshape((batch, (), heads, size))?.transpose(1, 2);
    let scale = 1.0 / (size as f64).sqrt();
    let mixed = kernel::attend(&split(q)?, &split(k)?, &split(v)?, keys, scale)?;
    mixed.map(|mixed| mixed.transpose(1, 2)?.reshape((batch, queries, width))).transpose()
}

/// Scores that are held at once on a GPU at most.
const SCORES: usize = 1 << 28;

/// As [`whole`], some sequences at a time where their scores are many; every query has the keys of its own
/// sequence, `[b, n, h·d]` all.
pub(crate) fn whole_by_sequence(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
) -> Result<Tensor> {
    if q.device().is_cpu() {
        return cpu_ops::whole_attention(q, k, v, heads, AttentionMask::Full);
    }
    if let Some(mixed) = by_one_kernel(q, k, v, heads, Keys::All)? {
        return Ok(mixed);
    }
    let (batch, count, width) = q.dims3()?;
    let split =
        |x: &Tensor| x.reshape((batch, count, heads, width / heads))?.transpose(1, 2)?.contiguous();
    let q = split(&(q * (1.0 / ((width / heads) as f64).sqrt()))?)?;
    let (k, v) = (split(k)?, split(v)?);
    let at_once = (SCORES / (heads * count * count)).clamp(1, batch);
    let mut mixed = Vec::with_capacity(batch.div_ceil(at_once));
    for first in (0..batch).step_by(at_once) {
        let part = |x: &Tensor| x.narrow(0, first, at_once.min(batch - first));
        mixed.push(mix(&part(&q)?, &part(&k)?, &part(&v)?, None)?);
    }
    Tensor::cat(&mixed, 0)?.transpose(1, 2)?.reshape((batch, count, width))
}

/// Attention of new positions, `[b, h, count, d]` and scaled, over keys and values `[b, h, attended, d]`,
/// with a mask of `count` rows in f32 where there is one, which is the causal one.
pub(crate) fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    if q.dim(2)? == 1 && q.device().is_cpu() {
        return cpu_ops::decode_attention(q, k, v, None);
    }
    let keys = match mask {
        Some(_) => Keys::UpToItself { before: k.dim(2)? - q.dim(2)? },
        None => Keys::All,
    };
    match kernel::attend(q, k, v, keys, 1.0)? {
        Some(mixed) => Ok(mixed),
        None => mix(q, k, v, mask),
    }
}

/// `softmax(q · kᵀ + mask) · v`. On a GPU the softmax sums in f32 whatever it reads and writes; on a
/// CPU scores are widened.
fn mix(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let scores = q.matmul(&k.t()?)?;
    let scores =
        if q.device().is_cpu() || mask.is_some() { scores.to_dtype(DType::F32)? } else { scores };
    let scores = match mask {
        Some(mask) => scores.broadcast_add(mask)?,
        None => scores,
    };
    softmax_last_dim(&scores)?.to_dtype(q.dtype())?.matmul(v)
}

/// Attention of each position over itself and what is in front of it, `[b, n, h·d]` all; `mask` is the
/// causal one of as many rows.
pub(crate) fn causal_whole(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: &Tensor,
    heads: usize,
) -> Result<Tensor> {
    if q.device().is_cpu() {
        return cpu_ops::whole_attention(q, k, v, heads, AttentionMask::Causal);
    }
    match by_one_kernel(q, k, v, heads, Keys::UpToItself { before: 0 })? {
        Some(mixed) => Ok(mixed),
        None => causal_by_candle(q, k, v, mask, heads),
    }
}

fn causal_by_candle(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: &Tensor,
    heads: usize,
) -> Result<Tensor> {
    let (batch, count, width) = q.dims3()?;
    let split = |x: &Tensor| {
        let x = x.reshape((batch, count, heads, width / heads))?;
        x.transpose(1, 2)?.contiguous()
    };
    let q = (split(q)? * (1.0 / ((width / heads) as f64).sqrt()))?;
    let (k, v) = (split(k)?, split(v)?);
    let scores = q.matmul(&k.t()?)?.to_dtype(DType::F32)?.broadcast_add(mask)?;
    let mixed = softmax_last_dim(&scores)?.to_dtype(q.dtype())?.matmul(&v)?;
    mixed.transpose(1, 2)?.reshape((batch, count, width))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Shape};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::causal::causal_mask;
    use warpmark_record::agreement::relative_error;

    /// The same numbers in every run: candle's own take no seed on a CPU.
    fn numbers(random: &mut StdRng, shape: impl Into<Shape>) -> Tensor {
        let shape = shape.into();
        let values = (0..shape.elem_count()).map(|_| random.random_range(-2f32..2.0)).collect();
        Tensor::from_vec::<_, f32>(values, shape, &Device::Cpu).unwrap()
    }

    /// What runs on a GPU is a formula of candle's ops, which a CPU computes as well.
    #[test]
    fn attention_by_candle_equals_that_of_the_cpu() {
        let mask = causal_mask(16, &Device::Cpu).unwrap();
        let mut seeded = StdRng::seed_from_u64(3);
        for (heads, own, count, length) in [(4, 4, 7, 0), (6, 2, 5, 0), (6, 2, 4, 9), (6, 3, 1, 8)]
        {
            let mut random =
                |heads: usize, count: usize| numbers(&mut seeded, (2, heads, count, 8));
            let (k, v) = (random(own, length + count), random(own, length + count));
            let (q, positions) = (random(heads, count), Positions::Uniform { length });
            let expected = causal_over_cache(&q, &k, &v, &positions, &mask).unwrap();
            let found = over_cache_by_candle(&q, &k, &v, &positions, &mask).unwrap();
            let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let off = relative_error(&flat(&found), &flat(&expected));
            assert!(off <= 2e-6, "{heads} {own} {count} {length}: {off:e}");
        }
    }

    #[test]
    fn causal_attention_by_candle_equals_that_of_the_cpu() {
        let mut seeded = StdRng::seed_from_u64(5);
        let mut random = || numbers(&mut seeded, (2, 9, 24));
        let (q, k, v) = (random(), random(), random());
        let mask = causal_mask(9, &Device::Cpu).unwrap();
        let expected = causal_whole(&q, &k, &v, &mask, 3).unwrap();
        let found = causal_by_candle(&q, &k, &v, &mask, 3).unwrap();
        let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(relative_error(&flat(&found), &flat(&expected)) <= 2e-6);
    }
}
