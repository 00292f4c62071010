//! Language models on fused kernels of our own, compiled at run time: neither candle nor a toolkit.
//!
//! Weights lie in the order in which the kernels read them, and a decode step is one CUDA graph of a few kernels
//! a layer. Nothing here times anything.

pub mod attention;
mod decoder;
mod kernels;
mod library;
mod net;
mod pass;
mod prefill;
#[cfg(test)]
mod reference;
mod shape;
#[cfg(test)]
mod testing;
mod timing;
mod weights;

use half::{bf16, f16};

pub use decoder::{Decoder, Multiplied};
pub use kernels::MOST_BY_VECTORS;
pub use net::Net;
pub use shape::{Activation, NormKind, Positions, Shape};
pub use weights::{Checkpoint, Part, Tensor};

/// The numbers of weights and of the cache; sums are f32, and so is all that goes from kernel to kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE half precision.
    F16,
    /// The upper half of f32.
    Bf16,
}

impl Dtype {
    /// Both.
    pub const ALL: [Self; 2] = [Self::F16, Self::Bf16];

    /// Its name: `f16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        2
    }

    /// The bits of the nearest number, as memory has them.
    pub fn bits(self, value: f32) -> u16 {
        match self {
            Self::F16 => f16::from_f32(value).to_bits(),
            Self::Bf16 => bf16::from_f32(value).to_bits(),
        }
    }

    /// The number of these bits.
    pub fn value(self, bits: u16) -> f32 {
        match self {
            Self::F16 => f16::from_bits(bits).to_f32(),
            Self::Bf16 => bf16::from_bits(bits).to_f32(),
        }
    }
}
