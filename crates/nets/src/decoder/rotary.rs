//! The cosines and sines of rotary positions, and how a head turns.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::rotary_emb::{rope, rope_i};

use super::rope::Rope;
use crate::kv_cache::Positions;

/// Which numbers of a head turn against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// Those of its first half against those of its second.
    Halves,
    /// Neighbours, as llama.cpp stores a Llama's queries and keys.
    Neighbours,
}

/// Cosines and sines of every position, `[positions, pairs]`.
pub(super) struct Rotary {
    cos: Tensor,
    sin: Tensor,
    turned: usize,
    pairing: Pairing,
}

impl Rotary {
    pub(super) fn new(
        of: &Rope,
        pairing: Pairing,
        positions: usize,
        (dtype, device): (DType, &Device),
    ) -> Result<Self> {
        let (frequencies, scale) = (of.inverse_frequencies(), of.scale() as f32);
        let table = |of: fn(f32) -> f32| {
            let row = |position: usize| {
                // The angle in f32, as the published nets have it.
                frequencies
                    .iter()
                    .map(move |frequency| scale * of(position as f32 * *frequency as f32))
            };
            let table: Vec<f32> = (0..positions).flat_map(row).collect();
            Tensor::from_vec(table, (positions, frequencies.len()), device)?.to_dtype(dtype)
        };
        Ok(Self { cos: table(f32::cos)?, sin: table(f32::sin)?, turned: of.turned, pairing })
    }

    /// The rotation of `count` new positions: `[count, pairs]`, or `[sequences, 1, ..]` where each sequence has a
    /// position of its own.
    pub(super) fn at(&self, positions: &Positions, count: usize) -> Result<Rotation> {
        let (cos, sin) = match positions {
            Positions::Uniform { length } => {
                (self.cos.narrow(0, *length, count)?, self.sin.narrow(0, *length, count)?)
            }
            Positions::Ragged(ragged) => {
                let rows = |table: &Tensor| table.index_select(&ragged.positions, 0)?.unsqueeze(1);
                (rows(&self.cos)?, rows(&self.sin)?)
            }
        };
        Ok(Rotation { cos, sin, turned: self.turned, pairing: self.pairing })
    }
}

/// The rotation of the new positions of a pass.
pub(super) struct Rotation {
    cos: Tensor,
    sin: Tensor,
    turned: usize,
    pairing: Pairing,
}

impl Rotation {
    /// Turns heads, `[sequences, heads, new, width]`.
    pub(super) fn turn(&self, x: &Tensor) -> Result<Tensor> {
        let turn = match self.pairing {
            Pairing::Halves => rope,
            Pairing::Neighbours => rope_i,
        };
        let rest = x.dim(D::Minus1)? - self.turned;
        if rest == 0 {
            return turn(x, &self.cos, &self.sin);
        }
        let first = x.narrow(D::Minus1, 0, self.turned)?.contiguous()?;
        let kept = x.narrow(D::Minus1, self.turned, rest)?;
        Tensor::cat(&[&turn(&first, &self.cos, &self.sin)?, &kept], D::Minus1)?.contiguous()
    }
}
