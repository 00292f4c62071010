//! The answers that the workloads must give, computed by the plain net.

use candle_core::{D, DType, Tensor};
use warpmark_measure::WorkloadError;
use warpmark_measure::workload::checked;
use warpmark_record::Check;

use super::nets::ids;
use super::prompt;
use super::session::About;
use crate::catalog::Dtype;
use crate::family::workload_error;
use warpmark_nets::NetError;
use warpmark_nets::diffusion::{Condition, EncodedText, Scheduler, Step, TEXT_FOLDERS};
use warpmark_nets::reference::diffusion::{self as plain, Like, UnetInput};
use warpmark_record::agreement::{relative_error, worst};

/// How far values may be off, relative to the largest.
///
/// Half types round each of a few hundred additions to the residual streams once (2⁻¹¹ for f16, 2⁻⁸ for
/// bf16), with errors that add up like their root: some twenty unit roundoffs, and as much room again. f32
/// differs by the order of its sums, thousands of products each.
pub(super) fn tolerance(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 1e-4,
        Dtype::F16 => 2e-2,
        Dtype::Bf16 => 1.5e-1,
    }
}

/// Turns errors into a check.
pub(super) fn compare(
    dtype: Dtype,
    what: &str,
    errors: Result<Vec<f64>, NetError>,
) -> Result<Check, WorkloadError> {
    let errors = errors.map_err(workload_error)?;
    if errors.is_empty() {
        return Err(WorkloadError::Failed("nothing was compared".to_owned()));
    }
    checked(what, worst(errors), tolerance(dtype))
}

/// The relative error of one tensor against another of the same size; not a number where a value of either
/// is not finite.
fn error(found: &Tensor, expected: &Tensor) -> Result<f64, NetError> {
    let flat = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    let (found, expected) = (flat(found)?, flat(expected)?);
    let finite = found.iter().chain(&expected).all(|value| value.is_finite());
    Ok(if finite { relative_error(&found, &expected) } else { f64::NAN })
}

/// 0 where all values of a whole batch are finite, else not a number.
fn finite(tensor: &Tensor) -> Result<f64, NetError> {
    let largest: f32 = tensor.to_dtype(DType::F32)?.abs()?.sum_all()?.to_scalar()?;
    Ok(if largest.is_finite() { 0.0 } else { f64::NAN })
}

/// The images of a batch that are recomputed.
fn sampled(batch: usize) -> Vec<usize> {
    if batch == 1 { vec![0] } else { vec![0, batch - 1] }
}

/// Errors of the encoded texts of a batch of images.
pub(super) fn texts(
    about: &About,
    like: Like,
    encoded: &[EncodedText],
    batch: usize,
) -> Result<Vec<f64>, NetError> {
    let mut errors = Vec::new();
    for (index, encoded) in encoded.iter().enumerate() {
        let numbers = &about.architecture.text[index];
        errors.push(finite(&encoded.states)?);
        for image in sampled(batch) {
            let tokens = prompt::tokens(numbers, about.seed, Some(image));
            let (states, pooled) =
                plain::text(numbers, &about.tensors, like, TEXT_FOLDERS[index], &tokens)?;
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
    about: &About,
    latents: &Tensor,
    images: &Tensor,
) -> Result<Vec<f64>, NetError> {
    let last = images.dim(0)? - 1;
    let expected = plain::image(&about.architecture, &about.tensors, &latents.narrow(0, last, 1)?)?;
    Ok(vec![finite(images)?, error(&images.narrow(0, last, 1)?, &expected)?])
}

/// What the `UNet` was asked about a batch.
pub(super) struct Asked<'a> {
    pub(super) about: &'a About,
    pub(super) like: Like,
    pub(super) condition: &'a Condition,
    pub(super) size: usize,
    pub(super) batch: usize,
}

impl Asked<'_> {
    /// What the plain encoders say of one row, `[1, tokens, width]` and the pooled text: a row of an image or,
    /// behind them, of none.
    fn row(&self, row: usize) -> Result<(Tensor, Option<Tensor>), NetError> {
        let About { architecture, tensors, seed, .. } = self.about;
        let image = (row < self.batch).then_some(row);
        let (mut states, mut pooled) = (Vec::new(), None);
        for (numbers, folder) in architecture.text.iter().zip(TEXT_FOLDERS) {
            let tokens = prompt::tokens(numbers, *seed, image);
            let encoded = plain::text(numbers, tensors, self.like, folder, &tokens)?;
            states.push(encoded.0);
            pooled = encoded.1;
        }
        Ok((Tensor::cat(&states, 1)?.unsqueeze(0)?, pooled))
    }

    /// Errors of the texts of the first and the last row.
    pub(super) fn condition_errors(&self) -> Result<Vec<f64>, NetError> {
        let of = |row| error(&self.condition.text.narrow(0, row, 1)?, &self.row(row)?.0);
        [0, 2 * self.batch - 1].into_iter().map(of).collect()
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
        for row in [0, 2 * self.batch - 1] {
            let pooled = match (&self.about.architecture.unet.added, &self.condition.added) {
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
            let About { architecture, tensors, .. } = self.about;
            let expected = plain::unet(architecture, tensors, self.like, &input)?;
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
        let (with, without) = (flat(predicted, 0)?, flat(predicted, self.batch)?);
        let guidance = self.about.guidance as f32;
        let guided: Vec<f32> =
            with.iter().zip(&without).map(|(a, b)| b + guidance * (a - b)).collect();
        let numbers = &self.about.architecture.scheduler;
        let euler = scheduler == Scheduler::Euler;
        let expected = plain::next_latents(numbers, euler, step, &flat(before, 0)?, &guided);
        Ok(vec![relative_error(&flat(next, 0)?, &expected)])
    }
}
