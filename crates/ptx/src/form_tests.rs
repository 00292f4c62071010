//! Each form of an instruction against arithmetic of integers and of f64.

use std::fmt::Write;

use half::{bf16, f16};

use super::memory_for_tests::TestMemory;
use super::{Clocks, Geometry, Limits, Module, View};

const LIMITS: Limits = Limits {
    multiprocessors: 4,
    shared: 48 << 10,
    instructions: 1 << 20,
    clocks: Clocks { cycles: 0, nanoseconds: 0, gigahertz: 2.0 },
};

/// What stands in register 4 of each kind after a line.
struct Result {
    r: u32,
    d: u64,
    h: u16,
    p: bool,
}

/// Runs instructions whose registers 1, 2 and 3 hold three values.
fn eval(line: &str, inputs: [u64; 3]) -> Result {
    let mut loads = String::new();
    for (index, name) in (1..).zip(["a", "b", "c"]) {
        let _ = write!(
            loads,
            "ld.param.b16 %h{index}, [{name}];\nld.param.b32 %r{index}, [{name}];\n\
             ld.param.b64 %d{index}, [{name}];\nsetp.ne.u64 %p{index}, %d{index}, 0;\n"
        );
    }
    let text = format!(
        ".version 8.4\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 out, \
         .param .b64 a, .param .b64 b, .param .b64 c)\n{{\n.reg .b16 %h<9>;\n.reg .b32 %r<9>;\n\
         .reg .b64 %d<9>;\n.reg .pred %p<9>;\nld.param.u64 %d0, [out];\n{loads}\
         mov.b64 %d4, 0;\nmov.b32 %r4, 0;\nmov.b16 %h4, 0;\n{line}\nselp.u32 %r5, 1, 0, %p4;\n\
         st.global.b64 [%d0], %d4;\nst.global.b32 [%d0+8], %r4;\nst.global.b32 [%d0+12], %r5;\n\
         st.global.b16 [%d0+16], %h4;\nret;\n}}\n"
    );
    let mut memory = TestMemory::default();
    let out = memory.allocate(32);
    let module =
        Module::read(&text, |_, _| 0).unwrap_or_else(|refusal| panic!("{line}: {refusal}"));
    let arguments: Vec<u8> = [out].into_iter().chain(inputs).flat_map(u64::to_le_bytes).collect();
    let mut view = View::new(&mut memory);
    let geometry = Geometry { grid: [1; 3], block: [1; 3], shared: 0 };
    let outcome = module.kernels[0].run(&mut view, geometry, LIMITS, &arguments);
    assert!(outcome.findings.is_empty(), "{line}: {:?}", outcome.findings);
    view.commit();
    let bytes = memory.bytes(out, 18);
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    Result {
        d: u64::from(word(0)) | u64::from(word(4)) << 32,
        r: word(8),
        p: word(12) == 1,
        h: u16::from_le_bytes([bytes[16], bytes[17]]),
    }
}

/// Numbers at which integer arithmetic goes wrong.
const NUMBERS: [u64; 9] = [
    0,
    1,
    7,
    31,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    0x7FFF_FFFF_FFFF_FFFF,
    0xFFFF_FFFF_FFFF_FFF3,
];

/// Holds an instruction of two operands against a function, for all pairs of numbers.
fn on_u32(line: &str, expected: impl Fn(u32, u32) -> u32) {
    for (a, b) in NUMBERS.iter().flat_map(|a| NUMBERS.map(|b| (*a, b))) {
        let got = eval(line, [a, b, 0]).r;
        assert_eq!(got, expected(a as u32, b as u32), "{line} of {a:#x} and {b:#x}");
    }
}

fn on_u64(line: &str, expected: impl Fn(u64, u64) -> u64) {
    for (a, b) in NUMBERS.iter().flat_map(|a| NUMBERS.map(|b| (*a, b))) {
        assert_eq!(eval(line, [a, b, 0]).d, expected(a, b), "{line} of {a:#x} and {b:#x}");
    }
}

fn on_u16(line: &str, expected: impl Fn(u16, u16) -> u16) {
    for (a, b) in [(0, 0), (1, 2), (0x8000, 0xFFFF), (0x7FFF, 1), (0xFFFF, 0xFFFF), (300, 17)] {
        let got = eval(line, [u64::from(a), u64::from(b), 0]).h;
        assert_eq!(got, expected(a, b), "{line} of {a:#x} and {b:#x}");
    }
}

fn signed(x: u32) -> i32 {
    x.cast_signed()
}

#[test]
fn sums_and_products_of_integers_are_those_of_their_types() {
    on_u32("add.s32 %r4, %r1, %r2;", u32::wrapping_add);
    on_u32("sub.s32 %r4, %r1, %r2;", u32::wrapping_sub);
    on_u32("mul.lo.s32 %r4, %r1, %r2;", u32::wrapping_mul);
    on_u32("mad.lo.s32 %r4, %r1, %r2, 5;", |a, b| a.wrapping_mul(b).wrapping_add(5));
    on_u32("mul.hi.u32 %r4, %r1, %r2;", |a, b| ((u64::from(a) * u64::from(b)) >> 32) as u32);
    on_u32("mul.hi.s32 %r4, %r1, %r2;", |a, b| {
        ((i64::from(signed(a)) * i64::from(signed(b))) >> 32) as u32
    });
    on_u32("add.sat.s32 %r4, %r1, %r2;", |a, b| {
        signed(a).saturating_add(signed(b)).cast_unsigned()
    });
    on_u64("add.s64 %d4, %d1, %d2;", u64::wrapping_add);
    on_u64("sub.u64 %d4, %d1, %d2;", u64::wrapping_sub);
    on_u64("mul.lo.s64 %d4, %d1, %d2;", u64::wrapping_mul);
    on_u64("mul.hi.u64 %d4, %d1, %d2;", |a, b| ((u128::from(a) * u128::from(b)) >> 64) as u64);
    on_u64("mul.wide.u32 %d4, %r1, %r2;", |a, b| u64::from(a as u32) * u64::from(b as u32));
    on_u64("mul.wide.s32 %d4, %r1, %r2;", |a, b| {
        (i64::from(signed(a as u32)) * i64::from(signed(b as u32))).cast_unsigned()
    });
    on_u64("mad.wide.u32 %d4, %r1, %r2, %d1;", |a, b| {
        (u64::from(a as u32) * u64::from(b as u32)).wrapping_add(a)
    });
    on_u32("mul.wide.u16 %r4, %h1, %h2;", |a, b| u32::from(a as u16) * u32::from(b as u16));
    on_u16("add.s16 %h4, %h1, %h2;", u16::wrapping_add);
    on_u16("mul.lo.u16 %h4, %h1, %h2;", u16::wrapping_mul);
}

#[test]
fn quotients_extremes_and_signs_of_integers_are_those_of_their_types() {
    on_u32("div.u32 %r4, %r1, %r2;", |a, b| a.checked_div(b).unwrap_or(u32::MAX));
    on_u32("rem.u32 %r4, %r1, %r2;", |a, b| a.checked_rem(b).unwrap_or(a));
    on_u32("div.s32 %r4, %r1, %r2;", |a, b| {
        if b == 0 { u32::MAX } else { signed(a).wrapping_div(signed(b)).cast_unsigned() }
    });
    on_u64("div.u64 %d4, %d1, %d2;", |a, b| a.checked_div(b).unwrap_or(u64::MAX));
    on_u64("rem.s64 %d4, %d1, %d2;", |a, b| {
        if b == 0 { a } else { a.cast_signed().wrapping_rem(b.cast_signed()).cast_unsigned() }
    });
    on_u32("min.s32 %r4, %r1, %r2;", |a, b| signed(a).min(signed(b)).cast_unsigned());
    on_u32("max.u32 %r4, %r1, %r2;", u32::max);
    on_u64("max.s64 %d4, %d1, %d2;", |a, b| a.cast_signed().max(b.cast_signed()).cast_unsigned());
    on_u32("neg.s32 %r4, %r1;", |a, _| a.wrapping_neg());
    on_u32("abs.s32 %r4, %r1;", |a, _| signed(a).wrapping_abs().cast_unsigned());
    on_u16("min.s16 %h4, %h1, %h2;", |a, b| a.cast_signed().min(b.cast_signed()).cast_unsigned());
}

#[test]
fn bits_are_moved_as_their_definitions_say() {
    on_u32("and.b32 %r4, %r1, %r2;", |a, b| a & b);
    on_u32("or.b32 %r4, %r1, %r2;", |a, b| a | b);
    on_u64("xor.b64 %d4, %d1, %d2;", |a, b| a ^ b);
    on_u32("not.b32 %r4, %r1;", |a, _| !a);
    on_u32("shl.b32 %r4, %r1, %r2;", |a, b| if b > 31 { 0 } else { a << b });
    on_u32("shr.u32 %r4, %r1, %r2;", |a, b| if b > 31 { 0 } else { a >> b });
    on_u32("shr.s32 %r4, %r1, %r2;", |a, b| (signed(a) >> b.min(31)).cast_unsigned());
    on_u64("shl.b64 %d4, %d1, %r2;", |a, b| if b as u32 > 63 { 0 } else { a << (b as u32) });
    on_u64("shr.s64 %d4, %d1, %r2;", |a, b| {
        (a.cast_signed() >> (b as u32).min(63)).cast_unsigned()
    });
    for a in NUMBERS {
        let of = |line| eval(line, [a, 0, 0]).r;
        assert_eq!(of("popc.b64 %r4, %d1;"), a.count_ones());
        assert_eq!(of("popc.b32 %r4, %r1;"), (a as u32).count_ones());
        assert_eq!(of("clz.b32 %r4, %r1;"), (a as u32).leading_zeros());
        assert_eq!(of("clz.b64 %r4, %d1;"), a.leading_zeros());
        assert_eq!(of("brev.b32 %r4, %r1;"), (a as u32).reverse_bits());
    }
}

#[test]
fn fields_and_permutations_of_bits_are_those_of_the_manual() {
    let value = 0xFEDC_BA98_u32;
    for (place, len) in [(0, 8), (4, 4), (28, 8), (0, 32), (31, 1), (5, 0), (40, 3)] {
        let inputs = [u64::from(value), place, len];
        let shifted = if place > 31 { 0 } else { value >> place };
        let mask = if len > 31 { u32::MAX } else { (1 << len) - 1 };
        assert_eq!(eval("bfe.u32 %r4, %r1, %r2, %r3;", inputs).r, shifted & mask, "{place} {len}");
        let mut expected = 0x1111_1111_u32;
        for bit in (0..len).filter(|bit| place + bit < 32) {
            let at = place + bit;
            expected = expected & !(1 << at) | (value >> bit & 1) << at;
        }
        let got = eval("bfi.b32 %r4, %r1, 286331153, %r2, %r3;", inputs).r;
        assert_eq!(got, expected, "{place} {len}");
    }
    assert_eq!(eval("bfe.s32 %r4, %r1, 28, 4;", [0xF000_0000, 0, 0]).r, u32::MAX);
    assert_eq!(eval("bfe.s32 %r4, %r1, 28, 8;", [0x7000_0000, 0, 0]).r, 7);
    let words = [0x3322_1100, 0x7766_5544, 0];
    assert_eq!(eval("prmt.b32 %r4, %r1, %r2, 30258;", words).r, 0x7766_3322);
    assert_eq!(eval("prmt.b32 %r4, %r1, %r2, 0x000C;", [0x80, 0x80, 0]).r & 0xFF, 0xFF);
    assert_eq!(eval("shf.l.wrap.b32 %r4, %r1, %r2, 8;", words).r, 0x6655_4433);
    assert_eq!(eval("shf.r.clamp.b32 %r4, %r1, %r2, 40;", words).r, 0x7766_5544);
    assert_eq!(eval("shf.r.wrap.b32 %r4, %r1, %r2, 40;", words).r, 0x4433_2211);
    // a & b | c, as a table.
    let [a, b, c] = [0xF0F0_u64, 0xFF00, 0x000F];
    assert_eq!(eval("lop3.b32 %r4, %r1, %r2, %r3, 0xEA;", [a, b, c]).r, 0xF00F);
    let pairs = [0xFF02_0304, 0x0102_0304, 100];
    assert_eq!(eval("dp4a.s32.s32 %r4, %r1, %r2, %r3;", pairs).r, 100 - 1 + 4 + 9 + 16);
    assert_eq!(eval("dp4a.u32.u32 %r4, %r1, %r2, %r3;", pairs).r, 100 + 255 + 4 + 9 + 16);
}

#[test]
fn carries_go_from_one_word_to_the_next() {
    for (a, b) in [(u64::MAX, 1), (0xFFFF_FFFF, 0xFFFF_FFFF), (5, 7), (0, 1)] {
        let split = "mov.b64 {%r5, %r6}, %d1;\nmov.b64 {%r7, %r8}, %d2;\n";
        let sum = format!(
            "{split}add.cc.u32 %r5, %r5, %r7;\naddc.u32 %r6, %r6, %r8;\nmov.b64 %d4, {{%r5, %r6}};"
        );
        assert_eq!(eval(&sum, [a, b, 0]).d, a.wrapping_add(b));
        let less = sum.replace("add", "sub");
        assert_eq!(eval(&less, [a, b, 0]).d, a.wrapping_sub(b));
    }
    let long = "mad.lo.cc.u32 %r5, %r1, %r2, %r3;\nmadc.hi.u32 %r6, %r1, %r2, 0;\nmov.b64 %d4, {%r5, %r6};";
    let inputs = [0xFFFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFF];
    assert_eq!(eval(long, inputs).d, inputs[0] * inputs[1] + inputs[2]);
}

/// Numbers at which floating-point arithmetic goes wrong.
const FLOATS: [f32; 10] =
    [0.0, -0.0, 1.0, -1.5, 3.0e38, 1.0e-40, f32::INFINITY, f32::NAN, 0.1, 16_777_217.0];

fn on_f32(line: &str, expected: impl Fn(f64, f64) -> f64) {
    for (a, b) in FLOATS.iter().flat_map(|a| FLOATS.map(|b| (*a, b))) {
        let got = f32::from_bits(eval(line, [a, b, 0.75].map(|x| u64::from(x.to_bits()))).r);
        let wanted = expected(f64::from(a), f64::from(b)) as f32;
        let equal = got.to_bits() == wanted.to_bits() || got.is_nan() && wanted.is_nan();
        assert!(equal, "{line} of {a} and {b}: {got}, not {wanted}");
    }
}

#[test]
fn arithmetic_of_f32_is_that_of_f64_rounded_once() {
    on_f32("add.f32 %r4, %r1, %r2;", |a, b| a + b);
    on_f32("sub.rn.f32 %r4, %r1, %r2;", |a, b| a - b);
    on_f32("mul.f32 %r4, %r1, %r2;", |a, b| a * b);
    on_f32("fma.rn.f32 %r4, %r1, %r2, %r3;", |a, b| a * b + 0.75);
    on_f32("div.rn.f32 %r4, %r1, %r2;", |a, b| a / b);
    on_f32("sqrt.rn.f32 %r4, %r1;", |a, _| a.sqrt());
    on_f32("rcp.approx.f32 %r4, %r1;", |a, _| 1.0 / a);
    on_f32("rsqrt.approx.f32 %r4, %r1;", |a, _| 1.0 / a.sqrt());
    on_f32("ex2.approx.f32 %r4, %r1;", |a, _| a.exp2());
    on_f32("lg2.approx.f32 %r4, %r1;", |a, _| a.log2());
    on_f32("tanh.approx.f32 %r4, %r1;", |a, _| a.tanh());
    on_f32("sin.approx.f32 %r4, %r1;", |a, _| a.sin());
    on_f32("neg.f32 %r4, %r1;", |a, _| -a);
    on_f32("abs.f32 %r4, %r1;", |a, _| a.abs());
    // Both factors and the sum have more bits than f32: two roundings would show.
    let (a, b, c) = (1.0 + f32::EPSILON, 1.0 - f32::EPSILON, -1.0);
    let got =
        eval("fma.rn.f32 %r4, %r1, %r2, %r3;", [a, b, c].map(|x: f32| u64::from(x.to_bits())));
    assert_eq!(f32::from_bits(got.r), -f32::EPSILON * f32::EPSILON);
    let flushed = eval("ex2.approx.ftz.f32 %r4, %r1;", [u64::from((-130.0_f32).to_bits()), 0, 0]);
    assert_eq!(f32::from_bits(flushed.r), 0.0);
}

#[test]
fn extremes_know_nan_and_the_sign_of_zero() {
    let of = |line: &str, a: f32, b: f32| {
        f32::from_bits(eval(line, [u64::from(a.to_bits()), u64::from(b.to_bits()), 0]).r)
    };
    assert_eq!(of("min.f32 %r4, %r1, %r2;", f32::NAN, 2.0), 2.0);
    assert!(of("max.NaN.f32 %r4, %r1, %r2;", f32::NAN, 2.0).is_nan());
    assert!(of("min.f32 %r4, %r1, %r2;", 0.0, -0.0).is_sign_negative());
    assert!(of("max.f32 %r4, %r1, %r2;", -0.0, 0.0).is_sign_positive());
    assert_eq!(of("copysign.f32 %r4, %r1, %r2;", -1.0, 3.0), -3.0);
}

#[test]
fn arithmetic_of_f64_is_that_of_the_host() {
    let (a, b) = (1.0_f64 / 3.0, -7e200_f64);
    let of =
        |line: &str| f64::from_bits(eval(line, [a.to_bits(), b.to_bits(), 2.0_f64.to_bits()]).d);
    assert_eq!(of("add.f64 %d4, %d1, %d2;"), a + b);
    assert_eq!(of("mul.f64 %d4, %d1, %d2;"), a * b);
    assert_eq!(of("div.rn.f64 %d4, %d1, %d2;"), a / b);
    assert_eq!(of("fma.rn.f64 %d4, %d1, %d2, %d3;"), a.mul_add(b, 2.0));
    assert_eq!(of("sqrt.rn.f64 %d4, %d3;"), 2.0_f64.sqrt());
    assert_eq!(of("neg.f64 %d4, %d1;"), -a);
}

#[test]
fn halves_are_rounded_once_from_exact_results() {
    let values = [0.1, 1.0, -2.5, 60_000.0, 6.0e-8, 1000.5];
    for (a, b) in values.iter().flat_map(|a| values.map(|b| (*a, b))) {
        let (x, y) = (f16::from_f64(a), f16::from_f64(b));
        let inputs = [x, y, x].map(|x| u64::from(x.to_bits()));
        let of = |line: &str| eval(line, inputs).h;
        let near = |exact: f64| super::nearest::f16_from_f64(exact).to_bits();
        let (a, b) = (x.to_f64(), y.to_f64());
        assert_eq!(of("add.f16 %h4, %h1, %h2;"), near(a + b), "{a} + {b}");
        assert_eq!(of("mul.f16 %h4, %h1, %h2;"), near(a * b), "{a} * {b}");
        assert_eq!(of("fma.rn.f16 %h4, %h1, %h2, %h3;"), near(a * b + a), "{a} * {b} + {a}");
        let (x, y) = (bf16::from_f64(a), bf16::from_f64(b));
        let got =
            eval("fma.rn.bf16 %h4, %h1, %h2, %h3;", [x, y, x].map(|x| u64::from(x.to_bits()))).h;
        let exact = x.to_f64() * y.to_f64() + x.to_f64();
        assert_eq!(got, super::nearest::bf16_from_f64(exact).to_bits());
    }
    let pair = |low: f32, high: f32| {
        u64::from(f16::from_f32(low).to_bits()) | u64::from(f16::from_f32(high).to_bits()) << 16
    };
    let sum = eval("add.f16x2 %r4, %r1, %r2;", [pair(1.0, -2.0), pair(0.5, 4.0), 0]).r;
    assert_eq!(u64::from(sum), pair(1.5, 2.0));
}

#[test]
fn the_nearest_half_is_found_where_two_roundings_would_miss_it() {
    // Just above the middle of two halves, by less than f32 can tell.
    let middle = 1.0 + 0.5_f64.powi(11);
    assert_eq!(super::nearest::f16_from_f64(middle), f16::from_f32(1.0));
    let above = middle + 0.5_f64.powi(40);
    assert_eq!(super::nearest::f16_from_f64(above).to_bits(), f16::from_f32(1.0).to_bits() + 1);
    let middle = 1.0 + 0.5_f64.powi(8);
    let above = super::nearest::bf16_from_f64(middle + 0.5_f64.powi(45));
    assert_eq!(above.to_bits(), bf16::from_f32(1.0).to_bits() + 1);
}

#[test]
fn comparisons_choose_and_know_nan() {
    let float = |line: &str, a: f32, b: f32| {
        eval(line, [u64::from(a.to_bits()), u64::from(b.to_bits()), 0]).p
    };
    assert!(float("setp.lt.f32 %p4, %r1, %r2;", 1.0, 2.0));
    assert!(!float("setp.lt.f32 %p4, %r1, %r2;", f32::NAN, 2.0));
    assert!(float("setp.ltu.f32 %p4, %r1, %r2;", f32::NAN, 2.0));
    assert!(float("setp.neu.f32 %p4, %r1, %r2;", f32::NAN, f32::NAN));
    assert!(!float("setp.ne.f32 %p4, %r1, %r2;", f32::NAN, 1.0));
    assert!(float("setp.nan.f32 %p4, %r1, %r2;", f32::NAN, 1.0));
    for (a, b) in NUMBERS.iter().flat_map(|a| NUMBERS.map(|b| (*a, b))) {
        let of = |line| eval(line, [a, b, 0]).p;
        assert_eq!(of("setp.lt.s32 %p4, %r1, %r2;"), signed(a as u32) < signed(b as u32));
        assert_eq!(of("setp.hs.u32 %p4, %r1, %r2;"), a as u32 >= b as u32);
        assert_eq!(of("setp.gt.u64 %p4, %d1, %d2;"), a > b);
        assert_eq!(of("setp.le.s64 %p4, %d1, %d2;"), a.cast_signed() <= b.cast_signed());
        assert_eq!(of("setp.eq.s32 %p5|%p4, %r1, %r2;"), a as u32 != b as u32);
    }
    assert_eq!(eval("selp.b64 %d4, %d1, %d2, %p3;", [5, 6, 0]).d, 6);
    assert_eq!(eval("set.gt.u32.s32 %r4, %r1, %r2;", [5, 3, 0]).r, u32::MAX);
    assert_eq!(f32::from_bits(eval("set.eq.f32.u32 %r4, %r1, %r2;", [5, 5, 0]).r), 1.0);
    let both = eval("and.pred %p4, %p1, !%p2;", [1, 0, 0]).p;
    assert!(both && !eval("and.pred %p4, %p1, !%p2;", [1, 1, 0]).p);
}

#[test]
fn conversions_clamp_round_and_extend() {
    let from_f32 = |line: &str, x: f32| eval(line, [u64::from(x.to_bits()), 0, 0]);
    for x in [0.5_f32, -0.5, 1.5, 2.5, -2.7, 3e9, -3e9, 1e30] {
        let exact = f64::from(x);
        let clamped = |x: f64| x.clamp(f64::from(i32::MIN), f64::from(i32::MAX)) as i32;
        let of = |line| from_f32(line, x).r.cast_signed();
        assert_eq!(of("cvt.rzi.s32.f32 %r4, %r1;"), clamped(exact.trunc()));
        assert_eq!(of("cvt.rni.s32.f32 %r4, %r1;"), clamped(exact.round_ties_even()));
        assert_eq!(of("cvt.rmi.s32.f32 %r4, %r1;"), clamped(exact.floor()));
        assert_eq!(of("cvt.rpi.s32.f32 %r4, %r1;"), clamped(exact.ceil()));
        assert_eq!(from_f32("cvt.rzi.u8.f32 %r4, %r1;", x).r, u32::from(exact as u8));
        assert_eq!(f32::from_bits(from_f32("cvt.rmi.f32.f32 %r4, %r1;", x).r), x.floor());
        assert_eq!(f64::from_bits(from_f32("cvt.f64.f32 %d4, %r1;", x).d), exact);
    }
    assert_eq!(from_f32("cvt.rzi.s32.f32 %r4, %r1;", f32::NAN).r, 0);
    assert_eq!(from_f32("cvt.rzi.s64.f32 %d4, %r1;", f32::NAN).d, 1 << 63);
    assert_eq!(f32::from_bits(from_f32("cvt.sat.f32.f32 %r4, %r1;", 7.0).r), 1.0);
    let odd = 16_777_217_u64;
    let of = |line: &str, x: u64| f32::from_bits(eval(line, [x, 0, 0]).r);
    assert_eq!(of("cvt.rn.f32.u32 %r4, %r1;", odd), 16_777_216.0);
    assert_eq!(of("cvt.rp.f32.u32 %r4, %r1;", odd), 16_777_218.0);
    assert_eq!(of("cvt.rz.f32.s64 %r4, %d1;", u64::MAX << 1 | 1), -1.0);
    assert_eq!(of("cvt.rz.f32.u64 %r4, %d1;", u64::MAX), 18_446_742_974_197_923_840.0);
    assert_eq!(eval("cvt.s64.s32 %d4, %r1;", [0xFFFF_FFFB, 0, 0]).d, (-5_i64).cast_unsigned());
    assert_eq!(eval("cvt.u64.u32 %d4, %r1;", [0xFFFF_FFFB, 0, 0]).d, 0xFFFF_FFFB);
    assert_eq!(eval("cvt.s64.s32 %d4, %d1;", [0x7_FFFF_FFFB, 0, 0]).d, (-5_i64).cast_unsigned());
    assert_eq!(eval("cvt.s32.s8 %r4, %r1;", [0x180, 0, 0]).r, (-128_i32).cast_unsigned());
    assert_eq!(eval("cvt.u32.u16 %r4, %h1;", [0x1_8000, 0, 0]).r, 0x8000);
    assert_eq!(eval("cvt.sat.u8.s32 %r4, %r1;", [300, 0, 0]).r, 255);
    assert_eq!(eval("cvt.u32.u64 %r4, %d1;", [0x5_0000_0003, 0, 0]).r, 3);
}

#[test]
fn small_floats_are_converted_as_their_definitions_say() {
    for bits in 0..=u16::MAX {
        if bits % 257 == 0 {
            let x = f16::from_bits(bits);
            let got = f32::from_bits(eval("cvt.f32.f16 %r4, %h1;", [u64::from(bits), 0, 0]).r);
            assert!(got.to_bits() == x.to_f32().to_bits() || got.is_nan() && x.is_nan());
        }
    }
    let of = |line: &str, a: f32, b: f32| {
        eval(line, [u64::from(a.to_bits()), u64::from(b.to_bits()), 0])
    };
    assert_eq!(of("cvt.rn.f16.f32 %h4, %r1;", 65_519.0, 0.0).h, 0x7BFF);
    assert_eq!(of("cvt.rn.bf16.f32 %h4, %r1;", 1.003_906_3, 0.0).h, 0x3F80);
    assert_eq!(of("cvt.rn.f16x2.f32 %r4, %r1, %r2;", 1.0, 2.0).r, 0x3C00_4000);
    assert_eq!(of("cvt.rn.bf16x2.f32 %r4, %r1, %r2;", 1.0, 2.0).r, 0x3F80_4000);
    let e4m3 = |a: f32| of("cvt.rn.satfinite.e4m3x2.f32 %h4, %r1, %r2;", 0.0, a).h;
    let expected = [
        (1.0, 0x38),
        (-1.0, 0xB8),
        (448.0, 0x7E),
        (1e9, 0x7E),
        (0.001_953_125, 1),
        (1.0625, 0x38),
        (1.1875, 0x3A),
        (0.0009, 0),
    ];
    for (x, bits) in expected {
        assert_eq!(e4m3(x), bits, "{x}");
    }
    let e5m2 = |a: f32| of("cvt.rn.satfinite.e5m2x2.f32 %h4, %r1, %r2;", a, 0.0).h >> 8;
    assert_eq!([1.0, 57_344.0, 1e9, -2.0].map(e5m2), [0x3C, 0x7B, 0x7B, 0xC0]);
    let back = eval("cvt.rn.f16x2.e4m3x2 %r4, %h1;", [0xB838, 0, 0]).r;
    assert_eq!(back, 0xBC00_3C00);
}

#[test]
fn moves_split_and_join_registers() {
    assert_eq!(eval("mov.b64 %d4, {%r1, %r2};", [5, 6, 0]).d, 6 << 32 | 5);
    assert_eq!(eval("mov.b32 %r4, {%h1, %h2};", [5, 6, 0]).r, 6 << 16 | 5);
    assert_eq!(eval("mov.b32 {%h5, %h4}, %r1;", [0x0006_0005, 0, 0]).h, 6);
    assert_eq!(eval("mov.b64 {_, %r4}, %d1;", [7 << 32 | 1, 0, 0]).r, 7);
    assert_eq!(eval("mov.u32 %r4, %ntid.x;", [0; 3]).r, 1);
    assert_eq!(eval("mov.u32 %r4, WARP_SZ;", [0; 3]).r, 32);
    let one_after = "mov.u64 %d5, %clock64;\nmov.u64 %d6, %clock64;\nsub.u64 %d4, %d6, %d5;";
    assert!(eval(one_after, [0; 3]).d > 0);
}

#[test]
fn what_is_not_known_is_refused_by_name_when_it_is_loaded() {
    let refusal = |line: &str| {
        let text = format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k()\n{{\n.reg .b32 %r<9>;\n.reg .pred %p<3>;\n{line}\nret;\n}}\n"
        );
        Module::read(&text, |_, _| 0).err().map(|refusal| refusal.to_string())
    };
    let cases = [
        ("frobnicate.u32 %r1, %r2;", "instruction frobnicate.u32: it is not known"),
        (
            "add.rz.ftz.f32 %r1, %r2, %r3;",
            "instruction add.rz.ftz.f32: this form of it is not known",
        ),
        ("add.s32 %r1, %r2;", "instruction add.s32: 1 operands where 2 belong"),
        ("add.s64 %r1, %r2, %r3;", "instruction add.s64: a register of width Single"),
        ("mov.u32 %r1, %clusterid.x;", "the register %clusterid.x is not known"),
        ("bra $nowhere;", "a branch to a label that is not there"),
        ("barrier.sync 1, 64;", "instruction barrier.sync: a barrier of some threads of a block"),
        ("tex.1d.v4.f32.s32 {%r1,%r2,%r3,%r4}, [t, {%r5}];", "instruction tex.1d.v4.f32.s32"),
        ("@%r1 mov.u32 %r1, %r2;", "no predicate is called %r1"),
        ("call.uni f, ();", "a call of f, which has no body"),
    ];
    for (line, part) in cases {
        let said = refusal(line).unwrap_or_else(|| panic!("{line} was taken"));
        assert!(said.contains(part) && said.starts_with("PTX line "), "{line}: {said}");
    }
    assert_eq!(refusal("mov.u32 %r1, %r2;"), None);
}
