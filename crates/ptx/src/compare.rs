//! Comparisons and selections.

use half::{bf16, f16};

use super::instruction::{Alu, Form, Instruction, Lanes, three, two};
use super::value::{Row, Type, Value, pairs};

/// A comparison; those that end in `U` hold for NaN as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    EqU,
    NeU,
    LtU,
    LeU,
    GtU,
    GeU,
    Num,
    Nan,
}

const COMPARISONS: [(&str, Comparison); 18] = [
    ("eq", Comparison::Eq),
    ("ne", Comparison::Ne),
    ("lt", Comparison::Lt),
    ("le", Comparison::Le),
    ("gt", Comparison::Gt),
    ("ge", Comparison::Ge),
    ("lo", Comparison::Lt),
    ("ls", Comparison::Le),
    ("hi", Comparison::Gt),
    ("hs", Comparison::Ge),
    ("equ", Comparison::EqU),
    ("neu", Comparison::NeU),
    ("ltu", Comparison::LtU),
    ("leu", Comparison::LeU),
    ("gtu", Comparison::GtU),
    ("geu", Comparison::GeU),
    ("num", Comparison::Num),
    ("nan", Comparison::Nan),
];

impl Comparison {
    #[inline(always)]
    fn holds<T: PartialOrd + Copy>(self, a: T, b: T) -> bool {
        let order = a.partial_cmp(&b);
        match self {
            Self::Eq => order.is_some_and(std::cmp::Ordering::is_eq),
            Self::Ne => order.is_some_and(std::cmp::Ordering::is_ne),
            Self::Lt => a < b,
            Self::Le => a <= b,
            Self::Gt => a > b,
            Self::Ge => a >= b,
            Self::EqU => order.is_none_or(std::cmp::Ordering::is_eq),
            Self::NeU => order.is_none_or(std::cmp::Ordering::is_ne),
            Self::LtU => order.is_none_or(std::cmp::Ordering::is_lt),
            Self::LeU => order.is_none_or(std::cmp::Ordering::is_le),
            Self::GtU => order.is_none_or(std::cmp::Ordering::is_gt),
            Self::GeU => order.is_none_or(std::cmp::Ordering::is_ge),
            Self::Num => order.is_some(),
            Self::Nan => order.is_none(),
        }
    }
}

/// Integers, in which numbers are all ordered.
macro_rules! integers {
    ($kind:expr, $comparison:expr, [$($variant:pat => $type:ty),* $(,)?]) => {
        match ($kind, $comparison) {
            $(
                ($variant, Comparison::Eq) => compare!($type, |a, b| a == b),
                ($variant, Comparison::Ne) => compare!($type, |a, b| a != b),
                ($variant, Comparison::Lt) => compare!($type, |a, b| a < b),
                ($variant, Comparison::Le) => compare!($type, |a, b| a <= b),
                ($variant, Comparison::Gt) => compare!($type, |a, b| a > b),
                ($variant, Comparison::Ge) => compare!($type, |a, b| a >= b),
            )*
            _ => None,
        }
    };
}

macro_rules! compare {
    ($type:ty, |$a:ident, $b:ident| $body:expr) => {{
        let run: Lanes = |r, i, m| two(r, i, m, |$a: $type, $b: $type| $body);
        Some(run)
    }};
}

/// Floating-point types and each comparison, as functions of their own.
macro_rules! floats {
    ($type:ty, $comparison:expr, [$($which:ident),*]) => {
        match $comparison {
            $(Comparison::$which => compare!($type, |a, b| Comparison::$which.holds(a, b)),)*
        }
    };
}

macro_rules! all_floats {
    ($type:ty, $comparison:expr) => {
        floats!(
            $type,
            $comparison,
            [Eq, Ne, Lt, Le, Gt, Ge, EqU, NeU, LtU, LeU, GtU, GeU, Num, Nan]
        )
    };
}

fn comparison(kind: Type, comparison: Comparison) -> Option<Lanes> {
    match kind {
        Type::F32 => all_floats!(f32, comparison),
        Type::F64 => all_floats!(f64, comparison),
        Type::F16 => all_floats!(f16, comparison),
        Type::Bf16 => all_floats!(bf16, comparison),
        _ => integers!(kind, comparison, [
            Type::U16 | Type::B16 => u16,
            Type::S16 => i16,
            Type::U32 | Type::B32 => u32,
            Type::S32 => i32,
            Type::U64 | Type::B64 => u64,
            Type::S64 => i64,
        ]),
    }
}

/// A comparison or a selection, if the form is one.
pub(super) fn find(form: &mut Form<'_>) -> Option<Alu> {
    match form.base {
        "setp" => {
            let kind = form.only()?;
            let run = comparison(kind, form.take_one(&COMPARISONS)?)?;
            Some(Alu { run, to: Type::Pred, from: vec![kind; 2] })
        }
        "set" => {
            let [to, kind] = <[Type; 2]>::try_from(&form.types[..]).ok()?;
            let which = form.take_one(&COMPARISONS)?;
            set(to, kind, which)
        }
        "selp" => {
            let kind = form.only()?;
            let run: Lanes = match kind.size() {
                2 => |r, i, m| three(r, i, m, |a: u16, b: u16, c| if c { a } else { b }),
                4 => |r, i, m| three(r, i, m, |a: u32, b: u32, c| if c { a } else { b }),
                8 => |r, i, m| three(r, i, m, |a: u64, b: u64, c| if c { a } else { b }),
                _ => return None,
            };
            Some(Alu { run, to: kind, from: vec![kind, kind, Type::Pred] })
        }
        _ => None,
    }
}

/// `set`: one, or all bits set, where the comparison holds. The list has its number and the one.
fn set(to: Type, kind: Type, which: Comparison) -> Option<Alu> {
    if !matches!(to, Type::U32 | Type::S32 | Type::F32 | Type::F16 | Type::Bf16) {
        return None;
    }
    macro_rules! runs {
        ($type:ty, [$($which:ident),*]) => {
            match which {
                $(Comparison::$which => {
                    let run: Lanes = match to {
                        Type::F32 => |r, i, m| where_it_holds::<$type>(r, i, m, Comparison::$which, 0x3F80_0000),
                        Type::F16 => |r, i, m| where_it_holds::<$type>(r, i, m, Comparison::$which, 0x3C00),
                        Type::Bf16 => |r, i, m| where_it_holds::<$type>(r, i, m, Comparison::$which, 0x3F80),
                        _ => |r, i, m| where_it_holds::<$type>(r, i, m, Comparison::$which, u32::MAX),
                    };
                    run
                })*
            }
        };
    }
    macro_rules! all {
        ($type:ty) => {
            runs!($type, [Eq, Ne, Lt, Le, Gt, Ge, EqU, NeU, LtU, LeU, GtU, GeU, Num, Nan])
        };
    }
    let run = match kind {
        Type::F32 => all!(f32),
        Type::F16 => all!(f16),
        Type::Bf16 => all!(bf16),
        Type::U32 | Type::B32 => all!(u32),
        Type::S32 => all!(i32),
        _ => return None,
    };
    Some(Alu { run, to, from: vec![kind; 2] })
}

fn where_it_holds<T: Value + PartialOrd>(
    rows: &mut [Row],
    i: &Instruction,
    mask: u32,
    which: Comparison,
    one: u32,
) {
    let (a, b) = (T::read(rows, i.a), T::read(rows, i.b));
    let out = pairs(&a, &b, |a, b| if which.holds(a, b) { one } else { 0 });
    u32::write(rows, i.d, out, mask);
}
