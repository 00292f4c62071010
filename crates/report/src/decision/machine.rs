//! Several cards of one machine: each alone and all at once, and copies between them.

use serde_json::json;
use warpmark_analyze::MainRate;
use warpmark_analyze::scaling::{self, Matrix, Scaling, Step};
use warpmark_record::BytesPerSecond;
use warpmark_record::store::Recording;

use super::{Decision, Grid, Note};
use crate::format::percent;

/// Adds what is known of machines with several cards.
pub fn add(decision: &mut Decision, recording: &Recording) {
    for matrix in scaling::matrices(recording) {
        decision.grids.push(matrix_grid(&matrix));
        decision.head.push(("copies", matrix_value(&matrix)));
    }
    for machine in scaling::of(recording) {
        decision.grids.push(scaling_grid(&machine));
        decision.head.push(("scaling", scaling_value(&machine)));
    }
}

fn place(host: &str) -> String {
    if host.is_empty() { String::new() } else { format!(", {host}") }
}

/// From the card of a row to that of a column: the rate, and what lies between.
fn matrix_grid(matrix: &Matrix) -> Grid {
    let mut columns = vec!["from \\ to".to_owned()];
    columns.extend(matrix.cards.iter().map(|card| format!(">cuda:{card}")));
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut grid = Grid::new(format!("copies between cards{}", place(&matrix.host)), &columns);
    let cell = |from: u32, to: u32| match matrix.copies.get(&(from, to)) {
        Some(copy) => format!("{} {}", BytesPerSecond(copy.rate), copy.link),
        None if from == to => "-".to_owned(),
        None => "not measured".to_owned(),
    };
    grid.rows.extend(matrix.cards.iter().map(|from| {
        let cells = matrix.cards.iter().map(|to| cell(*from, *to));
        [format!("cuda:{from}")].into_iter().chain(cells).collect()
    }));
    let through_host: Vec<String> = matrix
        .copies
        .iter()
        .filter(|(_, copy)| !copy.path.is_empty() && copy.path != "direct")
        .map(|((from, to), _)| format!("{from} to {to}"))
        .collect();
    if !through_host.is_empty() {
        let text = format!("the driver takes these through the host: {}", through_host.join(", "));
        grid.notes.push(Note::caution("note: ", text));
    }
    let legend = "NVn: n NVLinks; PIX: one PCIe switch, PXB: several, PHB: a host bridge, NODE: a NUMA \
                  node, SYS: between NUMA nodes";
    grid.notes.push(Note::plain("", legend));
    grid
}

fn matrix_value(matrix: &Matrix) -> serde_json::Value {
    let copies: Vec<serde_json::Value> = matrix
        .copies
        .iter()
        .map(|((from, to), copy)| {
            json!({"from": from, "to": to, "byte_per_s": copy.rate, "link": copy.link, "path": copy.path})
        })
        .collect();
    json!({"host": matrix.host, "cards": matrix.cards, "copies": copies})
}

/// What cards do together, and its share of what they do one after the other.
fn scaling_grid(machine: &Scaling) -> Grid {
    let mut columns = vec!["benchmark".to_owned(), ">one card".to_owned()];
    columns.extend(machine.steps.iter().map(|count| format!(">{count} cards")));
    columns.push("loses most".to_owned());
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let title = format!(
        "{}{}: cards at once, each with the same work",
        machine.device,
        place(&machine.host)
    );
    let mut grid = Grid::new(title, &columns);
    for row in &machine.rows {
        let mut cells = vec![row.id.to_string()];
        cells.push(row.alone.map_or_else(|| "-".to_owned(), |rate| rate.to_string()));
        cells.extend(row.steps.iter().map(|step| match step {
            Some(step) => format!("{:.2} x, {}", times(step, row.alone), percent(step.efficiency)),
            None => "-".to_owned(),
        }));
        let worst = row.steps.iter().flatten().last().map(|step| step.worst);
        let lost = worst.filter(|(_, share)| *share < 0.99);
        cells.push(lost.map_or_else(String::new, |(card, share)| {
            format!("cuda:{card}, at {} of its rate alone", percent(share))
        }));
        grid.rows.push(cells);
    }
    let text =
        "of one card, and the efficiency: the share of what the same cards do one after the other";
    grid.notes.push(Note::plain("times the rate ", text));
    grid
}

/// How many times as much the cards did together as one does.
fn times(step: &Step, alone: Option<MainRate>) -> f64 {
    alone.map_or(f64::NAN, |alone| step.rate / alone.get())
}

fn scaling_value(machine: &Scaling) -> serde_json::Value {
    let rows: Vec<serde_json::Value> = machine
        .rows
        .iter()
        .map(|row| {
            let steps: Vec<serde_json::Value> = row
                .steps
                .iter()
                .zip(&machine.steps)
                .filter_map(|(step, cards)| {
                    let step = step.as_ref()?;
                    Some(json!({
                        "cards": cards, "rate": step.rate, "efficiency": step.efficiency,
                        "worst_card": step.worst.0, "worst_share": step.worst.1,
                    }))
                })
                .collect();
            json!({"id": row.id.to_string(), "rate_alone": row.alone.map(MainRate::get), "steps": steps})
        })
        .collect();
    json!({"host": machine.host, "device": machine.device, "rows": rows})
}
