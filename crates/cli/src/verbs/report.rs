//! `warpmark report`: recorded runs, in any form.

use std::path::{Path, PathBuf};

use anyhow::Context;
use warpmark_analyze::fleet::{self, By};
use warpmark_record::Record;
use warpmark_record::store::{self, Recording};
use warpmark_report::{
    Format, decision, render_decision, render_index, render_page, render_selected, render_series,
};

use super::rank;
use crate::arguments::{Export, OutputFormat, Report};
use crate::filter;
use crate::output::{left_out, remark, show};
use crate::sources::tariffs;
use crate::{exit, files, terminal};

/// More runs than anybody reads one by one.
const MANY_RUNS: usize = 100;

/// Shows recorded runs.
pub fn run(options: &Report) -> anyhow::Result<u8> {
    let to = options.output.as_deref().filter(|path| *path != Path::new("-"));
    if let Some(path) = to {
        let read: Vec<&Path> =
            options.paths.iter().chain(&options.prices.prices).map(PathBuf::as_path).collect();
        files::spare_records(path, &read)?;
    }
    let export = options.export()?;
    if options.index {
        let recording = store::read_all(std::slice::from_ref(&options.results))?;
        left_out(&recording);
        return written(&render_index(&recording), to);
    }
    let recording = if options.paths.is_empty() {
        store::read(&store::newest(&options.results)?)?
    } else {
        store::read_all(&options.paths)?
    };
    if matches!(export, Export::Text(OutputFormat::Csv) | Export::Sqlite | Export::Series(_)) {
        // The other forms have a place for them.
        left_out(&recording);
    }
    filter::look_for_rows(options.filter.as_ref(), recording.rows.iter().map(|row| &row.id))?;
    let selects = |row: &Record| options.filter.as_ref().is_none_or(|f| f.selects(&row.id));
    if recording.rows.is_empty() {
        anyhow::bail!("the record holds no row, so there is nothing to show");
    }
    let form = match export {
        Export::Text(form) => form,
        Export::Sqlite => {
            database(&recording, selects, to)?;
            return Ok(exit::OK);
        }
        Export::Series(series) => return written(&render_series(&recording, selects, series)?, to),
    };
    let format = Format::from(form);
    let style = if to.is_some() { terminal::style_of_files() } else { terminal::style() };
    let many = recording.runs.len() > MANY_RUNS && !matches!(format, Format::Csv | Format::Json);
    if let Some(by) = options.by.clone().or_else(|| many.then_some(By::Card)) {
        if options.by.is_none() {
            let runs = recording.runs.len();
            remark(&format!(
                "{runs} runs are compared by card; name fewer for each of them in full"
            ));
        }
        left_out(&recording);
        let mut selected = recording;
        selected.rows.retain(selects);
        let mut page = decision::fleet::of(&fleet::compare(&selected, &by)?, rank::members(format));
        decision::machine::add(&mut page, &selected);
        return written(&render_decision(&page, format, style)?, to);
    }
    // Selected after the analysis: a row's limits come from rows that the filter may leave out.
    let text = match format {
        Format::Html => render_page(&recording, selects, &tariffs(&options.prices)?),
        format => render_selected(&recording, selects, format, style)?,
    };
    written(&text, to)
}

/// To the file that was asked for, or to standard output.
fn written(text: &str, to: Option<&Path>) -> anyhow::Result<u8> {
    match to {
        Some(path) => files::replace(path, |draft| {
            std::fs::write(draft, text)
                .with_context(|| format!("{} cannot be written", path.display()))
        })?,
        None => show(text)?,
    }
    Ok(exit::OK)
}

/// Writes a database.
#[cfg(feature = "sqlite")]
fn database(
    recording: &Recording,
    selects: impl Fn(&Record) -> bool,
    path: Option<&Path>,
) -> anyhow::Result<()> {
    let is_file = |path: &Path| std::fs::metadata(path).map_or(true, |there| there.is_file());
    let Some(path) = path.filter(|path| is_file(path)) else {
        let advice = "a database is no text: name its file with `--output runs.sqlite`";
        return Err(crate::arguments::WrongUsage(advice.to_owned()).into());
    };
    files::replace(path, |draft| {
        let written = warpmark_report::sqlite::write(recording, selects, draft);
        written.with_context(|| format!("{}", path.display()))
    })
}

#[cfg(not(feature = "sqlite"))]
fn database(
    _recording: &Recording,
    _selects: impl Fn(&Record) -> bool,
    _path: Option<&Path>,
) -> anyhow::Result<()> {
    anyhow::bail!(
        "this build has no SQLite in it; build it with the feature `sqlite`, which is there by default"
    )
}
