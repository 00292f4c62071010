//! Sums and products of several words: forms with a carry, whose register is the first in the list.

use super::instruction::{Alu, Form, Instruction, Lanes};
use super::value::{Row, Type, Value};

/// What a form with a carry does; the carry's register is the first in the list.
pub(super) fn with_carry(form: &mut Form<'_>, kind: Type) -> Option<Alu> {
    let (low, high) = (form.take("lo"), form.take("hi"));
    let run: Lanes = match (form.base, kind) {
        ("add" | "addc", Type::U32 | Type::S32) => {
            if form.base == "add" {
                |r, i, m| sum(r, i, m, false, false)
            } else {
                |r, i, m| sum(r, i, m, false, true)
            }
        }
        ("sub" | "subc", Type::U32 | Type::S32) => {
            if form.base == "sub" {
                |r, i, m| sum(r, i, m, true, false)
            } else {
                |r, i, m| sum(r, i, m, true, true)
            }
        }
        ("mad" | "madc", Type::U32) if low != high => match (form.base, high) {
            ("mad", false) => |r, i, m| product_sum(r, i, m, false, false),
            ("mad", true) => |r, i, m| product_sum(r, i, m, true, false),
            (_, false) => |r, i, m| product_sum(r, i, m, false, true),
            (_, true) => |r, i, m| product_sum(r, i, m, true, true),
        },
        _ => return None,
    };
    let operands = if form.base.starts_with("mad") { 3 } else { 2 };
    Some(Alu::uniform(kind, operands, run))
}

fn sum(rows: &mut [Row], i: &Instruction, mask: u32, subtracts: bool, takes: bool) {
    let (a, b, carry) = (u32::read(rows, i.a), u32::read(rows, i.b), bool::read(rows, i.list[0]));
    let (mut out, mut carries) = ([0; 32], [false; 32]);
    for lane in 0..32 {
        let carry = takes && carry[lane];
        (out[lane], carries[lane]) = if subtracts {
            a[lane].borrowing_sub(b[lane], carry)
        } else {
            a[lane].carrying_add(b[lane], carry)
        };
    }
    u32::write(rows, i.d, out, mask);
    bool::write(rows, i.list[0], carries, mask);
}

fn product_sum(rows: &mut [Row], i: &Instruction, mask: u32, high: bool, takes: bool) {
    let [a, b, c] = [i.a, i.b, i.c].map(|slot| u32::read(rows, slot));
    let carry = bool::read(rows, i.list[0]);
    let (mut out, mut carries) = ([0; 32], [false; 32]);
    for lane in 0..32 {
        let product = u64::from(a[lane]) * u64::from(b[lane]);
        let part = if high { product >> 32 } else { product & 0xFFFF_FFFF };
        let sum = part + u64::from(c[lane]) + u64::from(takes && carry[lane]);
        (out[lane], carries[lane]) = (sum as u32, sum >> 32 != 0);
    }
    u32::write(rows, i.d, out, mask);
    bool::write(rows, i.list[0], carries, mask);
}
