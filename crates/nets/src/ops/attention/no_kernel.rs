//! In a build without candle's CUDA backend: nothing runs on a GPU.

use candle_core::{DType, Device, Result, Tensor};

use super::Keys;

pub(super) fn refusal(_: &Device, _: DType, _: usize) -> Option<String> {
    None
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of the other build's")]
pub(super) fn attend(
    _: &Tensor,
    _: &Tensor,
    _: &Tensor,
    _: Keys<'_>,
    _: f64,
) -> Result<Option<Tensor>> {
    Ok(None)
}
