//! Halves, rows of whole vectors, and what of them is near enough: for the kernels of language models.

use half::{bf16, f16};

use super::super::case::{Numbers, held};
use super::Built;
use crate::address_space::AddressSpace;

/// The type of the halves that a kernel was built for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Half {
    pub(super) brain: bool,
}

impl Half {
    pub(super) fn of(built: Built<'_>) -> Self {
        Self { brain: built.name.ends_with("_bf16") }
    }

    pub(super) fn bits(self, value: f32) -> u16 {
        if self.brain { bf16::from_f32(value).to_bits() } else { f16::from_f32(value).to_bits() }
    }

    pub(super) fn value(self, bits: u16) -> f64 {
        if self.brain { bf16::from_bits(bits).to_f64() } else { f16::from_bits(bits).to_f64() }
    }

    /// So many numbers of at most `most`, rows of `columns` in rows of whole vectors, and what they are.
    pub(super) fn matrix(
        self,
        n: &mut Numbers,
        [rows, columns]: [u64; 2],
        most: f32,
        around: f32,
    ) -> (Vec<u8>, Vec<f64>) {
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        for _ in 0..rows {
            for column in 0..columns.next_multiple_of(8) {
                let bits = if column < columns { self.bits(around + most * unit(n)) } else { 0 };
                bytes.extend(bits.to_le_bytes());
                if column < columns {
                    values.push(self.value(bits));
                }
            }
        }
        (bytes, values)
    }
}

/// A number between -1 and 1.
pub(super) fn unit(n: &mut Numbers) -> f32 {
    n.below(1 << 20) as f32 / f64::from(1 << 19) as f32 - 1.0
}

/// So many numbers between -1 and 1 as f32, and what they are.
pub(super) fn floats(n: &mut Numbers, count: u64) -> (Vec<u8>, Vec<f64>) {
    let all: Vec<f32> = (0..count).map(|_| unit(n)).collect();
    let bytes = all.iter().flat_map(|value| value.to_le_bytes()).collect();
    (bytes, all.into_iter().map(f64::from).collect())
}

pub(super) fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// f32 at an address.
pub(super) fn found(memory: &AddressSpace, at: u64, count: u64) -> Vec<f32> {
    let bytes = held(memory, at, 4 * count);
    bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

/// u32 at an address.
pub(super) fn found_words(memory: &AddressSpace, at: u64, count: u64) -> Vec<u32> {
    let bytes = held(memory, at, 4 * count);
    bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

/// Sums of some hundred products in f32 are so near, relative to 1 or to themselves.
pub(super) const TOLERANCE: f64 = 3e-5;

/// How results lie: as f32, or as halves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    half: Half,
    narrow: bool,
}

pub(super) fn stored(half: Half, narrow: bool) -> Stored {
    Stored { half, narrow }
}

impl Stored {
    /// Some numbers, and what they are.
    pub(super) fn some(self, n: &mut Numbers, count: u64) -> (Vec<u8>, Vec<f64>) {
        if !self.narrow {
            return floats(n, count);
        }
        let bits: Vec<u16> = (0..count).map(|_| self.half.bits(unit(n))).collect();
        let bytes = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        (bytes, bits.iter().map(|bits| self.half.value(*bits)).collect())
    }

    /// The first address, from number `first` behind `at` on, that holds something else.
    pub(super) fn off(
        self,
        memory: &AddressSpace,
        at: u64,
        first: u64,
        expected: &[f64],
    ) -> Option<u64> {
        let count = expected.len() as u64;
        if !self.narrow {
            let at = at + 4 * first;
            return off(&found(memory, at, count), expected).map(|place| at + 4 * place);
        }
        let at = at + 2 * first;
        let bytes = held(memory, at, 2 * count);
        let values = bytes.as_chunks::<2>().0.iter();
        let values = values.map(|bits| self.half.value(u16::from_le_bytes(*bits)));
        // Half a unit of the type, and what sums in f32 are off.
        let unit = if self.half.brain { 4.1e-3 } else { 5.2e-4 };
        let near = |(found, expected): (f64, &f64)| {
            (found - expected).abs() <= unit * expected.abs() + 2.0 * TOLERANCE
        };
        let place = values.zip(expected).position(|both| !near(both));
        place.map(|place| at + 2 * place as u64)
    }
}

/// The place of the first number that is not near what is expected.
pub(super) fn off(found: &[f32], expected: &[f64]) -> Option<u64> {
    let near = |(found, expected): (&f32, &f64)| {
        (f64::from(*found) - expected).abs() <= TOLERANCE * (1.0 + expected.abs())
    };
    let place = found.iter().zip(expected).position(|both| !near(both));
    place.map(|place| place as u64)
}
