//! Answers held against a reference, whatever the family.

use candle_core::{DType, Tensor};
use warpmark_measure::WorkloadError;
use warpmark_measure::workload::checked;
use warpmark_nets::NetError;
use warpmark_record::Check;
use warpmark_record::agreement::{relative_error, worst};

use crate::catalog::{Dtype, Format};

/// How far answers may be off, relative to the largest of them, by the numbers that they are computed in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerance {
    pub(crate) f32: f64,
    pub(crate) f16: f64,
    pub(crate) bf16: f64,
    pub(crate) quantised: f64,
}

impl Tolerance {
    /// In a format.
    pub(crate) fn of(&self, format: Format) -> f64 {
        match format {
            Format::Plain(Dtype::F32) => self.f32,
            Format::Plain(Dtype::F16) => self.f16,
            Format::Plain(Dtype::Bf16) => self.bf16,
            Format::Quantised(_) => self.quantised,
        }
    }
}

/// How far the answers of a case are from the reference's.
pub(crate) struct Comparison {
    /// What was compared with what.
    pub(crate) what: String,
    /// Relative errors; not a number where an answer is not finite.
    pub(crate) errors: Vec<f64>,
    /// The largest that is right.
    pub(crate) tolerance: f64,
}

impl Comparison {
    /// The check, or why the answer is wrong; nothing compared is wrong too.
    pub(crate) fn verdict(self) -> Result<Check, WorkloadError> {
        if self.errors.is_empty() {
            return Err(WorkloadError::Failed("nothing was compared".to_owned()));
        }
        checked(self.what, worst(self.errors), self.tolerance)
    }
}

/// Those of a batch that are recomputed: the first and the last.
pub(crate) fn sampled(batch: usize) -> Vec<usize> {
    if batch == 1 { vec![0] } else { vec![0, batch - 1] }
}

/// 0 where all values of a whole batch are finite, else not a number.
pub(crate) fn finite(all: &Tensor) -> Result<f64, NetError> {
    // A sum of magnitudes in f32 is finite where all of them are, at the sizes that nets have.
    let mean: f32 = all.to_dtype(DType::F32)?.abs()?.mean_all()?.to_scalar()?;
    Ok(if mean.is_finite() { 0.0 } else { f64::NAN })
}

/// The relative error of one tensor against another of the same size; not a number where a value of either
/// is not finite.
pub(crate) fn error(found: &Tensor, expected: &Tensor) -> Result<f64, NetError> {
    let flat = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    let (found, expected) = (flat(found)?, flat(expected)?);
    let finite = found.iter().chain(&expected).all(|value| value.is_finite());
    Ok(if finite { relative_error(&found, &expected) } else { f64::NAN })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    #[test]
    fn a_value_that_is_not_finite_is_never_within_a_tolerance() {
        assert!(finite(&tensor(&[1.0, f32::NAN])).unwrap().is_nan());
        assert!(finite(&tensor(&[1.0, f32::INFINITY])).unwrap().is_nan());
        let both = tensor(&[f32::INFINITY, 1.0]);
        assert!(error(&both, &both).unwrap().is_nan());
        let wrong = Comparison { what: "x".to_owned(), errors: vec![f64::NAN], tolerance: 1.0 };
        assert!(matches!(wrong.verdict(), Err(WorkloadError::WrongAnswer { .. })));
    }

    #[test]
    fn nothing_compared_is_no_pass() {
        let nothing = Comparison { what: "x".to_owned(), errors: Vec::new(), tolerance: 1.0 };
        assert!(matches!(nothing.verdict(), Err(WorkloadError::Failed(_))));
    }

    #[test]
    fn errors_are_relative_to_the_largest_value() {
        let off = error(&tensor(&[10.0, 1.1]), &tensor(&[10.0, 1.0])).unwrap();
        assert!((off - 0.01).abs() < 1e-6, "{off}");
        assert!(error(&tensor(&[1.0]), &tensor(&[1.0, 2.0])).unwrap().is_nan());
    }
}
