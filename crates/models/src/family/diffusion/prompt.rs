//! What the text encoders are fed, and the noise an image begins with.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::bench::stream;
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
