//! Answers held against a reference, whatever the family.

use candle_core::{DType, Tensor};
use warpmark_measure::WorkloadError;
use warpmark_measure::workload::checked;
use warpmark_nets::NetError;
use warpmark_nets::reference::Rounding;
use warpmark_record::Check;
use warpmark_record::agreement::{max_error, relative_error};

use warpmark_weights::{Dtype, Format};

/// How far a net in a half type may be from exact answers, in errors of the plain net that rounds each
/// step to the same type. Both round at places of their own, so that either may be the nearer one by chance.
const PLAIN_ERRORS: f64 = 4.0;

/// What a format's errors are held against, relative to the largest of the answers.
///
/// How much of a half type's rounding reaches an answer is the model's own: nets whose answers are
/// large against their residual stream, or that are deep, magnify it. So errors are held against those
/// of the plain net in the same type, on the same inputs; below two unit roundoffs (2⁻¹¹ for f16, 2⁻⁸
/// for bf16) that figure is luck.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Allowed {
    /// A figure.
    Figure(f64),
    /// Four times the plain net's own largest error, or this figure where that product is smaller.
    Plain(Rounding, f64),
}

impl Allowed {
    /// For a format: figures for f32, which differs by the order of its sums alone, and for quantised
    /// weights.
    pub fn of(format: Format, f32: f64, quantised: f64) -> Self {
        match format {
            Format::Plain(Dtype::F32) => Self::Figure(f32),
            Format::Plain(Dtype::F16) => Self::Plain(Rounding::F16, 2.0 / 2048.0),
            Format::Plain(Dtype::Bf16) => Self::Plain(Rounding::Bf16, 2.0 / 256.0),
            Format::Quantised(_) => Self::Figure(quantised),
        }
    }

    /// What the plain net rounds its steps to, where its errors are asked for.
    pub fn rounding(self) -> Option<Rounding> {
        match self {
            Self::Figure(_) => None,
            Self::Plain(rounding, _) => Some(rounding),
        }
    }

    /// The tolerance, by the plain net's errors.
    pub fn tolerance(self, plain_errors: impl IntoIterator<Item = f64>) -> f64 {
        match self {
            Self::Figure(figure) => figure,
            Self::Plain(_, least) => PLAIN_ERRORS * max_error(plain_errors).max(least),
        }
    }

    /// What a check says of it, after what was compared.
    pub fn words(self, format: Format) -> String {
        match self {
            Self::Figure(_) => String::new(),
            Self::Plain(..) => format!(
                "; {PLAIN_ERRORS} times what rounding each step of that to {format} does is allowed"
            ),
        }
    }
}

/// Errors of one part of an answer, and how large they may be.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// Relative errors; not a number where a part is not finite.
    pub errors: Vec<f64>,
    /// The largest that is right.
    pub tolerance: f64,
}

impl Held {
    /// How much of what is allowed its worst error takes; more than any number where it is none.
    fn share(&self) -> f64 {
        let share = max_error(self.errors.iter().copied()) / self.tolerance;
        if share.is_nan() { f64::INFINITY } else { share }
    }
}

/// How far the answers of a case are from the reference's.
pub struct Comparison {
    /// What was compared with what.
    pub what: String,
    /// Relative errors; not a number where an answer is not finite.
    pub errors: Vec<f64>,
    /// The largest that is right.
    pub tolerance: f64,
}

impl Comparison {
    /// Of an answer's parts, each with a tolerance of its own: the part that takes most of what it may.
    pub fn of_parts(what: String, parts: Vec<Held>) -> Self {
        let none = Held { errors: Vec::new(), tolerance: 0.0 };
        // A part of which nothing was compared is as wrong as one that is.
        let empty = parts.iter().any(|part| part.errors.is_empty());
        let closest = parts.into_iter().max_by(|a, b| a.share().total_cmp(&b.share()));
        let Held { errors, tolerance } = closest.filter(|_| !empty).unwrap_or(none);
        Self { what, errors, tolerance }
    }

    /// The check, or why the answer is wrong; nothing compared is wrong too.
    pub fn verdict(self) -> Result<Check, WorkloadError> {
        if self.errors.is_empty() {
            return Err(WorkloadError::Failed("nothing was compared".to_owned()));
        }
        checked(self.what, max_error(self.errors), self.tolerance)
    }
}

/// Those of a batch that are recomputed: the first and the last.
pub fn sampled(batch: usize) -> Vec<usize> {
    if batch == 1 { vec![0] } else { vec![0, batch - 1] }
}

/// 0 where all values of a whole batch are finite, else not a number.
pub fn finite(all: &Tensor) -> Result<f64, NetError> {
    // A sum of magnitudes in f32 is finite where all of them are, at the sizes that nets have.
    let mean: f32 = all.to_dtype(DType::F32)?.abs()?.mean_all()?.to_scalar()?;
    Ok(if mean.is_finite() { 0.0 } else { f64::NAN })
}

/// The relative error of one tensor against another of the same size; not a number where a value of either
/// is not finite.
pub fn error(found: &Tensor, expected: &Tensor) -> Result<f64, NetError> {
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
    fn half_types_are_allowed_four_errors_of_the_plain_net_and_two_roundoffs_at_least() {
        let of = |format: Dtype| Allowed::of(format.into(), 1e-4, 0.05);
        assert!((of(Dtype::F32).tolerance([0.5]) - 1e-4).abs() < 1e-12);
        assert_eq!(of(Dtype::F32).rounding(), None);
        assert_eq!(of(Dtype::F16).rounding(), Some(Rounding::F16));
        assert!((of(Dtype::F16).tolerance([1e-3, 5e-3]) - 2e-2).abs() < 1e-12);
        assert!((of(Dtype::Bf16).tolerance([1e-3]) - 8.0 / 256.0).abs() < 1e-12);
        // A plain net that leaves the type's range allows no more for it.
        assert!((of(Dtype::F16).tolerance([f64::NAN]) - 8.0 / 2048.0).abs() < 1e-12);
    }

    #[test]
    fn of_several_parts_the_one_nearest_to_what_it_may_be_is_told() {
        let held = |error, tolerance| Held { errors: vec![0.0, error], tolerance };
        let of = |parts| Comparison::of_parts("x".to_owned(), parts);
        let check = of(vec![held(0.5, 1.0), held(0.02, 0.03)]).verdict().unwrap();
        assert_eq!((check.worst_error, check.tolerance), (0.02, 0.03));
        assert!(of(vec![held(0.5, 1.0), held(0.04, 0.03)]).verdict().is_err());
        assert!(of(vec![held(f64::NAN, 1.0), held(0.01, 0.03)]).verdict().is_err());
        let empty = Held { errors: Vec::new(), tolerance: 1.0 };
        assert!(matches!(of(vec![held(0.0, 1.0), empty]).verdict(), Err(WorkloadError::Failed(_))));
        assert!(matches!(of(Vec::new()).verdict(), Err(WorkloadError::Failed(_))));
    }

    #[test]
    fn errors_are_relative_to_the_largest_value() {
        let off = error(&tensor(&[10.0, 1.1]), &tensor(&[10.0, 1.0])).unwrap();
        assert!((off - 0.01).abs() < 1e-6, "{off}");
        assert!(error(&tensor(&[1.0]), &tensor(&[1.0, 2.0])).unwrap().is_nan());
    }
}
