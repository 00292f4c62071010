//! Elementary functions that a compiler can put into vector registers: the system's own are calls, one
//! number at a time.

#![allow(clippy::inline_always, reason = "what `widest` runs must become a part of it")]

/// Defines a function that runs compiled for the widest vectors that this processor has: a program for
/// all x86 processors may otherwise use those of four f32 alone. What it calls must be inlined into it,
/// which holds for functions marked so and for loops, but not for closures.
macro_rules! widest {
    (
        $(#[$meta:meta])*
        $visible:vis fn $name:ident($($argument:ident: $type:ty),+ $(,)?) $body:block
    ) => {
        $(#[$meta])*
        $visible fn $name($($argument: $type),+) {
            #[inline(always)]
            #[allow(clippy::inline_always, reason = "it must become a part of what calls it")]
            fn any($($argument: $type),+) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn sixteen($($argument: $type),+) {
                    any($($argument),+);
                }
                #[target_feature(enable = "avx2")]
                fn eight($($argument: $type),+) {
                    any($($argument),+);
                }
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    // SAFETY: the processor has what the function is compiled for.
                    return unsafe { sixteen($($argument),+) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has what the function is compiled for.
                    return unsafe { eight($($argument),+) };
                }
            }
            any($($argument),+);
        }
    };
}

widest! {
    /// `x = activation(x + bias)`.
    pub(super) fn activation_of_sum(x: &mut [f32], bias: &[f32], activation: impl Fn(f32) -> f32) {
        for (x, bias) in x.iter_mut().zip(bias) {
            *x = activation(*x + bias);
        }
    }
}

widest! {
    /// `x = x · logistic(x)`.
    pub(super) fn silu(x: &mut [f32]) {
        for x in x {
            *x *= logistic(*x);
        }
    }
}

widest! {
    /// `x *= y`.
    pub(super) fn scale(x: &mut [f32], y: &[f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x *= y;
        }
    }
}

/// `exp(x)` to two units in the last place; 0 below -87.3 and the largest power there is above 88.
///
/// `x` is split into `n ln 2 + r`; `exp(r)` is its Taylor series to the sixth power, whose rest is below
/// 2⁻²⁴ for `|r| <= ln 2 / 2`.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding and taking away 1.5 · 2²³ leaves the nearest whole number.
    const SHIFT: f32 = 12_582_912.0;
    // ln 2 in two parts, the first short enough that `n` times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let bounded = x.clamp(-87.3, 88.0);
    let shifted = bounded * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = (bounded - n * LN2_HIGH) - n * LN2_LOW;
    let series = 1.0
        + r * (1.0
            + r * (0.5
                + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0))))));
    // The lowest bits of `shifted` are `n`; of what is above them nothing is left.
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x < -87.3 { 0.0 } else { series * power }
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub(super) fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x/2 · (1 + erf(x / √2))`, the error function after Abramowitz and Stegun 1964, 7.1.26, which is off
/// by 1.5e-7 at most.
#[inline(always)]
pub(super) fn gelu_erf(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let series = t
        * (0.254_829_6
            + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152_1 + t * 1.061_405_4))));
    // 1 - erf(z), which is erf's own distance from its limit: small for large z, and not cancelled.
    let tail = series * exp(-z * z);
    if x < 0.0 { 0.5 * x * tail } else { x - 0.5 * x * tail }
}

widest! {
    /// [`powers`] of each row of scores: of the first `seen` of the first one, and `more` from one to the
    /// next. What is not seen becomes 0.
    pub(super) fn exp_rows(scores: &mut [f32], row: usize, totals: &mut [f32], seen: usize, more: usize) {
        for (index, (total, scores)) in totals.iter_mut().zip(scores.chunks_mut(row)).enumerate() {
            let (seen, rest) = scores.split_at_mut(seen + index * more);
            *total = powers(seen);
            rest.fill(0.0);
        }
    }
}

/// Numbers of a cache line: a vector or several, on every processor.
pub(super) const LANES: usize = 16;

/// Replaces scores by their powers over that of the highest one, and returns the powers' sum.
#[inline(always)]
fn powers(scores: &mut [f32]) -> f32 {
    let mut highest = [f32::NEG_INFINITY; LANES];
    let lanes = scores.chunks_exact(LANES);
    let rest = lanes.remainder().iter().copied().fold(f32::NEG_INFINITY, larger);
    for lane in lanes {
        for (highest, score) in highest.iter_mut().zip(lane) {
            *highest = larger(*highest, *score);
        }
    }
    let highest = highest.into_iter().fold(rest, larger);
    let mut totals = [0f32; LANES];
    let mut lanes = scores.chunks_exact_mut(LANES);
    for lane in &mut lanes {
        for (total, score) in totals.iter_mut().zip(lane) {
            *score = exp(*score - highest);
            *total += *score;
        }
    }
    for (total, score) in totals.iter_mut().zip(lanes.into_remainder()) {
        *score = exp(*score - highest);
        *total += *score;
    }
    totals.iter().sum()
}

/// `f32::max` without its rule for NaN, which costs two more instructions; a NaN among the scores comes
/// out of their powers.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range() -> impl Iterator<Item = f32> {
        (-4000..4000).map(|step| step as f32 * 0.025)
    }

    #[test]
    fn powers_are_those_of_the_library() {
        for x in range().filter(|x| (-87.0..88.0).contains(x)) {
            let exact = f64::from(x).exp();
            let off = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(off < 3e-7, "exp({x}): {off:e}");
        }
        assert!(exp(f32::NEG_INFINITY).abs() < f32::MIN_POSITIVE);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn gelu_is_that_of_the_error_function() {
        // From tables of the error function.
        for (x, erf) in [(0.5f32, 0.520_499_88f64), (1.0, 0.842_700_79), (2.0, 0.995_322_27)] {
            let x = x * std::f32::consts::SQRT_2;
            for (x, erf) in [(x, erf), (-x, -erf)] {
                let exact = f64::from(x) / 2.0 * (1.0 + erf);
                assert!((f64::from(gelu_erf(x)) - exact).abs() < 5e-7, "gelu({x})");
            }
        }
        for x in range() {
            let candle = candle_core::Tensor::new(x, &candle_core::Device::Cpu).unwrap();
            let candle = candle.gelu_erf().unwrap().to_scalar::<f32>().unwrap();
            assert!((gelu_erf(x) - candle).abs() <= 1e-6 * (1.0 + x.abs()), "gelu({x})");
        }
    }
}
