//! Random inputs that any element of can be computed again, on the host as on the device.
//!
//! Element `index` of a stream is a hash of both: the splitmix64 generator (Steele, Lea and Flood,
//! "Fast splittable pseudorandom number generators", 2014) entered at any position. `kernels/fill.cu`
//! computes the same numbers on a GPU, so that an answer is checked without copying its inputs.

mod dtype;

pub(crate) use dtype::{Dtype, leading_f16};

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

    /// A number uniform on [-1, 1), a multiple of 2^-52: every bit of an f64's fraction is random.
    pub(crate) fn uniform_f64(self, index: u64) -> f64 {
        // 53 bits minus 2^52: both the integer and the quotient are exact in f64.
        const STEP: f64 = 1.0 / (1_u64 << 52) as f64;
        ((self.bits(index) >> 11).cast_signed() - (1 << 52)) as f64 * STEP
    }

    /// An integer uniform on -128 to 127.
    pub(crate) fn byte(self, index: u64) -> i8 {
        ((self.bits(index) >> 56) as u8).cast_signed()
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

#[cfg(test)]
mod tests {
    use super::*;

    // From a script that follows the paper, not from this code.
    const RECORDED: [u32; 3] = [0xBF6E_B7B4, 0x3F0B_FACC, 0x3E01_DF58];

    #[test]
    fn the_numbers_of_a_seed_never_change() {
        let stream = Stream::new(42, 1);
        let first: Vec<u32> = (0..3).map(|i| stream.uniform(i).to_bits()).collect();
        assert_eq!(first, RECORDED);
    }

    #[test]
    fn f64_numbers_begin_as_the_f32_ones_do_and_go_on_at_random() {
        let stream = Stream::new(42, 1);
        let finer = (0..100).filter(|&i| {
            let (short, long) = (f64::from(stream.uniform(i)), stream.uniform_f64(i));
            assert!((0.0..f64::powi(2.0, -23)).contains(&(long - short)), "{short} and {long}");
            long > short
        });
        assert_eq!(finer.count(), 100);
    }

    #[test]
    fn numbers_fill_the_interval_evenly() {
        let stream = Stream::new(1, 2);
        let n = 10_000;
        let mean = (0..n).map(|i| f64::from(stream.uniform(i))).sum::<f64>() / n as f64;
        let square = (0..n).map(|i| f64::from(stream.uniform(i)).powi(2)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.03, "mean {mean}");
        assert!((square - 1.0 / 3.0).abs() < 0.02, "mean square {square}");
        let bytes: std::collections::BTreeSet<i8> = (0..n).map(|i| stream.byte(i)).collect();
        assert_eq!(bytes.len(), 256);
    }

    #[test]
    fn streams_of_one_seed_differ() {
        let (a, b) = (Stream::new(7, 0), Stream::new(7, 1));
        assert!((0..100).filter(|&i| a.bits(i) == b.bits(i)).count() == 0);
    }
}
