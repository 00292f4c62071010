//! From one sampling rate to another, piece by piece: what is kept does not grow with the rate.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

/// Samples of a block at the lower of both rates: what is passed reaches to 0.99 of half that rate.
const BLOCK: usize = 1024;

/// Samples at one rate as samples at another, by the Fourier transform of overlapping blocks.
///
/// A block is a whole number of periods of both rates, so that its size is bounded by them: at most twice the
/// higher one.
pub(super) struct Resampler {
    /// `None` where both rates are equal.
    fft: Option<Box<Fft<f32>>>,
    /// Input samples that do not make a block yet.
    waiting: Vec<f32>,
    /// One block at the new rate.
    block: Vec<f32>,
    /// Output samples still to be left out: the transform's delay.
    early: usize,
    /// Input samples so far.
    taken: u64,
    rates: (u32, u32),
}

impl Resampler {
    /// From one rate to another, in samples a second; what the library refuses is its own words.
    pub(super) fn new(from: u32, to: u32) -> Result<Self, String> {
        let fft = if from == to {
            None
        } else {
            let (input, output) = (from as usize, to as usize);
            // An even number of periods of both rates: half a block, which the filter delays samples by, is
            // then a whole number of them on either side.
            let period = 2 * input / gcd(input, output);
            let block = (BLOCK * (input / output).max(1)).next_multiple_of(period);
            let window = WindowFunction::BlackmanHarris2;
            let fft = Fft::new_custom(input, output, block, 1, 1, window, FixedSync::Both)
                .map_err(|error| error.to_string())?;
            Some(Box::new(fft))
        };
        let block = vec![0.0; fft.as_ref().map_or(0, |fft| fft.output_frames_max())];
        let early = fft.as_ref().map_or(0, |fft| fft.output_delay());
        Ok(Self { fft, waiting: Vec::new(), block, early, taken: 0, rates: (from, to) })
    }

    /// Adds samples, and what becomes of them and of those before to `into`.
    pub(super) fn push(&mut self, samples: &[f32], into: &mut Vec<f32>) -> Result<(), String> {
        self.taken += samples.len() as u64;
        let Some(fft) = &mut self.fft else {
            into.extend_from_slice(samples);
            return Ok(());
        };
        self.waiting.extend_from_slice(samples);
        let size = fft.input_frames_next();
        let mut used = 0;
        while let Some(input) = self.waiting.get(used..used + size) {
            let written = resample(fft, input, &mut self.block)?;
            let early = self.early.min(written);
            self.early -= early;
            into.extend_from_slice(&self.block[early..written]);
            used += size;
        }
        self.waiting.drain(..used);
        Ok(())
    }

    /// Adds the rest: `into`, which was empty at first, is as long as what was pushed.
    pub(super) fn finish(mut self, into: &mut Vec<f32>) -> Result<(), String> {
        let (from, to) = self.rates;
        let due = (self.taken * u64::from(to)).div_ceil(u64::from(from)) as usize;
        // The delay is half a block, and another one fills up what waits.
        let silence = vec![0.0; self.fft.as_ref().map_or(0, |fft| 2 * fft.input_frames_next())];
        self.push(&silence, into)?;
        into.truncate(due);
        Ok(())
    }
}

fn resample(fft: &mut Fft<f32>, input: &[f32], output: &mut [f32]) -> Result<usize, String> {
    let (taken, room) = (input.len(), output.len());
    let input = InterleavedSlice::new(input, 1, taken).map_err(|error| error.to_string())?;
    let mut output =
        InterleavedSlice::new_mut(output, 1, room).map_err(|error| error.to_string())?;
    let (_, written) =
        fft.process_into_buffer(&input, &mut output, None).map_err(|error| error.to_string())?;
    Ok(written)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resampled(samples: &[f32], from: u32, to: u32) -> Vec<f32> {
        let mut resampler = Resampler::new(from, to).unwrap();
        let mut into = Vec::new();
        // In pieces of another size than any block.
        for piece in samples.chunks(1000) {
            resampler.push(piece, &mut into).unwrap();
        }
        resampler.finish(&mut into).unwrap();
        into
    }

    fn tone(frequency: f64, rate: u32, seconds: f64) -> Vec<f32> {
        let count = (f64::from(rate) * seconds) as usize;
        let angle = |n: usize| std::f64::consts::TAU * frequency * n as f64 / f64::from(rate);
        (0..count).map(|n| angle(n).sin() as f32).collect()
    }

    /// The largest difference away from both ends, where a tone that begins suddenly has no one value.
    fn off(found: &[f32], expected: &[f32]) -> f32 {
        assert_eq!(found.len(), expected.len());
        let inner = 1000..expected.len() - 1000;
        inner.map(|n| (found[n] - expected[n]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn a_tone_keeps_its_shape_at_every_usual_rate() {
        for rate in [8_000, 11_025, 22_050, 44_100, 48_000, 96_000] {
            for frequency in [100.0, 1000.0, 3300.0] {
                let found = resampled(&tone(frequency, rate, 0.5), rate, 16_000);
                let off = off(&found, &tone(frequency, 16_000, 0.5));
                assert!(off < 2e-3, "{rate} Hz, a tone of {frequency} Hz: {off}");
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_gone_and_not_folded_back() {
        for frequency in [9_000.0, 15_000.0, 20_000.0, 40_000.0] {
            let found = resampled(&tone(frequency, 96_000, 0.5), 96_000, 16_000);
            let off = off(&found, &vec![0.0; 8_000]);
            assert!(off < 1e-3, "{frequency} Hz: {off}");
        }
    }

    #[test]
    fn a_rate_that_shares_no_factor_with_the_other_is_brought_to_it_as_well() {
        let (rate, seconds) = (44_101, 1.0);
        let found = resampled(&tone(1000.0, rate, seconds), rate, 16_000);
        assert!(off(&found, &tone(1000.0, 16_000, seconds)) < 2e-3);
        assert_eq!(resampled(&[0.5; 480], 768_000, 16_000).len(), 10);
    }

    #[test]
    fn the_same_rate_is_left_alone_and_nothing_stays_nothing() {
        assert_eq!(resampled(&[0.5, -0.25], 16_000, 16_000), [0.5, -0.25]);
        assert!(resampled(&[], 44_100, 16_000).is_empty());
        assert_eq!(resampled(&[1.0], 44_100, 16_000).len(), 1);
    }
}
