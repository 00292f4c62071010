//! How a figure is written in a cell.

/// A share as a percentage, with a decimal where it is small.
pub(crate) fn percent(share: f64) -> String {
    if share.abs() < 0.0995 {
        format!("{:.1} %", share * 100.0)
    } else {
        format!("{:.0} %", share * 100.0)
    }
}
