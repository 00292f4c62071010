//! Conversions between types, and what moves bits about.

use half::{bf16, f16};

use super::conversion::{Conversion, ROUNDINGS, Rounding, any};
use super::fp8::{E4M3, E5M2, Fp8};
use super::instruction::{Alu, Form, Lanes, one, two};
use super::value::Type;

/// Where generic addresses of shared memory begin; local ones lie below.
pub(super) const SHARED_WINDOW: u64 = 0x5_0000_0000;
/// Where generic addresses of local memory begin.
pub(super) const LOCAL_WINDOW: u64 = 0x4_0000_0000;

/// The arithmetic of a conversion or a move, if the form is one. What it needs beside its operands it
/// gives as a number for the instruction's offset.
pub(super) fn find(form: &mut Form<'_>) -> Option<(Alu, Option<Conversion>)> {
    let plain = |alu| Some((alu, None));
    match form.base {
        "mov" => {
            let kind = form.only()?;
            plain(Alu::uniform(kind, 1, moved(kind)))
        }
        "cvta" => plain(address(form)?),
        "cvt" => convert(form),
        _ => None,
    }
}

/// A copy.
pub(super) fn moved(kind: Type) -> Lanes {
    match kind {
        Type::Pred => |r, i, m| one(r, i, m, |a: bool| a),
        _ if kind.size() == 8 => |r, i, m| one(r, i, m, |a: u64| a),
        _ if kind.size() == 2 => |r, i, m| one(r, i, m, |a: u16| a),
        _ if kind.size() == 1 => |r, i, m| one(r, i, m, |a: u8| a),
        _ => |r, i, m| one(r, i, m, |a: u32| a),
    }
}

/// Addresses of one space as generic ones, and back.
fn address(form: &mut Form<'_>) -> Option<Alu> {
    let kind = form.only().filter(|kind| kind.size() == 8)?;
    let back = form.take("to");
    let run: Lanes = if form.take("shared") || form.take("shared::cta") {
        if back {
            |r, i, m| one(r, i, m, |a: u64| a.wrapping_sub(SHARED_WINDOW))
        } else {
            |r, i, m| one(r, i, m, |a: u64| a.wrapping_add(SHARED_WINDOW))
        }
    } else if form.take("local") {
        if back {
            |r, i, m| one(r, i, m, |a: u64| a.wrapping_sub(LOCAL_WINDOW))
        } else {
            |r, i, m| one(r, i, m, |a: u64| a.wrapping_add(LOCAL_WINDOW))
        }
    } else if form.take("global") || form.take("const") || form.take("param") {
        moved(kind)
    } else {
        return None;
    };
    Some(Alu::uniform(kind, 1, run))
}

fn convert(form: &mut Form<'_>) -> Option<(Alu, Option<Conversion>)> {
    let [to, from] = <[Type; 2]>::try_from(&form.types[..]).ok()?;
    let rounded = form.take_one(&ROUNDINGS);
    let finite = form.take("satfinite");
    if let Some(alu) = packed(to, from, finite) {
        return Some((alu, None));
    }
    let saturates = form.take("sat");
    if finite || matches!(to, Type::Pred | Type::F16x2 | Type::Bf16x2) {
        return None;
    }
    let (rounding, whole) = rounded.unwrap_or((Rounding::Nearest, false));
    // The forms that kernels are full of.
    let fast: Option<Lanes> = match (to, from) {
        _ if saturates => None,
        (Type::U64 | Type::S64, Type::U32) => Some(|r, i, m| one(r, i, m, |a: u32| u64::from(a))),
        (Type::S64 | Type::U64, Type::S32) => Some(|r, i, m| one(r, i, m, |a: i32| i64::from(a))),
        (Type::U32 | Type::S32, Type::U64 | Type::S64) => Some(|r, i, m| one(r, i, m, |a: u32| a)),
        (Type::F32, Type::F16) if !whole => Some(|r, i, m| one(r, i, m, f16::to_f32)),
        (Type::F32, Type::Bf16) if !whole => Some(|r, i, m| one(r, i, m, bf16::to_f32)),
        (Type::F32, Type::S32) if rounding == Rounding::Nearest => {
            Some(|r, i, m| one(r, i, m, |a: i32| a as f32))
        }
        (Type::F32, Type::U32) if rounding == Rounding::Nearest => {
            Some(|r, i, m| one(r, i, m, |a: u32| a as f32))
        }
        (Type::F16, Type::F32) if rounding == Rounding::Nearest && !whole => {
            Some(|r, i, m| one(r, i, m, f16::from_f32))
        }
        (Type::Bf16, Type::F32) if rounding == Rounding::Nearest && !whole => {
            Some(|r, i, m| one(r, i, m, bf16::from_f32))
        }
        _ => None,
    };
    if let Some(run) = fast {
        return Some((Alu { run, to, from: vec![from] }, None));
    }
    let conversion = Conversion { to, from, rounding, whole, saturates };
    Some((Alu { run: any, to, from: vec![from] }, Some(conversion)))
}

/// Two numbers in one register, from two or to two.
fn packed(to: Type, from: Type, finite: bool) -> Option<Alu> {
    fn join(high: u16, low: u16) -> u32 {
        u32::from(high) << 16 | u32::from(low)
    }
    fn halves(pair: u32) -> [f32; 2] {
        [pair, pair >> 16].map(|half| f16::from_bits(half as u16).to_f32())
    }
    let (run, sources): (Lanes, usize) = match (to, from) {
        (Type::F16x2, Type::F32) => (
            |r, i, m| {
                two(r, i, m, |a, b| join(f16::from_f32(a).to_bits(), f16::from_f32(b).to_bits()));
            },
            2,
        ),
        (Type::Bf16x2, Type::F32) => (
            |r, i, m| {
                two(r, i, m, |a, b| join(bf16::from_f32(a).to_bits(), bf16::from_f32(b).to_bits()));
            },
            2,
        ),
        (Type::E4m3x2, Type::F32) if finite => (
            |r, i, m| two(r, i, m, |a, b| u16::from(E4M3.bits(a)) << 8 | u16::from(E4M3.bits(b))),
            2,
        ),
        (Type::E5m2x2, Type::F32) if finite => (
            |r, i, m| two(r, i, m, |a, b| u16::from(E5M2.bits(a)) << 8 | u16::from(E5M2.bits(b))),
            2,
        ),
        (Type::E4m3x2, Type::F16x2) if finite => (
            |r, i, m| {
                one(r, i, m, |pair: u32| u16::from_le_bytes(halves(pair).map(|x| E4M3.bits(x))));
            },
            1,
        ),
        (Type::E5m2x2, Type::F16x2) if finite => (
            |r, i, m| {
                one(r, i, m, |pair: u32| u16::from_le_bytes(halves(pair).map(|x| E5M2.bits(x))));
            },
            1,
        ),
        (Type::F16x2, Type::E4m3x2) => (|r, i, m| one(r, i, m, |pair: u16| widened(pair, E4M3)), 1),
        (Type::F16x2, Type::E5m2x2) => (|r, i, m| one(r, i, m, |pair: u16| widened(pair, E5M2)), 1),
        _ => return None,
    };
    Some(Alu { run, to, from: vec![from; sources] })
}

fn widened(pair: u16, format: Fp8) -> u32 {
    let [low, high] =
        pair.to_le_bytes().map(|byte| u32::from(f16::from_f32(format.value(byte)).to_bits()));
    high << 16 | low
}
