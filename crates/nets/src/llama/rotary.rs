//! Rotary positions (Su et al. 2021), and Llama 3.1's stretching of them.

use std::f64::consts::PI;

use candle_core::{DType, Device, Result, Tensor};

use super::Architecture;
use crate::kv_cache::Positions;

/// Cosines and sines of every position, `[positions, head width / 2]`.
pub(super) struct Rotary {
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    pub(super) fn new(
        architecture: &Architecture,
        positions: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let frequencies = inverse_frequencies(architecture);
        let table = |of: fn(f32) -> f32| {
            let row = |position: usize| {
                // The angle in f32, as the published net has it.
                frequencies.iter().map(move |frequency| of(position as f32 * *frequency as f32))
            };
            let table: Vec<f32> = (0..positions).flat_map(row).collect();
            Tensor::from_vec(table, (positions, frequencies.len()), device)?.to_dtype(dtype)
        };
        Ok(Self { cos: table(f32::cos)?, sin: table(f32::sin)? })
    }

    /// The rotation of `count` new positions: `[count, head width / 2]`, or `[sequences, 1, ..]` where each
    /// sequence has a position of its own.
    pub(super) fn at(&self, positions: &Positions, count: usize) -> Result<(Tensor, Tensor)> {
        match positions {
            Positions::Uniform { length } => {
                Ok((self.cos.narrow(0, *length, count)?, self.sin.narrow(0, *length, count)?))
            }
            Positions::Ragged(ragged) => {
                let rows = |table: &Tensor| table.index_select(&ragged.positions, 0)?.unsqueeze(1);
                Ok((rows(&self.cos)?, rows(&self.sin)?))
            }
        }
    }
}

/// The radians that a position adds to each pair of a head: `theta^(-2i/d)`, stretched where the
/// architecture says so: waves that are long against the original context are lowered by the factor,
/// short ones stay, and those between are mixed.
pub fn inverse_frequencies(architecture: &Architecture) -> Vec<f64> {
    let width = architecture.head_width();
    let plain = (0..width / 2)
        .map(|pair| architecture.rope_theta.powf(-((2 * pair) as f64) / width as f64));
    let Some(scaling) = architecture.rope_scaling else { return plain.collect() };
    let stretch = |frequency: f64| {
        let waves = scaling.original_context as f64 * frequency / (2.0 * PI);
        let (low, high) = (scaling.low_frequency_factor, scaling.high_frequency_factor);
        let kept = ((waves - low) / (high - low)).clamp(0.0, 1.0);
        kept * frequency + (1.0 - kept) * frequency / scaling.factor
    };
    plain.map(stretch).collect()
}
