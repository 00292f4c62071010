//! Floating-point numbers of eight bits.

/// A floating-point type of eight bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fp8 {
    fraction: u32,
    bias: i32,
    /// The bits of the largest finite number.
    largest: u8,
}

/// Four bits of exponent; no infinity, and NaN is all ones.
pub(super) const E4M3: Fp8 = Fp8 { fraction: 3, bias: 7, largest: 0x7E };
/// Five bits of exponent.
pub(super) const E5M2: Fp8 = Fp8 { fraction: 2, bias: 15, largest: 0x7B };

impl Fp8 {
    /// The number that a byte means.
    pub(super) fn value(self, byte: u8) -> f32 {
        let magnitude = byte & 0x7F;
        let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
        if magnitude > self.largest {
            return if self.fraction == 2 && magnitude == 0x7C {
                sign * f32::INFINITY
            } else {
                f32::NAN
            };
        }
        let exponent = i32::from(magnitude >> self.fraction);
        let ones = f32::from(magnitude & ((1 << self.fraction) - 1)) / (1 << self.fraction) as f32;
        let value = if exponent == 0 {
            ones * 2_f32.powi(1 - self.bias)
        } else {
            (1.0 + ones) * 2_f32.powi(exponent - self.bias)
        };
        sign * value
    }

    /// The nearest number's byte, and the largest for what lies beyond.
    pub(super) fn bits(self, x: f32) -> u8 {
        if x.is_nan() {
            return 0x7F;
        }
        let magnitude = x.abs();
        let sign = if x.is_sign_negative() { 0x80 } else { 0 };
        // The bytes are in the order of their numbers.
        let above = (0..=self.largest).find(|byte| self.value(*byte) >= magnitude);
        let Some(above) = above else { return sign | self.largest };
        let below = above.saturating_sub(1);
        let (up, down) = (self.value(above) - magnitude, magnitude - self.value(below));
        let takes_lower = down < up || down == up && below.is_multiple_of(2);
        sign | if takes_lower { below } else { above }
    }
}
