//! What stands for candle's CUDA backend in a build without the feature `cuda`.

use std::collections::BTreeMap;

use warpmark_device::target::{Card, CodeKind, Kernels, how_to_build};
use warpmark_measure::WorkloadError;

pub(super) fn device(_ordinal: usize) -> Result<candle_core::Device, WorkloadError> {
    Err(WorkloadError::Unsupported("this build has no candle kernels for a GPU".to_owned()))
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of its counterpart, which can fail")]
pub(super) fn check_sticky_error(_device: &candle_core::Device) -> Result<(), String> {
    Ok(())
}

pub(super) fn compiled() -> Option<Result<Kernels, String>> {
    None
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of its counterpart, which can")]
pub(super) fn refusal(card: Card<'_>, _form: CodeKind) -> Option<String> {
    Some(format!(
        "this build has no candle kernels for a GPU; build with them: {}",
        how_to_build(card)
    ))
}

pub(super) fn settings() -> BTreeMap<String, String> {
    BTreeMap::new()
}

/// Captured steps, of which there are none in this build.
pub enum Replay {}

impl Replay {
    /// Captures nothing.
    ///
    /// # Errors
    /// [`WorkloadError::Unsupported`].
    pub fn of(
        _device: &candle_core::Device,
        _step: impl FnMut() -> Result<(), WorkloadError>,
    ) -> Result<Self, WorkloadError> {
        Err(WorkloadError::Unsupported("this build has no candle kernels for a GPU".to_owned()))
    }

    /// Kernels of a step.
    pub fn kernels(&self) -> usize {
        match *self {}
    }

    /// Enqueues a step.
    ///
    /// # Errors
    /// None: there is no such step.
    pub fn launch(&self) -> Result<(), WorkloadError> {
        match *self {}
    }
}
