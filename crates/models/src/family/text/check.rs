//! The answer a workload must give, computed another way.

use std::collections::HashMap;
use std::rc::Rc;

use candle_core::{DType, Tensor};
use warpmark_measure::WorkloadError;
use warpmark_measure::workload::checked;
use warpmark_record::Check;

use crate::catalog::{Dtype, Format};
use crate::family::workload_error;
use warpmark_nets::NetError;
use warpmark_record::agreement::{relative_error, worst};

/// The logits behind each of the last `count` tokens of a sequence, `[count, vocabulary]` in f32, computed
/// by a net that shares nothing with the measured one but the weights.
pub(in crate::family) type PlainLogits = Rc<dyn Fn(&[u32], usize) -> candle_core::Result<Tensor>>;

/// Recomputes logits in f32 from whole sequences, without a cache, one sequence at a time.
pub(super) struct Reference {
    plain: PlainLogits,
    /// By sequence and the number of positions: a sequence is the same in every batch.
    known: HashMap<(Vec<u32>, usize), Vec<f32>>,
}

/// Sequences whose logits are kept; each takes `positions * vocabulary` floats.
const KEPT: usize = 32;

impl Reference {
    pub(super) fn new(plain: PlainLogits) -> Self {
        Self { plain, known: HashMap::new() }
    }

    /// The logits behind the last `positions` tokens of a sequence, one position after the other.
    pub(super) fn logits(&mut self, tokens: &[u32], positions: usize) -> Result<&[f32], NetError> {
        let key = (tokens.to_vec(), positions);
        if !self.known.contains_key(&key) {
            if self.known.len() >= KEPT {
                self.known.clear();
            }
            let logits = (self.plain)(tokens, positions)?;
            self.known.insert(key.clone(), logits.flatten_all()?.to_vec1()?);
        }
        Ok(self.known.get(&key).map_or(&[], Vec::as_slice))
    }
}

/// How far logits may be off, relative to the largest of their position.
///
/// Twenty unit roundoffs of a half (2⁻¹¹ for f16, 2⁻⁸ for bf16): every one of a few dozen additions to
/// the residual stream is rounded to it once, with errors that add up like their root. f32 differs by
/// the order of its sums alone, thousands of products each. At most a quarter of the tolerance was seen on
/// synthetic weights of 12 and 48 layers.
///
/// Products of quantised weights round each activation to 8 bits of the largest of its block, about as much
/// as bf16 does; 1.2e-2 was seen on 30 layers.
pub(super) fn tolerance(format: Format) -> f64 {
    match format {
        Format::Plain(Dtype::F32) => 2e-5,
        Format::Plain(Dtype::F16) => 1e-2,
        Format::Plain(Dtype::Bf16) => 8e-2,
        Format::Quantised(_) => 5e-2,
    }
}

/// The sequences of a batch that are recomputed: the first and the last.
pub(super) fn sampled(batch: usize) -> Vec<usize> {
    if batch == 1 { vec![0] } else { vec![0, batch - 1] }
}

/// Compares the logits of a few sequences over some steps with the reference, and makes sure that those of
/// all others are finite.
///
/// `steps` holds `[batch, vocabulary]` logits, one tensor a step; `sequence` gives the tokens of a
/// sequence up to and including the last step.
pub(super) fn check(
    reference: &mut Reference,
    format: Format,
    steps: &[Tensor],
    sequence: impl Fn(usize) -> Vec<u32>,
) -> Result<Check, WorkloadError> {
    let candle = |error: candle_core::Error| workload_error(error.into());
    let rows: Vec<Vec<Vec<f32>>> = steps
        .iter()
        .map(|logits| logits.to_dtype(DType::F32)?.to_vec2())
        .collect::<candle_core::Result<_>>()
        .map_err(candle)?;
    let finite = rows.iter().flatten().flatten().all(|logit| logit.is_finite());
    let batch = rows.first().map_or(0, Vec::len);
    let mut errors = vec![if finite { 0.0 } else { f64::NAN }];
    for index in sampled(batch) {
        let expected = reference.logits(&sequence(index), steps.len()).map_err(workload_error)?;
        for (step, expected) in rows.iter().zip(expected.chunks(expected.len() / steps.len())) {
            errors.push(relative_error(&step[index], expected));
        }
    }
    let what = format!(
        "logits of {} of {batch} sequences over {} steps, against the whole sequences recomputed in \
         f32 without a cache",
        sampled(batch).len(),
        steps.len()
    );
    checked(what, worst(errors), tolerance(format))
}
