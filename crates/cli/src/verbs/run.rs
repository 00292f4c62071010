//! `warpmark run`: measure, record, report.

mod all;

use std::path::Path;

use anyhow::bail;
use warpmark_device::DeviceChoice;
use warpmark_record::store::{self, Recording};
use warpmark_record::{Outcome, Record};
use warpmark_report::{Format, render_run};

use crate::arguments::{Run, Selection, WrongUsage};
use crate::campaign::{self, Campaign};
use crate::environment::Identity;
use crate::output::{remark, say, show, show_json};
use crate::recorder::Results;
use crate::resume::Resumed;
use crate::terminal::style;
use crate::{environment, exit, sources, supervisor};

/// Measures a selection, or what an interrupted run lacks.
pub fn run(options: &Run) -> anyhow::Result<u8> {
    let tags = options.output.tags.by_key()?;
    let (asked, output) = (&options.selection, &options.output);
    if asked.device.device == DeviceChoice::All {
        return all::run(options);
    }
    if options.parallel {
        return Err(WrongUsage("--parallel is for `--device all`".to_owned()).into());
    }
    let named = output.resume.as_deref();
    let resumed = named.map(|named| Resumed::read(named, &output.results, asked)).transpose()?;
    let selection = resumed.as_ref().map_or(asked, |resumed| &resumed.selection);
    let campaign = Campaign::going_on(selection, None, resumed.as_ref())?;
    match &resumed {
        Some(resumed) if campaign.is_empty() => return nothing_left(resumed, output.json),
        None if campaign.is_empty() => {
            bail!("there is no benchmark for this device: look at `warpmark models` and --models")
        }
        _ => {}
    }
    if options.dry_run && output.json {
        show_json(&campaign.described_for_programs())?;
        return Ok(exit::OK);
    }
    if options.dry_run {
        say(&campaign.describe())?;
        return Ok(exit::OK);
    }
    let planned = campaign.planned.clone();
    let id = resumed.as_ref().map_or_else(environment::new_run_id, |known| known.run.run.clone());
    let settings = resumed.as_ref().map(Resumed::alone).unwrap_or_default();
    let mut options = options.clone();
    if let Some(resumed) = &resumed {
        options.output.results.clone_from(&resumed.results);
    }
    let results = measure(campaign, selection, &options, Identity { id, tags, planned, settings })?;
    conclude(&results, options.output.json, true)
}

fn measure(
    campaign: Campaign,
    selection: &Selection,
    options: &Run,
    identity: Identity,
) -> anyhow::Result<Results> {
    if campaign.is_on_a_gpu() {
        return supervisor::measure(campaign, selection, options, identity, None);
    }
    campaign.measure(selection, &options.output, identity, |spec| {
        let folder = campaign::clear_criterion(&sources::cache()?, spec)?;
        Ok(campaign::criterion(Some(&folder)))
    })
}

/// Shows an interrupted run that lacks nothing.
fn nothing_left(resumed: &Resumed, json: bool) -> anyhow::Result<u8> {
    remark(&format!("{} lacks nothing: every benchmark has a row", resumed.path.display()));
    let recording = store::read(&resumed.path)?;
    show_recorded(&recording, &resumed.path, json)?;
    Ok(code_of(&recording.rows))
}

fn code_of(rows: &[Record]) -> u8 {
    let failed = |row: &Record| matches!(row.outcome, Outcome::Failed { .. });
    if rows.iter().any(failed) { exit::FAILED } else { exit::OK }
}

/// Shows the table of a campaign (with `whole_run`, of everything its run has measured so far) and says
/// where the rows are.
pub fn conclude(results: &Results, json: bool, whole_run: bool) -> anyhow::Result<u8> {
    let recording = if whole_run {
        store::read(&results.path)?
    } else {
        Recording {
            runs: vec![results.run.clone()],
            rows: results.rows.clone(),
            warnings: Vec::new(),
        }
    };
    show_recorded(&recording, &results.path, json)?;
    // Of a run that was gone on with the earlier rows count, too.
    Ok(code_of(if whole_run { &recording.rows } else { &results.rows }))
}

/// Shows a recording and says where it is.
pub fn show_recorded(recording: &Recording, path: &Path, json: bool) -> anyhow::Result<()> {
    let format = if json { Format::Json } else { Format::Terminal };
    show(&render_run(recording, format, style())?)?;
    remark(&format!("\nRecorded in {}", path.display()));
    Ok(())
}
