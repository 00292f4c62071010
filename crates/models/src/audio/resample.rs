//! From one sampling rate to another.

use rayon::prelude::*;

/// Zero crossings of the sinc on each side: what is passed bends by less than 0.1 dB up to 0.9 of the
/// lower rate's half, and what is beyond 1.1 of it is 80 dB down.
const CROSSINGS: f64 = 32.0;

/// The Kaiser window's parameter.
const BETA: f64 = 8.0;

/// Samples at `from` a second as samples at `to` a second: every one is the sum of those around its
/// moment, weighted by a windowed sinc that ends at half the lower of the two rates (Smith 1984, bandlimited
/// interpolation).
///
/// Weights repeat after `to / gcd` samples and are computed once for each of these phases.
pub fn resample(samples: Vec<f32>, from: u32, to: u32) -> Vec<f32> {
    if from == to || from == 0 {
        return samples;
    }
    let divisor = gcd(from, to);
    let (step, phases) = ((from / divisor) as usize, (to / divisor) as usize);
    // In input samples: the cut-off's share of the input rate, and how far the window reaches.
    let cutoff = (f64::from(to) / f64::from(from)).min(1.0);
    let reach = (CROSSINGS / cutoff).ceil() as usize;
    let tables: Vec<Vec<f32>> =
        (0..phases).map(|phase| weights(phase as f64 / phases as f64, cutoff, reach)).collect();
    let count = (samples.len() * phases).div_ceil(step);
    let at = |index: usize| {
        let moment = index * step;
        let (center, table) = (moment / phases, &tables[moment % phases]);
        let first = (center + 1).saturating_sub(reach);
        let skipped = first + reach - (center + 1);
        let weights = table[skipped..].iter().zip(&samples[first.min(samples.len())..]);
        weights.map(|(weight, sample)| weight * sample).sum()
    };
    (0..count).into_par_iter().with_min_len(1024).map(at).collect()
}

/// The weights of the `2 · reach` samples around a moment `offset` behind one of them, the first of them
/// `reach - 1` before that one; their sum is one.
fn weights(offset: f64, cutoff: f64, reach: usize) -> Vec<f32> {
    let weight = |index: usize| {
        let distance = index as f64 - (reach as f64 - 1.0) - offset;
        let x = std::f64::consts::PI * distance * cutoff;
        let sinc = if x.abs() < 1e-9 { 1.0 } else { x.sin() / x };
        let place = distance / reach as f64;
        sinc * bessel(BETA * (1.0 - place * place).max(0.0).sqrt())
    };
    let weights: Vec<f64> = (0..2 * reach).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| (weight / sum) as f32).collect()
}

/// The modified Bessel function of order zero, from its power series.
fn bessel(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..60 {
        term *= quarter / f64::from(k * k);
        sum += term;
    }
    sum
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(frequency: f64, rate: u32, seconds: f64) -> Vec<f32> {
        let count = (f64::from(rate) * seconds) as usize;
        let angle = |n: usize| std::f64::consts::TAU * frequency * n as f64 / f64::from(rate);
        (0..count).map(|n| angle(n).sin() as f32).collect()
    }

    /// The largest difference away from both ends, where a tone that begins suddenly has no one value.
    fn off(found: &[f32], expected: &[f32]) -> f32 {
        assert!(found.len().abs_diff(expected.len()) <= 1, "{} {}", found.len(), expected.len());
        let inner = 300..expected.len() - 300;
        inner.map(|n| (found[n] - expected[n]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn a_tone_keeps_its_shape_at_every_usual_rate() {
        for rate in [8_000, 11_025, 22_050, 44_100, 48_000, 96_000] {
            for frequency in [100.0, 1000.0, 3300.0] {
                let found = resample(tone(frequency, rate, 0.5), rate, 16_000);
                let off = off(&found, &tone(frequency, 16_000, 0.5));
                assert!(off < 2e-3, "{rate} Hz, a tone of {frequency} Hz: {off}");
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_gone_and_not_folded_back() {
        for frequency in [9_000.0, 15_000.0, 20_000.0, 40_000.0] {
            let found = resample(tone(frequency, 96_000, 0.5), 96_000, 16_000);
            let off = off(&found, &vec![0.0; 8_000]);
            assert!(off < 1e-3, "{frequency} Hz: {off}");
        }
    }

    #[test]
    fn the_same_rate_is_left_alone_and_nothing_stays_nothing() {
        assert_eq!(resample(vec![0.5, -0.25], 16_000, 16_000), [0.5, -0.25]);
        assert!(resample(Vec::new(), 44_100, 16_000).is_empty());
        assert_eq!(resample(vec![1.0], 44_100, 16_000).len(), 1);
    }
}
