//! The answers that the workloads must give, computed by the plain net.

use candle_core::{D, DType, Tensor};

use super::nets::ids;
use super::prompt;
use super::setting::{ModelInfo, Setting};
use crate::bench::{Comparison, Tolerance, error, finite, sampled};
use warpmark_nets::NetError;
use warpmark_nets::diffusion::{Condition, EncodedText, Scheduler, Step, TEXT_FOLDERS};
use warpmark_nets::reference::diffusion::{self as plain, UnetInput};
use warpmark_record::agreement::relative_error;

/// How far values may be off, relative to the largest.
///
/// Half types round each of a few hundred additions to the residual streams once (2⁻¹¹ for f16, 2⁻⁸ for
/// bf16), with errors that add up like their root: some twenty unit roundoffs, and as much room again. f32
/// differs by the order of its sums, thousands of products each.
const TOLERANCE: Tolerance = Tolerance { f32: 1e-4, f16: 2e-2, bf16: 1.5e-1, quantised: 0.0 };

/// Errors as a comparison.
pub(super) fn comparison(setting: &Setting<'_>, what: &str, errors: Vec<f64>) -> Comparison {
    let tolerance = TOLERANCE.of(setting.bench.context.format);
    Comparison { what: what.to_owned(), errors, tolerance }
}

/// Errors of the encoded texts of a batch of images.
pub(super) fn texts(setting: &Setting<'_>, encoded: &[EncodedText]) -> Result<Vec<f64>, NetError> {
    let (info, like) = (setting.info, setting.parts.like());
    let mut errors = Vec::new();
    for (index, encoded) in encoded.iter().enumerate() {
        let numbers = &info.architecture.text[index];
        errors.push(finite(&encoded.states)?);
        for image in sampled(setting.case.batch) {
            let tokens = prompt::tokens(numbers, setting.seed(), Some(image));
            let (states, pooled) =
                plain::text(numbers, &info.tensors, like, TEXT_FOLDERS[index], &tokens)?;
            errors.push(error(&encoded.states.get(image)?, &states)?);
            if let (Some(found), Some(expected)) = (&encoded.pooled, pooled) {
                errors.push(error(&found.narrow(0, image, 1)?, &expected)?);
            }
        }
    }
    Ok(errors)
}

/// Errors of the last image of a batch; the others must be finite.
pub(super) fn images(
    setting: &Setting<'_>,
    latents: &Tensor,
    images: &Tensor,
) -> Result<Vec<f64>, NetError> {
    let ModelInfo { architecture, tensors, .. } = setting.info;
    let last = images.dim(0)? - 1;
    let expected = plain::image(architecture, tensors, &latents.narrow(0, last, 1)?)?;
    Ok(vec![finite(images)?, error(&images.narrow(0, last, 1)?, &expected)?])
}

/// What the `UNet` was asked about a batch.
pub(super) struct Asked<'a> {
    pub(super) setting: Setting<'a>,
    pub(super) condition: &'a Condition,
    pub(super) size: usize,
}

impl Asked<'_> {
    /// What the plain encoders say of one row, `[1, tokens, width]` and the pooled text: a row of an image or,
    /// behind them, of none.
    fn row(&self, row: usize) -> Result<(Tensor, Option<Tensor>), NetError> {
        let ModelInfo { architecture, tensors, .. } = self.setting.info;
        let like = self.setting.parts.like();
        let image = (row < self.setting.case.batch).then_some(row);
        let (mut states, mut pooled) = (Vec::new(), None);
        for (numbers, folder) in architecture.text.iter().zip(TEXT_FOLDERS) {
            let tokens = prompt::tokens(numbers, self.setting.seed(), image);
            let encoded = plain::text(numbers, tensors, like, folder, &tokens)?;
            states.push(encoded.0);
            pooled = encoded.1;
        }
        Ok((Tensor::cat(&states, 1)?.unsqueeze(0)?, pooled))
    }

    /// Errors of the texts of the first and the last row.
    pub(super) fn condition_errors(&self) -> Result<Vec<f64>, NetError> {
        let of = |row| error(&self.condition.text.narrow(0, row, 1)?, &self.row(row)?.0);
        [0, 2 * self.setting.case.batch - 1].into_iter().map(of).collect()
    }

    /// Errors of the predictions for the first and the last row, from the texts that the measured encoders
    /// gave.
    pub(super) fn predictions(
        &self,
        latents: &Tensor,
        timestep: f64,
        predicted: &Tensor,
    ) -> Result<Vec<f64>, NetError> {
        let mut errors = vec![finite(predicted)?];
        for row in [0, 2 * self.setting.case.batch - 1] {
            let pooled = match (&self.setting.info.architecture.unet.added, &self.condition.added) {
                // The pooled text stands before the sines of size and crop.
                (Some(numbers), Some(added)) => {
                    Some(added.narrow(0, row, 1)?.narrow(D::Minus1, 0, numbers.pooled_width)?)
                }
                _ => None,
            };
            let input = UnetInput {
                latents: &latents.narrow(0, row, 1)?,
                timestep,
                text: &self.condition.text.narrow(0, row, 1)?,
                pooled: pooled.as_ref(),
                ids: ids(self.size),
            };
            let ModelInfo { architecture, tensors, .. } = self.setting.info;
            let like = self.setting.parts.like();
            let expected = plain::unet(architecture, tensors, like, &input)?;
            errors.push(error(&predicted.narrow(0, row, 1)?, &expected)?);
        }
        Ok(errors)
    }

    /// Errors of the first image's next latents, from the predictions that the measured net gave.
    pub(super) fn next(
        &self,
        scheduler: Scheduler,
        step: (&Step, Option<&Step>, usize),
        (before, predicted): (&Tensor, &Tensor),
        next: &Tensor,
    ) -> Result<Vec<f64>, NetError> {
        let flat = |tensor: &Tensor, row: usize| {
            tensor.get(row)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()
        };
        let (with, without) = (flat(predicted, 0)?, flat(predicted, self.setting.case.batch)?);
        let guidance = self.setting.info.guidance as f32;
        let guided: Vec<f32> =
            with.iter().zip(&without).map(|(a, b)| b + guidance * (a - b)).collect();
        let numbers = &self.setting.info.architecture.scheduler;
        let euler = scheduler == Scheduler::Euler;
        let expected = plain::next_latents(numbers, euler, step, &flat(before, 0)?, &guided);
        Ok(vec![relative_error(&flat(next, 0)?, &expected)])
    }
}
