//! The nearest numbers of half the bits.

use half::{bf16, f16};

/// f64 as f32 whose last bit says that something was cut off: rounding it again to half the bits gives
/// what one rounding would.
fn to_odd(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) == x || !near.is_finite() {
        return near;
    }
    let bits = near.to_bits();
    let cut = if f64::from(near).abs() > x.abs() { bits - 1 } else { bits };
    f32::from_bits(cut | 1)
}

/// The nearest f16.
pub(super) fn f16_from_f64(x: f64) -> f16 {
    f16::from_f32(to_odd(x))
}

/// The nearest bf16.
pub(super) fn bf16_from_f64(x: f64) -> bf16 {
    bf16::from_f32(to_odd(x))
}
