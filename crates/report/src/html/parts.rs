//! Wholes and their parts: the stages of a load, the memory that a workload holds, what bounds the rows.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use warpmark_analyze::{Bound, RowAnalysis, RunAnalysis};
use warpmark_record::Seconds;

use super::bars::{Part, bar, legend};
use super::color;
use super::plain::word;
use super::table::{Cell, numbers, table, words};
use crate::format::percent;
use crate::view;

/// Every bound, in the order of the method's rule.
const BOUNDS: [Bound; 6] = [
    Bound::Transfer,
    Bound::Host,
    Bound::Compute,
    Bound::Bandwidth,
    Bound::Neither,
    Bound::Unknown,
];

/// The stages of every load.
pub(super) fn loads(run: &RunAnalysis<'_>) -> Option<Markup> {
    let rows: Vec<(&RowAnalysis<'_>, Vec<(String, Seconds)>)> = run
        .rows
        .iter()
        .filter_map(|row| {
            let stages = view::ordered_stages(row.rates.as_ref()?);
            (!stages.is_empty()).then_some((row, stages))
        })
        .collect();
    let longest = rows.iter().filter_map(|(row, _)| Some(row.rates.as_ref()?.wall.0));
    let longest = longest.fold(0.0, f64::max);
    if longest <= 0.0 {
        return None;
    }
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flat_map(|(_, stages)| stages) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let colors = |name: &str| {
        color::of_part(names.iter().position(|known| *known == name).unwrap_or(names.len()))
    };
    let entries: Vec<(String, String)> =
        names.iter().map(|name| ((*name).to_owned(), colors(name))).collect();
    let heads = [words("load"), words("stages"), numbers("in all"), words("each")];
    let lines = rows.iter().map(|(row, stages)| {
        let part = |(name, time): &(String, Seconds)| Part {
            share: time.0 / longest,
            color: colors(name),
        };
        let parts: Vec<Part> = stages.iter().map(part).collect();
        let each: Vec<String> =
            stages.iter().map(|(name, time)| format!("{name} {time}")).collect();
        let wall = row.rates.as_ref().map_or_else(String::new, |rates| rates.wall.to_string());
        let id = row.record.id.to_string();
        vec![Cell::Code(id), Cell::Drawn(bar(&parts)), wall.into(), each.join(", ").into()]
    });
    Some(html! { (legend(&entries)) (table(&heads, lines)) })
}

/// The memory of every subject, engine and dtype: the most that any of its rows held.
pub(super) fn memory(run: &RunAnalysis<'_>) -> Option<Markup> {
    let mut most: BTreeMap<String, (f64, f64, String)> = BTreeMap::new();
    for row in &run.rows {
        let Some(memory) = &row.record.memory else { continue };
        let Some(peak) = memory.peak.known().map(|peak| peak.0).filter(|peak| peak.is_finite())
        else {
            continue;
        };
        let id = &row.record.id;
        let dtype = word(row.record, "dtype").unwrap_or_default();
        let key = format!("{}/{} {dtype} @{}", id.group(), id.subject(), id.engine());
        let weights = memory.weights.known().map_or(0.0, |weights| weights.0);
        let entry = most.entry(key).or_insert((0.0, 0.0, String::new()));
        if peak > entry.0 {
            *entry = (peak, weights.clamp(0.0, peak), id.to_string());
        }
    }
    let capacity = run.run.and_then(|run| run.device.memory.known()).map(|capacity| capacity.0);
    let capacity = capacity.filter(|capacity| *capacity > 0.0);
    let longest = most.values().map(|(peak, _, _)| *peak).fold(0.0, f64::max);
    if longest <= 0.0 {
        return None;
    }
    let show = |bytes: f64| warpmark_record::Bytes(bytes).binary();
    let heads = [
        words("subject"),
        words("held"),
        numbers("weights"),
        numbers("peak"),
        numbers("of the device"),
        words("at its peak in"),
    ];
    let lines = most.iter().map(|(name, (peak, weights, id))| {
        let parts = [
            Part { share: weights / longest, color: color::of_part(0) },
            Part { share: (peak - weights) / longest, color: color::of_part(1) },
        ];
        let share = capacity.map_or_else(|| "-".to_owned(), |all| percent(peak / all));
        vec![
            Cell::Code(name.clone()),
            Cell::Drawn(bar(&parts)),
            show(*weights).into(),
            show(*peak).into(),
            share.into(),
            Cell::Code(id.clone()),
        ]
    });
    let counts =
        crate::memory::most(&run.rows.iter().collect::<Vec<_>>(), |row| row.record.id.to_string());
    let entries =
        [("weights".to_owned(), color::of_part(0)), ("the rest".to_owned(), color::of_part(1))];
    let note = capacity.map(|all| format!("The device has {}.", show(all)));
    Some(html! {
        (legend(&entries))
        (table(&heads, lines))
        @if let Some(note) = note { p.note { (note) } }
        @if let Some(counts) = counts { p.note { (counts) } }
    })
}

/// What bounds the rows of every subject.
pub(super) fn attribution(run: &RunAnalysis<'_>) -> Option<Markup> {
    let mut subjects: Vec<(String, Vec<Bound>)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for row in &run.rows {
        let Some(placement) = &row.placement else { continue };
        let id = &row.record.id;
        let name = format!("{}/{} @{}", id.group(), id.subject(), id.engine());
        let at = *places.entry(name.clone()).or_insert_with(|| {
            subjects.push((name, Vec::new()));
            subjects.len() - 1
        });
        subjects[at].1.push(placement.bound);
    }
    let seen: BTreeSet<usize> = subjects
        .iter()
        .flat_map(|(_, bounds)| bounds)
        .filter_map(|bound| BOUNDS.iter().position(|known| known == bound))
        .collect();
    let seen: Vec<Bound> = seen.into_iter().map(|at| BOUNDS[at]).collect();
    if subjects.is_empty() {
        return None;
    }
    let mut heads = vec![words("subject"), words("its rows")];
    heads.extend(seen.iter().map(|bound| numbers(&bound.to_string())));
    let lines = subjects.iter().map(|(name, bounds)| {
        let count = |bound: &Bound| bounds.iter().filter(|known| *known == bound).count();
        let parts: Vec<Part> = seen
            .iter()
            .map(|bound| Part {
                share: count(bound) as f64 / bounds.len() as f64,
                color: color::of_bound(&bound.to_string()),
            })
            .collect();
        let drawn = bar(&parts);
        let mut cells = vec![Cell::Code(name.clone()), Cell::Drawn(drawn)];
        cells.extend(seen.iter().map(|bound| count(bound).to_string().into()));
        cells
    });
    let entries: Vec<(String, String)> =
        seen.iter().map(|bound| (bound.to_string(), color::of_bound(&bound.to_string()))).collect();
    Some(html! { (legend(&entries)) (table(&heads, lines)) (rule()) })
}

fn rule() -> Markup {
    html! {
        p.note {
            "The first that holds: transfer, where stages that move data take more than half of the "
            "wall time; host, where the device's clock stood still for more than a quarter of it, as it "
            "does while kernels are launched one by one; compute or bandwidth, whichever is nearer to "
            "its limit, from one half of it on; neither, where the limits are known and none is near; "
            "unknown, where a limit is missing."
        }
    }
}
