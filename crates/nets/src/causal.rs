//! What causal language models on candle's ops have in common: the choice of the next token, and the mask.

use candle_core::{D, Device, Result, Tensor};

use super::NetError;

/// The most likely next token of each sequence, `[batch]` of u32, left on the device.
pub fn argmax(logits: &Tensor) -> std::result::Result<Tensor, NetError> {
    Ok(logits.argmax(D::Minus1)?)
}

/// 0 on and below the diagonal, -inf above, `[positions, positions]` in f32.
pub(super) fn causal_mask(positions: usize, device: &Device) -> Result<Tensor> {
    let row = |row: usize| {
        (0..positions).map(move |column| if column <= row { 0.0 } else { f32::NEG_INFINITY })
    };
    let mask: Vec<f32> = (0..positions).flat_map(row).collect();
    Tensor::from_vec(mask, (positions, positions), device)
}
