//! Figures of rows as charts need them, and numbers in few letters.

use warpmark_analyze::{RowAnalysis, RunAnalysis};
use warpmark_record::{Record, Seconds, Value};

/// A count among a row's parameters.
pub(super) fn count(record: &Record, name: &str) -> Option<f64> {
    match record.parameters.get(name) {
        Some(Value::Integer(number)) => Some(*number as f64),
        _ => None,
    }
}

/// A word among a row's parameters.
pub(super) fn word<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    match record.parameters.get(name) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

/// The measured rows of a micro benchmark.
pub(super) fn micro<'a>(
    run: &'a RunAnalysis<'a>,
    subject: &'static str,
) -> impl Iterator<Item = &'a RowAnalysis<'a>> {
    run.rows.iter().filter(move |row| {
        let id = &row.record.id;
        row.rates.is_some() && id.group() == "micro" && id.subject() == subject
    })
}

/// A number with a decimal prefix: `500 G`.
pub(super) fn prefixed(value: f64) -> String {
    const STEPS: [(f64, &str); 9] = [
        (1e15, " P"),
        (1e12, " T"),
        (1e9, " G"),
        (1e6, " M"),
        (1e3, " k"),
        (1.0, ""),
        (1e-3, " m"),
        (1e-6, " µ"),
        (1e-9, " n"),
    ];
    // A tick may lie a rounding error below its own unit.
    let step = STEPS.iter().find(|(unit, _)| value.abs() >= unit * 0.9995);
    match step {
        Some((unit, prefix)) => format!("{}{prefix}", trimmed(value / unit)),
        None => trimmed(value),
    }
}

/// A number of at most three decimals, without zeros at its end.
pub(super) fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// A plain count.
pub(super) fn whole(value: f64) -> String {
    format!("{value:.0}")
}

/// A size of memory.
pub(super) fn binary(bytes: f64) -> String {
    const STEPS: [(f64, &str); 4] = [
        (1_099_511_627_776.0, " TiB"),
        (1_073_741_824.0, " GiB"),
        (1_048_576.0, " MiB"),
        (1024.0, " KiB"),
    ];
    let step = STEPS.iter().find(|(unit, _)| bytes >= unit * 0.9995);
    step.map_or_else(|| format!("{bytes:.0} B"), |(unit, name)| trimmed(bytes / unit) + name)
}

/// A duration.
pub(super) fn seconds(value: f64) -> String {
    Seconds(value).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_written_in_few_letters() {
        let decimal = [(5e11, "500 G"), (1e3, "1 k"), (0.5, "500 m"), (0.0, "0"), (2e-7, "200 n")];
        for (value, expected) in decimal {
            assert_eq!(prefixed(value), expected);
        }
        assert_eq!(binary(16384.0), "16 KiB");
        assert_eq!(binary(512.0), "512 B");
    }
}
