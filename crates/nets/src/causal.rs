//! What causal language models on candle's ops have in common: attention over a cache, products, the
//! choice of the next token.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::NetError;
use super::kv_cache::{Apart, Place};
use warpmark_cpu_ops as cpu_ops;

/// The most likely next token of each sequence, `[batch]` of u32, left on the device.
pub fn argmax(logits: &Tensor) -> std::result::Result<Tensor, NetError> {
    Ok(logits.argmax(D::Minus1)?)
}

/// Attention of new positions over everything up to themselves.
///
/// `q` is `[sequences, heads, new, d]` and already scaled; `k` and `v` are `[sequences, key-value heads,
/// attended, d]`, narrowed from a cache's buffers. Where there are fewer key-value heads than heads,
/// neighbouring heads share one, and nothing is repeated in memory. `mask` holds 0 on and below the
/// diagonal and -inf above, of as many rows as the longest prompt. Returns `[sequences, heads, new, d]`.
pub(super) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    place: &Place,
    mask: &Tensor,
) -> Result<Tensor> {
    if !q.device().is_cpu() {
        return on_candle_ops(q, k, v, place, mask);
    }
    match place {
        Place::Together { length } if q.dim(2)? > 1 => cpu_ops::prefill_attention(q, k, v, *length),
        Place::Together { .. } => cpu_ops::decode_attention(q, k, v, None),
        Place::Apart(Apart { lengths, .. }) => {
            cpu_ops::decode_attention(q, k, v, Some(lengths.as_slice()))
        }
    }
}

fn on_candle_ops(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    place: &Place,
    mask: &Tensor,
) -> Result<Tensor> {
    let (batch, heads, count, width) = q.dims4()?;
    let (shared, attended) = (k.dim(1)?, k.dim(2)?);
    let together = heads / shared * count;
    let q = q.reshape((batch, shared, together, width))?;
    let scores = q.matmul(&k.t()?)?.to_dtype(DType::F32)?;
    let scores = match place {
        Place::Together { .. } if count == 1 => scores,
        Place::Together { length } => {
            let mask = mask.narrow(0, *length, count)?.narrow(1, 0, attended)?;
            let apart = scores.reshape((batch, shared, heads / shared, count, attended))?;
            apart.broadcast_add(&mask)?.reshape((batch, shared, together, attended))?
        }
        Place::Apart(Apart { mask, .. }) => match mask {
            Some(mask) => scores.broadcast_add(mask)?,
            None => candle_core::bail!("sequences apart have a mask on a GPU"),
        },
    };
    let mixed = softmax_last_dim(&scores)?.to_dtype(q.dtype())?.matmul(v)?;
    mixed.reshape((batch, heads, count, width))
}

/// 0 on and below the diagonal, -inf above, `[positions, positions]` in f32.
pub(super) fn causal_mask(positions: usize, device: &Device) -> Result<Tensor> {
    let row = |row: usize| {
        (0..positions).map(move |column| if column <= row { 0.0 } else { f32::NEG_INFINITY })
    };
    let mask: Vec<f32> = (0..positions).flat_map(row).collect();
    Tensor::from_vec(mask, (positions, positions), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use warpmark_record::agreement::relative_error;

    /// What runs on a GPU is a formula of candle's ops, which a CPU computes as well.
    #[test]
    fn attention_on_candle_ops_equals_that_of_the_cpu() {
        let mask = causal_mask(16, &Device::Cpu).unwrap();
        for (heads, own, count, length) in [(4, 4, 7, 0), (6, 2, 5, 0), (6, 2, 4, 9), (6, 3, 1, 8)]
        {
            let random = |heads: usize, count: usize| {
                Tensor::randn(0f32, 1.0, (2, heads, count, 8), &Device::Cpu).unwrap()
            };
            let (k, v) = (random(own, length + count), random(own, length + count));
            let (q, place) = (random(heads, count), Place::Together { length });
            let expected = attention(&q, &k, &v, &place, &mask).unwrap();
            let found = on_candle_ops(&q, &k, &v, &place, &mask).unwrap();
            let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let off = relative_error(&flat(&found), &flat(&expected));
            assert!(off <= 2e-6, "{heads} {own} {count} {length}: {off:e}");
        }
    }
}
