//! `warpmark compare`: is run B slower than run A, or than what is published of its card?

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use warpmark_analyze::analyze;
use warpmark_analyze::compare::{Options, compare_among};
use warpmark_analyze::reference::Verdict;
use warpmark_analyze::reference::judge::judge;
use warpmark_record::store::{self, Recording};
use warpmark_report::{Format, Style, decision, render_comparison, render_decision};

use super::{baseline, reference};
use crate::arguments::Compare;
use crate::filter;
use crate::output::{left_out, show};
use crate::terminal::{style, variable};

/// Compares two recordings, two engines of one, or a run with what is published of its card; the exit
/// code is the verdict.
pub fn run(options: &Compare) -> anyhow::Result<u8> {
    if !(options.threshold.is_finite() && options.threshold >= 0.0) {
        bail!("--threshold {} is no percentage; write 1 for 1 %", options.threshold);
    }
    if let Some(file) = &options.reference {
        return with_published(options, file.as_slice());
    }
    let engines = options.engines.as_deref().map(engines).transpose()?;
    let (mut a, mut b) = sides(options)?;
    select(options, &mut [&mut a, &mut b])?;
    let earlier = earlier(options);
    let settings = Options {
        threshold: options.threshold / 100.0,
        all_runs: options.all_runs,
        across_machines: options.across_machines,
        engines,
        ..Options::default()
    };
    let comparison = compare_among(&a, &b, &earlier, &settings);
    show(&render_comparison(&comparison, options.form.form(), style())?)?;
    if options.github_summary {
        summarise(&render_comparison(&comparison, Format::Markdown, Style::default())?)?;
    }
    Ok(comparison.overall().exit_code())
}

fn sides(options: &Compare) -> anyhow::Result<(Recording, Recording)> {
    let read = |path: PathBuf| {
        let recording = store::read(&path)?;
        left_out(&recording);
        Ok::<_, anyhow::Error>(recording)
    };
    if let Some(name) = &options.baseline {
        let before = read(baseline::path(&options.baselines.folder, name)?)?;
        return Ok((before, read(in_question(options)?)?));
    }
    let a = read(options.a.clone().unwrap_or_default())?;
    let b = match &options.b {
        Some(path) => read(path.clone())?,
        None => a.clone(),
    };
    Ok((a, b))
}

/// Earlier runs, of the results folder and of those that the compared ones lie in, to learn from how much
/// this machine varies.
fn earlier(options: &Compare) -> Recording {
    const RUNS: usize = 24;
    let files = options.a.iter().chain(&options.b).filter(|path| path.is_file());
    let beside = files
        .filter_map(|file| file.parent())
        .map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    store::recent(beside.chain([options.results.as_path()]), RUNS)
}

/// The run that is named alone, or the newest.
fn in_question(options: &Compare) -> anyhow::Result<PathBuf> {
    match &options.a {
        Some(path) => Ok(path.clone()),
        None => Ok(store::newest(&options.results)?),
    }
}

fn with_published(options: &Compare, files: &[PathBuf]) -> anyhow::Result<u8> {
    let (reference, warnings) = reference::read(files)?;
    let mut recording = store::read(&in_question(options)?)?;
    left_out(&recording);
    select(options, &mut [&mut recording])?;
    let mut verdicts = Vec::new();
    for run in analyze(&recording) {
        let standing = judge(&run, &reference, &warnings);
        let device = run.run.map_or("unknown device", |run| run.device.name.as_str());
        let title = format!("{device}, run {}, against what is published", run.id);
        let page = decision::reference::standing(&title, &run.caveats, &standing);
        show(&render_decision(&page, options.form.form(), style())?)?;
        if options.github_summary {
            summarise(&render_decision(&page, Format::Markdown, Style::default())?)?;
        }
        verdicts.push(standing.overall());
    }
    // Of several runs the worst decides.
    let worst = [Verdict::Slow, Verdict::Ambiguous, Verdict::AsItShouldBe]
        .into_iter()
        .find(|verdict| verdicts.contains(verdict));
    Ok(worst.unwrap_or(Verdict::Unknown).exit_code())
}

/// Appends to the page of the running GitHub job.
fn summarise(markdown: &str) -> anyhow::Result<()> {
    const VARIABLE: &str = "GITHUB_STEP_SUMMARY";
    let Some(path) = variable(VARIABLE) else {
        bail!("--github-summary needs ${VARIABLE}, which GitHub sets for the steps of a job");
    };
    let path = PathBuf::from(path);
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("{} (${VARIABLE}) cannot be opened", path.display()))?;
    writeln!(file, "{markdown}")
        .with_context(|| format!("{} (${VARIABLE}) cannot be written", path.display()))
}

/// Leaves the rows that the options choose; a part of the filter has to match something on one side.
fn select(options: &Compare, sides: &mut [&mut Recording]) -> anyhow::Result<()> {
    let Some(wanted) = &options.filter else { return Ok(()) };
    let rows = sides.iter().flat_map(|side| &side.rows);
    filter::look_for_rows(Some(wanted), rows.map(|row| &row.id))?;
    for side in sides {
        side.rows.retain(|row| wanted.selects(&row.id));
    }
    Ok(())
}

fn engines(text: &str) -> anyhow::Result<(String, String)> {
    match text.split_once(',') {
        Some((a, b)) if !a.is_empty() && !b.is_empty() => Ok((a.to_owned(), b.to_owned())),
        _ => bail!("--engines {text:?} names no two engines; write it as candle,fused"),
    }
}
