//! Layers from candle's plainest ops.

use std::collections::HashMap;

use candle_core::{D, DType, Device, Result, Tensor};

use crate::diffusion::{Prediction, SchedulerNumbers, Step};
use crate::reference::Rounding;
use crate::reference::convolution::convolution;

/// The weights of one component, widened to f32 while they are used, and what each step is rounded to.
pub(super) struct Plain<'a> {
    tensors: &'a HashMap<String, Tensor>,
    component: &'a str,
    groups: usize,
    epsilon: f64,
    rounding: Rounding,
}

impl<'a> Plain<'a> {
    pub(super) fn new(
        tensors: &'a HashMap<String, Tensor>,
        component: &'a str,
        groups: usize,
        (epsilon, rounding): (f64, Rounding),
    ) -> Self {
        Self { tensors, component, groups, epsilon, rounding }
    }

    pub(super) fn with_epsilon(&self, epsilon: f64) -> Self {
        Self { epsilon, ..*self }
    }

    /// A step's result as it would be kept.
    pub(super) fn keep(&self, x: Tensor) -> Result<Tensor> {
        self.rounding.keep(x)
    }

    pub(super) fn get(&self, name: &str) -> Result<Tensor> {
        let name = format!("{}.{name}", self.component);
        match self.tensors.get(&name) {
            Some(tensor) => tensor.to_dtype(DType::F32),
            None => candle_core::bail!("the weights have no tensor {name:?}"),
        }
    }

    /// Over the last dimension; a kernel of one is a matrix too.
    pub(super) fn linear(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let weight = self.get(&format!("{name}.weight"))?;
        let weight = weight.reshape((weight.dim(0)?, weight.dim(1)?))?;
        let product = self.keep(x.matmul(&weight.t()?)?)?;
        let bias = format!("{}.{name}.bias", self.component);
        if self.tensors.contains_key(&bias) {
            return self.keep(product.broadcast_add(&self.get(&format!("{name}.bias"))?)?);
        }
        Ok(product)
    }

    /// A convolution and its bias.
    pub(super) fn conv(&self, name: &str, x: &Tensor, stride: usize) -> Result<Tensor> {
        let sum = convolution(x, &self.get(&format!("{name}.weight"))?, stride)?;
        let bias = self.get(&format!("{name}.bias"))?;
        self.keep(self.keep(sum)?.broadcast_add(&bias.reshape((1, (), 1, 1))?)?)
    }

    pub(super) fn group_norm(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let (_, channels, height, width) = x.dims4()?;
        let groups = x.reshape((self.groups, ()))?;
        let centred = groups.broadcast_sub(&groups.mean_keepdim(1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(1)? + self.epsilon)?.sqrt()?;
        let normalised = centred.broadcast_div(&deviation)?;
        let scaled = normalised
            .reshape((channels, height * width))?
            .broadcast_mul(&self.get(&format!("{name}.weight"))?.reshape((channels, 1))?)?
            .broadcast_add(&self.get(&format!("{name}.bias"))?.reshape((channels, 1))?)?;
        self.keep(scaled)?.reshape((1, channels, height, width))
    }

    pub(super) fn layer_norm(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let gain = self.get(&format!("{name}.weight"))?;
        self.keep(layer_norm(x, &gain, &self.get(&format!("{name}.bias"))?)?)
    }

    pub(super) fn silu(&self, x: &Tensor) -> Result<Tensor> {
        self.keep((x / (x.neg()?.exp()? + 1.0)?)?)
    }

    pub(super) fn residual(&self, name: &str, x: &Tensor, time: Option<&Tensor>) -> Result<Tensor> {
        let norm = |which: &str, x: &Tensor| self.group_norm(&format!("{name}.{which}"), x);
        let mut y = self.conv(&format!("{name}.conv1"), &self.silu(&norm("norm1", x)?)?, 1)?;
        if let Some(time) = time {
            let time = self.linear(&format!("{name}.time_emb_proj"), time)?;
            y = self.keep(y.broadcast_add(&time.reshape((1, (), 1, 1))?)?)?;
        }
        let y = self.conv(&format!("{name}.conv2"), &self.silu(&norm("norm2", &y)?)?, 1)?;
        if x.dim(1)? == y.dim(1)? {
            return self.keep((x + y)?);
        }
        self.keep((self.conv(&format!("{name}.conv_shortcut"), x, 1)? + y)?)
    }

    /// Attention of `[n, h·d]` over `[t, h·d]`, one head after the other.
    pub(super) fn attention(
        &self,
        q: &Tensor,
        (k, v): (&Tensor, &Tensor),
        heads: usize,
        causal: bool,
    ) -> Result<Tensor> {
        let (count, width) = q.dims2()?;
        let part = width / heads;
        let mut mixed = Vec::with_capacity(heads);
        for head in 0..heads {
            let of = |x: &Tensor| x.narrow(1, head * part, part)?.contiguous();
            let (q, k, v) = (of(q)?, of(k)?.t()?, of(v)?);
            let mut rows = Vec::new();
            for first in (0..count).step_by(BLOCK) {
                let q = q.narrow(0, first, BLOCK.min(count - first))?;
                let mut scores = self.keep((q.matmul(&k)? / (part as f64).sqrt())?)?;
                if causal {
                    scores = scores.add(&above_diagonal(count, q.device())?)?;
                }
                let powers = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
                let shares = powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?;
                rows.push(self.keep(self.keep(shares)?.matmul(&v)?)?);
            }
            mixed.push(Tensor::cat(&rows, 0)?);
        }
        Tensor::cat(&mixed, 1)
    }
}

fn layer_norm(x: &Tensor, gain: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
    centred.broadcast_div(&deviation)?.broadcast_mul(gain)?.broadcast_add(bias)
}

pub(super) fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    x / ((x * -1.702)?.exp()? + 1.0)?
}

/// Queries whose scores are held at a time.
const BLOCK: usize = 1024;

/// -inf above the diagonal; a text is shorter than a block.
fn above_diagonal(count: usize, device: &Device) -> Result<Tensor> {
    let mask = (0..count * count)
        .map(|at| if at % count > at / count { f32::NEG_INFINITY } else { 0.0 })
        .collect::<Vec<f32>>();
    Tensor::from_vec(mask, (count, count), device)
}

/// Every pixel four times, by copies beside each other.
pub(super) fn twice(x: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let x = x.reshape((batch, channels, height, 1, width, 1))?;
    let x = Tensor::cat(&[&x, &x], 5)?;
    Tensor::cat(&[&x, &x], 3)?.reshape((batch, channels, 2 * height, 2 * width))
}

/// Cosines, then sines, of a value, `[1, width]`.
pub(super) fn waves(value: f64, width: usize, device: &Device) -> Result<Tensor> {
    let half = width / 2;
    let angle = |index: usize| value / 10_000f64.powf(index as f64 / half as f64);
    let cosines = (0..half).map(|index| angle(index).cos() as f32);
    let waves: Vec<f32> = cosines.chain((0..half).map(|index| angle(index).sin() as f32)).collect();
    Tensor::from_vec(waves, (1, 2 * half), device)
}

/// The waves of a net that computes them in its own type: the timestep, the frequencies, their products and
/// what comes of these are each rounded to it.
pub(super) fn rounded_waves(
    value: f64,
    width: usize,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let half = width / 2;
    let frequency = |index: usize| 10_000f64.powf(-(index as f64) / half as f64) as f32;
    let frequencies: Vec<f32> = (0..half).map(frequency).collect();
    let round = |x: &Tensor| x.to_dtype(dtype)?.to_dtype(DType::F32);
    let frequencies = round(&Tensor::from_vec(frequencies, (1, half), device)?)?;
    let value = round(&Tensor::new(&[[value as f32]], device)?)?;
    let angles = round(&frequencies.broadcast_mul(&value)?)?;
    Tensor::cat(&[round(&angles.cos()?)?, round(&angles.sin()?)?], 1)
}

/// How much of the image is left at a timestep that need not be whole.
fn kept_at(timestep: f64) -> f64 {
    let (first, last) = (0.000_85f64.sqrt(), 0.012f64.sqrt());
    let kept = |count: usize| -> f64 {
        (0..=count).map(|at| 1.0 - (first + (last - first) * at as f64 / 999.0).powi(2)).product()
    };
    let noise = |count: usize| ((1.0 - kept(count)) / kept(count)).sqrt();
    let below = timestep as usize;
    if timestep.fract() == 0.0 {
        return kept(below);
    }
    // Noise is what is interpolated.
    let between = noise(below) + (noise(below + 1) - noise(below)) * timestep.fract();
    1.0 / (1.0 + between * between)
}

pub(super) fn next_latents(
    numbers: &SchedulerNumbers,
    euler: bool,
    (step, next, count): (&Step, Option<&Step>, usize),
    latents: &[f32],
    prediction: &[f32],
) -> Vec<f32> {
    let here = kept_at(step.timestep);
    let sigma = ((1.0 - here) / here).sqrt();
    let one = |(latent, prediction): (&f32, &f32)| {
        let (latent, prediction) = (f64::from(*latent), f64::from(*prediction));
        // Euler's latents are larger than DDIM's by the root of what is kept.
        let shrunk = if euler { latent * here.sqrt() } else { latent };
        let (image, noise) = match numbers.prediction {
            Prediction::Epsilon => {
                ((shrunk - (1.0 - here).sqrt() * prediction) / here.sqrt(), prediction)
            }
            Prediction::Velocity => (
                here.sqrt() * shrunk - (1.0 - here).sqrt() * prediction,
                here.sqrt() * prediction + (1.0 - here).sqrt() * shrunk,
            ),
        };
        if euler {
            let target = next.map_or(0.0, |next| {
                ((1.0 - kept_at(next.timestep)) / kept_at(next.timestep)).sqrt()
            });
            (latent + (latent - image) / sigma * (target - sigma)) as f32
        } else {
            let target = kept_at((step.timestep - (1000 / count) as f64).max(0.0));
            (target.sqrt() * image + (1.0 - target).sqrt() * noise) as f32
        }
    };
    latents.iter().zip(prediction).map(one).collect()
}
