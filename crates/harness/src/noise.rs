//! What nets of images are fed.

use candle_core::{Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use warpmark_nets::NetError;

/// Noise of variance 1 `[count, channels, side, side]`, nearly normal: each value is
/// the sum of twelve even ones. An image has the same noise in every batch.
pub fn noise(
    seed: u64,
    [count, channels, side]: [usize; 3],
    device: &Device,
) -> Result<Tensor, NetError> {
    let of = |image: usize| {
        let mut random = StdRng::seed_from_u64(!seed ^ stream(image));
        (0..channels * side * side)
            .map(move |_| (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0)
    };
    let values: Vec<f32> = (0..count).flat_map(of).collect();
    Ok(Tensor::from_vec(values, (count, channels, side, side), device)?)
}

/// Odd constant of the golden ratio: neighbouring images get seeds far apart.
pub fn stream(image: usize) -> u64 {
    (image as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
