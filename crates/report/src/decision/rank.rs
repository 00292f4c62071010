//! Several devices, ranked.

use serde_json::json;
use warpmark_analyze::holdings;
use warpmark_analyze::rank::{Mean, Placing, Ranking, Workload};
use warpmark_record::stats::Interval;

use super::{Decision, Fields, Grid, Note};

/// A ranking.
pub fn of(found: &Ranking) -> Decision {
    let mut decision = Decision {
        title: format!("{} devices", found.devices.len()),
        summary: summary(found),
        head: vec![
            ("devices", json!(found.devices)),
            ("common_workloads", json!(found.common)),
            ("means", json!(found.means.iter().map(mean_value).collect::<Vec<_>>())),
        ],
        ..Decision::default()
    };
    if !found.means.is_empty() {
        let title = format!("geometric mean of times over {} common workloads", found.common);
        let columns = [">", "device", ">times the best", ">interval", ">runs"];
        let mut grid = Grid::new(title, &columns);
        grid.rows.extend(found.means.iter().enumerate().map(|(at, mean)| mean_cells(at, mean)));
        if found.means.iter().any(|mean| mean.runs < 2) {
            grid.notes.push(Note::caution(
                "note: ",
                "a device with one run has an interval that knows nothing of what changes from run to \
                 run",
            ));
        }
        decision.grids.push(grid);
    }
    let mut columns = vec!["benchmark".to_owned()];
    columns.extend(found.devices.iter().map(|device| format!(">{device}")));
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut grid = Grid::new("rank and time of each workload", &columns);
    grid.rows.extend(found.workloads.iter().map(workload_cells));
    decision.grids.push(grid);
    decision.notes.extend(
        found.refused.iter().map(|(id, why)| Note::bad("refused: ", format!("{id}: {why}"))),
    );
    decision.notes.extend(
        found
            .missing
            .iter()
            .map(|(device, id, why)| Note::plain("missing: ", format!("{id} on {device}: {why}"))),
    );
    decision.lines = found.workloads.iter().flat_map(|workload| lines(found, workload)).collect();
    decision
}

fn summary(found: &Ranking) -> String {
    let [first, second, ..] = found.means.as_slice() else {
        let devices = holdings::listed(found.devices.iter().map(String::as_str));
        let some = match found.workloads.len() {
            0 => "no workload on two of them either".to_owned(),
            n => format!("{n} on at least two"),
        };
        return format!(
            "no workload was measured on all of {devices}, so there is no mean; {some}, and what is \
             missing is listed"
        );
    };
    let sure = second.interval.is_some_and(|interval| interval.low > 1.0);
    let word = if sure { "is first" } else { "may be first: the next one is within the interval" };
    format!("{} {word}; {} takes {:.2} times as long", first.device, second.device, second.ratio)
}

fn mean_cells(at: usize, mean: &Mean) -> Vec<String> {
    let interval = mean.interval.map_or_else(|| "-".to_owned(), interval_words);
    vec![
        (at + 1).to_string(),
        mean.device.clone(),
        format!("{:.3}", mean.ratio),
        interval,
        mean.runs.to_string(),
    ]
}

fn interval_words(interval: Interval) -> String {
    format!("{:.3} to {:.3}", interval.low, interval.high)
}

fn workload_cells(workload: &Workload) -> Vec<String> {
    let place = |place: &Option<Placing>| match place {
        Some(place) => format!("{}. {}", place.rank, place.time),
        None => "-".to_owned(),
    };
    [workload.id.to_string()].into_iter().chain(workload.places.iter().map(place)).collect()
}

fn mean_value(mean: &Mean) -> serde_json::Value {
    json!({
        "device": mean.device,
        "ratio": mean.ratio,
        "ratio_low": mean.interval.map(|interval| interval.low),
        "ratio_high": mean.interval.map(|interval| interval.high),
        "runs": mean.runs,
    })
}

fn lines(found: &Ranking, workload: &Workload) -> Vec<Fields> {
    let placed = found.devices.iter().zip(&workload.places);
    placed
        .map(|(device, place)| {
            vec![
                ("id", json!(workload.id.to_string())),
                ("device", json!(device)),
                ("rank", json!(place.map(|place| place.rank))),
                ("time_s", json!(place.map(|place| place.time.0))),
                ("ratio_to_best", json!(place.map(|place| place.ratio))),
                ("runs", json!(place.map(|place| place.runs))),
            ]
        })
        .collect()
}
