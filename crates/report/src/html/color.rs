//! Which colour stands for what, the same all over a page.

use std::collections::BTreeSet;

use warpmark_analyze::RunAnalysis;
use warpmark_record::{Group, Record};

use super::plain::word;

/// The page has so many colours for things that have no order.
const COLORS: usize = 8;

/// The family of a row: `matmul`, `memory`, `text`, `image`, ...
pub(super) fn family(record: &Record) -> String {
    let id = &record.id;
    if id.group() == "micro" { id.subject().to_owned() } else { id.group().to_owned() }
}

/// The colour of a family.
pub(super) fn of_family(name: &str) -> String {
    let group = Group::named(name).and_then(|group| group.color);
    let at = group.unwrap_or(match name {
        "matmul" => 1,
        "memory" => 3,
        "serve" => 7,
        _ => COLORS,
    });
    variable(at - 1)
}

/// The colour of an arithmetic, by its operands and sums.
pub(super) fn of_arithmetic(name: &str) -> String {
    let known = [
        "f16.f32",
        "bf16.f32",
        "tf32.f32",
        "f32.f32",
        "f64.f64",
        "int8.int32",
        "fp8.f32",
        "f16.f16",
    ];
    variable(known.iter().position(|known| *known == name).unwrap_or(COLORS - 1))
}

/// The colour of a part of a whole: the stages of a load.
pub(super) fn of_part(at: usize) -> String {
    variable(at)
}

/// The colour of what bounds a row.
pub(super) fn of_bound(name: &str) -> String {
    format!("var(--b-{name})")
}

fn variable(at: usize) -> String {
    format!("var(--c{})", at % COLORS + 1)
}

/// The colours of engines and dtypes.
pub(super) struct Engines(Vec<String>);

impl Engines {
    /// Of all model rows of all runs, so that one engine has one colour on every chart.
    pub(super) fn of(runs: &[RunAnalysis<'_>]) -> Self {
        let rows = runs.iter().flat_map(|run| &run.rows).map(|row| row.record);
        let keys: BTreeSet<String> =
            rows.filter(|record| record.id.group() != "micro").map(key).collect();
        Self(keys.into_iter().collect())
    }

    /// The colour of a row's engine and dtype.
    pub(super) fn color(&self, record: &Record) -> String {
        let key = key(record);
        variable(self.0.iter().position(|known| *known == key).unwrap_or(COLORS - 1))
    }
}

fn key(record: &Record) -> String {
    format!("{} {}", record.id.engine(), word(record, "dtype").unwrap_or_default())
}
