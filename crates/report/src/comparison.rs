//! A comparison, free of any format.

use serde_json::{Value, json};
use warpmark_analyze::compare::{Basis, Pair, Unmatched};
use warpmark_analyze::{Comparison, Overall, Verdict, holdings};
use warpmark_record::Outcome;

/// What a comparison has to say.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparisonView {
    /// The titles of the table's columns.
    pub header: [&'static str; 6],
    /// One line a pair: benchmark, time in A, time in B, ratio, interval, verdict.
    pub pairs: Vec<[String; 6]>,
    /// Benchmarks that must not be compared, each with its reasons.
    pub refused: Vec<String>,
    /// Benchmarks that one side lacks, each with what is known.
    pub unmatched: Vec<String>,
    /// Differences of the surroundings.
    pub notes: Vec<String>,
    /// The verdict on the whole.
    pub summary: String,
}

/// The view of a comparison.
pub fn of(found: &Comparison) -> ComparisonView {
    let refused = found
        .refused
        .iter()
        .map(|refusal| format!("{}: {}", refusal.id, refusal.reasons.join("; ")));
    let only_a = found.only_a.iter().map(|row| unmatched(row, "A", "B"));
    let only_b = found.only_b.iter().map(|row| unmatched(row, "B", "A"));
    ComparisonView {
        header: ["benchmark", "A", "B", "B / A", "interval", "B is"],
        pairs: found.pairs.iter().map(cells).collect(),
        refused: refused.collect(),
        unmatched: only_a.chain(only_b).collect(),
        notes: found.notes.iter().cloned().chain(found.basis.map(basis)).collect(),
        summary: summary(found),
    }
}

fn cells(pair: &Pair) -> [String; 6] {
    let id = if pair.a == pair.b {
        pair.a.to_string()
    } else {
        format!("{} -> @{}", pair.a, pair.b.engine())
    };
    [
        id,
        pair.time_a.to_string(),
        pair.time_b.to_string(),
        format!("{:.3}", pair.ratio),
        format!("{:.3} to {:.3}", pair.interval.low, pair.interval.high),
        pair.verdict.to_string(),
    ]
}

fn unmatched(row: &Unmatched, here: &str, there: &str) -> String {
    let other = match &row.other_side {
        None => format!("{there} has no such row"),
        Some(Outcome::Measured) => format!("measured in {there}, not comparable"),
        Some(Outcome::Skipped { reason }) => format!("skipped in {there}: {reason}"),
        Some(Outcome::Failed { reason }) => format!("failed in {there}: {reason}"),
    };
    format!("{} measured in {here} alone: {other}", row.id)
}

/// What the variation between runs was taken to be, and what would tell it better.
fn basis(basis: Basis) -> String {
    let typical = format!("{:.1} %", basis.typical * 100.0);
    match basis {
        Basis { repeated: false, .. } => format!(
            "two runs of one program are taken to differ by about {typical}, by what the rows say of \
             themselves, since none was repeated; several runs a side with `--all-runs`, or `warpmark ab`, \
             measure it"
        ),
        Basis { earlier: 0, .. } => {
            format!("the runs of a side differ by about {typical} among each other")
        }
        Basis { earlier, .. } => {
            format!("runs of this machine differ by about {typical}, by {earlier} earlier ones")
        }
    }
}

fn summary(found: &Comparison) -> String {
    let mean = found.mean_ratio().map_or_else(String::new, |ratio| {
        let count = match found.pairs.len() {
            1 => "1 benchmark".to_owned(),
            n => format!("{n} benchmarks"),
        };
        format!(", geometric mean of B / A {ratio:.3} over {count}")
    });
    let single = found.basis.is_some_and(|basis| !basis.repeated);
    let what = match found.overall() {
        Overall::SameOrFaster => "B is the same or faster",
        Overall::Slower if !found.pairs.iter().any(|pair| pair.verdict == Verdict::Slower) => {
            "B is slower in all rows together, by what they have in common"
        }
        Overall::Slower => "B is slower",
        Overall::Ambiguous if single => {
            "ambiguous: B may be slower, and two single runs cannot tell; `warpmark ab` can"
        }
        Overall::Ambiguous => "ambiguous: B may be slower",
        Overall::NotComparable if found.refused.is_empty() => &nothing_in_common(found),
        Overall::NotComparable => "not comparable: the sides are unlike",
    };
    format!("{what}{mean} (differences up to {:.1} % do not count)", found.threshold * 100.0)
}

/// What each side has that the other lacks.
fn nothing_in_common(found: &Comparison) -> String {
    let held = |rows: &[Unmatched]| holdings::of(rows.iter().map(|row| &row.id));
    let (a, b) = (held(&found.only_a), held(&found.only_b));
    format!("not comparable: no benchmark was measured on both sides; A has {a}, B has {b}")
}

/// Every line of a comparison with its figures, for CSV and JSON.
pub(crate) fn fields(found: &Comparison) -> Vec<Vec<(&'static str, Value)>> {
    let line = |id: String, verdict: &str, figures: Option<&Pair>, reason: Option<String>| {
        vec![
            ("id", json!(id)),
            ("id_b", json!(figures.map(|pair| pair.b.to_string()))),
            ("verdict", json!(verdict)),
            ("time_a_s", json!(figures.map(|pair| pair.time_a.0))),
            ("time_b_s", json!(figures.map(|pair| pair.time_b.0))),
            ("ratio", json!(figures.map(|pair| pair.ratio))),
            ("ratio_low", json!(figures.map(|pair| pair.interval.low))),
            ("ratio_high", json!(figures.map(|pair| pair.interval.high))),
            ("together_low", json!(figures.map(|pair| pair.together.low))),
            ("together_high", json!(figures.map(|pair| pair.together.high))),
            ("reason", json!(reason)),
        ]
    };
    let pairs = found
        .pairs
        .iter()
        .map(|pair| line(pair.a.to_string(), &pair.verdict.to_string(), Some(pair), None));
    let refused = found.refused.iter().map(|refusal| {
        line(refusal.id.to_string(), "refused", None, Some(refusal.reasons.join("; ")))
    });
    let only = |rows: &[Unmatched], verdict: &'static str, here: &str, there: &str| {
        rows.iter()
            .map(|row| line(row.id.to_string(), verdict, None, Some(unmatched(row, here, there))))
            .collect::<Vec<_>>()
    };
    let mut lines: Vec<_> = pairs.chain(refused).collect();
    lines.extend(only(&found.only_a, "only_a", "A", "B"));
    lines.extend(only(&found.only_b, "only_b", "B", "A"));
    lines
}
