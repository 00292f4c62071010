//! The answer a workload must give, computed another way.

use std::collections::HashMap;
use std::rc::Rc;

use candle_core::{DType, Tensor};
use warpmark_measure::WorkloadError;

use crate::bench::{Allowed, Comparison, sampled};
use crate::catalog::Format;
use crate::engine::workload_error;
use warpmark_nets::NetError;
use warpmark_nets::reference::Rounding;
use warpmark_record::agreement::relative_error;

/// The logits after each of the last `count` tokens of a sequence, `[count, vocabulary]` in f32, computed
/// by a net that shares nothing with the measured one but the weights, and rounded as it is told.
pub(in crate::family) type PlainLogits =
    Rc<dyn Fn((&[u32], usize), Rounding) -> candle_core::Result<Tensor>>;

/// Recomputes logits in f32 from whole sequences, without a cache, one sequence at a time.
pub(super) struct ReferenceCache {
    plain: PlainLogits,
    /// By sequence, the number of positions and rounding: a sequence is the same in every batch.
    known: HashMap<(Vec<u32>, usize, Rounding), Rc<[f32]>>,
    /// Checks so far, by which the sequence looked at beside the first and the last goes on.
    turn: usize,
}

/// Sequences whose logits are kept; each takes `positions * vocabulary` floats.
const KEPT: usize = 32;

impl ReferenceCache {
    pub(super) fn new(plain: PlainLogits) -> Self {
        Self { plain, known: HashMap::new(), turn: 0 }
    }

    /// The sequences of a batch that the next check looks at: the first and the last, and at every second check, which is
    /// that after the times of a row, one of those between, another each time.
    fn sequences(&mut self, batch: usize) -> Vec<usize> {
        let mut sequences = sampled(batch);
        if batch > 2 && !self.turn.is_multiple_of(2) {
            sequences.push(1 + self.turn / 2 % (batch - 2));
        }
        self.turn += 1;
        sequences
    }

    /// The logits after the last `positions` tokens of a sequence, one position after the other.
    pub(super) fn logits(
        &mut self,
        tokens: &[u32],
        positions: usize,
        rounding: Rounding,
    ) -> Result<Rc<[f32]>, NetError> {
        let key = (tokens.to_vec(), positions, rounding);
        if let Some(known) = self.known.get(&key) {
            return Ok(Rc::clone(known));
        }
        if self.known.len() >= KEPT {
            self.known.clear();
        }
        let logits = (self.plain)((tokens, positions), rounding)?;
        let logits: Rc<[f32]> = logits.flatten_all()?.to_vec1()?.into();
        self.known.insert(key, Rc::clone(&logits));
        Ok(logits)
    }
}

/// How far logits may be off, relative to the largest of a position.
///
/// f32 differs by the order of its sums alone, thousands of products each. Products of quantised
/// weights round each activation to 8 bits of the largest of its block, about as much as bf16 does;
/// 1.2e-2 was seen on 30 layers. In half types 1.9 errors of the plain net were seen.
fn allowed(format: Format) -> Allowed {
    Allowed::of(format, 2e-5, 5e-2)
}

/// Compares the logits of a few sequences over some steps with the reference, and makes sure that those of
/// all others are finite.
///
/// `steps` holds `[batch, vocabulary]` logits, one tensor a step; `sequence` gives the tokens of a
/// sequence up to and including the last step.
pub(super) fn check(
    reference: &mut ReferenceCache,
    format: Format,
    steps: &[Tensor],
    sequence: impl Fn(usize) -> Vec<u32>,
) -> Result<Comparison, WorkloadError> {
    let candle = |error: candle_core::Error| workload_error(error.into());
    let rows: Vec<Vec<Vec<f32>>> = steps
        .iter()
        .map(|logits| logits.to_dtype(DType::F32)?.to_vec2())
        .collect::<candle_core::Result<_>>()
        .map_err(candle)?;
    let finite = rows.iter().flatten().flatten().all(|logit| logit.is_finite());
    let batch = rows.first().map_or(0, Vec::len);
    let mut errors = vec![if finite { 0.0 } else { f64::NAN }];
    let mut plain_errors = Vec::new();
    let allowed = allowed(format);
    let sequences = reference.sequences(batch);
    for &index in &sequences {
        let tokens = sequence(index);
        let mut of =
            |rounding| reference.logits(&tokens, steps.len(), rounding).map_err(workload_error);
        let expected = of(Rounding::Exact)?;
        let vocabulary = expected.len() / steps.len();
        for (step, expected) in rows.iter().zip(expected.chunks(vocabulary)) {
            errors.push(relative_error(&step[index], expected));
        }
        if let Some(rounding) = allowed.rounding() {
            let rounded = of(rounding)?;
            let both = rounded.chunks(vocabulary).zip(expected.chunks(vocabulary));
            plain_errors.extend(both.map(|(rounded, expected)| relative_error(rounded, expected)));
        }
    }
    let what = format!(
        "logits of {} of {batch} sequences over {} steps, against the whole sequences recomputed in \
         f32 without a cache{}",
        sequences.len(),
        steps.len(),
        allowed.words(format)
    );
    Ok(Comparison { what, errors, tolerance: allowed.tolerance(plain_errors) })
}

/// How far below the reference's largest logit those of chosen tokens are, as errors of [`check`] are: what was chosen by
/// logits of some error is off by twice that at most, so half of it is compared.
///
/// `chosen` holds the tokens of every sequence after each of the last steps.
pub(super) fn chosen_errors(
    reference: &mut ReferenceCache,
    chosen: &[Vec<u32>],
    sequence: impl Fn(usize) -> Vec<u32>,
) -> Result<Vec<f64>, WorkloadError> {
    let Some(batch) = chosen.first().map(Vec::len) else { return Ok(Vec::new()) };
    let mut errors = Vec::new();
    for index in sampled(batch) {
        let logits = reference.logits(&sequence(index), chosen.len(), Rounding::Exact);
        let logits = logits.map_err(workload_error)?;
        for (step, logits) in chosen.iter().zip(logits.chunks(logits.len() / chosen.len())) {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let magnitude = logits.iter().copied().map(f32::abs).fold(0.0, f32::max);
            let own = logits.get(step[index] as usize).copied().unwrap_or(f32::NAN);
            errors.push(f64::from((largest - own) / magnitude) / 2.0);
        }
    }
    Ok(errors)
}
