//! Money: what an hour of a device costs. Dollars only, because no rate of exchange is kept here.

use std::fmt;
use std::str::FromStr;

use warpmark_record::units::three_digits;

/// Dollars for an hour of a device: above zero and finite.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct UsdPerHour(f64);

/// Why something is no price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Zero, negative, no finite number, or beyond all prices.
    #[error("{0} is no price: an hour costs more than 0 and at most a million dollars")]
    NotAPrice(String),
    /// A number without a currency.
    #[error("{0:?} names no currency: write it as \"2 usd/h\"")]
    NoCurrency(String),
    /// Another currency than dollars.
    #[error(
        "{0:?} is not in usd, and no rate of exchange is kept: convert it, then write \"2 usd/h\""
    )]
    OtherCurrency(String),
    /// No number in front.
    #[error("{0:?} is no price: write it as \"2 usd/h\"")]
    NoNumber(String),
}

/// Prices lie within these: what they are divided by and multiplied with stays a number.
const LEAST: f64 = 1e-9;
const MOST: f64 = 1e6;

impl UsdPerHour {
    /// A price from a number of dollars an hour.
    pub fn new(value: f64) -> Result<Self, MoneyError> {
        if value > LEAST && value <= MOST {
            return Ok(Self(value));
        }
        Err(MoneyError::NotAPrice(value.to_string()))
    }

    /// Dollars an hour.
    pub fn get(self) -> f64 {
        self.0
    }

    /// The share of one of `parts` equal parts.
    #[must_use]
    pub fn divided(self, parts: u32) -> Self {
        Self(self.0 / f64::from(parts.max(1)))
    }
}

impl FromStr for UsdPerHour {
    type Err = MoneyError;

    /// `2usd/h`, `0.526 USD/h`, `$2/h`; the `/h` may be left out, the currency may not.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let lower = text.trim().to_ascii_lowercase();
        let rest =
            lower.strip_suffix("/h").or(lower.strip_suffix("/hour")).unwrap_or(&lower).trim();
        let (dollars, rest) = match rest.strip_prefix('$') {
            Some(rest) => (true, rest.trim()),
            None => (false, rest),
        };
        let numeric = |c: char| c.is_ascii_digit() || "+-.e_".contains(c);
        let words = ["nan", "inf", "-inf", "infinity", "-infinity"];
        let end = match words.iter().find(|word| rest.starts_with(**word)) {
            Some(word) => word.len(),
            None => rest.find(|c| !numeric(c)).unwrap_or(rest.len()),
        };
        let (number, currency) = (rest[..end].trim(), rest[end..].trim());
        let value: f64 = number.parse().map_err(|_| MoneyError::NoNumber(text.to_owned()))?;
        match currency {
            "usd" | "$" => Self::new(value),
            "" if dollars => Self::new(value),
            "" => Err(MoneyError::NoCurrency(text.to_owned())),
            _ => Err(MoneyError::OtherCurrency(text.to_owned())),
        }
    }
}

impl fmt::Display for UsdPerHour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/h", dollars(self.0)))
    }
}

/// An amount of dollars with three digits: `$0.0731`.
pub fn dollars(amount: f64) -> String {
    format!("${}", three_digits(amount))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_as_people_write_them() {
        for text in ["2usd/h", "2 USD/h", "$2/h", "2.0 usd", "2$/hour", " $2 "] {
            assert_eq!(text.parse(), Ok(UsdPerHour(2.0)), "{text:?}");
        }
        assert_eq!(UsdPerHour(0.526).to_string(), "$0.526/h");
    }

    #[test]
    fn what_is_no_price_is_refused_for_its_own_reason() {
        let refused = |text: &str| text.parse::<UsdPerHour>().unwrap_err();
        for text in ["0 usd/h", "-1usd/h", "nan usd/h", "inf usd/h", "1e999 usd"] {
            assert!(matches!(refused(text), MoneyError::NotAPrice(_)), "{text:?}");
        }
        for text in ["2", "2/h"] {
            assert!(matches!(refused(text), MoneyError::NoCurrency(_)), "{text:?}");
        }
        for text in ["2 eur/h", "2 €", "2 usdollars"] {
            assert!(matches!(refused(text), MoneyError::OtherCurrency(_)), "{text:?}");
        }
        for text in ["", "usd", "usd 2", "cheap"] {
            assert!(matches!(refused(text), MoneyError::NoNumber(_)), "{text:?}");
        }
    }
}
