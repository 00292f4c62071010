//! How far numbers are from those that they should equal.

/// The largest of the errors, 0 where there are none; not a number where one of them is not.
///
/// `f64::max` takes the other operand instead, so that an answer full of NaNs would pass as right.
pub fn max_error(errors: impl IntoIterator<Item = f64>) -> f64 {
    let larger = |a: f64, b: f64| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) };
    errors.into_iter().fold(0.0, larger)
}

/// The largest difference over the largest expected magnitude; not a number where the lengths differ.
pub fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    let scale = expected.iter().fold(0f64, |most, value| most.max(f64::from(value.abs())));
    let off = max_error(found.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs())));
    if found.len() == expected.len() { off / scale } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::max_error;

    #[test]
    fn a_single_nan_is_the_worst_of_all_wherever_it_stands() {
        assert_eq!(max_error([0.5, 2.0, 1.0]).total_cmp(&2.0), std::cmp::Ordering::Equal);
        assert!(max_error([f64::NAN, 1.0]).is_nan());
        assert!(max_error([1.0, f64::NAN, 3.0]).is_nan());
        assert_eq!(max_error([]).total_cmp(&0.0), std::cmp::Ordering::Equal);
    }
}
