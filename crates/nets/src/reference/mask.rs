//! The causal mask.

use candle_core::{Device, Result, Tensor};

/// -inf above the diagonal, 0 elsewhere.
pub(super) fn upper_triangle(tokens: usize, device: &Device) -> Result<Tensor> {
    let mut mask = vec![0f32; tokens * tokens];
    for row in 0..tokens {
        mask[row * tokens + row + 1..(row + 1) * tokens].fill(f32::NEG_INFINITY);
    }
    Tensor::from_vec(mask, (tokens, tokens), device)
}
