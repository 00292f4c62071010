//! Which device to rent.

use serde_json::json;
use warpmark_analyze::money::dollars;
use warpmark_analyze::recommend::{self, Candidate, Recommendation, Wish};

use super::{Decision, Fields, Grid, Note};

/// A recommendation.
pub fn of(found: &Recommendation, wish: &Wish) -> Decision {
    let mut columns = Grid::new(
        "will do, the cheapest first",
        &["device", "with", ">rate", ">takes up to", ">an hour", ">price", "for"],
    );
    columns.rows.extend(found.candidates.iter().map(cells));
    for candidate in &found.candidates {
        let text = format!("{}: {}", candidate.device, candidate.tariff.origin);
        columns.notes.push(Note::plain("price: ", text));
    }
    let mut decision = Decision {
        title: title(wish),
        summary: summary(found, wish),
        head: vec![
            ("model", json!(wish.model)),
            ("recommended", json!(found.candidates.first().map(|best| &best.device))),
        ],
        ..Decision::default()
    };
    if !columns.rows.is_empty() {
        decision.grids.push(columns);
    }
    for refused in &found.refused {
        let text = format!("{} (run {}): {}", refused.device, refused.run, refused.reason);
        decision.notes.push(Note::bad("refused: ", text));
    }
    if found.replaced > 0 {
        let text = format!("{} earlier runs of the same devices do not count", found.replaced);
        decision.notes.push(Note::plain("note: ", text));
    }
    let chosen = found.candidates.iter().enumerate().map(|(at, candidate)| {
        line(&candidate.device, &candidate.run.0, Some((at + 1, candidate)), None)
    });
    let refused = found.refused.iter().map(|r| line(&r.device, &r.run.0, None, Some(&r.reason)));
    decision.lines = chosen.chain(refused).collect();
    decision
}

fn title(wish: &Wish) -> String {
    let phase = wish.phase.as_ref().map(|phase| format!(" ({phase})"));
    let latency = wish.latency.map(|latency| format!(", {latency} at most"));
    let budget = wish.budget.map(|budget| format!(", {budget} at most"));
    let parts = [phase, latency, budget].into_iter().flatten();
    format!("where to run {}{}", wish.model, parts.collect::<String>())
}

fn cells(candidate: &Candidate) -> Vec<String> {
    vec![
        candidate.device.clone(),
        candidate.cost.id.to_string(),
        candidate.cost.rate.to_string(),
        candidate.latency_high.to_string(),
        candidate.tariff.per_hour.to_string(),
        dollars(candidate.usd),
        candidate.cost.good.name().to_owned(),
    ]
}

fn summary(found: &Recommendation, wish: &Wish) -> String {
    let Some(best) = found.candidates.first() else {
        if !found.phases.is_empty() {
            let (wanted, model) = (wish.phase_words(), &wish.model);
            return format!(
                "no run has a row of {wanted} of {model:?}; {}",
                recommend::others(&found.phases)
            );
        }
        if found.known.is_empty() && found.refused.is_empty() {
            return "there is no recorded run to choose from: name results files, or measure with \
                    `warpmark run`"
                .to_owned();
        }
        if found.known.is_empty() {
            return format!("none of the {} recorded devices will do", found.refused.len());
        }
        let known = found.known.join(", ");
        return format!("no run has a row of {:?}; there are {known}", wish.model);
    };
    let of = format!("{} for {}", dollars(best.usd), best.cost.good.name());
    let why = match found.candidates.get(1) {
        Some(second) => {
            format!("{} comes next at {:.2} times that", second.device, second.usd / best.usd)
        }
        None => "no other device will do".to_owned(),
    };
    let batch = best.cost.batch.map_or_else(String::new, |batch| format!(" with batch {batch}"));
    format!(
        "take {}: {of}{batch}, {} each step at most by the samples; {why}",
        best.device, best.latency_high
    )
}

fn line(
    device: &str,
    run: &str,
    chosen: Option<(usize, &Candidate)>,
    reason: Option<&String>,
) -> Fields {
    let of = chosen.map(|(_, candidate)| candidate);
    vec![
        ("device", json!(device)),
        ("run", json!(run)),
        ("place", json!(chosen.map(|(place, _)| place))),
        ("refused_because", json!(reason)),
        ("id", json!(of.map(|of| of.cost.id.to_string()))),
        ("batch", json!(of.and_then(|of| of.cost.batch))),
        ("item_per_s_wall", json!(of.map(|of| of.cost.rate.rate))),
        ("wall_s", json!(of.map(|of| of.cost.wall.0))),
        ("wall_high_s", json!(of.map(|of| of.latency_high.0))),
        ("usd_per_hour", json!(of.map(|of| of.tariff.per_hour.get()))),
        ("price_from", json!(of.map(|of| &of.tariff.origin))),
        ("good", json!(of.map(|of| of.cost.good.name()))),
        ("usd_per_good", json!(of.map(|of| of.usd))),
    ]
}
