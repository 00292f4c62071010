//! Rotary positions (Su et al. 2021), and the ways in which they are stretched for longer contexts.

use std::f64::consts::PI;

use serde::Deserialize;

/// Rotary positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub theta: f64,
    /// How many numbers of a head turn, from its first on: an even number, up to its width.
    pub turned: usize,
    /// How the frequencies were stretched for long contexts.
    pub scaling: Option<RopeScaling>,
}

/// How rotary frequencies were stretched.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "WrittenScaling")]
pub enum RopeScaling {
    /// All by one factor (Chen et al. 2023).
    Linear {
        /// By how much they are lowered.
        factor: f64,
    },
    /// Llama 3.1's: long waves are lowered, short ones stay.
    Llama3 {
        /// By how much low frequencies are lowered.
        factor: f64,
        /// Waves of which fewer than this fit into the original context are low.
        low_frequency_factor: f64,
        /// Waves of which more than this fit stay as they are.
        high_frequency_factor: f64,
        /// The context before the stretching.
        original_context: usize,
    },
    /// `YaRN` (Peng et al. 2023): by the number of turns within the original context, and scores are scaled.
    Yarn {
        /// By how much low frequencies are lowered.
        factor: f64,
        /// The context before the stretching.
        original_context: usize,
        /// Turns within it from which on a frequency stays.
        beta_fast: f64,
        /// Turns within it up to which a frequency is lowered by the whole factor.
        beta_slow: f64,
        /// Whether the ends of the ramp between are rounded to whole pairs.
        truncate: bool,
        /// What cosines and sines are multiplied by.
        attention_factor: f64,
    },
}

/// A scaling as an entry has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenScaling {
    kind: Option<String>,
    factor: f64,
    low_frequency_factor: Option<f64>,
    high_frequency_factor: Option<f64>,
    original_context: Option<usize>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    truncate: Option<bool>,
    attention_factor: Option<f64>,
}

impl TryFrom<WrittenScaling> for RopeScaling {
    type Error = String;

    fn try_from(written: WrittenScaling) -> Result<Self, String> {
        let factor = written.factor;
        let absent = |key: &str| format!("rope_scaling has no {key}");
        let original_context = written.original_context.ok_or_else(|| absent("original_context"));
        match written.kind.as_deref() {
            // Entries were written before there was a choice.
            None | Some("llama3") => Ok(Self::Llama3 {
                factor,
                low_frequency_factor: written
                    .low_frequency_factor
                    .ok_or_else(|| absent("low_frequency_factor"))?,
                high_frequency_factor: written
                    .high_frequency_factor
                    .ok_or_else(|| absent("high_frequency_factor"))?,
                original_context: original_context?,
            }),
            Some("linear") => Ok(Self::Linear { factor }),
            Some("yarn") => Ok(Self::Yarn {
                factor,
                original_context: original_context?,
                beta_fast: written.beta_fast.unwrap_or(32.0),
                beta_slow: written.beta_slow.unwrap_or(1.0),
                truncate: written.truncate.unwrap_or(true),
                attention_factor: written
                    .attention_factor
                    .unwrap_or_else(|| yarn_scale(factor, 1.0)),
            }),
            Some(other) => {
                Err(format!("rope_scaling.kind = {other:?}; known: llama3, linear, yarn"))
            }
        }
    }
}

/// By how much `YaRN` scales cosines and sines (Peng et al. 2023, §3.4): `0.1 m ln(factor) + 1`.
pub fn yarn_scale(factor: f64, m: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 }
}

impl Rope {
    /// The radians that a position adds to each pair: `theta^(-2i/d)` over the `d` numbers that turn, stretched
    /// where it says so.
    pub fn inverse_frequencies(&self) -> Vec<f64> {
        let plain: Vec<f64> = (0..self.turned / 2)
            .map(|pair| self.theta.powf(-((2 * pair) as f64) / self.turned as f64))
            .collect();
        match self.scaling {
            None => plain,
            Some(RopeScaling::Linear { factor }) => {
                plain.into_iter().map(|frequency| frequency / factor).collect()
            }
            Some(RopeScaling::Llama3 {
                factor,
                low_frequency_factor: low,
                high_frequency_factor: high,
                original_context,
            }) => {
                let stretch = |frequency: f64| {
                    let waves = original_context as f64 * frequency / (2.0 * PI);
                    let kept = ((waves - low) / (high - low)).clamp(0.0, 1.0);
                    kept * frequency + (1.0 - kept) * frequency / factor
                };
                plain.into_iter().map(stretch).collect()
            }
            Some(RopeScaling::Yarn {
                factor,
                original_context,
                beta_fast,
                beta_slow,
                truncate,
                ..
            }) => {
                let (first, last) = self.ramp(original_context, [beta_fast, beta_slow], truncate);
                let stretch = |(pair, frequency): (usize, f64)| {
                    let lowered = ((pair as f64 - first) / (last - first)).clamp(0.0, 1.0);
                    (1.0 - lowered) * frequency + lowered * frequency / factor
                };
                plain.into_iter().enumerate().map(stretch).collect()
            }
        }
    }

    /// The pairs between which `YaRN` goes from frequencies that stay to those that are lowered.
    fn ramp(&self, original_context: usize, turns: [f64; 2], truncate: bool) -> (f64, f64) {
        let width = self.turned as f64;
        // The pair that turns so often within the original context.
        let pair = |turns: f64| {
            width * (original_context as f64 / (turns * 2.0 * PI)).ln() / (2.0 * self.theta.ln())
        };
        let [mut first, mut last] = turns.map(pair);
        if truncate {
            (first, last) = (first.floor(), last.ceil());
        }
        (first, last) = (first.max(0.0), last.min(width - 1.0));
        if (last - first).abs() < f64::EPSILON {
            last += 0.001;
        }
        (first, last)
    }

    /// What cosines and sines are multiplied by.
    pub fn scale(&self) -> f64 {
        match self.scaling {
            Some(RopeScaling::Yarn { attention_factor, .. }) => attention_factor,
            _ => 1.0,
        }
    }
}
