//! The power spectrum of frames of 400 samples.
//!
//! 400 is no power of two: the transform (Cooley and Tukey 1965) is split into factors of 4 and 5. A
//! complex number carries two real frames, and eight of them go through side by side, so that a compiler
//! can put them into vector registers. In f64, so that nothing is lost 80 dB below the peak.

use super::{FRAME, FREQUENCIES};

/// Complex numbers side by side.
const LANES: usize = 8;

/// Frames that are transformed at once.
pub(super) const TOGETHER: usize = 2 * LANES;

/// What 400 is split into.
const RADICES: [usize; 4] = [4, 4, 5, 5];

#[derive(Clone, Copy)]
struct Complex {
    re: [f64; LANES],
    im: [f64; LANES],
}

const ZERO: Complex = Complex { re: [0.0; LANES], im: [0.0; LANES] };

impl Complex {
    /// Adds `other · root`.
    #[inline]
    fn add_product(&mut self, other: &Self, (cosine, sine): (f64, f64)) {
        for lane in 0..LANES {
            self.re[lane] += other.re[lane] * cosine - other.im[lane] * sine;
            self.im[lane] += other.re[lane] * sine + other.im[lane] * cosine;
        }
    }

    /// `self + factor · other`.
    #[inline]
    fn plus(&self, other: &Self, factor: f64) -> Self {
        let mut sum = *self;
        for lane in 0..LANES {
            sum.re[lane] += factor * other.re[lane];
            sum.im[lane] += factor * other.im[lane];
        }
        sum
    }

    /// `self + factor · i · other`.
    #[inline]
    fn turned(&self, other: &Self, factor: f64) -> Self {
        let mut sum = *self;
        for lane in 0..LANES {
            sum.re[lane] -= factor * other.im[lane];
            sum.im[lane] += factor * other.re[lane];
        }
        sum
    }
}

/// The transform's roots of unity.
pub(super) struct Fourier {
    /// `exp(-2πi k / 400)` as cosine and sine.
    roots: Vec<(f64, f64)>,
}

/// Buffers of a thread.
pub(super) struct Scratch {
    samples: Vec<Complex>,
    spectrum: Vec<Complex>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { samples: vec![ZERO; FRAME], spectrum: vec![ZERO; FRAME] }
    }
}

impl Fourier {
    pub(super) fn new() -> Self {
        let root = |k: usize| {
            let (sine, cosine) = (std::f64::consts::TAU * k as f64 / FRAME as f64).sin_cos();
            (cosine, -sine)
        };
        Self { roots: (0..FRAME).map(root).collect() }
    }

    /// The power of each of [`FREQUENCIES`] in up to [`TOGETHER`] frames, one frame after the other;
    /// `sample` gives a sample of a frame.
    pub(super) fn powers(
        &self,
        frames: usize,
        sample: impl Fn(usize, usize) -> f64,
        scratch: &mut Scratch,
        powers: &mut [f64],
    ) {
        let Scratch { samples, spectrum } = scratch;
        for (n, value) in samples.iter_mut().enumerate() {
            *value = ZERO;
            for frame in 0..frames {
                let half = if frame % 2 == 0 { &mut value.re } else { &mut value.im };
                half[frame / 2] = sample(frame, n);
            }
        }
        self.transform(samples, 1, spectrum, &RADICES);
        for (frame, powers) in powers.chunks_mut(FREQUENCIES).take(frames).enumerate() {
            let lane = frame / 2;
            for (k, power) in powers.iter_mut().enumerate() {
                // Of two real frames in one complex number, one is the part that is its own mirror
                // image, the other the part that is not.
                let (a, b) = (&spectrum[k], &spectrum[(FRAME - k) % FRAME]);
                let (even, odd) = match frame % 2 {
                    0 => (a.re[lane] + b.re[lane], a.im[lane] - b.im[lane]),
                    _ => (a.im[lane] + b.im[lane], b.re[lane] - a.re[lane]),
                };
                *power = (even * even + odd * odd) / 4.0;
            }
        }
    }

    /// `out` becomes the transform of every `step`-th of `samples`.
    fn transform(&self, samples: &[Complex], step: usize, out: &mut [Complex], radices: &[usize]) {
        let Some((&radix, rest)) = radices.split_first() else {
            out[0] = samples[0];
            return;
        };
        let part = out.len() / radix;
        for (index, out) in out.chunks_mut(part).enumerate() {
            self.transform(&samples[index * step..], step * radix, out, rest);
        }
        for k in 0..part {
            let mut terms = [ZERO; 5];
            terms[0] = out[k];
            for (index, term) in terms.iter_mut().enumerate().take(radix).skip(1) {
                term.add_product(&out[index * part + k], self.roots[index * k * step % FRAME]);
            }
            let sums = if radix == 4 { quarter(&terms) } else { self.fifth(&terms) };
            for (q, sum) in sums.iter().enumerate().take(radix) {
                out[q * part + k] = *sum;
            }
        }
    }

    /// The transform of five numbers: those that mirror each other share their products.
    fn fifth(&self, terms: &[Complex; 5]) -> [Complex; 5] {
        let root = |k: usize| self.roots[k % 5 * (FRAME / 5)];
        let (near, far) = (terms[1].plus(&terms[4], 1.0), terms[2].plus(&terms[3], 1.0));
        let (inner, outer) = (terms[1].plus(&terms[4], -1.0), terms[2].plus(&terms[3], -1.0));
        let mut sums = [terms[0].plus(&near, 1.0).plus(&far, 1.0); 5];
        for q in 1..3 {
            let ((c1, s1), (c2, s2)) = (root(q), root(2 * q));
            let even = terms[0].plus(&near, c1).plus(&far, c2);
            let odd = ZERO.plus(&inner, s1).plus(&outer, s2);
            sums[q] = even.turned(&odd, 1.0);
            sums[5 - q] = even.turned(&odd, -1.0);
        }
        sums
    }
}

/// The transform of the first four numbers, which multiplies nothing.
fn quarter(terms: &[Complex; 5]) -> [Complex; 5] {
    let (a, b) = (terms[0].plus(&terms[2], 1.0), terms[0].plus(&terms[2], -1.0));
    let (c, d) = (terms[1].plus(&terms[3], 1.0), terms[1].plus(&terms[3], -1.0));
    [a.plus(&c, 1.0), b.turned(&d, -1.0), a.plus(&c, -1.0), b.turned(&d, 1.0), ZERO]
}
