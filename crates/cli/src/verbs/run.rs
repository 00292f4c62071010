//! `warpmark run`: measure, record, report.

use std::path::Path;

use anyhow::bail;
use warpmark_record::store::{self, Recording};
use warpmark_report::{Format, render_run};

use crate::arguments::Run;
use crate::campaign::{self, Campaign};
use crate::output::{remark, say, show};
use crate::recorder::Results;
use crate::terminal::style;
use crate::{environment, exit, sources, supervisor};

/// Measures a selection.
pub fn run(options: &Run) -> anyhow::Result<u8> {
    let selection = &options.selection;
    let campaign = Campaign::prepare(selection, None)?;
    if campaign.is_empty() {
        bail!("there is no benchmark for this device: look at `warpmark models` and --models");
    }
    if options.dry_run {
        say(&campaign.describe())?;
        return Ok(exit::OK);
    }
    let (id, output) = (environment::new_run_id(), &options.output);
    let results = if campaign.is_on_a_gpu() {
        supervisor::measure(campaign, options, id)?
    } else {
        campaign.measure(selection, output, id, |spec| {
            let folder = campaign::clear_criterion(&sources::cache()?, spec)?;
            Ok(campaign::criterion(Some(&folder)))
        })?
    };
    conclude(&results, output.json, true)
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
    Ok(if results.failures() == 0 { exit::OK } else { exit::FAILED })
}

/// Shows a recording and says where it is.
pub fn show_recorded(recording: &Recording, path: &Path, json: bool) -> anyhow::Result<()> {
    let format = if json { Format::Json } else { Format::Terminal };
    show(&render_run(recording, format, style())?)?;
    remark(&format!("\nRecorded in {}", path.display()));
    Ok(())
}
