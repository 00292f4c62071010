//! Sums and products that are rounded to one side, not to the nearest.

use super::conversion::Rounding;
use super::instruction::{Alu, Form, Lanes, three, two};
use super::value::Type;

/// Numbers that have neighbours.
trait Float: Copy + PartialOrd + Default {
    fn up(self) -> Self;
    fn down(self) -> Self;
    fn is_whole_line(self) -> bool;
}

macro_rules! float {
    ($($type:ty),*) => {$(
        impl Float for $type {
            fn up(self) -> Self {
                self.next_up()
            }

            fn down(self) -> Self {
                self.next_down()
            }

            fn is_whole_line(self) -> bool {
                self.is_finite()
            }
        }
    )*};
}

float!(f32, f64);

/// The number on the side that is asked for: `near` is the nearest of a result, and `rest` what that lies
/// above it, of which the sign counts. A result beyond the last number is below infinity.
fn rounded<T: Float>(near: T, rest: T, finite: bool, rounding: Rounding) -> T {
    let zero = T::default();
    let overflows = finite && !near.is_whole_line();
    let above = rest > zero || overflows && near < zero;
    let below = rest < zero || overflows && near > zero;
    match rounding {
        Rounding::Zero if below && near > zero => near.down(),
        Rounding::Zero if above && near < zero => near.up(),
        Rounding::Down if below => near.down(),
        Rounding::Up if above => near.up(),
        _ => near,
    }
}

/// What a rounded sum leaves out, exactly.
macro_rules! rest_of_a_sum {
    ($a:expr, $b:expr, $sum:expr) => {{
        let part = $sum - $a;
        ($a - ($sum - part)) + ($b - part)
    }};
}

fn sum_f32(a: f32, b: f32, rounding: Rounding) -> f32 {
    let near = a + b;
    rounded(near, rest_of_a_sum!(a, b, near), a.is_finite() && b.is_finite(), rounding)
}

fn sum_f64(a: f64, b: f64, rounding: Rounding) -> f64 {
    let near = a + b;
    rounded(near, rest_of_a_sum!(a, b, near), a.is_finite() && b.is_finite(), rounding)
}

/// The product of two f32 is exact in f64.
fn fused_f32(a: f32, b: f32, c: f32, rounding: Rounding) -> f32 {
    let (product, c64) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c64;
    let near = a.mul_add(b, c);
    let rest = (sum - f64::from(near)) + rest_of_a_sum!(product, c64, sum);
    let rest = if rest > 0.0 {
        1.0
    } else if rest < 0.0 {
        -1.0
    } else {
        0.0
    };
    rounded(near, rest, product.is_finite() && c.is_finite(), rounding)
}

/// Arithmetic with a rounding of its own, if the form has one.
pub(super) fn find(form: &mut Form<'_>, kind: Type) -> Option<Alu> {
    const ROUNDINGS: [(&str, Rounding); 3] =
        [("rz", Rounding::Zero), ("rm", Rounding::Down), ("rp", Rounding::Up)];
    let rounding = form.take_one(&ROUNDINGS)?;
    macro_rules! each {
        (|$rounding:ident| $run:expr) => {{
            let run: Lanes = match rounding {
                Rounding::Zero => {
                    const $rounding: Rounding = Rounding::Zero;
                    $run
                }
                Rounding::Down => {
                    const $rounding: Rounding = Rounding::Down;
                    $run
                }
                _ => {
                    const $rounding: Rounding = Rounding::Up;
                    $run
                }
            };
            run
        }};
    }
    let (operands, run) = match (form.base, kind) {
        ("add", Type::F32) => (2, each!(|R| |r, i, m| two(r, i, m, |a, b| sum_f32(a, b, R)))),
        ("add", Type::F64) => (2, each!(|R| |r, i, m| two(r, i, m, |a, b| sum_f64(a, b, R)))),
        ("sub", Type::F32) => (2, each!(|R| |r, i, m| two(r, i, m, |a, b: f32| sum_f32(a, -b, R)))),
        ("mul", Type::F32) => {
            (2, each!(|R| |r, i, m| two(r, i, m, |a, b| fused_f32(a, b, 0.0, R))))
        }
        ("fma", Type::F32) => {
            (3, each!(|R| |r, i, m| three(r, i, m, |a, b, c| fused_f32(a, b, c, R))))
        }
        _ => return None,
    };
    Some(Alu::uniform(kind, operands, run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rounding_gives_the_neighbour_on_its_side() {
        use Rounding::{Down, Up, Zero};
        // A quarter of the last bit lies beside one.
        let little = f32::EPSILON / 4.0;
        for (a, b, rounding, expected) in [
            (1.0, little, Up, 1.0 + f32::EPSILON),
            (1.0, little, Down, 1.0),
            (1.0, little, Zero, 1.0),
            (1.0, -little, Zero, 1.0_f32.next_down()),
            (-1.0, little, Zero, (-1.0_f32).next_up()),
            (-1.0, little, Down, -1.0),
            (f32::MAX, f32::MAX, Zero, f32::MAX),
            (f32::MAX, f32::MAX, Up, f32::INFINITY),
            (2.0, 3.0, Down, 5.0),
        ] {
            assert_eq!(sum_f32(a, b, rounding), expected, "{a} + {b}");
            assert_eq!(fused_f32(a, 1.0, b, rounding), expected, "{a} * 1 + {b}");
        }
        assert_eq!(sum_f64(1.0, -1e-30, Zero), 1.0_f64.next_down());
        assert_eq!(fused_f32(0.1, 0.1, 0.0, Down), fused_f32(0.1, 0.1, 0.0, Up).next_down());
    }
}
