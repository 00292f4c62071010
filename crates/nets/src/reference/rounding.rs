//! Rounding, as nets in half types do it.

use candle_core::{DType, Result, Tensor};

/// The dtype to which a plain computation rounds what each of its steps gives; it computes in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// Nothing is rounded: f32 as it comes.
    Exact,
    /// Every step, as a net in f16 does.
    F16,
    /// Every step, as a net in bf16 does.
    Bf16,
}

impl Rounding {
    /// A step's result as it would be kept.
    pub fn keep(self, x: Tensor) -> Result<Tensor> {
        match self {
            Self::Exact => Ok(x),
            Self::F16 => x.to_dtype(DType::F16)?.to_dtype(DType::F32),
            Self::Bf16 => x.to_dtype(DType::BF16)?.to_dtype(DType::F32),
        }
    }
}
