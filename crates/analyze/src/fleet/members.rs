//! Which runs are of one member, and how the members are set up.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use warpmark_record::store::Recording;
use warpmark_record::{DeviceKind, Record, Run, RunId};

use super::{By, Gathered};
use crate::scaling::at_once;

/// The members of each kind of device, and the runs that are of none.
pub(super) fn gather<'a>(
    recording: &'a Recording,
    by: &By,
) -> (BTreeMap<&'a str, Vec<Gathered<'a>>>, Vec<RunId>) {
    let mut rows_of: HashMap<&RunId, Vec<&Record>> = HashMap::new();
    for row in &recording.rows {
        rows_of.entry(&row.run).or_default().push(row);
    }
    let mut kinds: BTreeMap<&str, BTreeMap<String, Gathered<'_>>> = BTreeMap::new();
    let mut unplaced = Vec::new();
    // What cards do at once is no measure of one.
    for run in recording.runs.iter().filter(|run| at_once(run) == 1) {
        let Some((key, name)) = key(run, by) else {
            unplaced.push(run.run.clone());
            continue;
        };
        let members = kinds.entry(run.device.name.as_str()).or_default();
        let empty = || Gathered { name: String::new(), runs: Vec::new(), rows: Vec::new() };
        let member = members.entry(key).or_insert_with(empty);
        // As the newest run has it: a card may have moved.
        if member.runs.last().is_none_or(|last| last.started_at <= run.started_at) {
            member.name = name;
        }
        member.runs.push(run);
        member.rows.extend(rows_of.remove(&run.run).unwrap_or_default());
    }
    let listed = |members: BTreeMap<String, Gathered<'a>>| members.into_values().collect();
    (kinds.into_iter().map(|(device, members)| (device, listed(members))).collect(), unplaced)
}

/// What a run is gathered by, and what a reader knows that by.
fn key(run: &Run, by: &By) -> Option<(String, String)> {
    let host = run.host.name.clone();
    match by {
        By::Tag(key) => run.tags.get(key).map(|value| (value.clone(), value.clone())),
        By::Host => host.map(|host| (host.clone(), host)),
        By::Card => Some(card(run, &host.unwrap_or_default())),
    }
}

fn card(run: &Run, host: &str) -> (String, String) {
    let device = &run.device;
    let uuid = device.gpu.as_ref().and_then(|gpu| gpu.uuid_hash.known());
    let place = match device.kind {
        DeviceKind::Cpu => host.to_owned(),
        _ if host.is_empty() => format!("cuda:{}", device.index),
        _ => format!("{host} cuda:{}", device.index),
    };
    match uuid {
        // Cards that are simulated have the same on every machine.
        Some(uuid) if device.kind == DeviceKind::Simulated => (format!("{host} {uuid}"), place),
        Some(uuid) => {
            let short: String = uuid.chars().take(8).collect();
            (uuid.clone(), format!("{place} ({short})"))
        }
        None if host.is_empty() => (run.run.0.clone(), format!("run {}", run.run)),
        None => (place.clone(), place),
    }
}

/// What of a member's set-up moves its figures, by name.
fn set_up(run: &Run) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut tell = |what, value: Option<String>| found.extend(value.map(|value| (what, value)));
    tell("warpmark", Some(format!("{} ({})", run.build.version, run.build.git)));
    tell("cores of the host", Some(run.host.cores.to_string()));
    tell("host processor", Some(run.host.cpu.clone()));
    let Some(gpu) = &run.device.gpu else { return found };
    let on = |on: &bool| if *on { "on" } else { "off" }.to_owned();
    tell("SMs", gpu.sm_count.known().map(ToString::to_string));
    tell("ECC", gpu.ecc.known().map(on));
    tell("multi-instance mode", gpu.mig.known().map(on));
    tell("power limit", gpu.power_limit.known().map(ToString::to_string));
    tell("driver", gpu.driver_version.known().cloned());
    // The generation in use falls at rest.
    tell("PCIe lanes", gpu.pcie_now.known().map(|link| link.width.to_string()));
    tell("best PCIe link", gpu.pcie_max.known().map(ToString::to_string));
    found
}

/// How each member differs from what most of them have; nothing where no value is had by more than half.
pub(super) fn set_ups(members: &[Gathered<'_>]) -> Vec<Vec<String>> {
    type Values<'a> = BTreeMap<&'static str, BTreeMap<String, usize>>;
    let own: Vec<BTreeSet<(&'static str, String)>> = members
        .iter()
        .map(|member| member.runs.iter().flat_map(|run| set_up(run)).collect())
        .collect();
    let mut counts = Values::new();
    for (what, value) in own.iter().flatten() {
        *counts.entry(what).or_default().entry(value.clone()).or_default() += 1;
    }
    let usual = |what: &str| {
        let most = counts.get(what)?.iter().max_by_key(|(_, count)| **count)?;
        (*most.1 * 2 > members.len()).then_some(most.0)
    };
    let unlike = |(what, value): &(&'static str, String)| {
        let usual = usual(what).filter(|usual| *usual != value)?;
        Some(format!("{what}: {value}, most have {usual}"))
    };
    own.iter().map(|set_up| set_up.iter().filter_map(unlike).collect()).collect()
}
