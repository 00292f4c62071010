//! What the text encoders are fed, and the noise an image begins with.

use candle_core::{Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use warpmark_nets::NetError;
use warpmark_nets::diffusion::TextNumbers;

/// Tokens of a text between its begin and its end, about as many as people write.
const WORDS: usize = 20;

/// A text in tokens of an encoder's vocabulary: begin, words drawn evenly, end, padded with ends. The seed
/// and the number of the image decide the words; no image gives the empty text.
pub(super) fn tokens(numbers: &TextNumbers, seed: u64, image: Option<usize>) -> Vec<u32> {
    let end = numbers.vocabulary as u32 - 1;
    let mut tokens = vec![end - 1];
    if let Some(image) = image {
        let mut random = StdRng::seed_from_u64(seed ^ stream(image));
        let words = WORDS.min(numbers.positions.saturating_sub(2));
        tokens.extend((0..words).map(|_| random.random_range(0..end - 1)));
    }
    tokens.resize(numbers.positions, end);
    tokens
}

/// Where the first end token of a text stands.
pub(super) fn end(tokens: &[u32]) -> u32 {
    let end = tokens.last();
    tokens.iter().position(|token| Some(token) == end).unwrap_or(0) as u32
}

/// Noise of variance 1 in the shape of latents, `[count, channels, side, side]`, nearly normal: each value is
/// the sum of twelve even ones. An image has the same noise in every batch.
pub(super) fn noise(
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
fn stream(image: usize) -> u64 {
    (image as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
