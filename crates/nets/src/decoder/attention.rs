//! Attention of a decoder over its cache, with what a window or a cap changes.

use candle_core::{DType, Device, Result, Tensor};

use super::architecture::Architecture;
use super::layers::{Linear, NormLayer, Projections};
use super::{Pass, Rotation};
use crate::causal::causal_mask;
use crate::kv_cache::{Positions, RaggedPositions, append};
use crate::ops::{causal_over_cache, over_cache_masked};

/// Attention of one block.
pub(super) struct Attention {
    pub(super) numbers: Numbers,
    pub(super) projections: Projections,
    pub(super) query_norm: Option<NormLayer>,
    pub(super) key_norm: Option<NormLayer>,
    pub(super) output: Linear,
}

/// The numbers of one block's attention.
pub(super) struct Numbers {
    heads: usize,
    key_value_heads: usize,
    head_width: usize,
    scale: f64,
    cap: Option<f64>,
    /// Positions that one attends to, its own included, where they are limited.
    window: Option<usize>,
    /// Whether it turns by the frequencies of layers with a window.
    is_local: bool,
}

impl Numbers {
    pub(super) fn of(architecture: &Architecture, layer: usize) -> Self {
        let windowed = architecture.is_windowed(layer);
        Self {
            heads: architecture.heads,
            key_value_heads: architecture.key_value_heads,
            head_width: architecture.head_width,
            scale: architecture.attention_scale,
            cap: architecture.attention_cap,
            window: architecture.window.filter(|_| windowed),
            is_local: windowed && architecture.local_theta.is_some(),
        }
    }
}

impl Attention {
    /// Attention of the positions of `x`, `[sequences, new, width]`, over themselves and the positions in
    /// the buffers, to which their keys and values are added.
    pub(super) fn apply(
        &self,
        x: &Tensor,
        buffers: &(Tensor, Tensor),
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        let (batch, count, _) = x.dims3()?;
        let [q, k, v] = self.projected(x)?;
        let rotation = if self.numbers.is_local { &pass.local } else { &pass.rotation };
        let q = placed(q, self.query_norm.as_ref(), rotation.as_ref())?;
        let k = placed(k, self.key_norm.as_ref(), rotation.as_ref())?;
        let (k, v) = append(buffers, (&k, &v), pass.positions)?;
        let q = (q * self.numbers.scale)?;
        let mixed = self.attend(&q, &k, &v, pass)?;
        self.output.apply(&mixed.transpose(1, 2)?.reshape((batch, count, ()))?)
    }

    /// Queries, keys and values, `[sequences, heads, new, head width]` each.
    fn projected(&self, x: &Tensor) -> Result<[Tensor; 3]> {
        let (batch, count, _) = x.dims3()?;
        let Numbers { heads, key_value_heads: shared, head_width: width, .. } = self.numbers;
        match &self.projections {
            Projections::Apart([q, k, v]) => {
                let part = |linear: &Linear, heads: usize| {
                    let part = linear.apply(x)?.reshape((batch, count, heads, width))?;
                    part.transpose(1, 2)?.contiguous()
                };
                Ok([part(q, heads)?, part(k, shared)?, part(v, shared)?])
            }
            Projections::Together(qkv) => {
                let qkv = qkv.apply(x)?.reshape((batch, count, heads + 2 * shared, width))?;
                let part = |first: usize, heads: usize| {
                    qkv.narrow(2, first, heads)?.transpose(1, 2)?.contiguous()
                };
                Ok([part(0, heads)?, part(heads, shared)?, part(heads + shared, shared)?])
            }
        }
    }

    /// The one place where attention is asked for.
    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let (count, attended) = (q.dim(2)?, k.dim(2)?);
        let window = self.numbers.window.filter(|window| *window < attended);
        match (window, self.numbers.cap, pass.positions) {
            (None, None, positions) => causal_over_cache(q, k, v, positions, &pass.masks.whole),
            (Some(window), None, Positions::Uniform { .. }) if count == 1 => {
                let last = |x: &Tensor| x.narrow(2, attended - window, window);
                let positions = Positions::Uniform { length: window - 1 };
                causal_over_cache(q, &last(k)?, &last(v)?, &positions, &pass.masks.whole)
            }
            (window, cap, _) => {
                let masks = (&pass.masks.full, &pass.masks.windowed);
                let mask = if window.is_some() { masks.1 } else { masks.0 };
                over_cache_masked(q, k, v, mask.as_ref(), cap)
            }
        }
    }
}

/// Queries or keys where they belong.
fn placed(x: Tensor, norm: Option<&NormLayer>, rotation: Option<&Rotation>) -> Result<Tensor> {
    let x = match norm {
        Some(norm) => norm.apply(&x)?,
        None => x,
    };
    match rotation {
        Some(rotation) => rotation.turn(&x),
        None => Ok(x),
    }
}

/// What positions may attend to, `[positions, positions]` in f32: 0 where they may, -inf elsewhere.
pub(super) struct Masks {
    whole: Tensor,
    /// That of layers with a window, where sequences can be longer.
    windowed: Option<Tensor>,
    window: Option<usize>,
    /// Whether masks are needed although no window is: scores are capped.
    capped: bool,
}

/// The masks of the new positions of one pass.
pub(super) struct PassMasks {
    /// Of every position that the net is built for.
    whole: Tensor,
    /// `[new, attended]`, or `[sequences, 1, 1, attended]`; `None` where everything is attended to.
    full: Option<Tensor>,
    windowed: Option<Tensor>,
}

impl Masks {
    pub(super) fn new(
        architecture: &Architecture,
        positions: usize,
        device: &Device,
    ) -> Result<Self> {
        let whole = causal_mask(positions, device)?;
        let window = architecture.window.filter(|window| *window < positions);
        let windowed = match window {
            Some(window) => {
                let row =
                    |row: usize| (0..positions).map(move |column| hidden(column, row, window));
                let mask: Vec<f32> = (0..positions).flat_map(row).collect();
                Some(Tensor::from_vec(mask, (positions, positions), device)?)
            }
            None => None,
        };
        let capped = architecture.attention_cap.is_some();
        Ok(Self { whole, windowed, window, capped })
    }

    pub(super) fn of_pass(&self, positions: &Positions, count: usize) -> Result<PassMasks> {
        let none = PassMasks { whole: self.whole.clone(), full: None, windowed: None };
        if self.window.is_none() && !self.capped {
            return Ok(none);
        }
        match positions {
            Positions::Uniform { length } => {
                let part = |mask: &Tensor| {
                    mask.narrow(0, *length, count)?.narrow(1, 0, length + count)?.contiguous()
                };
                let full = if count == 1 { None } else { Some(part(&self.whole)?) };
                let windowed = self.windowed.as_ref().map(part).transpose()?;
                Ok(PassMasks { full, windowed, ..none })
            }
            Positions::Ragged(ragged) => {
                let windowed =
                    self.window.map(|window| ragged_window(ragged, window)).transpose()?;
                let full = ragged.mask()?;
                Ok(PassMasks { full: Some(full), windowed, ..none })
            }
        }
    }

    pub(super) fn is_windowed(&self) -> bool {
        self.window.is_some()
    }
}

/// 0 on the positions of each sequence's window, -inf elsewhere: `[sequences, 1, 1, attended]`, made on the device.
fn ragged_window(ragged: &RaggedPositions, window: usize) -> Result<Tensor> {
    let (device, attended) = (ragged.positions.device(), ragged.attended);
    let sequences = ragged.positions.dim(0)?;
    let from = ragged.positions.to_dtype(DType::F32)?.reshape((sequences, 1))?;
    let before = from.broadcast_sub(&ragged.columns.to_dtype(DType::F32)?)?;
    let seen = before.ge(0f64)?.mul(&before.lt(window as f64)?)?;
    let (zero, none) = (
        Tensor::zeros((sequences, attended), DType::F32, device)?,
        Tensor::full(f32::NEG_INFINITY, (sequences, attended), device)?,
    );
    seen.where_cond(&zero, &none)?.reshape((sequences, 1, 1, attended))
}

/// What a mask adds to the score of a position for the one at `from`.
fn hidden(position: usize, from: usize, window: usize) -> f32 {
    let seen = position <= from && from - position < window;
    if seen { 0.0 } else { f32::NEG_INFINITY }
}
