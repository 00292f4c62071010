//! Rotary positions and masks, from the formulas and not from the net's tables.

use std::f64::consts::TAU;

use candle_core::{Device, Result, Tensor};

use crate::decoder::{Architecture, RopeScaling};

/// What each position adds to the scores of every other: -inf for those behind it, and for those that are a
/// window or more in front of it.
pub(super) fn mask(tokens: usize, window: Option<usize>, device: &Device) -> Result<Tensor> {
    let mut mask = vec![0f32; tokens * tokens];
    for row in 0..tokens {
        mask[row * tokens + row + 1..(row + 1) * tokens].fill(f32::NEG_INFINITY);
        let first = window.map_or(0, |window| (row + 1).saturating_sub(window));
        mask[row * tokens..row * tokens + first].fill(f32::NEG_INFINITY);
    }
    Tensor::from_vec(mask, (tokens, tokens), device)
}

/// Turns the first numbers of a head, each pair `(i, i + d/2)` of the `d` that turn, by its position times its
/// frequency: `[tokens, head width]`.
pub(super) fn rotate(architecture: &Architecture, layer: usize, x: &Tensor) -> Result<Tensor> {
    let Some(rope) = architecture.rope else { return Ok(x.clone()) };
    let (tokens, width) = x.dims2()?;
    let turned = rope.turned;
    let (theta, scaling) = match architecture.local_theta {
        Some(theta) if architecture.is_windowed(layer) => (theta, None),
        _ => (rope.theta, rope.scaling),
    };
    let frequencies: Vec<f64> =
        (0..turned / 2).map(|pair| frequency(pair, turned, theta, scaling)).collect();
    let angles: Vec<f32> = (0..tokens)
        .flat_map(|at| frequencies.iter().map(move |frequency| at as f32 * *frequency as f32))
        .collect();
    let angles = Tensor::from_vec(angles, (tokens, turned / 2), x.device())?;
    let longer = match scaling {
        Some(RopeScaling::Yarn { attention_factor, .. }) => attention_factor,
        _ => 1.0,
    };
    let (cos, sin) = ((angles.cos()? * longer)?, (angles.sin()? * longer)?);
    let half = |at: usize| x.narrow(1, at * turned / 2, turned / 2);
    let (a, b) = (half(0)?, half(1)?);
    let left = ((&a * &cos)? - (&b * &sin)?)?;
    let right = ((&b * &cos)? + (&a * &sin)?)?;
    Tensor::cat(&[left, right, x.narrow(1, turned, width - turned)?], 1)
}

/// The radians that a position adds to a pair.
fn frequency(pair: usize, turned: usize, theta: f64, scaling: Option<RopeScaling>) -> f64 {
    let exponent = 2.0 * pair as f64 / turned as f64;
    let plain = (-exponent * theta.ln()).exp();
    match scaling {
        None => plain,
        Some(RopeScaling::Linear { factor }) => plain / factor,
        Some(RopeScaling::Llama3 {
            factor,
            low_frequency_factor,
            high_frequency_factor,
            original_context,
        }) => {
            // By the length of a wave, as Llama's own code has it.
            let (wave, context) = (TAU / plain, original_context as f64);
            if wave < context / high_frequency_factor {
                plain
            } else if wave > context / low_frequency_factor {
                plain / factor
            } else {
                let smooth = (context / wave - low_frequency_factor)
                    / (high_frequency_factor - low_frequency_factor);
                (1.0 - smooth) * plain / factor + smooth * plain
            }
        }
        Some(RopeScaling::Yarn {
            factor,
            original_context,
            beta_fast,
            beta_slow,
            truncate,
            ..
        }) => {
            // The pair at which a wave fits so often into the original context.
            let at = |turns: f64| {
                turned as f64 / 2.0 * (original_context as f64 / (TAU * turns)).log(theta)
            };
            let (mut low, mut high) = (at(beta_fast), at(beta_slow));
            if truncate {
                low = low.floor();
                high = high.ceil();
            }
            low = low.max(0.0);
            high = high.min(turned as f64 - 1.0);
            let span = if high > low { high - low } else { 0.001 };
            let kept = 1.0 - ((pair as f64 - low) / span).clamp(0.0, 1.0);
            plain / factor * (1.0 - kept) + plain * kept
        }
    }
}
