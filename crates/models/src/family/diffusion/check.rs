//! The answers that the workloads must give, computed by the plain net.

use candle_core::{D, DType, Tensor};

use super::nets::ids;
use super::prompt;
use super::setting::{ModelInfo, Setting};
use super::work::is_upcast;
use crate::bench::{Allowed, Comparison, Held, error, finite, sampled};
use warpmark_nets::NetError;
use warpmark_nets::diffusion::{Condition, EncodedText, Scheduler, Step, TEXT_FOLDERS};
use warpmark_nets::reference::Rounding;
use warpmark_nets::reference::diffusion::{self as plain, UnetInput};
use warpmark_record::agreement::relative_error;

/// How far values may be off, relative to the largest; f32 differs by the order of its sums, thousands
/// of products each.
fn allowed(setting: &Setting<'_>) -> Allowed {
    Allowed::of(setting.bench.context.format, 1e-4, 0.0)
}

/// Parts of an answer as a comparison.
pub(super) fn comparison(setting: &Setting<'_>, what: &str, parts: Vec<Held>) -> Comparison {
    let words = allowed(setting).words(setting.bench.context.format);
    Comparison::of_parts(format!("{what}{words}"), parts)
}

/// Errors of one part of an answer, and what they are held against. `plain` gives the errors of the plain net
/// that rounds each step; it is asked once for each part and case, since it takes as long as the check
/// itself.
fn held(
    setting: &Setting<'_>,
    part: &'static str,
    errors: Vec<f64>,
    plain: impl FnOnce(Rounding) -> Result<Vec<f64>, NetError>,
) -> Result<Held, NetError> {
    let allowed = allowed(setting);
    let Some(rounding) = allowed.rounding() else {
        return Ok(Held { errors, tolerance: allowed.tolerance([]) });
    };
    let key = (part, setting.case);
    let known = setting.info.tolerances.borrow().get(&key).copied();
    let tolerance = match known {
        Some(tolerance) => tolerance,
        None => allowed.tolerance(plain(rounding)?),
    };
    setting.info.tolerances.borrow_mut().insert(key, tolerance);
    Ok(Held { errors, tolerance })
}

/// The encoded texts of a batch of images.
pub(super) fn texts(setting: &Setting<'_>, encoded: &[EncodedText]) -> Result<Held, NetError> {
    let (info, like) = (setting.info, setting.parts.like());
    let plain = |index: usize, image: usize, rounding: Rounding| -> Result<_, NetError> {
        let numbers = &info.architecture.text[index];
        let tokens = prompt::tokens(numbers, setting.seed(), Some(image));
        let folder = TEXT_FOLDERS[index];
        Ok(plain::text(numbers, &info.tensors, (like, rounding), folder, &tokens)?)
    };
    let both = || {
        let indices = 0..encoded.len();
        indices.flat_map(|index| sampled(setting.case.batch).into_iter().map(move |i| (index, i)))
    };
    let mut errors = Vec::new();
    for encoded in encoded {
        errors.push(finite(&encoded.states)?);
    }
    for (index, image) in both() {
        let (states, pooled) = plain(index, image, Rounding::Exact)?;
        let found = &encoded[index];
        errors.push(error(&found.states.get(image)?, &states)?);
        if let (Some(found), Some(expected)) = (&found.pooled, pooled) {
            errors.push(error(&found.narrow(0, image, 1)?, &expected)?);
        }
    }
    held(setting, "texts", errors, |rounding| {
        let mut errors = Vec::new();
        for (index, image) in both() {
            let exact = plain(index, image, Rounding::Exact)?;
            let rounded = plain(index, image, rounding)?;
            errors.push(error(&rounded.0, &exact.0)?);
            if let (Some(rounded), Some(exact)) = (rounded.1, exact.1) {
                errors.push(error(&rounded, &exact)?);
            }
        }
        Ok(errors)
    })
}

/// The last image of a batch; the others must be finite.
pub(super) fn images(
    setting: &Setting<'_>,
    latents: &Tensor,
    images: &Tensor,
) -> Result<Held, NetError> {
    let ModelInfo { architecture, tensors, dtype, .. } = setting.info;
    let last = images.dim(0)? - 1;
    let latents = latents.narrow(0, last, 1)?;
    let expected = plain::image(architecture, tensors, &latents, Rounding::Exact)?;
    let errors = vec![finite(images)?, error(&images.narrow(0, last, 1)?, &expected)?];
    held(setting, "images", errors, |rounding| {
        // A decoder that is widened rounds nothing but what it reads.
        let rounding = if is_upcast(architecture, *dtype) { Rounding::Exact } else { rounding };
        let rounded = plain::image(architecture, tensors, &latents, rounding)?;
        Ok(vec![error(&rounded, &expected)?])
    })
}

/// What the `UNet` was asked about a batch.
pub(super) struct Asked<'a> {
    pub(super) setting: Setting<'a>,
    pub(super) condition: &'a Condition,
    pub(super) size: usize,
}

impl Asked<'_> {
    /// What the plain encoders say of one row, `[1, tokens, width]`: a row of an image or, after them,
    /// of none.
    fn row(&self, row: usize, rounding: Rounding) -> Result<Tensor, NetError> {
        let ModelInfo { architecture, tensors, .. } = self.setting.info;
        let manner = (self.setting.parts.like(), rounding);
        let image = (row < self.setting.case.batch).then_some(row);
        let mut states = Vec::new();
        for (numbers, folder) in architecture.text.iter().zip(TEXT_FOLDERS) {
            let tokens = prompt::tokens(numbers, self.setting.seed(), image);
            states.push(plain::text(numbers, tensors, manner, folder, &tokens)?.0);
        }
        Ok(Tensor::cat(&states, 1)?.unsqueeze(0)?)
    }

    /// The first row and the last.
    fn rows(&self) -> [usize; 2] {
        [0, 2 * self.setting.case.batch - 1]
    }

    /// The texts of the first and the last row.
    pub(super) fn condition(&self) -> Result<Held, NetError> {
        let found = |row| self.condition.text.narrow(0, row, 1);
        let of = |row| error(&found(row)?, &self.row(row, Rounding::Exact)?);
        let errors = self.rows().into_iter().map(of).collect::<Result<_, _>>()?;
        held(&self.setting, "condition", errors, |rounding| {
            let of = |row| error(&self.row(row, rounding)?, &self.row(row, Rounding::Exact)?);
            self.rows().into_iter().map(of).collect()
        })
    }

    /// The plain net's prediction for a row, from the texts that the measured encoders gave.
    fn predicted(
        &self,
        row: usize,
        (latents, timestep): (&Tensor, f64),
        rounding: Rounding,
    ) -> Result<Tensor, NetError> {
        let ModelInfo { architecture, tensors, .. } = self.setting.info;
        let pooled = match (&architecture.unet.added, &self.condition.added) {
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
        Ok(plain::unet(architecture, tensors, (self.setting.parts.like(), rounding), &input)?)
    }

    /// The predictions for the first and the last row; `part` names the step.
    pub(super) fn predictions(
        &self,
        part: &'static str,
        asked: (&Tensor, f64),
        predicted: &Tensor,
    ) -> Result<Held, NetError> {
        let mut errors = vec![finite(predicted)?];
        let mut expected = Vec::new();
        for row in self.rows() {
            let exact = self.predicted(row, asked, Rounding::Exact)?;
            errors.push(error(&predicted.narrow(0, row, 1)?, &exact)?);
            expected.push(exact);
        }
        held(&self.setting, part, errors, |rounding| {
            let pairs = self.rows().into_iter().zip(&expected);
            pairs.map(|(row, exact)| error(&self.predicted(row, asked, rounding)?, exact)).collect()
        })
    }

    /// The first image's next latents, from the predictions that the measured net gave; `part` names
    /// the step.
    pub(super) fn next(
        &self,
        part: &'static str,
        scheduler: Scheduler,
        step: (&Step, Option<&Step>, usize),
        (before, predicted, next): (&Tensor, &Tensor, &Tensor),
    ) -> Result<Held, NetError> {
        let row = |tensor: &Tensor, row: usize| tensor.get(row)?.to_dtype(DType::F32);
        let (with, without) = (row(predicted, 0)?, row(predicted, self.setting.case.batch)?);
        let before = row(before, 0)?;
        let guidance = self.setting.info.guidance;
        let (numbers, euler) =
            (&self.setting.info.architecture.scheduler, scheduler == Scheduler::Euler);
        let flat = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        // Guidance and what follows it, each rounded as the measured net rounds.
        let following = |rounding: Rounding| -> Result<Vec<f32>, NetError> {
            let apart = rounding.keep((&with - &without)?)?;
            let guided = rounding.keep((apart * guidance)?)?;
            let guided = rounding.keep((guided + &without)?)?;
            let latents =
                plain::next_latents(numbers, euler, step, &flat(&before)?, &flat(&guided)?);
            let count = latents.len();
            Ok(flat(&rounding.keep(Tensor::from_vec(latents, count, with.device())?)?)?)
        };
        let expected = following(Rounding::Exact)?;
        let errors = vec![relative_error(&flat(&row(next, 0)?)?, &expected)];
        held(&self.setting, part, errors, |rounding| {
            Ok(vec![relative_error(&following(rounding)?, &expected)])
        })
    }
}
