//! The number formats of weights, as bytes and as numbers.

use candle_core::WithDType;
use half::{bf16, f16};
use rayon::prelude::*;

use crate::Dtype;

#[cfg(target_endian = "big")]
compile_error!("safetensors files are little-endian, and so must be the machine that reads them");

/// A number format of weights: any pattern of its bytes is a value.
pub(super) trait Element: WithDType + Default {
    /// Its name.
    const FORMAT: Dtype;

    /// The value as `f32`, exactly.
    fn widen(self) -> f32;

    /// The nearest value of this format.
    fn narrow(value: f32) -> Self;

    /// The pattern without its sign, which rises with the magnitude; infinities and NaNs come last.
    fn magnitude(self) -> u32;
}

impl Element for f32 {
    const FORMAT: Dtype = Dtype::F32;

    fn widen(self) -> f32 {
        self
    }

    fn narrow(value: f32) -> Self {
        value
    }

    fn magnitude(self) -> u32 {
        self.to_bits() & 0x7fff_ffff
    }
}

macro_rules! half {
    ($half:ty, $format:ident) => {
        impl Element for $half {
            const FORMAT: Dtype = Dtype::$format;

            fn widen(self) -> f32 {
                self.to_f32()
            }

            fn narrow(value: f32) -> Self {
                Self::from_f32(value)
            }

            fn magnitude(self) -> u32 {
                u32::from(self.to_bits() & 0x7fff)
            }
        }
    };
}

half!(f16, F16);
half!(bf16, Bf16);

/// The bytes of a slice of numbers.
pub(super) fn bytes_of<T: Element>(values: &[T]) -> &[u8] {
    // SAFETY: the implementors of the private trait `Element` are f32, f16 and bf16, which have no
    // padding, so every byte is initialised; the length is that of the slice; u8 has no alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// The bytes of a slice of numbers, to be filled.
pub(super) fn bytes_of_mut<T: Element>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: as in `bytes_of`; in addition any bytes written are a valid f32, f16 or bf16, and the
    // borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

/// The first `count` numbers of a buffer of words.
///
/// # Panics
///
/// Where the buffer is shorter than that.
pub(super) fn view<T: Element>(words: &[u32], count: usize) -> &[T] {
    assert!(count * size_of::<T>() <= size_of_val(words), "the staging buffer is too short");
    // SAFETY: u32 is at least as strictly aligned as f32, f16 and bf16, any bytes are a valid value of
    // these, and the length was just checked.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), count) }
}

/// The first `count` numbers of a buffer of words, to be filled.
///
/// # Panics
///
/// Where the buffer is shorter than that.
pub(super) fn view_mut<T: Element>(words: &mut [u32], count: usize) -> &mut [T] {
    assert!(count * size_of::<T>() <= size_of_val(words), "the staging buffer is too short");
    // SAFETY: as in `view`; the borrow is exclusive, and any number written is a valid word.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), count) }
}

/// Elements that one thread works on before it takes the next chunk: small enough to share the work
/// out, large enough that sharing costs nothing.
const CHUNK: usize = 1 << 18;

/// Converts numbers on all threads.
pub(super) fn convert<S: Element, T: Element>(from: &[S], to: &mut [T]) {
    to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK)).for_each(|(to, from)| {
        for (to, from) in to.iter_mut().zip(from) {
            *to = T::narrow(from.widen());
        }
    });
}

/// The first number that `target` cannot hold: its place, and its value.
pub(super) fn unfit<S: Element>(values: &[S], target: Dtype) -> Option<(usize, f32)> {
    let limit = limit::<S>(target);
    // The largest of a chunk is found without a branch; only a chunk that holds an offender is searched.
    let chunk = values.par_chunks(CHUNK).position_first(|chunk| {
        chunk.iter().fold(0, |largest, value| value.magnitude().max(largest)) >= limit
    })?;
    let start = chunk * CHUNK;
    let within = values[start..].iter().position(|value| value.magnitude() >= limit)?;
    Some((start + within, values[start + within].widen()))
}

/// The least magnitude of `S` that `target` turns into an infinity, or that is one already.
fn limit<S: Element>(target: Dtype) -> u32 {
    // Halfway between the largest finite value and the next power of two, which rounds up.
    let overflow = match target {
        Dtype::F32 => f32::INFINITY,
        Dtype::F16 => 65520.0,
        Dtype::Bf16 => f32::from_bits(0x7f7f_8000),
    };
    S::narrow(overflow).magnitude().min(S::narrow(f32::INFINITY).magnitude())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_their_bytes_are_the_same_thing() {
        let mut values = [1.0f32, -2.5];
        assert_eq!(bytes_of(&values), [0, 0, 128, 63, 0, 0, 32, 192]);
        bytes_of_mut(&mut values)[3] = 64;
        assert_eq!(values.map(f32::to_bits), [4.0f32, -2.5].map(f32::to_bits));
        let mut words = [0u32; 2];
        view_mut::<f16>(&mut words, 3)[2] = f16::from_f32(0.5);
        assert_eq!(view::<f16>(&words, 4)[2], f16::from_f32(0.5));
    }

    #[test]
    #[should_panic(expected = "too short")]
    fn a_view_longer_than_its_buffer_is_refused() {
        let _ = view::<f32>(&[0; 2], 3);
    }

    #[test]
    fn conversion_rounds_to_nearest_even_as_the_half_crate_does() {
        let from: Vec<f32> = (0..100).map(|i| (i as f32).sin()).collect();
        let mut to = vec![f16::ZERO; 100];
        convert(&from, &mut to);
        assert!(from.iter().zip(&to).all(|(a, b)| f16::from_f32(*a) == *b));
        let mut back = vec![0f32; 100];
        convert(&to, &mut back);
        assert_eq!(back, to.iter().map(|value| value.to_f32()).collect::<Vec<f32>>());
    }

    #[test]
    fn the_first_number_that_does_not_fit_is_found_with_its_place() {
        let mut values = vec![0.5f32; CHUNK + 10];
        assert_eq!(unfit(&values, Dtype::F16), None);
        values[CHUNK + 7] = f32::NEG_INFINITY;
        values[CHUNK + 3] = -70000.0;
        assert_eq!(unfit(&values, Dtype::F16), Some((CHUNK + 3, -70000.0)));
        assert_eq!(unfit(&values, Dtype::F32), Some((CHUNK + 7, f32::NEG_INFINITY)));
        assert_eq!(unfit(&values, Dtype::Bf16), Some((CHUNK + 7, f32::NEG_INFINITY)));
        values[3] = f32::NAN;
        assert!(matches!(unfit(&values, Dtype::F32), Some((3, value)) if value.is_nan()));
    }

    #[test]
    fn the_limits_are_where_rounding_reaches_infinity() {
        for (dtype, narrow) in [
            (Dtype::F16, (|v| f16::from_f32(v).to_f32()) as fn(f32) -> f32),
            (Dtype::Bf16, |v| bf16::from_f32(v).to_f32()),
        ] {
            let limit = f32::from_bits(limit::<f32>(dtype));
            assert!(narrow(limit).is_infinite(), "{dtype} {limit}");
            assert!(narrow(f32::from_bits(limit.to_bits() - 1)).is_finite(), "{dtype} {limit}");
        }
        assert_eq!(limit::<f16>(Dtype::F32), 0x7c00);
        assert_eq!(limit::<f16>(Dtype::Bf16), 0x7c00);
        assert_eq!(limit::<bf16>(Dtype::F32), 0x7f80);
    }
}
