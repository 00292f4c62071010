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
}

/// Sequences whose logits are kept; each takes `positions * vocabulary` floats.
const KEPT: usize = 32;

impl ReferenceCache {
    pub(super) fn new(plain: PlainLogits) -> Self {
        Self { plain, known: HashMap::new() }
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
    for index in sampled(batch) {
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
        sampled(batch).len(),
        steps.len(),
        allowed.words(format)
    );
    Ok(Comparison { what, errors, tolerance: allowed.tolerance(plain_errors) })
}
