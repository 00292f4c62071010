//! Operands: what stands behind an instruction's name.

use super::value::{Type, Width};

/// A register: its first row, and how many it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Register {
    pub(super) slot: u32,
    pub(super) width: Width,
}

/// What stands behind an instruction's name.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand<'a> {
    Register(Register),
    /// `p|q`
    Pair(Register, Register),
    /// `!p`
    Inverted(Register),
    Vector(Vec<Self>),
    Number(u64),
    Address {
        base: Option<Register>,
        symbol: Option<&'a str>,
        offset: i64,
    },
    /// A variable, and what is added to its address.
    Symbol(&'a str, i64),
    /// A special register that changes, as clocks do.
    Name(&'a str),
    /// `_`
    Sink,
}

/// Why an instruction is not taken.
pub(super) type Refused = String;

/// The row of a register for a value of a type: the lower half of a double register may be a single one.
pub(super) fn fitting(register: Register, kind: Type) -> Result<u32, Refused> {
    let fits = register.width == kind.width();
    fits.then_some(register.slot).ok_or_else(|| {
        format!("a register of width {:?} for a value of type {kind:?}", register.width)
    })
}
