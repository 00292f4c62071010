//! Numbers in memory: their sizes, and their bits.

use half::{bf16, f16};

/// A number type of matrices and arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F16,
    Bf16,
    F32,
    /// f32 of which a multiplication sees the leading bits.
    Tf32,
    /// The same, rounded to it with ties to even.
    Tf32Even,
    F64,
    /// e4m3.
    Fp8,
    Int8,
    Int32,
}

impl Element {
    pub(crate) fn size(self) -> u64 {
        match self {
            Self::Fp8 | Self::Int8 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::F32 | Self::Tf32 | Self::Tf32Even | Self::Int32 => 4,
            Self::F64 => 8,
        }
    }

    pub(crate) fn decode(self, bytes: &[u8]) -> f64 {
        let four = || [bytes[0], bytes[1], bytes[2], bytes[3]];
        match self {
            Self::F16 => f16::from_le_bytes([bytes[0], bytes[1]]).to_f64(),
            Self::Bf16 => bf16::from_le_bytes([bytes[0], bytes[1]]).to_f64(),
            Self::F32 => f64::from(f32::from_le_bytes(four())),
            Self::Tf32 => f64::from(f32::from_bits(u32::from_le_bytes(four()) & !0x1FFF)),
            Self::Tf32Even => {
                let bits = u32::from_le_bytes(four());
                f64::from(f32::from_bits((bits + 0xFFF + (bits >> 13 & 1)) & !0x1FFF))
            }
            Self::F64 => f64::from_le_bytes(bytes[..8].try_into().unwrap()),
            Self::Fp8 => e4m3(bytes[0]),
            Self::Int8 => f64::from(bytes[0].cast_signed()),
            Self::Int32 => f64::from(i32::from_le_bytes(four())),
        }
    }

    /// The nearest number of this type, in the first `size` bytes.
    pub(crate) fn encode(self, value: f64) -> Word {
        match self {
            Self::F16 => word(&f16::from_f64(value).to_le_bytes()),
            Self::Bf16 => word(&bf16::from_f64(value).to_le_bytes()),
            Self::F32 | Self::Tf32 | Self::Tf32Even => word(&(value as f32).to_le_bytes()),
            Self::F64 => value.to_le_bytes(),
            Self::Fp8 => {
                let off = |bits: &u8| (e4m3(*bits) - value).abs();
                let numbers = (0..=u8::MAX).filter(|bits| !e4m3(*bits).is_nan());
                let nearest = numbers.min_by(|a, b| off(a).total_cmp(&off(b)));
                word(&[nearest.filter(|_| !value.is_nan()).unwrap_or(0x7F)])
            }
            Self::Int8 => word(&(value.round_ties_even() as i8).to_le_bytes()),
            Self::Int32 => word(&(value.round_ties_even() as i32).to_le_bytes()),
        }
    }
}

/// The bytes of an element, the first of them where it is smaller.
pub(crate) type Word = [u8; 8];

/// A word that begins with these bytes.
pub(crate) fn word(bytes: &[u8]) -> Word {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    word
}

/// The value of a number of four bits of exponent and three of fraction, without infinities.
fn e4m3(bits: u8) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 3 & 15), f64::from(bits & 7) / 8.0);
    let magnitude = match exponent {
        15 if bits & 7 == 7 => f64::NAN,
        0 => fraction * f64::powi(2.0, -6),
        _ => (1.0 + fraction) * f64::powi(2.0, exponent - 7),
    };
    magnitude * if bits & 0x80 == 0 { 1.0 } else { -1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_being_written_and_read() {
        use Element::{Bf16, F16, F32, F64, Fp8, Int8, Int32, Tf32};
        for element in [Bf16, F16, F32, F64, Fp8, Int8, Int32, Tf32] {
            for number in [-3.0, 0.0, 1.0, 52.0] {
                let read = element.decode(&element.encode(number));
                assert!((read - number).abs() < 1e-12, "{element:?}: {read} and not {number}");
            }
        }
        // The largest of e4m3, and nothing larger.
        assert!((Fp8.decode(&Fp8.encode(1e9)) - 448.0).abs() < 1e-12);
        assert!(Fp8.decode(&Fp8.encode(f64::NAN)).is_nan());
    }
}
