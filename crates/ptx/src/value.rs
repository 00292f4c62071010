//! Types of PTX, and how the lanes of a warp hold them in registers.
//!
//! A register is a row of 32 words, one a lane. One of 64 bits has two rows, the lower halves first, so
//! that whoever needs the lower half reads the first row. A predicate is a mask in the first word.

use half::{bf16, f16};

/// 32 bits of each lane.
pub(super) type Row = [u32; 32];

/// All lanes.
pub(super) const ALL: u32 = u32::MAX;

/// A type as instructions name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    B8,
    B16,
    B32,
    B64,
    F16,
    Bf16,
    F16x2,
    Bf16x2,
    F32,
    F64,
    E4m3x2,
    E5m2x2,
    Pred,
}

impl Type {
    /// The type that a word names, without its dot.
    pub(super) fn named(word: &str) -> Option<Self> {
        Some(match word {
            "u8" => Self::U8,
            "u16" => Self::U16,
            "u32" => Self::U32,
            "u64" => Self::U64,
            "s8" => Self::S8,
            "s16" => Self::S16,
            "s32" => Self::S32,
            "s64" => Self::S64,
            "b8" => Self::B8,
            "b16" => Self::B16,
            "b32" => Self::B32,
            "b64" => Self::B64,
            "f16" => Self::F16,
            "bf16" => Self::Bf16,
            "f16x2" => Self::F16x2,
            "bf16x2" => Self::Bf16x2,
            "f32" => Self::F32,
            "f64" => Self::F64,
            "e4m3x2" => Self::E4m3x2,
            "e5m2x2" => Self::E5m2x2,
            "pred" => Self::Pred,
            _ => return None,
        })
    }

    /// Bytes in memory.
    pub(super) fn size(self) -> u32 {
        match self {
            Self::U8 | Self::S8 | Self::B8 | Self::Pred => 1,
            Self::U16
            | Self::S16
            | Self::B16
            | Self::F16
            | Self::Bf16
            | Self::E4m3x2
            | Self::E5m2x2 => 2,
            Self::U32 | Self::S32 | Self::B32 | Self::F32 | Self::F16x2 | Self::Bf16x2 => 4,
            Self::U64 | Self::S64 | Self::B64 | Self::F64 => 8,
        }
    }

    pub(super) fn is_signed(self) -> bool {
        matches!(self, Self::S8 | Self::S16 | Self::S32 | Self::S64)
    }

    pub(super) fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    /// What a register that holds it looks like.
    pub(super) fn width(self) -> Width {
        match self.size() {
            8 => Width::Double,
            _ if self == Self::Pred => Width::Predicate,
            _ => Width::Single,
        }
    }
}

/// The kind of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Predicate,
    Single,
    Double,
}

impl Width {
    pub(super) fn rows(self) -> u32 {
        if self == Self::Double { 2 } else { 1 }
    }
}

/// A value of one lane.
pub(super) trait Value: Copy + Default {
    /// All lanes of the register whose first row is `slot`.
    fn read(rows: &[Row], slot: u32) -> [Self; 32];
    /// Writes the lanes of `mask`.
    fn write(rows: &mut [Row], slot: u32, lanes: [Self; 32], mask: u32);
}

/// Values that fit into one word.
macro_rules! single {
    ($($type:ty, $from:expr, $to:expr;)*) => {$(
        impl Value for $type {
            #[inline]
            fn read(rows: &[Row], slot: u32) -> [Self; 32] {
                each(&rows[slot as usize], $from)
            }

            #[inline]
            fn write(rows: &mut [Row], slot: u32, lanes: [Self; 32], mask: u32) {
                put(&mut rows[slot as usize], each(&lanes, $to), mask);
            }
        }
    )*};
}

single! {
    u8, |word| word as u8, u32::from;
    i8, |word| word as i8, |value| u32::from(value.cast_unsigned());
    u16, |word| word as u16, u32::from;
    i16, |word| word as i16, |value| u32::from(value.cast_unsigned());
    u32, |word| word, |value| value;
    i32, u32::cast_signed, i32::cast_unsigned;
    f32, f32::from_bits, f32::to_bits;
    f16, |word| f16::from_bits(word as u16), |value| u32::from(value.to_bits());
    bf16, |word| bf16::from_bits(word as u16), |value| u32::from(value.to_bits());
}

/// Values of two words.
macro_rules! double {
    ($($type:ty, $from:expr, $to:expr;)*) => {$(
        impl Value for $type {
            #[inline]
            fn read(rows: &[Row], slot: u32) -> [Self; 32] {
                let (low, high) = (&rows[slot as usize], &rows[slot as usize + 1]);
                let bits = pairs(low, high, |low, high| u64::from(low) | u64::from(high) << 32);
                each(&bits, $from)
            }

            #[inline]
            fn write(rows: &mut [Row], slot: u32, lanes: [Self; 32], mask: u32) {
                let bits = each(&lanes, $to);
                put(&mut rows[slot as usize], each(&bits, |bits: u64| bits as u32), mask);
                put(&mut rows[slot as usize + 1], each(&bits, |bits: u64| (bits >> 32) as u32), mask);
            }
        }
    )*};
}

double! {
    u64, |bits| bits, |value| value;
    i64, u64::cast_signed, i64::cast_unsigned;
    f64, f64::from_bits, f64::to_bits;
}

impl Value for bool {
    #[inline]
    fn read(rows: &[Row], slot: u32) -> [Self; 32] {
        let mask = rows[slot as usize][0];
        std::array::from_fn(|lane| mask >> lane & 1 == 1)
    }

    #[inline]
    fn write(rows: &mut [Row], slot: u32, lanes: [Self; 32], mask: u32) {
        let mut set = 0;
        for (lane, value) in lanes.into_iter().enumerate() {
            set |= u32::from(value) << lane;
        }
        let word = &mut rows[slot as usize][0];
        *word = *word & !mask | set & mask;
    }
}

/// A value for each lane. A loop, and not `map` of arrays: this the compiler makes vectors of.
#[inline(always)]
pub(super) fn each<A: Copy, D: Copy + Default>(a: &[A; 32], f: impl Fn(A) -> D) -> [D; 32] {
    let mut out = [D::default(); 32];
    for (out, a) in out.iter_mut().zip(a) {
        *out = f(*a);
    }
    out
}

/// The same of two values.
#[inline(always)]
pub(super) fn pairs<A: Copy, B: Copy, D: Copy + Default>(
    a: &[A; 32],
    b: &[B; 32],
    f: impl Fn(A, B) -> D,
) -> [D; 32] {
    let mut out = [D::default(); 32];
    for (out, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
        *out = f(*a, *b);
    }
    out
}

#[inline]
fn put(row: &mut Row, lanes: Row, mask: u32) {
    if mask == ALL {
        *row = lanes;
    } else {
        for lane in lanes_of(mask) {
            row[lane] = lanes[lane];
        }
    }
}

/// The lanes that a mask names.
pub(super) fn lanes_of(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros() as usize;
        let some = mask != 0;
        mask &= mask.wrapping_sub(1);
        some.then_some(lane)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_comes_back_from_a_register_as_it_was_and_other_lanes_stay() {
        fn round<T: Value + PartialEq + std::fmt::Debug>(value: T) {
            let mut rows = vec![[0; 32]; 2];
            T::write(&mut rows, 0, [value; 32], 0b100);
            let lanes = T::read(&rows, 0);
            assert_eq!((lanes[2], lanes[1]), (value, T::default()));
        }
        round(200_u8);
        round(-3_i8);
        round(60_000_u16);
        round(-300_i16);
        round(u32::MAX);
        round(i32::MIN);
        round(u64::MAX - 1);
        round(i64::MIN + 7);
        round(-0.5_f32);
        round(1e300_f64);
        round(f16::from_f32(2.5));
        round(bf16::from_f32(-2.5));
        round(true);
    }

    #[test]
    fn the_lower_half_of_a_double_register_is_its_first_row() {
        let mut rows = vec![[0; 32]; 2];
        u64::write(&mut rows, 0, [0x1234_5678_9ABC_DEF0; 32], ALL);
        assert_eq!(u32::read(&rows, 0)[31], 0x9ABC_DEF0);
        assert_eq!(lanes_of(0x8000_0005).collect::<Vec<_>>(), [0, 2, 31]);
    }
}
