//! Noise schedules: DDIM (Song et al. 2021) without noise, and Euler's method (Karras et al. 2022).
//!
//! Both steps are linear in the latents and in the prediction, so a schedule is a list of coefficients,
//! worked out in f64 before the first step; nothing of it is computed on the device but two products.

use serde::Deserialize;

use super::architecture::{Prediction, SchedulerNumbers, Spacing};

/// Timesteps that all models were trained with.
pub const TRAINED: usize = 1000;

/// Variances of the first and the last of them; their roots lie evenly between.
pub const BETAS: (f64, f64) = (0.000_85, 0.012);

/// A way to follow the noise down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduler {
    /// Denoising diffusion implicit model, without added noise.
    Ddim,
    /// Euler's method on the probability flow.
    Euler,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// What the net is told.
    pub timestep: f64,
    /// By what the latents are multiplied before the net sees them.
    pub input: f64,
    /// The latents' share of the next latents.
    pub keep: f64,
    /// The prediction's share of them.
    pub add: f64,
}

/// The steps from noise to image.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// By what noise of variance 1 is multiplied to begin with.
    pub start: f64,
    /// In their order.
    pub steps: Vec<Step>,
}

impl Scheduler {
    /// Its name in ids.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ddim => "ddim",
            Self::Euler => "euler",
        }
    }

    /// So many steps; from 1 to the trained timesteps.
    pub fn schedule(self, numbers: &SchedulerNumbers, count: usize) -> Schedule {
        let count = count.clamp(1, TRAINED);
        match self {
            Self::Ddim => ddim(numbers, count),
            Self::Euler => euler(numbers, count),
        }
    }
}

/// How much of the image is left at each trained timestep: the running product of `1 - beta`.
fn kept() -> Vec<f64> {
    let (first, last) = (BETAS.0.sqrt(), BETAS.1.sqrt());
    let mut product = 1.0;
    (0..TRAINED)
        .map(|index| {
            let root = first + (last - first) * index as f64 / (TRAINED - 1) as f64;
            product *= 1.0 - root * root;
            product
        })
        .collect()
}

/// The timesteps that are taken, the noisiest first.
fn timesteps(spacing: Spacing, offset: usize, count: usize) -> Vec<f64> {
    let ratio = TRAINED as f64 / count as f64;
    let of = |index: usize| match spacing {
        Spacing::Leading => ((count - 1 - index) * (TRAINED / count) + offset) as f64,
        Spacing::Trailing => (TRAINED as f64 - index as f64 * ratio).round_ties_even() - 1.0,
        Spacing::Linspace if count == 1 => 0.0,
        Spacing::Linspace => (TRAINED - 1) as f64 * (count - 1 - index) as f64 / (count - 1) as f64,
    };
    // An offset may push the first of very many steps past the last one trained.
    (0..count).map(|index| of(index).clamp(0.0, (TRAINED - 1) as f64)).collect()
}

fn ddim(numbers: &SchedulerNumbers, count: usize) -> Schedule {
    let kept = kept();
    let step = |timestep: f64| {
        let timestep = timestep.round_ties_even() as usize;
        let here = kept[timestep];
        // Before the first timestep stands the first one once more, as all these models have it.
        let next = kept[timestep.saturating_sub(TRAINED / count)];
        let (root, noise) = (here.sqrt(), (1.0 - here).sqrt());
        let (next_root, next_noise) = (next.sqrt(), (1.0 - next).sqrt());
        let (keep, add) = match numbers.prediction {
            Prediction::Epsilon => (next_root / root, next_noise - next_root * noise / root),
            Prediction::Velocity => {
                (next_root * root + next_noise * noise, next_noise * root - next_root * noise)
            }
        };
        Step { timestep: timestep as f64, input: 1.0, keep, add }
    };
    let times = timesteps(numbers.ddim_spacing, numbers.offset, count);
    Schedule { start: 1.0, steps: times.into_iter().map(step).collect() }
}

fn euler(numbers: &SchedulerNumbers, count: usize) -> Schedule {
    let sigmas: Vec<f64> = kept().into_iter().map(|kept| ((1.0 - kept) / kept).sqrt()).collect();
    let times = timesteps(numbers.euler_spacing, numbers.offset, count);
    let noise_at = |timestep: f64| {
        let below = timestep.floor() as usize;
        let above = (below + 1).min(TRAINED - 1);
        sigmas[below] + (sigmas[above] - sigmas[below]) * timestep.fract()
    };
    let steps: Vec<Step> = times
        .iter()
        .enumerate()
        .map(|(index, &timestep)| {
            let sigma = noise_at(timestep);
            let next = times.get(index + 1).map_or(0.0, |timestep| noise_at(*timestep));
            let length = sigma.hypot(1.0);
            let (keep, add) = match numbers.prediction {
                Prediction::Epsilon => (1.0, next - sigma),
                Prediction::Velocity => {
                    (1.0 + (next - sigma) * sigma / (length * length), (next - sigma) / length)
                }
            };
            Step { timestep, input: 1.0 / length, keep, add }
        })
        .collect();
    let most = times.iter().map(|timestep| noise_at(*timestep)).fold(0.0, f64::max);
    let start = if numbers.euler_spacing == Spacing::Leading { most.hypot(1.0) } else { most };
    Schedule { start, steps }
}
