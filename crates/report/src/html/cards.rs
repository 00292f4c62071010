//! Runs beside each other: a heat map of what several of them measured.

use std::collections::BTreeMap;

use maud::{Markup, html};
use warpmark_analyze::{MainRate, RowAnalysis, RunAnalysis};

use super::table::{Cell, Head, numbers, table, words};

/// The heat map of several runs; nothing where no benchmark was measured twice.
pub(super) fn section(runs: &[RunAnalysis<'_>]) -> Option<Markup> {
    let mut benchmarks: Vec<(String, Vec<Option<&RowAnalysis<'_>>>)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (at, run) in runs.iter().enumerate() {
        for row in run.rows.iter().filter(|row| rate(row).is_some()) {
            // Methods that differ make numbers that cannot be compared.
            let name = format!("{} {}", row.record.id, row.record.method);
            let place = *places.entry(name).or_insert_with(|| {
                benchmarks.push((row.record.id.to_string(), vec![None; runs.len()]));
                benchmarks.len() - 1
            });
            benchmarks[place].1[at] = Some(row);
        }
    }
    let all = benchmarks.len();
    benchmarks.retain(|(_, rows)| rows.iter().flatten().count() > 1);
    if benchmarks.is_empty() {
        return None;
    }
    let single = all - benchmarks.len();
    let mut heads: Vec<Head> = vec![words("benchmark")];
    heads.extend(runs.iter().map(|run| numbers(&name(run))));
    let lines = benchmarks.iter().map(|(id, rows)| {
        let rates = rows.iter().flatten().filter_map(|row| rate(row)).map(MainRate::get);
        let best = rates.fold(0.0, f64::max);
        let mut cells = vec![Cell::Code(id.clone())];
        cells.extend(rows.iter().map(|row| {
            let Some(rate) = row.and_then(rate) else { return Cell::Text("-".to_owned()) };
            let share = if best > 0.0 { rate.get() / best } else { 0.0 };
            Cell::Heat(rate.to_string(), share)
        }));
        cells
    });
    Some(html! {
        p.note {
            "Rates; the fuller the colour, the nearer to the best of the line. "
            @if single > 0 { (single) " benchmarks that one run alone has are left out here." }
        }
        div.heat { (table(&heads, lines)) }
    })
}

fn rate(row: &RowAnalysis<'_>) -> Option<MainRate> {
    row.rates.as_ref()?.main(row.record).filter(|rate| rate.get().is_finite())
}

/// A run's device, and its own name, for two runs may be of one device.
pub(super) fn name(run: &RunAnalysis<'_>) -> String {
    match run.run {
        Some(line) => format!("{} {}", line.device.name, run.id),
        None => run.id.to_string(),
    }
}
