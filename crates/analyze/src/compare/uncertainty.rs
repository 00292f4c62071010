//! How far a ratio may be off.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// How uncertain the logarithm of a ratio is: its standard deviation, and its degrees of freedom; `None`
/// where they are as good as endless.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Uncertainty {
    pub(super) deviation: f64,
    pub(super) freedom: Option<f64>,
}

impl Uncertainty {
    /// How far the truth may lie on either side with a two-sided `confidence`.
    pub(super) fn reach(self, confidence: f64) -> f64 {
        let probability = f64::midpoint(1.0, confidence);
        let quantile = match self.freedom.map(|freedom| StudentsT::new(0.0, 1.0, freedom)) {
            Some(Ok(student)) => student.inverse_cdf(probability),
            _ => Normal::standard().inverse_cdf(probability),
        };
        quantile * self.deviation
    }
}
