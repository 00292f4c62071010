//! Random inputs that any element of can be computed again, on the host as on the device.
//!
//! Element `index` of a stream is a hash of both: the splitmix64 generator (Steele, Lea and Flood,
//! "Fast splittable pseudorandom number generators", 2014) entered at any position. `kernels/fill.cu`
//! computes the same numbers on a GPU, so that an answer is checked without copying its inputs.

use half::{bf16, f16};

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A stream of random numbers, named by the run's seed and the array it fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stream {
    /// What the kernels of `fill.cu` take as `key`.
    pub(crate) key: u64,
}

impl Stream {
    /// The stream of array number `array` under `seed`.
    pub(crate) fn new(seed: u64, array: u64) -> Self {
        Self { key: mixed(mixed(seed, 0), array) }
    }

    /// 64 random bits.
    pub(crate) fn bits(self, index: u64) -> u64 {
        mixed(self.key, index)
    }

    /// A number uniform on [-1, 1), a multiple of 2^-23.
    pub(crate) fn uniform(self, index: u64) -> f32 {
        // 24 bits minus 2^23: both the integer and the quotient are exact in f32.
        const STEP: f32 = 1.0 / (1 << 23) as f32;
        ((self.bits(index) >> 40) as i32 - (1 << 23)) as f32 * STEP
    }
}

fn mixed(key: u64, index: u64) -> u64 {
    let mut z = key.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What a record says of inputs that come from a [`Stream`].
pub(crate) fn described(seed: u64) -> String {
    format!("uniform [-1, 1), seed {seed}")
}

/// A type of matrix elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dtype {
    F32,
    F16,
    Bf16,
}

impl Dtype {
    /// Its name in ids.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// The bytes of one element.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Unit roundoff: the largest relative error of rounding to nearest.
    pub(crate) fn roundoff(self) -> f64 {
        match self {
            Self::F32 => f64::powi(2.0, -24),
            Self::F16 => f64::powi(2.0, -11),
            Self::Bf16 => f64::powi(2.0, -8),
        }
    }

    /// The value that the element at `index` of `stream` has in this type.
    pub(crate) fn element(self, stream: Stream, index: u64) -> f64 {
        let value = stream.uniform(index);
        match self {
            Self::F32 => f64::from(value),
            Self::F16 => leading_f16(value).to_f64(),
            Self::Bf16 => leading_bf16(value).to_f64(),
        }
    }

    /// The number in `bytes`, little-endian as every device that CUDA runs on.
    pub(crate) fn decode(self, bytes: [u8; 4]) -> f64 {
        let low = [bytes[0], bytes[1]];
        match self {
            Self::F32 => f64::from(f32::from_le_bytes(bytes)),
            Self::F16 => f16::from_le_bytes(low).to_f64(),
            Self::Bf16 => bf16::from_le_bytes(low).to_f64(),
        }
    }
}

/// The leading bits of a number in [-1, 1]; below 2^-14 a signed zero. As `fill.cu` does it.
pub(crate) fn leading_f16(value: f32) -> f16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let exponent = (bits >> 23) & 0xFF;
    if exponent < 127 - 14 {
        return f16::from_bits(sign as u16);
    }
    f16::from_bits((sign | ((exponent + 15 - 127) << 10) | ((bits >> 13) & 0x3FF)) as u16)
}

/// The leading bits of a number. As `fill.cu` does it.
pub(crate) fn leading_bf16(value: f32) -> bf16 {
    bf16::from_bits((value.to_bits() >> 16) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn half_precision_numbers_are_the_f32_ones_cut_short(seed: u64, index: u64) {
            let exact = Stream::new(seed, 0).uniform(index);
            prop_assert!((-1.0..1.0).contains(&exact));
            let short = leading_f16(exact).to_f32();
            prop_assert!(short.abs() <= exact.abs());
            prop_assert!((exact - short).abs() <= exact.abs() / 1024.0 + f32::powi(2.0, -14));
            let shorter = leading_bf16(exact).to_f32();
            prop_assert!(shorter.abs() <= exact.abs());
            prop_assert!((exact - shorter).abs() <= exact.abs() / 128.0);
        }
    }

    // From a script that follows the paper, not from this code.
    const RECORDED: [u32; 3] = [0xBF6E_B7B4, 0x3F0B_FACC, 0x3E01_DF58];

    #[test]
    fn the_numbers_of_a_seed_never_change() {
        let stream = Stream::new(42, 1);
        let first: Vec<u32> = (0..3).map(|i| stream.uniform(i).to_bits()).collect();
        assert_eq!(first, RECORDED);
    }

    #[test]
    fn numbers_fill_the_interval_evenly() {
        let stream = Stream::new(1, 2);
        let n = 10_000;
        let mean = (0..n).map(|i| f64::from(stream.uniform(i))).sum::<f64>() / n as f64;
        let square = (0..n).map(|i| f64::from(stream.uniform(i)).powi(2)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.03, "mean {mean}");
        assert!((square - 1.0 / 3.0).abs() < 0.02, "mean square {square}");
    }

    #[test]
    fn streams_of_one_seed_differ() {
        let (a, b) = (Stream::new(7, 0), Stream::new(7, 1));
        assert!((0..100).filter(|&i| a.bits(i) == b.bits(i)).count() == 0);
    }
}
