//! How fast a row gets through audio, in the words of speech recognition.
//!
//! With `a` seconds of audio in an iteration of `t` seconds of wall time, the real-time factor is `t / a`
//! (below 1 is faster than it was spoken), and a minute of audio takes `60 t / a` seconds.

use std::fmt;

use warpmark_record::units::three_digits;
use warpmark_record::{ItemUnit, Joules, Record, Value};

use crate::cost::joules_per_item;
use crate::rates::Rates;

/// How fast a row gets through audio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpeechRates {
    /// Wall time over the length of the audio.
    pub real_time_factor: f64,
    /// Tokens written in a second of wall time, where the row says how many there were.
    pub tokens_per_second: Option<f64>,
    /// Energy for a minute of audio, where power is known.
    pub per_minute: Option<Joules>,
}

impl SpeechRates {
    /// The rates of a row whose items are seconds of audio; `None` of any other.
    pub fn of(record: &Record, rates: &Rates) -> Option<Self> {
        let items = record.work.items.filter(|items| items.unit == ItemUnit::AudioSecond)?;
        if items.count <= 0.0 || rates.wall.0 <= 0.0 {
            return None;
        }
        let tokens = match record.parameters.get("tokens") {
            Some(Value::Integer(tokens)) => Some(*tokens as f64 / rates.wall.0),
            _ => None,
        };
        Some(Self {
            real_time_factor: rates.wall.0 / items.count,
            tokens_per_second: tokens,
            per_minute: joules_per_item(record, items / rates.wall).map(|joules| joules * 60.0),
        })
    }

    /// Seconds of wall time for a minute of audio.
    pub fn seconds_per_minute(&self) -> f64 {
        60.0 * self.real_time_factor
    }
}

impl fmt::Display for SpeechRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (factor, minute) = (self.real_time_factor, self.seconds_per_minute());
        write!(
            f,
            "real-time factor {}, {} s for a minute of audio",
            three_digits(factor),
            three_digits(minute)
        )?;
        if let Some(tokens) = self.tokens_per_second {
            write!(f, ", {} tok/s", three_digits(tokens))?;
        }
        match self.per_minute {
            Some(joules) => write!(f, ", {joules} for it"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use warpmark_record::{Field, Items, Telemetry, Watts};

    use super::*;
    use crate::fixture;

    fn transcription() -> Record {
        let mut row = fixture::row("speech/w/transcribe/f32/b1/30s/greedy@warpmark", 1.5);
        row.work.items = Some(Items { count: 30.0, unit: ItemUnit::AudioSecond });
        row.parameters.insert("tokens".to_owned(), 90u64.into());
        row
    }

    #[test]
    fn a_minute_takes_sixty_real_time_factors() {
        let row = transcription();
        let rates = SpeechRates::of(&row, &Rates::of(&row).unwrap()).unwrap();
        assert!((rates.real_time_factor - 0.05).abs() < 1e-4);
        assert!((rates.seconds_per_minute() - 3.0).abs() < 0.01);
        assert!((rates.tokens_per_second.unwrap() - 60.0).abs() < 0.1);
        let text = rates.to_string();
        assert!(text.contains("factor 0.0500, 3.00 s for a minute of audio, 60.0 tok/s"), "{text}");
        assert_eq!(rates.per_minute, None);
    }

    #[test]
    fn energy_for_a_minute_is_power_over_the_rate() {
        let mut row = transcription();
        let mut telemetry = Telemetry::absent("test");
        telemetry.power_mean = Field::Known(Watts(200.0));
        row.telemetry = Some(telemetry);
        let rates = SpeechRates::of(&row, &Rates::of(&row).unwrap()).unwrap();
        assert!((rates.per_minute.unwrap().0 - 200.0 * 3.0).abs() < 1.0);
        assert!(rates.to_string().contains("600 J for it"), "{rates}");
    }

    #[test]
    fn a_row_of_tokens_has_no_real_time_factor() {
        let row = fixture::decode("f32", 0.04);
        assert_eq!(SpeechRates::of(&row, &Rates::of(&row).unwrap()), None);
    }
}
