//! Whole numbers and bits.

use super::carry;
use super::instruction::{Alu, Form, Instruction, Lanes, one, three, two};
use super::value::{Row, Type, Value, lanes_of};

/// An operation in each integer type; bits count as unsigned.
macro_rules! in_each {
    ($kind:expr, $arity:ident, |$($x:ident),*| $body:expr) => {{
        let run: Lanes = match $kind {
            Type::U16 | Type::B16 => |r, i, m| $arity(r, i, m, |$($x: u16),*| $body),
            Type::S16 => |r, i, m| $arity(r, i, m, |$($x: i16),*| $body),
            Type::U32 | Type::B32 => |r, i, m| $arity(r, i, m, |$($x: u32),*| $body),
            Type::S32 => |r, i, m| $arity(r, i, m, |$($x: i32),*| $body),
            Type::U64 | Type::B64 => |r, i, m| $arity(r, i, m, |$($x: u64),*| $body),
            Type::S64 => |r, i, m| $arity(r, i, m, |$($x: i64),*| $body),
            _ => return None,
        };
        run
    }};
}

/// An operation on bits of any size, predicates included.
macro_rules! on_bits {
    ($kind:expr, $arity:ident, |$($x:ident),*| $body:expr) => {{
        let run: Lanes = match $kind {
            Type::B16 => |r, i, m| $arity(r, i, m, |$($x: u16),*| $body),
            Type::B32 => |r, i, m| $arity(r, i, m, |$($x: u32),*| $body),
            Type::B64 => |r, i, m| $arity(r, i, m, |$($x: u64),*| $body),
            Type::Pred => |r, i, m| $arity(r, i, m, |$($x: bool),*| $body),
            _ => return None,
        };
        run
    }};
}

/// The arithmetic of a form, if it is one of these.
pub(super) fn find(form: &mut Form<'_>) -> Option<Alu> {
    if matches!(form.base, "dp4a" | "dp2a") {
        return dot(form);
    }
    let (base, kind) = (form.base, form.only()?);
    let carries = form.take("cc") || matches!(base, "addc" | "subc" | "madc");
    if carries {
        return carry::with_carry(form, kind);
    }
    let uniform = |operands, run| Some(Alu::uniform(kind, operands, run));
    match base {
        "add" if form.take("sat") && kind == Type::S32 => {
            uniform(2, |r, i, m| two(r, i, m, i32::saturating_add))
        }
        "sub" if form.take("sat") && kind == Type::S32 => {
            uniform(2, |r, i, m| two(r, i, m, i32::saturating_sub))
        }
        "add" => uniform(2, in_each!(kind, two, |a, b| a.wrapping_add(b))),
        "sub" => uniform(2, in_each!(kind, two, |a, b| a.wrapping_sub(b))),
        "mul" | "mad" => product(form, kind),
        // Division by zero gives all ones, and its remainder the dividend.
        "div" => {
            uniform(2, in_each!(kind, two, |a, b| if b == 0 { !0 } else { a.wrapping_div(b) }))
        }
        "rem" => uniform(2, in_each!(kind, two, |a, b| if b == 0 { a } else { a.wrapping_rem(b) })),
        "min" => uniform(2, in_each!(kind, two, |a, b| a.min(b))),
        "max" => uniform(2, in_each!(kind, two, |a, b| a.max(b))),
        "neg" if kind.is_signed() => uniform(1, in_each!(kind, one, |a| a.wrapping_neg())),
        "abs" if kind.is_signed() => {
            let run =
                in_each!(kind, one, |a| if a.leading_zeros() == 0 { a.wrapping_neg() } else { a });
            uniform(1, run)
        }
        "and" => uniform(2, on_bits!(kind, two, |a, b| a & b)),
        "or" => uniform(2, on_bits!(kind, two, |a, b| a | b)),
        "xor" => uniform(2, on_bits!(kind, two, |a, b| a ^ b)),
        "not" => uniform(1, on_bits!(kind, one, |a| !a)),
        "shl" | "shr" => shift(form, kind),
        _ => bits(form, kind),
    }
}

/// Products: the lower half, the upper half, or all of it in twice the bits.
fn product(form: &mut Form<'_>, kind: Type) -> Option<Alu> {
    let adds = form.base == "mad";
    let operands = if adds { 3 } else { 2 };
    if form.take("lo") {
        let run = if adds {
            in_each!(kind, three, |a, b, c| a.wrapping_mul(b).wrapping_add(c))
        } else {
            in_each!(kind, two, |a, b| a.wrapping_mul(b))
        };
        return Some(Alu::uniform(kind, operands, run));
    }
    if form.take("hi") {
        let run: Lanes = match (kind, adds) {
            (Type::U32, false) => |r, i, m| two(r, i, m, high_u32),
            (Type::S32, false) => |r, i, m| two(r, i, m, high_s32),
            (Type::U64, false) => |r, i, m| two(r, i, m, high_u64),
            (Type::S64, false) => |r, i, m| two(r, i, m, high_s64),
            (Type::U32, true) => |r, i, m| three(r, i, m, |a, b, c| high_u32(a, b).wrapping_add(c)),
            (Type::S32, true) => |r, i, m| three(r, i, m, |a, b, c| high_s32(a, b).wrapping_add(c)),
            (Type::U64, true) => |r, i, m| three(r, i, m, |a, b, c| high_u64(a, b).wrapping_add(c)),
            _ => return None,
        };
        return Some(Alu::uniform(kind, operands, run));
    }
    if !form.take("wide") {
        return None;
    }
    let (to, run): (Type, Lanes) = match (kind, adds) {
        (Type::U16, false) => (Type::U32, |r, i, m| two(r, i, m, wide_u16)),
        (Type::S16, false) => (Type::S32, |r, i, m| two(r, i, m, wide_s16)),
        (Type::U32, false) => (Type::U64, |r, i, m| two(r, i, m, wide_u32)),
        (Type::S32, false) => (Type::S64, |r, i, m| two(r, i, m, wide_s32)),
        (Type::U16, true) => {
            (Type::U32, |r, i, m| three(r, i, m, |a, b, c: u32| wide_u16(a, b).wrapping_add(c)))
        }
        (Type::S16, true) => {
            (Type::S32, |r, i, m| three(r, i, m, |a, b, c: i32| wide_s16(a, b).wrapping_add(c)))
        }
        (Type::U32, true) => {
            (Type::U64, |r, i, m| three(r, i, m, |a, b, c: u64| wide_u32(a, b).wrapping_add(c)))
        }
        (Type::S32, true) => {
            (Type::S64, |r, i, m| three(r, i, m, |a, b, c: i64| wide_s32(a, b).wrapping_add(c)))
        }
        _ => return None,
    };
    let mut from = vec![kind; 2];
    from.extend(adds.then_some(to));
    Some(Alu { run, to, from })
}

fn wide_u16(a: u16, b: u16) -> u32 {
    u32::from(a) * u32::from(b)
}

fn wide_s16(a: i16, b: i16) -> i32 {
    i32::from(a) * i32::from(b)
}

fn wide_u32(a: u32, b: u32) -> u64 {
    u64::from(a) * u64::from(b)
}

fn wide_s32(a: i32, b: i32) -> i64 {
    i64::from(a) * i64::from(b)
}

fn high_u32(a: u32, b: u32) -> u32 {
    (wide_u32(a, b) >> 32) as u32
}

fn high_s32(a: i32, b: i32) -> i32 {
    (wide_s32(a, b) >> 32) as i32
}

fn high_u64(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}

fn high_s64(a: i64, b: i64) -> i64 {
    ((i128::from(a) * i128::from(b)) >> 64) as i64
}

/// Shifts beyond the last bit leave nothing, or the sign.
fn shift(form: &Form<'_>, kind: Type) -> Option<Alu> {
    let run: Lanes = match (form.base, kind) {
        ("shl", Type::B16) => {
            |r, i, m| two(r, i, m, |a: u16, n: u32| a.checked_shl(n).unwrap_or(0))
        }
        ("shl", Type::B32) => {
            |r, i, m| two(r, i, m, |a: u32, n: u32| a.checked_shl(n).unwrap_or(0))
        }
        ("shl", Type::B64) => {
            |r, i, m| two(r, i, m, |a: u64, n: u32| a.checked_shl(n).unwrap_or(0))
        }
        ("shr", Type::U16 | Type::B16) => {
            |r, i, m| two(r, i, m, |a: u16, n: u32| a.checked_shr(n).unwrap_or(0))
        }
        ("shr", Type::U32 | Type::B32) => {
            |r, i, m| two(r, i, m, |a: u32, n: u32| a.checked_shr(n).unwrap_or(0))
        }
        ("shr", Type::U64 | Type::B64) => {
            |r, i, m| two(r, i, m, |a: u64, n: u32| a.checked_shr(n).unwrap_or(0))
        }
        ("shr", Type::S16) => |r, i, m| two(r, i, m, |a: i16, n: u32| a >> n.min(15)),
        ("shr", Type::S32) => |r, i, m| two(r, i, m, |a: i32, n: u32| a >> n.min(31)),
        ("shr", Type::S64) => |r, i, m| two(r, i, m, |a: i64, n: u32| a >> n.min(63)),
        _ => return None,
    };
    Some(Alu { run, to: kind, from: vec![kind, Type::U32] })
}

/// Fields, counts and permutations of bits.
fn bits(form: &mut Form<'_>, kind: Type) -> Option<Alu> {
    use Type::{B32, B64, S32, S64, U32, U64};
    let base = form.base;
    let (run, to, from): (Lanes, Type, Vec<Type>) = match (base, kind) {
        ("popc", B32) => (|r, i, m| one(r, i, m, u32::count_ones), U32, vec![kind]),
        ("popc", B64) => (|r, i, m| one(r, i, m, u64::count_ones), U32, vec![kind]),
        ("clz", B32) => (|r, i, m| one(r, i, m, u32::leading_zeros), U32, vec![kind]),
        ("clz", B64) => (|r, i, m| one(r, i, m, u64::leading_zeros), U32, vec![kind]),
        ("brev", B32) => (|r, i, m| one(r, i, m, u32::reverse_bits), kind, vec![kind]),
        ("brev", B64) => (|r, i, m| one(r, i, m, u64::reverse_bits), kind, vec![kind]),
        ("bfe", U32) => (|r, i, m| three(r, i, m, field_u32), kind, vec![kind, U32, U32]),
        ("bfe", S32) => (|r, i, m| three(r, i, m, field_s32), kind, vec![kind, U32, U32]),
        ("bfe", U64) => (|r, i, m| three(r, i, m, field_u64), kind, vec![kind, U32, U32]),
        ("bfe", S64) => (|r, i, m| three(r, i, m, field_s64), kind, vec![kind, U32, U32]),
        ("bfi", B32) => (|r, i, m| insert::<u32>(r, i, m), kind, vec![kind, kind, U32, U32]),
        ("bfi", B64) => (|r, i, m| insert::<u64>(r, i, m), kind, vec![kind, kind, U32, U32]),
        ("prmt", B32) => (|r, i, m| three(r, i, m, permuted), kind, vec![kind; 3]),
        ("lop3", B32) => (logic, kind, vec![kind, kind, kind, U32]),
        ("shf", B32) => {
            let (left, wraps) = (form.take("l"), form.take("wrap"));
            let right = form.take("r");
            if left == right || wraps == form.take("clamp") {
                return None;
            }
            let run: Lanes = match (left, wraps) {
                (true, true) => {
                    |r, i, m| three(r, i, m, |a, b, n: u32| funnel(a, b, n & 31) as u32)
                }
                (true, false) => {
                    |r, i, m| three(r, i, m, |a, b, n: u32| funnel(a, b, n.min(32)) as u32)
                }
                (false, true) => {
                    |r, i, m| three(r, i, m, |a, b, n: u32| (joined(a, b) >> (n & 31)) as u32)
                }
                (false, false) => {
                    |r, i, m| three(r, i, m, |a, b, n: u32| (joined(a, b) >> n.min(32)) as u32)
                }
            };
            (run, kind, vec![kind, kind, U32])
        }
        _ => return None,
    };
    Some(Alu { run, to, from })
}

fn joined(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// The upper word of a pair that is shifted to the left.
fn funnel(low: u32, high: u32, by: u32) -> u64 {
    ((u128::from(joined(low, high)) << by) >> 32) as u64
}

fn field_u64(a: u64, place: u32, len: u32) -> u64 {
    let (place, len) = (place & 255, len & 255);
    let mask = 1_u64.checked_shl(len).map_or(u64::MAX, |top| top - 1);
    a.checked_shr(place).unwrap_or(0) & mask
}

fn field_u32(a: u32, place: u32, len: u32) -> u32 {
    field_u64(u64::from(a), place, len) as u32
}

fn field_s64(a: i64, place: u32, len: u32) -> i64 {
    let (place, len) = (place & 255, len & 255);
    if len == 0 {
        return 0;
    }
    // The sign is the field's last bit, or the number's where the field goes beyond it.
    let last = (place + len - 1).min(63);
    ((a << (63 - last)) >> (63 - last)) >> place.min(63)
}

fn field_s32(a: i32, place: u32, len: u32) -> i32 {
    let (place, len) = (place & 255, len & 255);
    if len == 0 {
        return 0;
    }
    let last = (place + len - 1).min(31);
    ((a << (31 - last)) >> (31 - last)) >> place.min(31)
}

/// `bfi`: the field at c, of the length in the list, of b becomes what a begins with.
fn insert<T: Value + Into<u64> + TryFrom<u64>>(rows: &mut [Row], i: &Instruction, mask: u32) {
    let (a, b) = (T::read(rows, i.a), T::read(rows, i.b));
    let (places, lens) = (u32::read(rows, i.c), u32::read(rows, i.list[0]));
    let mut out = [T::default(); 32];
    for lane in lanes_of(mask) {
        let (place, len) = (places[lane] & 255, lens[lane] & 255);
        let ones = 1_u64.checked_shl(len).map_or(u64::MAX, |top| top - 1);
        let field = ones.checked_shl(place).unwrap_or(0);
        let moved = a[lane].into().checked_shl(place).unwrap_or(0);
        let bits =
            (b[lane].into() & !field | moved & field) & (u64::MAX >> (64 - 8 * size_of::<T>()));
        out[lane] = T::try_from(bits).unwrap_or_default();
    }
    T::write(rows, i.d, out, mask);
}

/// Four bytes out of eight, each with its sign alone where bit 3 of its selector is set.
fn permuted(a: u32, b: u32, selectors: u32) -> u32 {
    let all = joined(a, b).to_le_bytes();
    let byte = |k: u32| {
        let selector = selectors >> (4 * k) & 15;
        let byte = all[(selector & 7) as usize];
        let byte = if selector & 8 == 0 { byte } else { (byte.cast_signed() >> 7).cast_unsigned() };
        u32::from(byte) << (8 * k)
    };
    byte(0) | byte(1) | byte(2) | byte(3)
}

/// `lop3`: any function of three bits, as a table.
fn logic(rows: &mut [Row], i: &Instruction, mask: u32) {
    let [a, b, c, table] = [i.a, i.b, i.c, i.list[0]].map(|slot| u32::read(rows, slot));
    let mut out = [0_u32; 32];
    for (lane, out) in out.iter_mut().enumerate() {
        for entry in (0..8).filter(|entry| table[lane] >> entry & 1 == 1) {
            let side = |bits: u32, wanted: u32| if entry & wanted == 0 { !bits } else { bits };
            *out |= side(a[lane], 4) & side(b[lane], 2) & side(c[lane], 1);
        }
    }
    u32::write(rows, i.d, out, mask);
}

/// Products of small integers, added up: four bytes by four, or two words by two bytes.
fn dot(form: &mut Form<'_>) -> Option<Alu> {
    let [a, b] = <[Type; 2]>::try_from(&form.types[..]).ok()?;
    let run: Lanes = match (form.base, a, b) {
        ("dp4a", Type::U32, Type::U32) => {
            |r, i, m| three(r, i, m, |a, b, c| dot4(a, b, c, false, false))
        }
        ("dp4a", Type::U32, Type::S32) => {
            |r, i, m| three(r, i, m, |a, b, c| dot4(a, b, c, false, true))
        }
        ("dp4a", Type::S32, Type::U32) => {
            |r, i, m| three(r, i, m, |a, b, c| dot4(a, b, c, true, false))
        }
        ("dp4a", Type::S32, Type::S32) => {
            |r, i, m| three(r, i, m, |a, b, c| dot4(a, b, c, true, true))
        }
        _ => return None,
    };
    Some(Alu { run, to: Type::B32, from: vec![a, b, Type::B32] })
}

fn dot4(a: u32, b: u32, c: u32, a_signed: bool, b_signed: bool) -> u32 {
    let number = |byte: u8, signed: bool| {
        if signed { i32::from(byte.cast_signed()) } else { i32::from(byte) }
    };
    let pairs = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
    pairs.fold(c, |sum, (a, b)| {
        sum.wrapping_add((number(a, a_signed) * number(b, b_signed)).cast_unsigned())
    })
}
