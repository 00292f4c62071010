//! Places for labels: none over another one, none outside of its chart.

use kuva::render::render::TextAnchor;

use super::{LINE, TEXT};

/// The mean width of a letter of a sans-serif face, as a share of its size.
const LETTER: f64 = 0.6;

/// About how wide a text is drawn.
pub(super) fn width_of(text: &str) -> f64 {
    text.chars().count() as f64 * LETTER * f64::from(TEXT)
}

/// A text that fits into a width, its end left out if need be.
pub(super) fn cut(text: &str, width: f64) -> String {
    if width_of(text) <= width {
        return text.to_owned();
    }
    let letters = (width / (LETTER * f64::from(TEXT))) as usize;
    let mut kept: String = text.chars().take(letters.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

/// Positions near the wanted ones (which are sorted), `gap` apart and within the limits as far as they
/// have room.
pub(super) fn apart(wanted: &[f64], gap: f64, (low, high): (f64, f64)) -> Vec<f64> {
    let mut places: Vec<f64> = Vec::new();
    for want in wanted {
        let least = places.last().map_or(low, |last| last + gap);
        places.push(want.max(least));
    }
    // What was pushed out at the end goes back, and pushes those before it.
    let mut most = high;
    for place in places.iter_mut().rev() {
        *place = place.min(most);
        most = *place - gap;
    }
    places
}

/// Where a text is written.
pub(super) struct LabelPosition {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) anchor: TextAnchor,
}

#[derive(Clone, Copy)]
struct Block {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Block {
    fn meets(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }
}

/// Finds room for one label after the other.
pub(super) struct Placer {
    within: Block,
    taken: Vec<Block>,
}

impl Placer {
    /// Room within the axes that no point takes.
    pub(super) fn new(x: (f64, f64), y: (f64, f64), points: &[(f64, f64)]) -> Self {
        let around = |(x, y): &(f64, f64)| Block {
            left: x - 4.0,
            top: y - 4.0,
            right: x + 4.0,
            bottom: y + 4.0,
        };
        Self {
            within: Block { left: x.0, top: y.0 - LINE, right: x.1, bottom: y.1 },
            taken: points.iter().map(around).collect(),
        }
    }

    /// A place beside a point; `None` where there is no room.
    pub(super) fn place(&mut self, x: f64, y: f64, text: &str) -> Option<LabelPosition> {
        let width = width_of(text);
        let (left, middle, right) = (x - width - 7.0, x - width / 2.0, x + 7.0);
        for (start, base) in [
            (middle, y - 8.0),
            (left, y + 4.0),
            (right, y + 4.0),
            (left, y - 7.0),
            (right, y - 7.0),
            (middle, y + 17.0),
        ] {
            let block =
                Block { left: start, top: base - 11.0, right: start + width, bottom: base + 3.0 };
            let inside = block.left >= self.within.left
                && block.right <= self.within.right
                && block.top >= self.within.top
                && block.bottom <= self.within.bottom;
            if inside && !self.taken.iter().any(|taken| taken.meets(&block)) {
                self.taken.push(block);
                return Some(LabelPosition { x: start, y: base, anchor: TextAnchor::Start });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_that_would_cover_each_other_are_moved_apart() {
        assert_eq!(apart(&[10.0, 12.0, 50.0], 15.0, (0.0, 100.0)), [10.0, 25.0, 50.0]);
        assert_eq!(apart(&[90.0, 95.0, 99.0], 15.0, (0.0, 100.0)), [70.0, 85.0, 100.0]);
        assert_eq!(cut("decode f16", 1000.0), "decode f16");
        assert!(width_of(&cut("decode f16 with a long name", 80.0)) <= 80.0);
    }

    proptest! {
        #[test]
        fn no_two_placed_labels_meet(points in prop::collection::vec((60.0..400.0_f64, 40.0..250.0_f64), 1..60)) {
            let mut placer = Placer::new((60.0, 430.0), (30.0, 250.0), &points);
            let before = placer.taken.len();
            for (x, y) in &points {
                placer.place(*x, *y, "some label");
            }
            let labels = &placer.taken[before..];
            for (at, label) in labels.iter().enumerate() {
                prop_assert!(!labels[at + 1..].iter().any(|other| other.meets(label)));
                prop_assert!(label.left >= 60.0 && label.right <= 430.0);
            }
        }
    }
}
