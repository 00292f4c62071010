//! Equal devices against each other.

use serde_json::json;
use warpmark_analyze::fleet::{Fleet, Kind, Member, Standing};

use super::{Decision, Fields, Grid, Note};
use crate::format::percent;

/// A page of a fleet; tables of members have no more rows than `most`, the slow ones and the slowest first.
pub fn of(fleet: &Fleet, most: usize) -> Decision {
    let members: usize = fleet.kinds.iter().map(|kind| kind.members.len()).sum();
    let mut decision = Decision {
        title: format!("{members} members by {}", fleet.by),
        summary: summary(fleet),
        head: vec![
            ("by", json!(fleet.by.to_string())),
            ("kinds", json!(fleet.kinds.iter().map(kind_value).collect::<Vec<_>>())),
            ("unplaced", json!(fleet.unplaced.iter().map(|run| &run.0).collect::<Vec<_>>())),
        ],
        ..Decision::default()
    };
    for kind in &fleet.kinds {
        decision.grids.push(members_grid(fleet, kind, most));
        if kind.slow().next().is_some() {
            decision.grids.push(slow_grid(kind, most));
        }
        if !kind.workloads.is_empty() {
            decision.grids.push(workloads_grid(kind));
        }
        decision.notes.extend(notes(kind, most));
        decision.lines.extend(kind.members.iter().flat_map(|member| lines(kind, member)));
    }
    if let [first, ..] = fleet.unplaced.as_slice() {
        let count = fleet.unplaced.len();
        let text = format!("{count} runs do not tell their {}, such as {first}", fleet.by);
        decision.notes.push(Note::caution("left out: ", text));
    }
    decision
}

fn summary(fleet: &Fleet) -> String {
    let of_kind = |kind: &Kind| {
        let count = kind.members.len();
        let slow: Vec<String> =
            kind.slow().take(3).map(|member| slow_words(kind, member)).collect();
        let more = kind.slow().count().saturating_sub(slow.len());
        match slow.len() {
            0 if count < 2 => format!("{}: one alone, and nothing to hold it against", kind.device),
            0 => format!("{}: none of {count} is slow", kind.device),
            _ if more > 0 => {
                format!("{}: {}; and {more} more of {count}", kind.device, slow.join("; "))
            }
            _ => format!("{}: of {count}, {}", kind.device, slow.join("; ")),
        }
    };
    fleet.kinds.iter().map(of_kind).collect::<Vec<_>>().join(". ")
}

/// A slow member in words: by how much, and by which row.
fn slow_words(kind: &Kind, member: &Member) -> String {
    let Some(worst) = member.worst() else { return member.name.clone() };
    format!(
        "{} is slow: {:.2} times the normal time of {} ({} of {} rows)",
        member.name,
        worst.ratio,
        kind.workloads[worst.workload].id,
        member.slow_rows(),
        member.standings.len()
    )
}

fn members_grid(fleet: &Fleet, kind: &Kind, most: usize) -> Grid {
    let title = format!("{}: time over the normal one, geometric mean", kind.device);
    let by = fleet.by.to_string();
    let columns =
        [by.as_str(), ">runs", ">times the normal", ">slow rows", "worst row", ">times", "remarks"];
    let mut grid = Grid::new(title, &columns);
    grid.rows.extend(kind.members.iter().take(most).map(|member| member_cells(kind, member)));
    let more = kind.members.len().saturating_sub(most);
    if more > 0 {
        let text = format!("{more} more, none of them slower; `--format csv` and a page have all");
        grid.notes.push(Note::plain("", text));
    }
    if kind.members.len() == 2 {
        let text = "of two nobody can say which is normal: the faster one is taken for it";
        grid.notes.push(Note::plain("note: ", text));
    }
    grid
}

fn member_cells(kind: &Kind, member: &Member) -> Vec<String> {
    let worst = member.worst();
    let mut remarks = member.unlike.clone();
    if !member.failed.is_empty() {
        remarks.push(format!("{} failed", member.failed.len()));
    }
    if member.lacking > 0 {
        remarks.push(format!("{} rows lacking: interrupted", member.lacking));
    }
    vec![
        member.name.clone(),
        member.runs.to_string(),
        member.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}")),
        member.slow_rows().to_string(),
        worst.map_or_else(|| "-".to_owned(), |worst| kind.workloads[worst.workload].id.to_string()),
        worst.map_or_else(|| "-".to_owned(), |worst| format!("{:.3}", worst.ratio)),
        remarks.join("; "),
    ]
}

/// Every row by which a member is slow, the worst first.
fn slow_grid(kind: &Kind, most: usize) -> Grid {
    let mut slow: Vec<(&Member, &Standing)> = kind
        .slow()
        .flat_map(|member| member.standings.iter().map(move |standing| (member, standing)))
        .filter(|(_, standing)| standing.slow)
        .collect();
    slow.sort_by(|(_, a), (_, b)| b.ratio.total_cmp(&a.ratio));
    let columns = ["member", "benchmark", ">time", ">normal", ">times", ">slow beyond"];
    let mut grid = Grid::new(format!("{}: what is slow", kind.device), &columns);
    grid.rows.extend(slow.iter().take(most).map(|(member, standing)| {
        let workload = &kind.workloads[standing.workload];
        vec![
            member.name.clone(),
            workload.id.to_string(),
            standing.time.to_string(),
            workload.normal.to_string(),
            format!("{:.3}", standing.ratio),
            format!("{:.3}", 1.0 + workload.edge),
        ]
    }));
    let more = slow.len().saturating_sub(most);
    if more > 0 {
        grid.notes.push(Note::plain("", format!("{more} more rows; `--format csv` has all")));
    }
    grid
}

fn workloads_grid(kind: &Kind) -> Grid {
    let columns =
        ["benchmark", ">members", ">normal", ">shortest", ">longest", ">±", "the longest is of"];
    let mut grid = Grid::new(format!("{}: each workload", kind.device), &columns);
    grid.rows.extend(kind.workloads.iter().map(|workload| {
        let slowest = kind.members.get(workload.slowest);
        vec![
            workload.id.to_string(),
            workload.members.to_string(),
            workload.normal.to_string(),
            workload.range.0.to_string(),
            workload.range.1.to_string(),
            workload.spread.map_or_else(|| "-".to_owned(), percent),
            slowest.map_or_else(String::new, |member| member.name.clone()),
        ]
    }));
    grid
}

fn notes(kind: &Kind, most: usize) -> Vec<Note> {
    let failed = kind.members.iter().flat_map(|member| {
        let of = |id| Note::bad("failed: ", format!("{id} on {}", member.name));
        member.failed.iter().map(of)
    });
    let refused =
        kind.refused.iter().map(|(id, why)| Note::bad("refused: ", format!("{id} on {why}")));
    let all: Vec<Note> = failed.chain(refused).collect();
    let more = all.len().saturating_sub(most);
    let mut notes: Vec<Note> = all.into_iter().take(most).collect();
    if more > 0 {
        notes.push(Note::bad("", format!("{more} more failed or refused")));
    }
    notes
}

fn kind_value(kind: &Kind) -> serde_json::Value {
    let members: Vec<serde_json::Value> = kind
        .members
        .iter()
        .map(|member| {
            let worst = member.worst();
            json!({
                "name": member.name,
                "runs": member.runs,
                "ratio": member.ratio,
                "slow_rows": member.slow_rows(),
                "rows": member.standings.len(),
                "worst": worst.map(|worst| kind.workloads[worst.workload].id.to_string()),
                "worst_ratio": worst.map(|worst| worst.ratio),
                "unlike": member.unlike,
                "failed": member.failed.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "lacking": member.lacking,
            })
        })
        .collect();
    json!({ "device": kind.device, "members": members })
}

fn lines(kind: &Kind, member: &Member) -> Vec<Fields> {
    let line = |standing: &Standing| {
        let workload = &kind.workloads[standing.workload];
        vec![
            ("device", json!(kind.device)),
            ("member", json!(member.name)),
            ("id", json!(workload.id.to_string())),
            ("time_s", json!(standing.time.0)),
            ("normal_s", json!(workload.normal.0)),
            ("ratio_to_normal", json!(standing.ratio)),
            ("slow_beyond", json!(1.0 + workload.edge)),
            ("slow", json!(standing.slow)),
        ]
    };
    member.standings.iter().map(line).collect()
}
