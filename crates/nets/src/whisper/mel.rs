//! The log-mel spectrogram that the encoder reads, on the host: that of transformers'
//! `WhisperFeatureExtractor`.
//!
//! A frame of 400 samples under a Hann window is taken every 160 samples, the audio mirrored at both
//! ends; the power of its spectrum is gathered into triangular bands on Slaney's mel scale, each of the
//! same area; the decimal logarithm is cut off 8 below the highest of the window of audio, and scaled by
//! `(x + 4) / 4`.

use std::sync::Arc;

use rayon::prelude::*;
use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

/// Samples a second.
pub const RATE: usize = 16_000;

/// Samples from one frame to the next.
pub const HOP: usize = 160;

/// Samples of a frame.
pub const FRAME: usize = 400;

/// Frequencies of a frame's spectrum.
const FREQUENCIES: usize = FRAME / 2 + 1;

/// The highest frequency of the bands, in hertz.
const HIGHEST: f64 = 8000.0;

/// The lowest power that is told from silence.
const FLOOR: f64 = 1e-10;

/// Decades below the highest value at which the rest is cut off.
const DECADES: f32 = 8.0;

/// Frames that a task transforms at once, two in each complex number.
const TOGETHER: usize = 16;

/// What turns audio into mel spectrograms of so many bins.
pub struct MelSpectrogram {
    mels: usize,
    /// In f64, so that nothing is lost 80 dB below the peak.
    fourier: Arc<dyn Fft<f64>>,
    window: Vec<f64>,
    bands: Vec<Band>,
}

/// Buffers of a thread.
struct Scratch {
    pairs: Vec<Complex<f64>>,
    inner: Vec<Complex<f64>>,
    powers: Vec<f64>,
}

impl Scratch {
    fn of(fourier: &dyn Fft<f64>) -> Self {
        let zero = Complex::new(0.0, 0.0);
        Self {
            pairs: vec![zero; TOGETHER / 2 * FRAME],
            inner: vec![zero; fourier.get_inplace_scratch_len()],
            powers: vec![0.0; TOGETHER * FREQUENCIES],
        }
    }
}

/// The frequencies that a bin is made of, with their weights.
struct Band {
    first: usize,
    weights: Vec<f64>,
}

impl MelSpectrogram {
    /// For spectrograms of `mels` bins.
    pub fn new(mels: usize) -> Self {
        let fourier = FftPlanner::new().plan_fft_forward(FRAME);
        Self { mels, fourier, window: hann(), bands: bands(mels) }
    }

    /// Bins.
    pub fn mels(&self) -> usize {
        self.mels
    }

    /// The spectrogram of one window of audio, `samples` of it: what is too long is cut off, what is too
    /// short is followed by silence. `samples` is a multiple of [`HOP`] above [`FRAME`]. Returns `mels`
    /// rows of `samples / HOP` frames.
    pub fn of(&self, audio: &[f32], samples: usize) -> Vec<f32> {
        let audio = &audio[..audio.len().min(samples)];
        let frames = samples / HOP;
        // [frame][mel], some frames a task.
        let mut logs = vec![0f32; frames * self.mels];
        logs.par_chunks_mut(TOGETHER * self.mels).enumerate().for_each_init(
            || Scratch::of(&*self.fourier),
            |scratch, (block, logs)| {
                let count = logs.len() / self.mels;
                let sample = |frame: usize, n: usize| {
                    let start = (block * TOGETHER + frame) * HOP;
                    at(audio, samples, start + n) * self.window[n]
                };
                self.powers(count, sample, scratch);
                self.gather(&scratch.powers[..count * FREQUENCIES], logs);
            },
        );
        let highest = logs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let lowest = highest - DECADES;
        let mut spectrogram = vec![0f32; logs.len()];
        spectrogram.par_chunks_mut(frames).enumerate().for_each(|(mel, row)| {
            for (value, frame) in row.iter_mut().zip(logs.chunks_exact(self.mels)) {
                *value = (frame[mel].max(lowest) + 4.0) / 4.0;
            }
        });
        spectrogram
    }

    /// The power of each of [`FREQUENCIES`] in up to [`TOGETHER`] frames, one frame after the other;
    /// `sample` gives a sample of a frame.
    fn powers(
        &self,
        frames: usize,
        sample: impl Fn(usize, usize) -> f64,
        Scratch { pairs, inner, powers }: &mut Scratch,
    ) {
        let pairs = &mut pairs[..frames.div_ceil(2) * FRAME];
        for (index, pair) in pairs.chunks_exact_mut(FRAME).enumerate() {
            let (first, second) = (2 * index, 2 * index + 1);
            for (n, value) in pair.iter_mut().enumerate() {
                let im = if second < frames { sample(second, n) } else { 0.0 };
                *value = Complex::new(sample(first, n), im);
            }
        }
        self.fourier.process_with_scratch(pairs, inner);
        for (pair, powers) in pairs.chunks_exact(FRAME).zip(powers.chunks_mut(2 * FREQUENCIES)) {
            let (first, second) = powers.split_at_mut(FREQUENCIES);
            for (k, (first, second)) in first.iter_mut().zip(second).enumerate() {
                // Of two real frames in one complex number, one is the part that is its own mirror
                // image, the other the part that is not.
                let (there, mirrored) = (pair[k], pair[(FRAME - k) % FRAME].conj());
                *first = (there + mirrored).norm_sqr() / 4.0;
                *second = (there - mirrored).norm_sqr() / 4.0;
            }
        }
    }

    /// The logarithms of the bands of some frames.
    fn gather(&self, powers: &[f64], logs: &mut [f32]) {
        for (power, logs) in powers.chunks(FREQUENCIES).zip(logs.chunks_mut(self.mels)) {
            for (band, log) in self.bands.iter().zip(logs) {
                let power = &power[band.first..band.first + band.weights.len()];
                let sum: f64 = power.iter().zip(&band.weights).map(|(p, weight)| p * weight).sum();
                *log = sum.max(FLOOR).log10() as f32;
            }
        }
    }
}

/// The sample so far from half a frame before the beginning, mirrored at both ends without repeating the
/// last one.
fn at(audio: &[f32], samples: usize, position: usize) -> f64 {
    let position = position.abs_diff(FRAME / 2);
    let position = if position < samples { position } else { 2 * (samples - 1) - position };
    audio.get(position).map_or(0.0, |sample| f64::from(*sample))
}

/// The periodic Hann window.
fn hann() -> Vec<f64> {
    let place = |n: usize| std::f64::consts::TAU * n as f64 / FRAME as f64;
    (0..FRAME).map(|n| 0.5 - 0.5 * place(n).cos()).collect()
}

/// Slaney's mel scale (Auditory Toolbox, 1998): linear to 1000 Hz, then logarithmic.
fn hertz(mel: f64) -> f64 {
    if mel < 15.0 { 200.0 / 3.0 * mel } else { 1000.0 * (6.4f64.ln() / 27.0 * (mel - 15.0)).exp() }
}

fn mel(hertz: f64) -> f64 {
    if hertz < 1000.0 {
        hertz * 3.0 / 200.0
    } else {
        15.0 + (hertz / 1000.0).ln() * 27.0 / 6.4f64.ln()
    }
}

/// Triangles between neighbours but one of `mels + 2` points even in mels, each of area one.
fn bands(mels: usize) -> Vec<Band> {
    let top = mel(HIGHEST);
    let point = |index: usize| hertz(top * index as f64 / (mels + 1) as f64);
    let frequency = |k: usize| (k * RATE) as f64 / FRAME as f64;
    let band = |index: usize| {
        let [low, middle, high] = [0, 1, 2].map(|next| point(index + next));
        let weight = |k: usize| {
            let (rise, fall) =
                ((frequency(k) - low) / (middle - low), (high - frequency(k)) / (high - middle));
            rise.min(fall).max(0.0) * 2.0 / (high - low)
        };
        let inside: Vec<usize> = (0..FREQUENCIES).filter(|k| weight(*k) > 0.0).collect();
        let first = inside.first().copied().unwrap_or(0);
        Band { first, weights: inside.iter().map(|k| weight(*k)).collect() }
    };
    (0..mels).map(band).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_is_loudest_in_the_band_around_its_frequency() {
        let tone: Vec<f32> = (0..RATE)
            .map(|n| (std::f32::consts::TAU * 1000.0 * n as f32 / RATE as f32).sin())
            .collect();
        let mels = 80;
        let spectrogram = MelSpectrogram::new(mels).of(&tone, RATE);
        let frames = RATE / HOP;
        let at = |mel: usize| spectrogram[mel * frames + frames / 2];
        let loudest = (0..mels).max_by(|a, b| at(*a).total_cmp(&at(*b))).unwrap();
        let center = hertz(mel(HIGHEST) * (loudest + 1) as f64 / (mels + 1) as f64);
        assert!((center - 1000.0).abs() < 60.0, "{center}");
    }

    #[test]
    fn silence_is_the_floor_in_every_bin() {
        let spectrogram = MelSpectrogram::new(128).of(&[], 2 * RATE);
        assert_eq!(spectrogram.len(), 128 * 200);
        assert!(spectrogram.iter().all(|value| (value - (-10.0 + 4.0) / 4.0).abs() < 1e-6));
    }

    #[test]
    fn the_mel_scale_and_its_inverse_agree_on_both_sides_of_its_bend() {
        for frequency in [0.0, 440.0, 1000.0, 3000.0, 8000.0] {
            assert!((hertz(mel(frequency)) - frequency).abs() < 1e-9);
        }
    }
}
