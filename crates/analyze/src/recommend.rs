//! Which of the recorded devices to rent for a model, within a latency and a budget.
//!
//! A row is within the latency when the upper end of the interval of its median wall time is. Of a
//! device's rows within it the one that yields most a second stands for it, because at a given price that
//! one is the cheapest; devices are ordered by what the model's product costs there. Whatever is not
//! recommended has its reason.

use std::collections::BTreeMap;

use warpmark_record::{BenchmarkId, DeviceKind, Group, Outcome, RunId, Seconds, stats};

use crate::cost::{RowCost, Tariff, Tariffs, row_cost};
use crate::money::UsdPerHour;
use crate::rates::CONFIDENCE;
use crate::{RowAnalysis, RunAnalysis, holdings};

/// What is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// The model, as ids name it.
    pub model: String,
    /// The phase; `None` for the usual one of the model's group: decode, transcribe, generate.
    pub phase: Option<String>,
    /// The longest that an iteration of it may take.
    pub latency: Option<Seconds>,
    /// The most that an hour may cost.
    pub budget: Option<UsdPerHour>,
}

/// A device that will do.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The device's name.
    pub device: String,
    /// The run that says so.
    pub run: RunId,
    /// What an hour costs.
    pub tariff: Tariff,
    /// The row that stands for it.
    pub cost: RowCost,
    /// The upper end of its median's interval.
    pub latency_high: Seconds,
    /// Dollars for the good.
    pub usd: f64,
}

/// A device that will not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The device's name.
    pub device: String,
    /// The run that says so.
    pub run: RunId,
    /// Why not.
    pub reason: String,
}

/// The devices, the best first, and the others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recommendation {
    /// Those that will do, the cheapest first.
    pub candidates: Vec<Candidate>,
    /// Those that will not.
    pub refused: Vec<Refused>,
    /// Runs that a later run of the same device replaces.
    pub replaced: usize,
    /// The models of all runs, where none has a row of the one that is wanted.
    pub known: Vec<String>,
    /// The phases of the wanted model that runs have rows of, where none is the wanted one.
    pub phases: Vec<String>,
}

/// Chooses among the devices of some runs.
pub fn recommend(runs: &[RunAnalysis<'_>], wish: &Wish, tariffs: &Tariffs) -> Recommendation {
    let mut found = Recommendation::default();
    let has = |run: &RunAnalysis<'_>| run.rows.iter().any(|row| is_wanted(&row.record.id, wish));
    let mut latest: BTreeMap<String, &RunAnalysis<'_>> = BTreeMap::new();
    for run in runs {
        let known = latest.get(&device(run));
        let started = |run: &RunAnalysis<'_>| run.run.map(|run| run.started_at.clone());
        // A run without the model replaces none that has it.
        let newer =
            known.is_none_or(|known| (has(run), started(run)) >= (has(known), started(known)));
        found.replaced += usize::from(known.is_some());
        if newer {
            latest.insert(device(run), run);
        }
    }
    for run in latest.values() {
        match candidate(run, wish, tariffs) {
            Ok(candidate) => found.candidates.push(candidate),
            Err(reason) => {
                found.refused.push(Refused { device: device(run), run: run.id.clone(), reason });
            }
        }
    }
    found.candidates.sort_by(|a, b| a.usd.total_cmp(&b.usd));
    if !runs.iter().any(has) {
        let ids = || runs.iter().flat_map(|run| &run.rows).map(|row| &row.record.id);
        found.phases = holdings::phases(ids(), &wish.model);
        if found.phases.is_empty() {
            found.known = holdings::models(ids());
        }
    }
    found
}

fn device(run: &RunAnalysis<'_>) -> String {
    run.run
        .map_or_else(|| format!("unknown device of run {}", run.id), |run| run.device.name.clone())
}

/// Whether a row is of the wanted model and phase.
fn is_wanted(id: &BenchmarkId, wish: &Wish) -> bool {
    let Some(usual) = Group::usual_phase_of(id.group()) else { return false };
    let phase = wish.phase.as_deref().unwrap_or(usual);
    id.subject() == wish.model && id.segments().get(2).is_some_and(|segment| segment == phase)
}

/// What a run has instead of what is wanted.
fn nothing_of(run: &RunAnalysis<'_>, wish: &Wish) -> String {
    let ids = || run.rows.iter().map(|row| &row.record.id);
    let phases = holdings::phases(ids(), &wish.model);
    if phases.is_empty() {
        let models = holdings::models(ids());
        if models.is_empty() {
            return format!("it has no row of {}, nor of any model", wish.model);
        }
        let models = holdings::listed(models);
        return format!("it has no row of {}; of models it has {models}", wish.model);
    }
    format!("it has no row of {}; {}", wish.phase_words(), others(&phases))
}

/// Phases that there are rows of, as options to ask for them with.
pub fn others(phases: &[String]) -> String {
    let options: Vec<String> = phases.iter().map(|phase| format!("`--phase {phase}`")).collect();
    format!("{} {}", options.join(", "), if phases.len() == 1 { "has" } else { "have" })
}

impl Wish {
    /// The wanted phase, or all that it may be.
    pub fn phase_words(&self) -> String {
        self.phase.clone().unwrap_or_else(Group::usual_phases)
    }
}

fn candidate(run: &RunAnalysis<'_>, wish: &Wish, tariffs: &Tariffs) -> Result<Candidate, String> {
    if run.run.is_some_and(|run| run.device.kind == DeviceKind::Simulated) {
        return Err("it is simulated, and its figures prove nothing about hardware".to_owned());
    }
    let rows: Vec<&RowAnalysis<'_>> =
        run.rows.iter().filter(|row| is_wanted(&row.record.id, wish)).collect();
    if rows.is_empty() {
        return Err(nothing_of(run, wish));
    }
    let tariff = tariffs.of(run)?;
    if let Some(budget) = wish.budget.filter(|budget| tariff.per_hour > *budget) {
        return Err(format!("{} is above the budget of {budget}", tariff.per_hour));
    }
    let timed: Vec<(RowCost, f64)> = rows
        .iter()
        .filter_map(|row| Some((row_cost(row, Some(tariff.per_hour))?, latency_high(row)?)))
        .collect();
    if timed.is_empty() {
        let mut reasons = rows.iter().filter(|row| row.record.outcome != Outcome::Measured);
        let reason = reasons.find_map(|row| row.reason());
        return Err(match reason {
            Some(reason) => format!("{} was not measured on it: {reason}", wish.model),
            None => format!("no row of {} has enough samples for an interval", wish.model),
        });
    }
    let within = |high: &f64| wish.latency.is_none_or(|latency| *high <= latency.0);
    let nearest = timed.iter().map(|(_, high)| *high).fold(f64::INFINITY, f64::min);
    let best = timed
        .into_iter()
        .filter(|(_, high)| within(high))
        .max_by(|a, b| a.0.rate.rate.total_cmp(&b.0.rate.rate));
    let Some((cost, high)) = best else {
        let wanted = wish.latency.map_or_else(String::new, |latency| latency.to_string());
        return Err(format!(
            "its fastest row may take {}, above the {wanted} that are wanted",
            Seconds(nearest)
        ));
    };
    let Some(usd) = cost.usd else {
        return Err(format!("{} yields nothing that is paid for", cost.id));
    };
    Ok(Candidate {
        device: device(run),
        run: run.id.clone(),
        tariff,
        cost,
        latency_high: Seconds(high),
        usd,
    })
}

/// The upper end of the interval of the median wall time.
fn latency_high(row: &RowAnalysis<'_>) -> Option<f64> {
    let walls = row.record.samples.as_ref()?.wall_per_iteration();
    stats::median_interval(&walls, CONFIDENCE).map(|interval| interval.high)
}

#[cfg(test)]
#[path = "recommend_tests.rs"]
mod tests;
