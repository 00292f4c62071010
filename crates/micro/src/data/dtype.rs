//! The types of matrix elements: their sizes, their precision, their bits.

use half::{bf16, f16};

use super::Stream;

/// A type of matrix elements, or one in which products are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dtype {
    F64,
    F32,
    /// f32 in memory, of whose fraction a multiplication sees the first 10 bits.
    Tf32,
    F16,
    Bf16,
    /// The `e4m3` of "FP8 Formats for Deep Learning" (Micikevicius et al., 2022).
    Fp8,
    Int8,
    Int32,
}

impl Dtype {
    /// Its name in ids.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
            Self::Int8 => "int8",
            Self::Int32 => "int32",
        }
    }

    /// The bytes of one element.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 | Self::Tf32 | Self::Int32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Fp8 | Self::Int8 => 1,
        }
    }

    /// Unit roundoff: the largest relative error of rounding to nearest. Integers are exact.
    pub(crate) fn roundoff(self) -> f64 {
        match self {
            Self::F64 => f64::powi(2.0, -53),
            Self::F32 => f64::powi(2.0, -24),
            Self::Tf32 | Self::F16 => f64::powi(2.0, -11),
            Self::Bf16 => f64::powi(2.0, -8),
            Self::Fp8 => f64::powi(2.0, -4),
            Self::Int8 | Self::Int32 => 0.0,
        }
    }

    /// The value that the element at `index` of `stream` has in this type.
    pub(crate) fn element(self, stream: Stream, index: u64) -> f64 {
        match self {
            Self::F64 => stream.uniform_f64(index),
            Self::F32 | Self::Tf32 => f64::from(stream.uniform(index)),
            Self::F16 => leading_f16(stream.uniform(index)).to_f64(),
            Self::Bf16 => leading_bf16(stream.uniform(index)).to_f64(),
            Self::Fp8 => decode_e4m3(leading_e4m3(stream.uniform(index))),
            Self::Int8 | Self::Int32 => f64::from(stream.byte(index)),
        }
    }

    /// The number in the first [`size`](Self::size) bytes, little-endian as every device that CUDA runs
    /// on.
    pub(crate) fn decode(self, bytes: [u8; 8]) -> f64 {
        let [b0, b1, b2, b3, ..] = bytes;
        match self {
            Self::F64 => f64::from_le_bytes(bytes),
            Self::F32 | Self::Tf32 => f64::from(f32::from_le_bytes([b0, b1, b2, b3])),
            Self::F16 => f16::from_le_bytes([b0, b1]).to_f64(),
            Self::Bf16 => bf16::from_le_bytes([b0, b1]).to_f64(),
            Self::Fp8 => decode_e4m3(b0),
            Self::Int8 => f64::from(b0.cast_signed()),
            Self::Int32 => f64::from(i32::from_le_bytes([b0, b1, b2, b3])),
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
fn leading_bf16(value: f32) -> bf16 {
    bf16::from_bits((value.to_bits() >> 16) as u16)
}

/// The leading bits of a number in [-1, 1]; below 2^-6 a signed zero. As `fill.cu` does it.
fn leading_e4m3(value: f32) -> u8 {
    let bits = value.to_bits();
    let sign = (bits >> 24) & 0x80;
    let exponent = (bits >> 23) & 0xFF;
    if exponent < 127 - 6 {
        return sign as u8;
    }
    (sign | ((exponent + 7 - 127) << 3) | ((bits >> 20) & 7)) as u8
}

/// The value of an e4m3 number: four bits of exponent with bias 7, three of fraction, no infinities.
fn decode_e4m3(bits: u8) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 3 & 15), f64::from(bits & 7));
    let magnitude = match (exponent, bits & 7) {
        (15, 7) => f64::NAN,
        (0, _) => fraction * f64::powi(2.0, -9),
        (_, _) => (8.0 + fraction) * f64::powi(2.0, exponent - 10),
    };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn narrow_numbers_are_the_f32_ones_cut_short(seed: u64, index: u64) {
            let exact = Stream::new(seed, 0).uniform(index);
            prop_assert!((-1.0..1.0).contains(&exact));
            let short = leading_f16(exact).to_f32();
            prop_assert!(short.abs() <= exact.abs());
            prop_assert!((exact - short).abs() <= exact.abs() / 1024.0 + f32::powi(2.0, -14));
            let shorter = leading_bf16(exact).to_f32();
            prop_assert!(shorter.abs() <= exact.abs());
            prop_assert!((exact - shorter).abs() <= exact.abs() / 128.0);
            let shortest = decode_e4m3(leading_e4m3(exact)) as f32;
            prop_assert!(shortest.abs() <= exact.abs());
            prop_assert!((exact - shortest).abs() <= exact.abs() / 8.0 + f32::powi(2.0, -6));
        }
    }

    #[test]
    fn e4m3_has_the_values_of_its_paper() {
        // Table 1 there: the largest, the smallest normal and the smallest subnormal number.
        assert_eq!(decode_e4m3(0b0111_1110).to_bits(), 448.0_f64.to_bits());
        assert_eq!(decode_e4m3(0b0000_1000).to_bits(), f64::powi(2.0, -6).to_bits());
        assert_eq!(decode_e4m3(0b1000_0001).to_bits(), (-f64::powi(2.0, -9)).to_bits());
        assert!(decode_e4m3(0b1111_1111).is_nan());
    }

    #[test]
    fn spoilt_memory_is_no_number_of_any_floating_point_type() {
        for dtype in [Dtype::F64, Dtype::F32, Dtype::Tf32, Dtype::F16, Dtype::Bf16, Dtype::Fp8] {
            assert!(dtype.decode([0xFF; 8]).is_nan(), "{dtype:?}");
        }
        assert_eq!(Dtype::Int32.decode([0xFE, 0xFF, 0xFF, 0xFF, 7, 7, 7, 7]) as i32, -2);
        assert_eq!(Dtype::Int8.decode([0x80; 8]) as i32, -128);
    }
}
