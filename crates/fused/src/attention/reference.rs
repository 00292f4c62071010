//! Attention by its formula in f64, and how far a kernel in halves may be off.

use super::{AttentionMask, AttentionShape, Strides};
use crate::Dtype;

/// Where an operand's element lies.
pub(super) fn place(strides: Strides, sequence: u32, head: u32, position: u32) -> usize {
    let whole = i64::from(sequence) * strides.sequence
        + i64::from(head) * strides.head
        + i64::from(position) * i64::from(strides.position);
    usize::try_from(whole).unwrap()
}

/// One result and the most that it may be off.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) value: f64,
    pub(super) bound: f64,
}

/// The largest error of rounding to a half, relative to the number; and to a small one, absolutely.
fn roundoff(dtype: Dtype) -> (f64, f64) {
    match dtype {
        Dtype::F16 => (2f64.powi(-11), 2f64.powi(-25)),
        Dtype::Bf16 => (2f64.powi(-8), 0.0),
    }
}

/// The results of a query: `size` elements.
///
/// The weights, of which the largest is 1, are rounded to halves before they meet the values, and so is the
/// result; sums are in f32 and the exponential of a card is good to 2 units in the last place, which all together is
/// below 2⁻¹⁸ of what is summed.
pub(super) fn attend(
    shape: &AttentionShape,
    (q, k, v): (&[f64], &[f64], &[f64]),
    (sequence, head, query): (u32, u32, u32),
    (first, keys): (u32, u32),
    (size, dtype): (u32, Dtype),
) -> Vec<Expected> {
    let shared = head / (shape.heads / shape.key_heads);
    let end = match shape.mask {
        AttentionMask::Full => keys,
        AttentionMask::Causal => keys.min(first + query + 1),
    };
    let of = |from: &[f64], at: usize| from[at..at + size as usize].to_vec();
    let asked = of(q, place(shape.q, sequence, head, query));
    let scores: Vec<f64> = (0..end)
        .map(|key| {
            let key = of(k, place(shape.k, sequence, shared, key));
            let dot: f64 = asked.iter().zip(&key).map(|(a, b)| a * b).sum();
            dot * f64::from(shape.scale)
        })
        .collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    let (relative, absolute) = roundoff(dtype);
    (0..size as usize)
        .map(|d| {
            let (mut sum, mut size, mut small) = (0.0, 0.0, 0.0);
            for (key, weight) in (0..end).zip(&weights) {
                let value = v[place(shape.v, sequence, shared, key) + d];
                sum += weight * value;
                size += weight * value.abs();
                small += absolute * value.abs();
            }
            if end == 0 {
                return Expected { value: 0.0, bound: 0.0 };
            }
            let (value, size) = (sum / total, size / total);
            let bound =
                relative * (size + value.abs()) + small / total + absolute + 2f64.powi(-18) * size;
            Expected { value, bound: bound * (1.0 + relative) }
        })
        .collect()
}
