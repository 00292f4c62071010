//! A clip that has what speech has, and says nothing: for weights that could not understand it anyway.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::RATE;

/// First three formants of some vowels, in hertz (Peterson and Barney 1952, men).
const VOWELS: [[f32; 3]; 6] = [
    [270.0, 2290.0, 3010.0],
    [530.0, 1840.0, 2480.0],
    [730.0, 1090.0, 2440.0],
    [570.0, 840.0, 2410.0],
    [300.0, 870.0, 2240.0],
    [490.0, 1350.0, 1690.0],
];

/// Bandwidth of the formants, in hertz.
const BANDWIDTHS: [f32; 3] = [60.0, 90.0, 150.0];

/// A resonance of two poles.
#[derive(Default, Clone, Copy)]
struct Resonator {
    before: [f32; 2],
}

impl Resonator {
    fn step(&mut self, input: f32, frequency: f32, bandwidth: f32) -> f32 {
        let rate = RATE as f32;
        let radius = (-std::f32::consts::PI * bandwidth / rate).exp();
        let turn = 2.0 * radius * (std::f32::consts::TAU * frequency / rate).cos();
        let output =
            (1.0 - radius) * input + turn * self.before[0] - radius * radius * self.before[1];
        self.before = [output, self.before[0]];
        output
    }
}

/// `seconds` of syllables: a hiss, then a vowel of three formants over pulses of a falling voice, and a
/// pause after every few. The seed and the number of the clip decide it.
pub fn speech(seed: u64, clip: usize, seconds: f64) -> Vec<f32> {
    let count = (seconds * f64::from(RATE)) as usize;
    // Odd constant of the golden ratio: neighbouring clips get seeds far apart.
    let stream = (clip as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut random = StdRng::seed_from_u64(seed ^ stream);
    let mut samples = Vec::with_capacity(count);
    let mut formants = [Resonator::default(); 3];
    let mut phase = 0.0f32;
    while samples.len() < count {
        let hiss = random.random_range(400..1_200);
        let voiced = random.random_range(1_600..3_200);
        let pause = if random.random_bool(0.15) { random.random_range(3_000..6_000) } else { 300 };
        let vowel = VOWELS[random.random_range(0..VOWELS.len())];
        let pitch = random.random_range(95.0f32..160.0);
        for n in 0..hiss + voiced {
            let noise = random.random_range(-1.0f32..1.0);
            let into = (n as f32 - hiss as f32) / voiced as f32;
            let source = if into < 0.0 {
                0.15 * noise
            } else {
                phase += pitch * (1.0 - 0.15 * into) / RATE as f32;
                let pulse = phase >= 1.0;
                phase = phase.fract();
                (std::f32::consts::PI * into).sin() * (if pulse { 8.0 } else { 0.0 } + 0.02 * noise)
            };
            let mut output = 0.05 * source;
            for (resonator, (frequency, bandwidth)) in
                formants.iter_mut().zip(vowel.iter().zip(BANDWIDTHS))
            {
                output += resonator.step(source, *frequency, bandwidth);
            }
            samples.push((0.3 * output).clamp(-1.0, 1.0));
        }
        samples.extend((0..pause).map(|_| random.random_range(-1e-3f32..1e-3)));
    }
    samples.truncate(count);
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_is_the_same_for_ever_and_another_for_each_number_and_seed() {
        assert_eq!(speech(7, 0, 0.5), speech(7, 0, 0.5));
        assert_ne!(speech(7, 0, 0.5), speech(7, 1, 0.5));
        assert_ne!(speech(7, 0, 0.5), speech(8, 0, 0.5));
    }

    #[test]
    fn a_clip_is_heard_and_not_clipped_and_changes_like_syllables() {
        let clip = speech(7, 0, 5.0);
        assert_eq!(clip.len(), 80_000);
        let loudness = |part: &[f32]| {
            (part.iter().map(|sample| sample * sample).sum::<f32>() / part.len() as f32).sqrt()
        };
        assert!((0.02..0.5).contains(&loudness(&clip)), "{}", loudness(&clip));
        let clipped = clip.iter().filter(|sample| sample.abs() >= 1.0).count();
        assert!(clipped < clip.len() / 1000, "{clipped}");
        let parts: Vec<f32> = clip.chunks(1600).map(loudness).collect();
        let quiet = parts.iter().filter(|part| **part < 0.2 * loudness(&clip)).count();
        assert!((2..40).contains(&quiet), "{quiet} of 50 tenths of a second are quiet");
    }
}
