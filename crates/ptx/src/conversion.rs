//! A conversion of any number type to any other.

use std::cmp::Ordering;

use half::{bf16, f16};

use super::instruction::Instruction;
use super::nearest::{bf16_from_f64, f16_from_f64};
use super::value::{Row, Type, Value, lanes_of};

/// How a result that lies between two numbers is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    Nearest,
    Zero,
    Down,
    Up,
}

/// Roundings by their names, and whether the result is a whole number.
pub(super) const ROUNDINGS: [(&str, (Rounding, bool)); 8] = [
    ("rn", (Rounding::Nearest, false)),
    ("rz", (Rounding::Zero, false)),
    ("rm", (Rounding::Down, false)),
    ("rp", (Rounding::Up, false)),
    ("rni", (Rounding::Nearest, true)),
    ("rzi", (Rounding::Zero, true)),
    ("rmi", (Rounding::Down, true)),
    ("rpi", (Rounding::Up, true)),
];

impl Rounding {
    fn to_whole(self, x: f64) -> f64 {
        match self {
            Self::Nearest => x.round_ties_even(),
            Self::Zero => x.trunc(),
            Self::Down => x.floor(),
            Self::Up => x.ceil(),
        }
    }
}

/// A conversion that no fast way exists for, packed into the instruction's offset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conversion {
    pub(super) to: Type,
    pub(super) from: Type,
    pub(super) rounding: Rounding,
    /// Whether a floating-point result is a whole number.
    pub(super) whole: bool,
    pub(super) saturates: bool,
}

/// Any conversion of single numbers, by the table of the instruction's list.
pub(super) fn any(rows: &mut [Row], i: &Instruction, mask: u32) {
    let conversion = Conversion::unpacked(i.offset);
    let source = u64_of(rows, i.a, conversion.from);
    let mut out = [0_u64; 32];
    for lane in lanes_of(mask) {
        out[lane] = conversion.of(source[lane]);
    }
    if conversion.to.size() == 8 {
        u64::write(rows, i.d, out, mask);
    } else {
        u32::write(rows, i.d, out.map(|bits| bits as u32), mask);
    }
}

fn u64_of(rows: &[Row], slot: u32, kind: Type) -> [u64; 32] {
    if kind.size() == 8 { u64::read(rows, slot) } else { u32::read(rows, slot).map(u64::from) }
}

const TYPES: [Type; 16] = [
    Type::U8,
    Type::U16,
    Type::U32,
    Type::U64,
    Type::S8,
    Type::S16,
    Type::S32,
    Type::S64,
    Type::B8,
    Type::B16,
    Type::B32,
    Type::B64,
    Type::F16,
    Type::Bf16,
    Type::F32,
    Type::F64,
];

impl Conversion {
    /// As a number, for an instruction's offset; `None` for types that it is not for.
    pub(super) fn packed(self) -> Option<i64> {
        let place = |kind: Type| TYPES.iter().position(|each| *each == kind);
        let bits = place(self.to)? | place(self.from)? << 4 | (self.rounding as usize) << 8;
        Some((bits | usize::from(self.whole) << 10 | usize::from(self.saturates) << 11) as i64)
    }

    fn unpacked(bits: i64) -> Self {
        const ROUNDINGS: [Rounding; 4] =
            [Rounding::Nearest, Rounding::Zero, Rounding::Down, Rounding::Up];
        let bits = bits as usize;
        Self {
            to: TYPES[bits & 15],
            from: TYPES[bits >> 4 & 15],
            rounding: ROUNDINGS[bits >> 8 & 3],
            whole: bits >> 10 & 1 == 1,
            saturates: bits >> 11 & 1 == 1,
        }
    }

    fn of(self, bits: u64) -> u64 {
        match (self.from.is_float(), self.to.is_float()) {
            (true, true) => self.to_float(float(self.from, bits)),
            (true, false) => self.to_integer(float(self.from, bits)),
            (false, true) => self.float_of(integer(self.from, bits)),
            (false, false) => self.narrowed(integer(self.from, bits)),
        }
    }

    fn to_float(self, x: f64) -> u64 {
        let mut x = if self.whole { self.rounding.to_whole(x) } else { x };
        if self.saturates {
            x = if x.is_nan() { 0.0 } else { x.clamp(0.0, 1.0) };
        }
        match self.to {
            Type::F64 => x.to_bits(),
            Type::F32 => {
                let near = x as f32;
                u64::from(self.directed(near, f64::from(near).partial_cmp(&x)).to_bits())
            }
            Type::F16 => u64::from(f16_from_f64(x).to_bits()),
            _ => u64::from(bf16_from_f64(x).to_bits()),
        }
    }

    /// The nearest number, or its neighbour on the side that is asked for; `order` is how the nearest
    /// compares with what was to be rounded.
    fn directed(self, near: f32, order: Option<Ordering>) -> f32 {
        let (above, below) = (order == Some(Ordering::Greater), order == Some(Ordering::Less));
        match self.rounding {
            Rounding::Zero if above && near > 0.0 => near.next_down(),
            Rounding::Zero if below && near < 0.0 => near.next_up(),
            Rounding::Down if above => near.next_down(),
            Rounding::Up if below => near.next_up(),
            _ => near,
        }
    }

    fn float_of(self, n: i128) -> u64 {
        match self.to {
            Type::F64 => (n as f64).to_bits(),
            // Numbers of 64 bits lie between those of f64 too: compared as integers.
            Type::F32 => {
                let near = n as f32;
                u64::from(self.directed(near, Some((near as i128).cmp(&n))).to_bits())
            }
            Type::F16 => u64::from(f16_from_f64(n as f64).to_bits()),
            _ => u64::from(bf16_from_f64(n as f64).to_bits()),
        }
    }

    /// Beyond the type's ends, its ends; NaN is zero, and in 64 bits the sign bit alone.
    fn to_integer(self, x: f64) -> u64 {
        if x.is_nan() {
            let wide = self.from == Type::F64 || self.to.size() == 8;
            return if wide { 1 << (8 * self.to.size() - 1) } else { 0 };
        }
        let (least, most) = limits(self.to);
        self.narrowed((self.rounding.to_whole(x) as i128).clamp(least, most))
    }

    fn narrowed(self, n: i128) -> u64 {
        let (least, most) = limits(self.to);
        let n = if self.saturates { n.clamp(least, most) } else { n };
        match self.to {
            Type::U8 | Type::B8 => u64::from(n as u8),
            Type::U16 | Type::B16 => u64::from(n as u16),
            // Registers are wider than the type: the rest is the sign.
            Type::S8 => u64::from(i32::from(n as i8).cast_unsigned()),
            Type::S16 => u64::from(i32::from(n as i16).cast_unsigned()),
            Type::U32 | Type::B32 | Type::S32 => u64::from(n as u32),
            _ => n as u64,
        }
    }
}

/// The least and the greatest number of an integer type.
fn limits(kind: Type) -> (i128, i128) {
    let bits = 8 * kind.size();
    if kind.is_signed() {
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        (0, (1 << bits) - 1)
    }
}

fn float(kind: Type, bits: u64) -> f64 {
    match kind {
        Type::F64 => f64::from_bits(bits),
        Type::F32 => f64::from(f32::from_bits(bits as u32)),
        Type::F16 => f16::from_bits(bits as u16).to_f64(),
        _ => bf16::from_bits(bits as u16).to_f64(),
    }
}

fn integer(kind: Type, bits: u64) -> i128 {
    match kind {
        Type::U8 | Type::B8 => i128::from(bits as u8),
        Type::U16 | Type::B16 => i128::from(bits as u16),
        Type::U32 | Type::B32 => i128::from(bits as u32),
        Type::S8 => i128::from(bits as i8),
        Type::S16 => i128::from(bits as i16),
        Type::S32 => i128::from(bits as i32),
        Type::S64 => i128::from(bits.cast_signed()),
        _ => i128::from(bits),
    }
}
