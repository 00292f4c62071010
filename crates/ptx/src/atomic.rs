//! Atomic operations: what a word becomes.

use half::{bf16, f16};

use super::instruction::Atomic;
use super::value::Type;

/// Whether a card has the operation for the type.
pub(super) fn is_known(operation: Atomic, kind: Type) -> bool {
    use Atomic::{Add, And, CompareExchange, Decrement, Exchange, Increment, Max, Min, Or, Xor};
    match operation {
        Add => !matches!(kind, Type::Pred) && kind.size() >= 2,
        Min | Max => matches!(kind, Type::U32 | Type::S32 | Type::U64 | Type::S64),
        And | Or | Xor => matches!(kind, Type::B32 | Type::B64),
        Exchange => matches!(kind, Type::B32 | Type::B64),
        CompareExchange => matches!(kind, Type::B16 | Type::B32 | Type::B64),
        Increment | Decrement => kind == Type::U32,
    }
}

/// What stands in memory afterwards, where `old` stood before.
pub(super) fn apply(operation: Atomic, kind: Type, old: u64, b: u64, c: u64) -> u64 {
    match operation {
        Atomic::Add => sum(kind, old, b),
        Atomic::Min => {
            if less(kind, b, old) {
                b
            } else {
                old
            }
        }
        Atomic::Max => {
            if less(kind, old, b) {
                b
            } else {
                old
            }
        }
        Atomic::And => old & b,
        Atomic::Or => old | b,
        Atomic::Xor => old ^ b,
        Atomic::Exchange => b,
        Atomic::CompareExchange => {
            if old == b {
                c
            } else {
                old
            }
        }
        Atomic::Increment => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        Atomic::Decrement => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
    }
}

fn less(kind: Type, a: u64, b: u64) -> bool {
    match kind {
        Type::S32 => (a as u32).cast_signed() < (b as u32).cast_signed(),
        Type::S64 => a.cast_signed() < b.cast_signed(),
        _ => a < b,
    }
}

fn sum(kind: Type, a: u64, b: u64) -> u64 {
    let f16s =
        |a: u64, b: u64| u64::from((f16::from_bits(a as u16) + f16::from_bits(b as u16)).to_bits());
    let bf16s = |a: u64, b: u64| {
        u64::from((bf16::from_bits(a as u16) + bf16::from_bits(b as u16)).to_bits())
    };
    match kind {
        Type::F32 => u64::from((f32::from_bits(a as u32) + f32::from_bits(b as u32)).to_bits()),
        Type::F64 => (f64::from_bits(a) + f64::from_bits(b)).to_bits(),
        Type::F16 => f16s(a, b),
        Type::Bf16 => bf16s(a, b),
        Type::F16x2 => f16s(a, b) | f16s(a >> 16, b >> 16) << 16,
        Type::Bf16x2 => bf16s(a, b) | bf16s(a >> 16, b >> 16) << 16,
        _ => a.wrapping_add(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_leaves_what_its_definition_says() {
        let bits = |x: f32| u64::from(x.to_bits());
        let minus = u64::from((-5_i32).cast_unsigned());
        let cases = [
            (Atomic::Add, Type::U32, 7, 5, 0, 12),
            (Atomic::Add, Type::F32, bits(1.5), bits(2.0), 0, bits(3.5)),
            (Atomic::Min, Type::S32, 3, minus, 0, minus),
            (Atomic::Min, Type::U32, 3, minus, 0, 3),
            (Atomic::Max, Type::S32, 3, minus, 0, 3),
            (Atomic::And, Type::B32, 0b110, 0b011, 0, 0b010),
            (Atomic::Or, Type::B32, 0b110, 0b011, 0, 0b111),
            (Atomic::Xor, Type::B32, 0b110, 0b011, 0, 0b101),
            (Atomic::Exchange, Type::B32, 3, 4, 0, 4),
            (Atomic::CompareExchange, Type::B32, 3, 3, 9, 9),
            (Atomic::CompareExchange, Type::B32, 4, 3, 9, 4),
            (Atomic::Increment, Type::U32, 3, 3, 0, 0),
            (Atomic::Increment, Type::U32, 2, 3, 0, 3),
            (Atomic::Decrement, Type::U32, 0, 3, 0, 3),
            (Atomic::Decrement, Type::U32, 2, 3, 0, 1),
        ];
        for (operation, kind, old, b, c, expected) in cases {
            assert!(is_known(operation, kind));
            let got = apply(operation, kind, old, b, c);
            assert_eq!(got, expected, "{operation:?} of {old} and {b}");
        }
        let two = u64::from(f16::from_f32(2.0).to_bits());
        let packed = apply(Atomic::Add, Type::F16x2, two << 16 | two, two, 0);
        let four = u64::from(f16::from_f32(4.0).to_bits());
        assert_eq!(packed, two << 16 | four);
    }
}
