//! Floating-point arithmetic.
//!
//! Results are rounded to the nearest, ties to even. The `approx` forms are computed exactly and rounded
//! once, which no card does; tests of kernels allow for the difference.

use half::{bf16, f16};

use super::directed;
use super::instruction::{Alu, Form, Instruction, Lanes, one, three, two};
use super::nearest::{bf16_from_f64, f16_from_f64};
use super::value::{Row, Type, Value};

/// An operation of f64 in each type: one rounding for f32, and for the halves another one that changes
/// nothing, since f64 has more than twice their bits.
macro_rules! in_each {
    ($kind:expr, $arity:ident, |$($x:ident),*| $body:expr) => {{
        let run: Lanes = match $kind {
            Type::F64 => |r, i, m| $arity(r, i, m, |$($x: f64),*| $body),
            Type::F32 => |r, i, m| $arity(r, i, m, |$($x: f32),*| $body),
            Type::F16 => |r, i, m| $arity(r, i, m, |$($x: f16),*| {
                $(let $x = $x.to_f64();)*
                f16_from_f64($body)
            }),
            Type::Bf16 => |r, i, m| $arity(r, i, m, |$($x: bf16),*| {
                $(let $x = $x.to_f64();)*
                bf16_from_f64($body)
            }),
            Type::F16x2 => |r, i, m| $arity(r, i, m, |$($x: u32),*| {
                let f = |$($x: u32),*| {
                    $(let $x = f16::from_bits($x as u16).to_f64();)*
                    u32::from(f16_from_f64($body).to_bits())
                };
                f($($x),*) | f($($x >> 16),*) << 16
            }),
            Type::Bf16x2 => |r, i, m| $arity(r, i, m, |$($x: u32),*| {
                let f = |$($x: u32),*| {
                    $(let $x = bf16::from_bits($x as u16).to_f64();)*
                    u32::from(bf16_from_f64($body).to_bits())
                };
                f($($x),*) | f($($x >> 16),*) << 16
            }),
            _ => return None,
        };
        run
    }};
}

/// The arithmetic of a form, if it is one of these.
pub(super) fn find(form: &mut Form<'_>) -> Option<Alu> {
    let (base, kind) = (form.base, form.only()?);
    let packed = matches!(kind, Type::F16x2 | Type::Bf16x2);
    if !(kind.is_float() || packed) {
        return None;
    }
    if let Some(alu) = directed::find(form, kind) {
        return Some(alu);
    }
    form.take("rn");
    let halves = kind != Type::F32 && kind != Type::F64;
    let uniform = |operands, run| Some(Alu::uniform(kind, operands, run));
    match base {
        "add" => uniform(2, in_each!(kind, two, |a, b| a + b)),
        "sub" => uniform(2, in_each!(kind, two, |a, b| a - b)),
        "mul" => uniform(2, in_each!(kind, two, |a, b| a * b)),
        "fma" | "mad" if form.take("relu") && halves => {
            uniform(3, in_each!(kind, three, |a, b, c| positive(a.mul_add(b, c))))
        }
        "fma" | "mad" if kind == Type::F32 => uniform(3, fused),
        "fma" | "mad" => uniform(3, in_each!(kind, three, |a, b, c| a.mul_add(b, c))),
        "min" if form.take("NaN") => uniform(
            2,
            in_each!(kind, two, |a, b| if a.is_nan() || b.is_nan() { a + b } else { least(a, b) }),
        ),
        "max" if form.take("NaN") => uniform(
            2,
            in_each!(kind, two, |a, b| if a.is_nan() || b.is_nan() {
                a + b
            } else {
                greatest(a, b)
            }),
        ),
        "min" => uniform(2, in_each!(kind, two, |a, b| least(a, b))),
        "max" => uniform(2, in_each!(kind, two, |a, b| greatest(a, b))),
        "neg" => uniform(1, sign(kind, false)?),
        "abs" => uniform(1, sign(kind, true)?),
        "copysign" => match kind {
            Type::F32 => uniform(2, |r, i, m| two(r, i, m, |a: f32, b: f32| b.copysign(a))),
            Type::F64 => uniform(2, |r, i, m| two(r, i, m, |a: f64, b: f64| b.copysign(a))),
            _ => None,
        },
        "testp" => property(form, kind),
        _ => division(form, kind),
    }
}

/// A smaller number, NaN only where both are, and negative zero below positive zero.
fn least<T: PartialOrd + Copy + Zero>(a: T, b: T) -> T {
    a.lesser(b)
}

fn greatest<T: PartialOrd + Copy + Zero>(a: T, b: T) -> T {
    a.greater(b)
}

fn positive<T: PartialOrd + Copy + Zero>(a: T) -> T {
    a.greater(T::default())
}

/// Comparison with zeros told apart.
trait Zero: Default {
    fn lesser(self, other: Self) -> Self;
    fn greater(self, other: Self) -> Self;
}

macro_rules! zero {
    ($($type:ty),*) => {$(
        impl Zero for $type {
            fn lesser(self, other: Self) -> Self {
                if self != other {
                    self.min(other)
                } else if self.is_sign_negative() {
                    self
                } else {
                    other
                }
            }

            fn greater(self, other: Self) -> Self {
                if self != other {
                    self.max(other)
                } else if self.is_sign_positive() {
                    self
                } else {
                    other
                }
            }
        }
    )*};
}

zero!(f32, f64);

/// Signs are bits: NaN keeps its payload.
fn sign(kind: Type, clears: bool) -> Option<Lanes> {
    Some(match (kind, clears) {
        (Type::F32, false) => |r, i, m| one(r, i, m, |a: u32| a ^ 0x8000_0000),
        (Type::F32, true) => |r, i, m| one(r, i, m, |a: u32| a & 0x7FFF_FFFF),
        (Type::F64, false) => |r, i, m| one(r, i, m, |a: u64| a ^ 1 << 63),
        (Type::F64, true) => |r, i, m| one(r, i, m, |a: u64| a & !(1 << 63)),
        (Type::F16 | Type::Bf16, false) => |r, i, m| one(r, i, m, |a: u16| a ^ 0x8000),
        (Type::F16 | Type::Bf16, true) => |r, i, m| one(r, i, m, |a: u16| a & 0x7FFF),
        (Type::F16x2 | Type::Bf16x2, false) => |r, i, m| one(r, i, m, |a: u32| a ^ 0x8000_8000),
        (Type::F16x2 | Type::Bf16x2, true) => |r, i, m| one(r, i, m, |a: u32| a & 0x7FFF_7FFF),
        _ => return None,
    })
}

fn property(form: &mut Form<'_>, kind: Type) -> Option<Alu> {
    macro_rules! ask {
        ($ask:ident) => {{
            let run: Lanes = if kind == Type::F32 {
                |r, i, m| one(r, i, m, f32::$ask)
            } else {
                |r, i, m| one(r, i, m, f64::$ask)
            };
            run
        }};
    }
    let run = match kind {
        Type::F32 | Type::F64 if form.take("finite") => ask!(is_finite),
        Type::F32 | Type::F64 if form.take("infinite") => ask!(is_infinite),
        Type::F32 | Type::F64 if form.take("notanumber") => ask!(is_nan),
        Type::F32 | Type::F64 if form.take("normal") => ask!(is_normal),
        _ => return None,
    };
    Some(Alu { run, to: Type::Pred, from: vec![kind] })
}

/// Quotients, roots, and the functions that cards approximate.
fn division(form: &mut Form<'_>, kind: Type) -> Option<Alu> {
    let base = form.base;
    let (approximates, flushes) = (form.take("approx"), form.take("ftz"));
    let full = form.base == "div" && form.take("full");
    let uniform = |operands, run| Some(Alu::uniform(kind, operands, run));
    if kind == Type::F64 && (!flushes || base == "rcp" && approximates) {
        return match base {
            "div" => uniform(2, |r, i, m| two(r, i, m, |a: f64, b: f64| a / b)),
            "sqrt" => uniform(1, |r, i, m| one(r, i, m, f64::sqrt)),
            "rcp" => uniform(1, |r, i, m| one(r, i, m, f64::recip)),
            "rsqrt" => uniform(1, |r, i, m| one(r, i, m, |a: f64| 1.0 / a.sqrt())),
            _ => None,
        };
    }
    if matches!(kind, Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2) && approximates {
        return match base {
            "ex2" => uniform(1, in_each!(kind, one, |a| a.exp2())),
            "tanh" => uniform(1, in_each!(kind, one, |a| a.tanh())),
            _ => None,
        };
    }
    // The plain forms keep subnormals; those that flush are approximations all.
    if kind != Type::F32 || flushes && !(approximates || full) {
        return None;
    }
    macro_rules! function {
        ($f:expr) => {{
            let run: Lanes = if flushes {
                |r, i, m| one(r, i, m, |a: f32| flushed(once($f, flushed(a))))
            } else {
                |r, i, m| one(r, i, m, |a: f32| once($f, a))
            };
            uniform(1, run)
        }};
    }
    match base {
        "div" if flushes => {
            uniform(2, |r, i, m| two(r, i, m, |a: f32, b: f32| flushed(flushed(a) / flushed(b))))
        }
        "div" => uniform(2, |r, i, m| two(r, i, m, |a: f32, b: f32| a / b)),
        "sqrt" => function!(f64::sqrt),
        "rcp" => function!(f64::recip),
        "rsqrt" if approximates => function!(|a: f64| 1.0 / a.sqrt()),
        "ex2" if approximates => function!(f64::exp2),
        "lg2" if approximates => function!(f64::log2),
        "sin" if approximates => function!(f64::sin),
        "cos" if approximates => function!(f64::cos),
        "tanh" if approximates => function!(f64::tanh),
        _ => None,
    }
}

/// A function of f64, rounded to f32.
#[inline(always)]
fn once(f: impl Fn(f64) -> f64, a: f32) -> f32 {
    f(f64::from(a)) as f32
}

/// Subnormal numbers become zero, and keep their sign.
fn flushed(a: f32) -> f32 {
    if a.is_subnormal() { 0.0_f32.copysign(a) } else { a }
}

/// Multiplies and adds with one rounding.
fn fused(rows: &mut [Row], i: &Instruction, mask: u32) {
    let [a, b, c] = [i.a, i.b, i.c].map(|slot| f32::read(rows, slot));
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("fma") {
        // SAFETY: the processor has the instruction.
        let out = unsafe { fused_here(&a, &b, &c) };
        return f32::write(rows, i.d, out, mask);
    }
    let mut out = [0.0; 32];
    for lane in super::value::lanes_of(mask) {
        out[lane] = a[lane].mul_add(b[lane], c[lane]);
    }
    f32::write(rows, i.d, out, mask);
}

/// The same by the processor's own instruction.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "fma")]
fn fused_here(a: &[f32; 32], b: &[f32; 32], c: &[f32; 32]) -> [f32; 32] {
    let mut out = [0.0; 32];
    for (lane, out) in out.iter_mut().enumerate() {
        *out = a[lane].mul_add(b[lane], c[lane]);
    }
    out
}
