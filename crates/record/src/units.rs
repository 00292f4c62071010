//! Quantities as types, with only the arithmetic that is lawful between them.
//!
//! Values are kept in SI base units. Prefixes appear only in `Display`: decimal ones (kB, GB, TFLOP)
//! for rates and traffic, binary ones (GiB) through [`Bytes::binary`] for capacities.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Div, Mul, Sub};

use serde::{Deserialize, Serialize};

/// Larger than any quantity that a machine has or does, in SI units; sums and products of a few such numbers
/// are still finite.
pub const LARGEST: f64 = 1e30;

/// A number in a file that no quantity can be.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0:e} is beyond what any machine has or does (1e30)")]
pub struct OutOfBounds(f64);

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $unit:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
        #[serde(try_from = "f64")]
        pub struct $name(pub f64);

        impl TryFrom<f64> for $name {
            type Error = OutOfBounds;

            /// What is read from a file is bounded before it is believed.
            fn try_from(value: f64) -> Result<Self, OutOfBounds> {
                let bounded = value.is_finite() && value.abs() <= LARGEST;
                if bounded { Ok(Self(value)) } else { Err(OutOfBounds(value)) }
            }
        }

        impl $name {
            /// The bare number, in the SI base unit.
            pub fn get(self) -> f64 {
                self.0
            }

            /// How many times `other` fits into this quantity.
            pub fn ratio(self, other: Self) -> f64 {
                self.0 / other.0
            }

            /// The larger of two quantities; NaN loses.
            #[must_use]
            pub fn max(self, other: Self) -> Self {
                Self(self.0.max(other.0))
            }

            /// The smaller of the two.
            #[must_use]
            pub fn min(self, other: Self) -> Self {
                Self(self.0.min(other.0))
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }

        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }

        impl Mul<f64> for $name {
            type Output = Self;
            fn mul(self, factor: f64) -> Self {
                Self(self.0 * factor)
            }
        }

        impl Div<f64> for $name {
            type Output = Self;
            fn div(self, divisor: f64) -> Self {
                Self(self.0 / divisor)
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(values: I) -> Self {
                Self(values.map(|value| value.0).sum())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&prefixed(self.0, $unit))
            }
        }
    };
}

quantity!(
    /// A duration in seconds.
    Seconds, "s");
quantity!(
    /// An amount of data, or of memory traffic, in bytes.
    Bytes, "B");
quantity!(
    /// Floating-point operations; a fused multiply-add counts as two.
    Flops, "FLOP");
quantity!(
    /// Memory traffic per second.
    BytesPerSecond, "B/s");
quantity!(
    /// Floating-point operations per second.
    FlopsPerSecond, "FLOP/s");
quantity!(
    /// Power.
    Watts, "W");
quantity!(
    /// Energy.
    Joules, "J");
quantity!(
    /// A frequency, such as a clock.
    Hertz, "Hz");

macro_rules! quotient {
    ($numerator:ident / $denominator:ident = $rate:ident) => {
        impl Div<$denominator> for $numerator {
            type Output = $rate;
            fn div(self, other: $denominator) -> $rate {
                $rate(self.0 / other.0)
            }
        }
        impl Div<$rate> for $numerator {
            type Output = $denominator;
            fn div(self, other: $rate) -> $denominator {
                $denominator(self.0 / other.0)
            }
        }
        impl Mul<$denominator> for $rate {
            type Output = $numerator;
            fn mul(self, other: $denominator) -> $numerator {
                $numerator(self.0 * other.0)
            }
        }
    };
}

quotient!(Bytes / Seconds = BytesPerSecond);
quotient!(Flops / Seconds = FlopsPerSecond);
quotient!(Joules / Seconds = Watts);

impl Bytes {
    /// The amount in binary prefixes (KiB, MiB, GiB), as memory capacities are spoken of.
    pub fn binary(self) -> String {
        const STEPS: [(f64, &str); 4] = [
            (1024.0 * 1024.0 * 1024.0 * 1024.0, "TiB"),
            (1024.0 * 1024.0 * 1024.0, "GiB"),
            (1024.0 * 1024.0, "MiB"),
            (1024.0, "KiB"),
        ];
        for (size, name) in STEPS {
            if self.0.abs() >= size {
                return format!("{} {name}", three_digits(self.0 / size));
            }
        }
        format!("{} B", self.0)
    }

    /// A count of bytes.
    pub fn from_count(count: usize) -> Self {
        Self(count as f64)
    }
}

/// A temperature in degrees Celsius.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Celsius(pub f64);

impl fmt::Display for Celsius {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.0} °C", self.0))
    }
}

/// What a workload produces one after the other: the thing that throughput counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemUnit {
    /// Tokens read (prefill) or written (decode).
    Token,
    /// Images.
    Image,
    /// Denoising steps.
    Step,
    /// Seconds of audio.
    AudioSecond,
    /// Whole requests.
    Request,
    /// Kernel launches, or other calls into the driver.
    Call,
    /// Whole model loads.
    Load,
    /// Memory accesses: loads of a pointer chase, atomic operations.
    Access,
}

impl ItemUnit {
    /// The abbreviation that tables use, without "per second".
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Token => "tok",
            Self::Image => "img",
            Self::Step => "step",
            Self::AudioSecond => "audio s",
            Self::Request => "req",
            Self::Call => "call",
            Self::Load => "load",
            Self::Access => "access",
        }
    }
}

/// A number of items of one unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Items {
    /// How many.
    pub count: f64,
    /// Of what.
    pub unit: ItemUnit,
}

impl Div<Seconds> for Items {
    type Output = ItemsPerSecond;
    fn div(self, time: Seconds) -> ItemsPerSecond {
        ItemsPerSecond { rate: self.count / time.0, unit: self.unit }
    }
}

/// Items per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ItemsPerSecond {
    /// The rate.
    pub rate: f64,
    /// Of what.
    pub unit: ItemUnit,
}

impl fmt::Display for ItemsPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // "k tok/s" reads badly, so counts stay plain until they are very large.
        let number = if self.rate >= 1e6 {
            format!("{}M", three_digits(self.rate / 1e6))
        } else {
            three_digits(self.rate)
        };
        f.pad(&format!("{number} {}/s", self.unit.symbol()))
    }
}

/// What one iteration does, counted by hand from the algorithm: it turns seconds into rates.
///
/// `None` means that the count says nothing about the workload (a launch has no FLOPs), never that it
/// was not worked out.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Work {
    /// Floating-point operations, a multiply-add counted as two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops: Option<Flops>,
    /// The least memory traffic the algorithm needs, reads and writes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
    /// What comes out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Items>,
}

/// Three significant digits, without an exponent between 0.001 and 10^6.
pub fn three_digits(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() {
        return value.to_string();
    }
    if magnitude == 0.0 {
        return "0".to_owned();
    }
    if !(0.001..1e6).contains(&magnitude) {
        return format!("{value:.2e}");
    }
    // Rounding first: 0.9999 has the three digits of 1.00, not of 0.9999.
    let unit = 10_f64.powi(magnitude.log10().floor() as i32 - 2);
    let rounded = (magnitude / unit).round() * unit;
    let decimals = (2 - (rounded * (1.0 + 1e-12)).log10().floor() as i32).max(0) as usize;
    format!("{value:.decimals$}")
}

fn prefixed(value: f64, unit: &str) -> String {
    const PREFIXES: [(f64, &str); 9] = [
        (1e15, "P"),
        (1e12, "T"),
        (1e9, "G"),
        (1e6, "M"),
        (1e3, "k"),
        (1.0, ""),
        (1e-3, "m"),
        (1e-6, "µ"),
        (1e-9, "n"),
    ];
    let magnitude = value.abs();
    if !value.is_finite() || magnitude == 0.0 {
        return format!("{value} {unit}");
    }
    // A long time is read in seconds, not in kiloseconds.
    let largest = if unit == "s" { 1.0 } else { 1e15 };
    let (scale, prefix) = PREFIXES
        .into_iter()
        // 0.9995 rather than 1: a value that rounds up to 1.00 belongs to the next prefix.
        .find(|(scale, _)| *scale <= largest && magnitude >= scale * 0.9995)
        .unwrap_or((1e-9, "n"));
    format!("{} {prefix}{unit}", three_digits(value / scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_quotients_and_divide_back() {
        assert_eq!(Bytes(10.0) / Seconds(2.0), BytesPerSecond(5.0));
        assert_eq!(Bytes(10.0) / BytesPerSecond(5.0), Seconds(2.0));
        assert_eq!(Watts(3.0) * Seconds(2.0), Joules(6.0));
    }

    #[test]
    fn prefixes_are_decimal_for_rates_and_binary_for_capacities() {
        assert_eq!(BytesPerSecond(4.8e12).to_string(), "4.80 TB/s");
        assert_eq!(FlopsPerSecond(186.4e9).to_string(), "186 GFLOP/s");
        assert_eq!(Seconds(0.000_012_34).to_string(), "12.3 µs");
        assert_eq!(Seconds(4000.0).to_string(), "4000 s");
        assert_eq!(Bytes(1536.0 * 1024.0 * 1024.0).binary(), "1.50 GiB");
    }

    #[test]
    fn a_value_just_under_a_prefix_takes_the_next_one() {
        assert_eq!(Seconds(0.000_999_9).to_string(), "1.00 ms");
        assert_eq!(BytesPerSecond(999.0e9).to_string(), "999 GB/s");
    }

    #[test]
    fn what_is_not_finite_is_still_printed() {
        assert_eq!(Seconds(f64::NAN).to_string(), "NaN s");
        assert_eq!(Seconds(0.0).to_string(), "0 s");
        assert_eq!(three_digits(1234.0), "1234");
    }
}
