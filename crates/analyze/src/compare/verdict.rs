//! What follows from a comparison, for one pair of rows and for all of them.

use std::fmt;

use warpmark_record::stats::Interval;

/// What became of one benchmark from A to B.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Faster by more than the threshold.
    Faster,
    /// Slower by more than the threshold.
    Slower,
    /// Within the threshold.
    Same,
    /// The samples do not decide it.
    Ambiguous,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::Same => "same",
            Self::Ambiguous => "ambiguous",
        })
    }
}

/// The verdict on a ratio by its own interval and the wider one of all rows `together`; the module of
/// comparisons has the rule.
pub fn verdict(alone: Interval, together: Interval, threshold: f64) -> Verdict {
    let (least, most) = (1.0 / (1.0 + threshold), 1.0 + threshold);
    if together.high < least {
        Verdict::Faster
    } else if together.low > most {
        Verdict::Slower
    } else if alone.low >= least && alone.high <= most {
        Verdict::Same
    } else {
        Verdict::Ambiguous
    }
}

/// What all rows have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// The middle of all ratios.
    pub ratio: f64,
    /// Its interval.
    pub interval: Interval,
    /// What follows.
    pub verdict: Verdict,
}

/// The verdict on all rows together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overall {
    /// No row of B is slower, and none may be.
    SameOrFaster,
    /// A row of B is slower, or all of them together are.
    Slower,
    /// No row is known to be slower, but one may be, or one that A measured failed in B.
    Ambiguous,
    /// Unlike things, or nothing in common.
    NotComparable,
}

impl Overall {
    /// The exit code of `compare`: 0, 1, 2, 3 in the order of the variants.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::SameOrFaster => 0,
            Self::Slower => 1,
            Self::Ambiguous => 2,
            Self::NotComparable => 3,
        }
    }
}

impl fmt::Display for Overall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SameOrFaster => "same or faster",
            Self::Slower => "slower",
            Self::Ambiguous => "ambiguous",
            Self::NotComparable => "not comparable",
        })
    }
}
