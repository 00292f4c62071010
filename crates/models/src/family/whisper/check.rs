//! The answer a workload must give, computed another way.

use std::collections::HashMap;
use std::f64::consts::TAU;

use candle_core::Tensor;
use warpmark_measure::WorkloadError;

use super::cases::Length;
use crate::bench::{Allowed, Comparison, finite};
use crate::catalog::Format;
use crate::engine::workload_error;
use warpmark_nets::NetError;
use warpmark_nets::reference::Rounding;
use warpmark_nets::reference::whisper::{Dialect, ReferenceWhisper};
use warpmark_nets::whisper::Architecture;
use warpmark_nets::whisper::beam::Transcript;
use warpmark_nets::whisper::mel::{FRAME, HOP, MelSpectrogram, RATE};
use warpmark_record::agreement::{max_error, relative_error};

/// A clip, by where it is from and its number.
pub(super) type Clip = (Length, usize);

/// Recomputes encodings and logits in f32, one clip at a time, without a cache.
pub(super) struct ReferenceCache {
    architecture: Architecture,
    tensors: HashMap<String, Tensor>,
    encoded: HashMap<(Manner, Clip), Tensor>,
}

/// How a reference goes: whose Whisper it is, and what its steps are rounded to.
pub(super) type Manner = (Dialect, Rounding);

/// Encoded clips that are kept.
const KEPT: usize = 16;

impl ReferenceCache {
    pub(super) fn new(architecture: Architecture, tensors: HashMap<String, Tensor>) -> Self {
        Self { architecture, tensors, encoded: HashMap::new() }
    }

    fn reference(&self, (dialect, rounding): Manner) -> ReferenceWhisper<'_> {
        ReferenceWhisper {
            architecture: &self.architecture,
            tensors: &self.tensors,
            dialect,
            rounding,
        }
    }

    /// What the encoder makes of the mels of a clip, `[mels, frames]`.
    pub(super) fn encoded(
        &mut self,
        manner: Manner,
        clip: Clip,
        mels: &Tensor,
    ) -> Result<Tensor, NetError> {
        let key = (manner, clip);
        if let Some(encoded) = self.encoded.get(&key) {
            return Ok(encoded.clone());
        }
        let encoded = self.reference(manner).encode(mels)?;
        if self.encoded.len() >= KEPT {
            self.encoded.clear();
        }
        self.encoded.insert(key, encoded.clone());
        Ok(encoded)
    }

    /// The logits after the last `count` tokens of a text over an encoded clip.
    pub(super) fn logits(
        &self,
        manner: Manner,
        encoded: &Tensor,
        tokens: &[u32],
        count: usize,
    ) -> Result<Vec<Vec<f32>>, NetError> {
        Ok(self.reference(manner).logits(encoded, tokens, count)?.to_vec2()?)
    }
}

/// How far encodings and logits may be off, relative to the largest of their position; f32 differs by
/// the order of its sums alone, thousands of products each.
pub(super) fn allowed(format: Format) -> Allowed {
    Allowed::of(format, 5e-5, 0.0)
}

/// One row of values as it was found, as it is expected, and as the plain net has it that rounds as is
/// allowed.
pub(super) struct Compared {
    pub(super) found: Vec<f32>,
    pub(super) expected: Vec<f32>,
    pub(super) rounded: Option<Vec<f32>>,
}

/// Compares values with the reference's, row by row; every value of `all` must be finite.
pub(super) fn against(
    what: &str,
    format: Format,
    all: &Tensor,
    rows: &[Compared],
) -> Result<Comparison, WorkloadError> {
    let allowed = allowed(format);
    let mut errors = vec![finite(all).map_err(workload_error)?];
    errors.extend(rows.iter().map(|row| relative_error(&row.found, &row.expected)));
    let plain = rows.iter().filter_map(|row| {
        row.rounded.as_ref().map(|rounded| relative_error(rounded, &row.expected))
    });
    let tolerance = allowed.tolerance(plain);
    Ok(Comparison { what: format!("{what}{}", allowed.words(format)), errors, tolerance })
}

/// The tokens that a transcript wrote, with the end where it wrote one.
pub(super) fn written(transcript: &Transcript, end: u32) -> Vec<u32> {
    let mut written = transcript.tokens.clone();
    written.extend(transcript.ended.then_some(end));
    written
}

/// By how much a transcript's own account of it differs from the reference's, whose logits after each of its
/// tokens are given: the sum of its log-probabilities and, where each token was to be the most likely
/// one, by how much it is not; a mean over its tokens, relative to the largest logit.
///
/// Logits that are off by `e` move either by `2 e` at most.
pub(super) fn transcript_error(
    logits: &[Vec<f32>],
    written: &[u32],
    log_probability: f64,
    greedy: bool,
) -> f64 {
    let (mut sum, mut largest, mut regret) = (0.0, 0f64, 0f64);
    for (logits, token) in logits.iter().zip(written) {
        let top = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let powers: f64 = logits.iter().map(|logit| (f64::from(*logit) - top).exp()).sum();
        let chosen = f64::from(logits[*token as usize]);
        sum += chosen - top - powers.ln();
        largest = max_error([largest, top.abs()]);
        regret = max_error([regret, top - chosen]);
    }
    let drift = (sum - log_probability).abs() / written.len() as f64;
    max_error([drift, if greedy { regret } else { 0.0 }]) / largest
}

/// Frames of a spectrogram that are recomputed: every so many, and the loudest.
const EVERY: usize = 97;

/// Compares a spectrogram, `mels` rows, with one that is computed as the formula is written: a sum over
/// 400 samples for each frequency, and each band's triangle anew.
pub(super) fn mel_comparison(mels: usize, clip: &[f32], found: &[f32]) -> Comparison {
    let frames = found.len() / mels;
    let samples = frames * HOP;
    let loudest = (0..found.len()).max_by(|a, b| found[*a].total_cmp(&found[*b])).unwrap_or(0);
    let highest = f64::from(found[loudest]) * 4.0 - 4.0;
    let mut chosen: Vec<usize> = (0..frames).step_by(EVERY).collect();
    chosen.extend([loudest % frames, frames - 1]);
    let mut errors = Vec::new();
    for frame in &chosen {
        let logs = plain_frame(mels, clip, samples, *frame);
        for (mel, log) in logs.into_iter().enumerate() {
            let expected = (log.max(highest - 8.0) + 4.0) / 4.0;
            errors.push((f64::from(found[mel * frames + frame]) - expected).abs());
        }
    }
    let what = format!(
        "{} of {frames} frames of a spectrogram, the loudest among them, against plain sums in f64",
        chosen.len()
    );
    // Values are of the order of one and kept in f32.
    Comparison { what, errors, tolerance: 1e-6 }
}

fn plain_frame(mels: usize, clip: &[f32], samples: usize, frame: usize) -> Vec<f64> {
    let sample = |n: usize| {
        let place = (frame * HOP + n).abs_diff(FRAME / 2);
        let last = samples - 1;
        let place = last - last.abs_diff(place);
        let window = (std::f64::consts::PI * n as f64 / FRAME as f64).sin().powi(2);
        clip.get(place).map_or(0.0, |sample| f64::from(*sample)) * window
    };
    let windowed: Vec<f64> = (0..FRAME).map(sample).collect();
    let power = |k: usize| {
        let angle = |n: usize| TAU * (k * n % FRAME) as f64 / FRAME as f64;
        let sum = |wave: fn(f64) -> f64| -> f64 {
            windowed.iter().enumerate().map(|(n, sample)| sample * wave(angle(n))).sum()
        };
        sum(f64::cos).powi(2) + sum(f64::sin).powi(2)
    };
    let powers: Vec<f64> = (0..=FRAME / 2).map(power).collect();
    // Slaney's scale: 200/3 Hz a mel up to 1 kHz, then 27 mels for a factor of 6.4.
    let hertz = |index: usize| {
        let top = 15.0 + 27.0 * 8f64.ln() / 6.4f64.ln();
        let mel = top * index as f64 / (mels + 1) as f64;
        if mel < 15.0 { mel * 200.0 / 3.0 } else { 1000.0 * 6.4f64.powf((mel - 15.0) / 27.0) }
    };
    let band = |index: usize| {
        let (low, middle, high) = (hertz(index), hertz(index + 1), hertz(index + 2));
        let weighted = powers.iter().enumerate().map(|(k, power)| {
            let frequency = (k * RATE) as f64 / FRAME as f64;
            let rise = (frequency - low) / (middle - low);
            let fall = (high - frequency) / (high - middle);
            power * rise.min(fall).max(0.0)
        });
        (weighted.sum::<f64>() * 2.0 / (high - low)).max(1e-10).log10()
    };
    (0..mels).map(band).collect()
}

/// The mel spectrograms of clips, `[clips, mels, frames]` in f32.
pub(super) fn spectrograms(
    mel: &MelSpectrogram,
    clips: &[Vec<f32>],
    frames: usize,
    device: &candle_core::Device,
) -> Result<Tensor, NetError> {
    let mut values = Vec::with_capacity(clips.len() * mel.mels() * frames);
    for clip in clips {
        values.extend(mel.of(clip, frames * HOP));
    }
    Ok(Tensor::from_vec(values, (clips.len(), mel.mels(), frames), device)?)
}
