//! Damaged input: a seed of the corpus with one to six changes.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// No input is longer, so that the time of a parser says something about the parser.
const MAX_LENGTH: usize = 1 << 20;

/// Texts that formats and their parsers give a meaning to.
const TOKENS: [&[u8]; 24] = [
    b"\0",
    b"\n",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\u0000",
    b"null",
    b"-1",
    b"0",
    b"1e999",
    b"NaN",
    b"18446744073709551615",
    b"9223372036854775808",
    b"4294967296",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x1b]0;x\x07",
    "\u{202e}".as_bytes(),
    b"../..",
    b"*",
];

/// Values at which counts, sizes and offsets go wrong.
const NUMBERS: [u64; 14] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_fff0,
    0xffff_ffff_ffff_ffff,
];

/// The input of that number: always the same for the same seed and corpus.
pub(crate) fn input(corpus: &[Vec<u8>], seed: u64, number: u64) -> Vec<u8> {
    let mut random = SmallRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut bytes = corpus.choose(&mut random).cloned().unwrap_or_default();
    for _ in 0..random.random_range(1..=6) {
        change(&mut bytes, corpus, &mut random);
    }
    bytes.truncate(MAX_LENGTH);
    bytes
}

fn change(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut SmallRng) {
    let at = random.random_range(0..=bytes.len());
    match random.random_range(0..12) {
        0 => flip(bytes, at, random),
        1 => overwrite(bytes, at, &[random.random()]),
        2 => bytes.truncate(at),
        3 => {
            let end = (at + random.random_range(1..=64)).min(bytes.len());
            bytes.drain(at..end);
        }
        4 => {
            let end = (at + random.random_range(1..=256)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            let times = random.random_range(1..=16);
            bytes.splice(at..at, piece.repeat(times));
        }
        5 | 6 => {
            let token = TOKENS.choose(random).copied().unwrap_or_default();
            bytes.splice(at..at, token.iter().copied());
        }
        7 | 8 => number_in_binary(bytes, at, random),
        9 | 10 => number_in_text(bytes, at, random),
        _ => splice(bytes, at, corpus, random),
    }
}

fn flip(bytes: &mut [u8], at: usize, random: &mut SmallRng) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << random.random_range(0..8);
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (byte, new) in bytes.iter_mut().skip(at).zip(with) {
        *byte = *new;
    }
}

/// A telling number over 1 to 8 bytes, little-endian; half of the time near the start, where headers are.
fn number_in_binary(bytes: &mut [u8], at: usize, random: &mut SmallRng) {
    let at = if random.random() { at } else { at.min(random.random_range(0..128)) };
    let width = [1, 2, 4, 8].choose(random).copied().unwrap_or(4);
    let number = NUMBERS.choose(random).copied().unwrap_or_default();
    overwrite(bytes, at, &number.to_le_bytes()[..width]);
}

/// Other digits for the first decimal number after that place.
fn number_in_text(bytes: &mut Vec<u8>, at: usize, random: &mut SmallRng) {
    let Some(start) = (at..bytes.len()).find(|place| bytes[*place].is_ascii_digit()) else {
        return;
    };
    let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = match random.random_range(0..4) {
        0 => NUMBERS.choose(random).copied().unwrap_or_default().to_string(),
        1 => "9".repeat(random.random_range(1..400)),
        2 => format!("-{}", random.random::<u8>()),
        _ => format!("{}e{}", random.random::<u8>(), random.random_range(-400..400)),
    };
    bytes.splice(start..start + digits, number.into_bytes());
}

/// The end of another seed after the beginning of this one.
fn splice(bytes: &mut Vec<u8>, at: usize, corpus: &[Vec<u8>], random: &mut SmallRng) {
    let Some(other) = corpus.choose(random) else { return };
    let from = random.random_range(0..=other.len());
    bytes.truncate(at);
    bytes.extend_from_slice(&other[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_the_same_each_time_and_another_for_each_number() {
        let corpus = vec![b"{\"a\": 12}".to_vec(), vec![0; 64]];
        let first: Vec<_> = (0..200).map(|number| input(&corpus, 7, number)).collect();
        let again: Vec<_> = (0..200).map(|number| input(&corpus, 7, number)).collect();
        assert_eq!(first, again);
        let mut distinct = first;
        distinct.sort();
        distinct.dedup();
        assert!(distinct.len() > 150, "{}", distinct.len());
    }
}
