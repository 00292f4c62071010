//! Whether a product is right: sampled entries against dot products in f64 of the very operands.

use warpmark_measure::WorkloadError;
use warpmark_measure::workload::checked;
use warpmark_record::Check;

use super::{Inputs, Problem};
use crate::data::{Dtype, Stream};

/// Positions of the product that are checked besides its corners.
const SAMPLED: u64 = 64;

/// Bits of a sum that the tensor cores' fp8 adders keep: about 14 on Hopper, by "DeepSeek-V3 Technical
/// Report" (2024), section 3.3.2.
const FP8_SUM_ROUNDOFF: f64 = 1.0 / (1 << 13) as f64;

/// What an operand's bits are taken for.
type Read = fn(f64) -> f64;

/// How the two operands are read.
type Reading = [Read; 2];

/// What TF32 may make of an operand.
const TF32: [Read; 3] = [cut_to_tf32, rounded_to_tf32, rounded_to_even_tf32];

impl Problem {
    /// Compares sampled entries of the product, which `product(row, column)` fetches, with dot products
    /// in f64 of the very operands. `stores` is how often a running sum is rounded to the product's type.
    pub(super) fn check(
        &self,
        inputs: Inputs,
        stores: f64,
        mut product: impl FnMut(usize, usize) -> Result<f64, WorkloadError>,
    ) -> Result<Check, WorkloadError> {
        let spread = self.spread();
        let positions = self.positions(inputs.seed);
        // The untouched operands are the first, and the only ones of all but TF32.
        let readings = self.readings();
        let mut max_error = vec![0.0_f64; readings.len()];
        for &(row, column) in &positions {
            let got = product(row, column)?;
            let expected = self.dots(inputs, row, column, &readings);
            for (max_error, expected) in max_error.iter_mut().zip(expected) {
                let error = (got - expected).abs() / spread;
                // `max` would lose a NaN, and a NaN must fail.
                *max_error = if max_error.is_nan() || error.is_nan() {
                    f64::NAN
                } else {
                    max_error.max(error)
                };
            }
        }
        let exact = if self.dtype == Dtype::Int8 { "exact" } else { "f64" };
        let what = format!(
            "{} entries with {exact} dot products, relative to the entries' standard deviation",
            positions.len()
        );
        let tolerance = self.tolerance(stores);
        if self.dtype != Dtype::Tf32 {
            return checked(what, max_error[0], tolerance);
        }
        // Readings are all NaN or none is, since the product is what brings one in.
        let least = max_error[1..].iter().copied().fold(f64::NAN, f64::min);
        if max_error[0] <= tolerance && max_error[0] < least {
            // Asking for TF32 allows it and no more. What was computed is right, and is not what the id says.
            return Err(WorkloadError::Unsupported(
                "cuBLASLt multiplied in plain f32 where TF32 was asked for, as it may (is \
                 NVIDIA_TF32_OVERRIDE set to 0?): its times are those of f32.f32"
                    .to_owned(),
            ));
        }
        checked(what, least, tolerance)
    }

    /// The standard deviation of an entry: a product of two numbers uniform on [-1, 1) has variance 1/9,
    /// and an entry adds up k of them. Integers are uniform on ±128.
    fn spread(&self) -> f64 {
        let scale = if self.dtype == Dtype::Int8 { 128.0 * 128.0 } else { 1.0 };
        (self.k as f64).sqrt() / 3.0 * scale
    }

    /// The largest error to allow, in units of an entry's standard deviation.
    ///
    /// Adding up in units of `u`: with rounding to nearest the errors of k additions go both ways, and a
    /// random walk of them has a spread of about 0.4·√k·u, allowed twenty times. Tensor cores that add in
    /// a wider type cut off instead, always towards zero: k·u. Writing the result: an entry within six
    /// standard deviations, rounded to the product's type, once for each store. A multiplication in less
    /// precise arithmetic than the id names (TF32 for f32, bf16 for TF32) is beyond that, and so is a
    /// lost product in all but the largest. Where sums keep few bits (f16, fp8) it tells a wrong product
    /// from a right one, no more. Integers have no error to allow.
    fn tolerance(&self, stores: f64) -> f64 {
        let k = self.k as f64;
        let walk = |unit: f64| 8.0 * k.sqrt() * unit;
        let unit = self.accumulate.roundoff();
        let adding = match self.dtype {
            Dtype::Int8 => return 0.0,
            Dtype::Fp8 => walk(FP8_SUM_ROUNDOFF),
            other if other == self.accumulate => walk(unit),
            _ => walk(unit).max(k * unit),
        };
        let storing = 6.0 * self.result().roundoff() * stores.max(1.0).sqrt();
        adding + storing
    }

    /// What a multiplication may take its operands for: what they are, and for TF32 every way besides. TF32
    /// sees 10 bits of an f32's fraction, and whether the others are cut off or rounded, and ties to even or
    /// away from zero, is nowhere promised, nor that both operands come the same way: all entries must agree
    /// with one of the nine, which leaves no room for the error of the operands in the tolerance.
    fn readings(&self) -> Vec<Reading> {
        let mut readings: Vec<Reading> = vec![[std::convert::identity; 2]];
        if self.dtype == Dtype::Tf32 {
            readings.extend(TF32.iter().flat_map(|a| TF32.iter().map(move |b| [*a, *b])));
        }
        readings
    }

    /// The entry of a product by each reading of the operands.
    fn dots(&self, inputs: Inputs, row: usize, column: usize, readings: &[Reading]) -> Vec<f64> {
        let mut sums = vec![0.0; readings.len()];
        for i in 0..self.k {
            let a = self.dtype.element(inputs.a, (row * self.k + i) as u64);
            let b = self.dtype.element(inputs.b, self.place_in_b(i, column) as u64);
            for (sum, [read_a, read_b]) in sums.iter_mut().zip(readings) {
                *sum += read_a(a) * read_b(b);
            }
        }
        sums
    }

    pub(super) fn positions(&self, seed: u64) -> Vec<(usize, usize)> {
        let (bottom, right) = (self.m - 1, self.n - 1);
        let corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)];
        let stream = Stream::new(seed, 2);
        let anywhere = (0..SAMPLED).map(|i| {
            let row = stream.bits(2 * i) % self.m as u64;
            let column = stream.bits(2 * i + 1) % self.n as u64;
            (row as usize, column as usize)
        });
        corners.into_iter().chain(anywhere).collect()
    }
}

#[cfg(test)]
impl Problem {
    pub(super) fn dot(&self, inputs: Inputs, row: usize, column: usize, reading: Reading) -> f64 {
        self.dots(inputs, row, column, &[reading])[0]
    }
}

fn cut_to_tf32(value: f64) -> f64 {
    f64::from(f32::from_bits((value as f32).to_bits() & !0x1FFF))
}

fn rounded_to_tf32(value: f64) -> f64 {
    // Half a unit of the last kept bit; a carry into the exponent is right, and no operand is near the
    // largest number.
    f64::from(f32::from_bits(((value as f32).to_bits() + 0x1000) & !0x1FFF))
}

fn rounded_to_even_tf32(value: f64) -> f64 {
    // One less than half a unit, and one more where the last kept bit is odd.
    let bits = (value as f32).to_bits();
    f64::from(f32::from_bits((bits + 0xFFF + (bits >> 13 & 1)) & !0x1FFF))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::identity;

    fn inputs() -> Inputs {
        Inputs::new(5)
    }

    /// Whether products of operands that are read in such a way pass.
    fn passes(problem: &Problem, read: Read) -> bool {
        problem.check(inputs(), 1.0, |r, c| Ok(problem.dot(inputs(), r, c, [read; 2]))).is_ok()
    }

    #[test]
    fn sums_in_reduced_precision_are_told_from_f32() {
        let problem = Problem::square(Dtype::F32, Dtype::F32, 1024);
        assert!(!passes(&problem, rounded_to_tf32));
        assert!(passes(&problem, identity));
    }

    #[test]
    fn tf32_may_cut_or_round_but_not_keep_more_or_less() {
        let problem = Problem::square(Dtype::Tf32, Dtype::F32, 1024);
        for read in TF32 {
            assert!(passes(&problem, read));
        }
        let ties = f64::from(f32::from_bits(0x3F80_1000));
        assert!(rounded_to_even_tf32(ties) < rounded_to_tf32(ties), "ties go apart");
        assert!((rounded_to_even_tf32(-1.75) + 1.75).abs() < f64::EPSILON);
        let apart = |r, c| Ok(problem.dot(inputs(), r, c, [cut_to_tf32, rounded_to_tf32]));
        assert!(problem.check(inputs(), 1.0, apart).is_ok());
        let bf16 = |value: f64| f64::from(f32::from_bits((value as f32).to_bits() & !0xFFFF));
        assert!(!passes(&problem, bf16));
        // One reading for one entry and the other for the next is no arithmetic.
        let mixed = problem.check(inputs(), 1.0, |row, column| {
            let read: Read = if row % 2 == 0 { cut_to_tf32 } else { rounded_to_tf32 };
            Ok(problem.dot(inputs(), row, column, [read; 2]))
        });
        assert!(mixed.is_err());
    }

    #[test]
    fn plain_f32_where_tf32_was_asked_for_is_no_wrong_answer_and_no_figure_of_tf32() {
        for k in [1024, 16384] {
            let problem =
                Problem { m: 64, n: 64, k, ..Problem::square(Dtype::Tf32, Dtype::F32, 1) };
            let plain = problem.check(inputs(), 1.0, |row, column| {
                let exact = problem.dot(inputs(), row, column, [identity; 2]);
                Ok(f64::from(exact as f32))
            });
            let Err(WorkloadError::Unsupported(reason)) = plain else { panic!("{k}: {plain:?}") };
            assert!(reason.contains("plain f32"), "{reason}");
        }
    }

    #[test]
    fn integers_are_right_or_wrong() {
        let problem = Problem::square(Dtype::Int8, Dtype::Int32, 512);
        assert!(passes(&problem, identity));
        let off_by_one = problem.check(inputs(), 1.0, |row, column| {
            let wrong = if (row, column) == (511, 511) { 1.0 } else { 0.0 };
            Ok(problem.dot(inputs(), row, column, [identity; 2]) + wrong)
        });
        assert!(matches!(off_by_one, Err(WorkloadError::WrongAnswer { .. })));
    }

    #[test]
    fn every_arithmetic_refuses_a_transposed_operand_and_what_was_never_written() {
        use Dtype::{Bf16, F16, F32, F64, Fp8, Int8, Int32, Tf32};
        let kinds = [(F16, F16), (Bf16, F32), (Tf32, F32), (F64, F64), (Int8, Int32), (Fp8, F32)];
        for (dtype, accumulate) in kinds {
            // The largest size, whose tolerance is the widest.
            let problem = Problem { dtype, accumulate, m: 96, n: 96, k: 16384 };
            let swapped = problem.check(inputs(), 1.0, |row, column| {
                Ok(problem.dot(inputs(), column, row, [identity; 2]))
            });
            assert!(swapped.is_err(), "{problem:?}");
            let spoilt = problem.result().decode([0xFF; 8]);
            assert!(problem.check(inputs(), 1.0, |_, _| Ok(spoilt)).is_err(), "{problem:?}");
        }
    }

    #[test]
    fn f64_sums_are_told_from_f32_ones() {
        let problem = Problem::square(Dtype::F64, Dtype::F64, 2048);
        assert!(passes(&problem, identity));
        assert!(!passes(&problem, |value| f64::from(value as f32)));
    }
}
