//! What rows cost, in dollars and joules.

use serde_json::json;
use warpmark_analyze::cost::{RowCost, RunCost, Tariffs};
use warpmark_analyze::money::dollars;
use warpmark_analyze::{RunAnalysis, analyze};
use warpmark_record::store::Recording;
use warpmark_record::units::three_digits;
use warpmark_record::{Joules, Record};

use super::{Decision, Fields, Grid, Note, held};

/// What the rows of all runs cost; `selected` chooses among them.
pub fn of(
    recording: &Recording,
    selected: impl Fn(&Record) -> bool,
    tariffs: &Tariffs,
) -> Decision {
    let mut decision = Decision { title: "what it costs".to_owned(), ..Decision::default() };
    for mut run in analyze(recording) {
        run.rows.retain(|row| selected(row.record));
        let cost = RunCost::of(&run, tariffs);
        if cost.rows.is_empty() {
            continue;
        }
        decision.grids.extend(grids(&run, &cost));
        decision.lines.extend(cost.rows.iter().map(|row| line(&run, &cost, row)));
        decision.notes.extend(cheapest(&run, &cost));
    }
    if decision.grids.is_empty() {
        let held = held(recording, &selected);
        decision.summary = format!("no row yields anything that is paid for; there is {held}");
    }
    decision
}

/// The device's name, for a person.
fn device(run: &RunAnalysis<'_>) -> String {
    let name = run.run.map_or("unknown device", |run| run.device.name.as_str());
    format!("{name}, run {}", run.id)
}

/// A table a model; the price and what else holds for all of them stand under the last.
fn grids(run: &RunAnalysis<'_>, cost: &RunCost) -> Vec<Grid> {
    let mut grids: Vec<Grid> = Vec::new();
    for row in &cost.rows {
        let title = format!("{}/{} on {}", row.id.group(), row.id.subject(), device(run));
        if grids.last().is_none_or(|grid| grid.title != title) {
            grids.push(Grid::new(title, &COLUMNS));
        }
        if let Some(grid) = grids.last_mut() {
            grid.rows.push(cells(row));
        }
    }
    if let Some(last) = grids.last_mut() {
        last.notes.push(match &cost.tariff {
            Ok(tariff) => Note::plain("price: ", tariff.origin.clone()),
            Err(reason) => Note::caution("price: ", reason.clone()),
        });
        let mut reasons: Vec<&String> =
            cost.rows.iter().filter_map(|row| row.power.as_ref().err()).collect();
        reasons.sort();
        reasons.dedup();
        let reasons = reasons.into_iter().map(|reason| Note::plain("no energy: ", reason.clone()));
        last.notes.extend(reasons);
    }
    grids
}

const COLUMNS: [&str; 8] =
    ["benchmark", ">rate", ">price", "for", ">for $1", ">per $/h", ">J each", ">per W"];

fn cells(row: &RowCost) -> Vec<String> {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let unit = row.rate.unit.symbol();
    let rest = row.id.segments().get(2..).unwrap_or_default().join("/");
    vec![
        format!("{rest}@{}", row.id.engine()),
        row.rate.to_string(),
        or_dash(row.usd.map(dollars)),
        row.good.name().to_owned(),
        or_dash(row.items_per_usd.map(|items| format!("{} {unit}", short(items)))),
        or_dash(row.rate_per_usd_hour.map(three_digits)),
        or_dash(row.joules_per_item().map(|joules| Joules(joules).to_string())),
        or_dash(row.rate_per_watt().map(three_digits)),
    ]
}

/// A count in few characters.
fn short(count: f64) -> String {
    match count {
        count if count >= 1e9 => format!("{}G", three_digits(count / 1e9)),
        count if count >= 1e6 => format!("{}M", three_digits(count / 1e6)),
        _ => three_digits(count),
    }
}

fn cheapest(run: &RunAnalysis<'_>, cost: &RunCost) -> Vec<Note> {
    let notes = cost.cheapest().into_iter().filter_map(|((model, good), row)| {
        Some(Note::plain(
            "cheapest: ",
            format!(
                "{model} on {}: {} for {} with {}",
                run.run.map_or("an unknown device", |run| run.device.name.as_str()),
                dollars(row.usd?),
                good.name(),
                row.id
            ),
        ))
    });
    notes.collect()
}

fn line(run: &RunAnalysis<'_>, cost: &RunCost, row: &RowCost) -> Fields {
    let tariff = cost.tariff.as_ref();
    vec![
        ("run", json!(run.id.0)),
        ("device", json!(run.run.map(|run| &run.device.name))),
        ("id", json!(row.id.to_string())),
        ("good", json!(row.good.name())),
        ("item", json!(row.rate.unit)),
        ("item_per_s_wall", json!(row.rate.rate)),
        ("batch", json!(row.batch)),
        ("usd_per_hour", json!(tariff.ok().map(|tariff| tariff.per_hour.get()))),
        ("price_from", json!(tariff.ok().map(|tariff| &tariff.origin))),
        ("no_price_because", json!(tariff.err())),
        ("usd_per_good", json!(row.usd)),
        ("item_per_usd", json!(row.items_per_usd)),
        ("item_per_s_per_usd_hour", json!(row.rate_per_usd_hour)),
        ("power_w", json!(row.power.as_ref().ok().map(|power| power.0))),
        ("joule_per_item", json!(row.joules_per_item())),
        ("item_per_s_per_w", json!(row.rate_per_watt())),
        ("no_energy_because", json!(row.power.as_ref().err())),
    ]
}
