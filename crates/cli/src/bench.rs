//! `cargo bench`: the same road as `warpmark run`, one bench target at a time.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Parser;
use warpmark_record::{Filter, GROUPS, store};

use crate::arguments::{Output, Selection, parse};
use crate::campaign::{Campaign, criterion};
use crate::environment::Identity;
use crate::output::{remark, say};
use crate::resume::Resumed;
use crate::terminal::TerminalOptions;
use crate::{environment, exit, interrupt, libraries, terminal};

/// `cargo bench -- OPTIONS`: the options of `warpmark run` except those of its workers, and those of
/// criterion that make sense where criterion is driven by a plan.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --", max_term_width = 100)]
struct BenchArguments {
    /// The same as `--filter`
    #[arg(value_name = "FILTER", conflicts_with = "filter")]
    positional: Option<Filter>,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    output: Output,
    /// Save criterion's estimates under this name, to compare with later
    #[arg(long, value_name = "NAME", conflicts_with = "baseline")]
    save_baseline: Option<String>,
    /// Let criterion compare with the estimates saved under this name
    #[arg(long, value_name = "NAME", requires = "verbose")]
    baseline: Option<String>,
    /// Print the plan with its estimated time and memory, and do nothing
    #[arg(long, alias = "list")]
    dry_run: bool,
    /// Check every answer once and time nothing
    #[arg(long)]
    test: bool,
    /// What cargo adds; without it, as under `cargo test`, answers are checked and nothing is timed
    #[arg(long, hide = true)]
    bench: bool,
    #[command(flatten)]
    terminal: TerminalOptions,
}

/// Runs one bench target as `cargo bench` asks for it.
pub fn target(name: &str) -> ExitCode {
    crate::threads::bound_the_environment();
    let mut arguments = match parse::<BenchArguments>() {
        Ok(arguments) => arguments,
        Err(error) => return exit::usage(&error),
    };
    arguments.selection.filter = arguments.positional.take().or(arguments.selection.filter);
    terminal::choose(arguments.terminal);
    interrupt::install();
    exit::catch_panic(|| run(name, &arguments))
}

fn run(name: &str, arguments: &BenchArguments) -> anyhow::Result<u8> {
    let tags = arguments.output.tags.by_key()?;
    let output = &arguments.output;
    let asked = &arguments.selection;
    let named = output.resume.as_deref();
    let resumed = named.map(|named| Resumed::read(named, &output.results, asked)).transpose()?;
    let selection = resumed.as_ref().map_or(asked, |resumed| &resumed.selection);
    let mut campaign = Campaign::going_on(selection, Some(name), resumed.as_ref())?;
    campaign.whole = arguments.save_baseline.is_some() || arguments.baseline.is_some();
    // Cargo runs them in the order of their names; the last one shows the whole run.
    let last = GROUPS.last().is_some_and(|group| group.name == name);
    if arguments.dry_run {
        if !campaign.is_empty() {
            say(&campaign.describe())?;
        }
        return Ok(exit::OK);
    }
    if campaign.is_on_a_gpu() {
        libraries::start_anew_with_them()?;
    }
    if arguments.test || !arguments.bench {
        return crate::verbs::verify::check(campaign);
    }
    let id =
        resumed.as_ref().map_or_else(environment::bench_run_id, |resumed| resumed.run.run.clone());
    let mut output = output.clone();
    if let Some(resumed) = &resumed {
        output.results.clone_from(&resumed.results);
    }
    if campaign.is_empty() {
        let path = output.results.join(campaign.device_slug()).join(format!("{id}.jsonl"));
        return nothing_selected(name, last, &path, output.json);
    }
    let mut criterion = criterion(None);
    if let Some(baseline) = &arguments.save_baseline {
        criterion = criterion.save_baseline(baseline.clone());
    }
    if let Some(baseline) = &arguments.baseline {
        criterion = criterion.retain_baseline(baseline.clone(), false);
    }
    let settings = resumed.as_ref().map(Resumed::alone).unwrap_or_default();
    let identity = Identity { id, tags, planned: campaign.planned.clone(), settings };
    let results = campaign.measure(selection, &output, identity, |_| Ok(criterion))?;
    crate::verbs::run::conclude(&results, output.json, last)
}

/// What the command of a bench target selects.
pub(crate) fn selected(command: &[String]) -> anyhow::Result<Selection> {
    let mut arguments = BenchArguments::try_parse_from(command)?;
    arguments.selection.filter = arguments.positional.take().or(arguments.selection.filter);
    Ok(arguments.selection)
}

/// A target that the filter leaves nothing of starts no run; the last one shows what the others did.
fn nothing_selected(name: &str, last: bool, path: &Path, json: bool) -> anyhow::Result<u8> {
    if last && path.exists() {
        crate::verbs::run::show_recorded(&store::read(path)?, path, json)?;
    } else if last {
        bail!("the filter selects no benchmark; `cargo bench -- --dry-run` lists them all");
    } else {
        remark(&format!("{name}: nothing selected"));
    }
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table is shown by the last target, so the groups must be all of them, in cargo's order.
    #[test]
    fn every_group_is_a_bench_target_in_the_order_in_which_cargo_runs_them() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/benches");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        assert_eq!(files, GROUPS.map(|group| group.name));
        let manifest = include_str!("../../../Cargo.toml");
        for group in GROUPS {
            let target = format!("[[bench]]\nname = \"{}\"\nharness = false", group.name);
            assert!(manifest.contains(&target), "{}", group.name);
        }
    }
}
