//! `warpmark report`: recorded runs, in any form.

use std::path::Path;

use anyhow::{Context, bail};
use warpmark_analyze::holdings;
use warpmark_record::Record;
use warpmark_record::store::{self, Recording};
use warpmark_report::{Format, render_index, render_page, render_selected};

use crate::arguments::Report;
use crate::exit;
use crate::output::{show, style, warn};
use crate::sources::tariffs;

/// Shows recorded runs.
pub fn run(options: &Report) -> anyhow::Result<u8> {
    if options.index {
        let recording = store::read_all(std::slice::from_ref(&options.results))?;
        warn(&recording);
        return written(&render_index(&recording), options);
    }
    let recording = if options.paths.is_empty() {
        store::read(&store::newest(&options.results)?)?
    } else {
        store::read_all(&options.paths)?
    };
    let format = options.form();
    if matches!(format, Some(Format::Csv) | None) {
        // The other forms have a place for them.
        warn(&recording);
    }
    let selects = |row: &Record| options.filter.as_ref().is_none_or(|f| f.selects(&row.id));
    if !recording.rows.iter().any(selects) {
        let held = holdings::of(recording.rows.iter().map(|row| &row.id));
        match (&options.filter, recording.rows.len()) {
            (Some(_), rows @ 1..) => {
                bail!("`--filter` selects none of the {rows} rows; there is {held}")
            }
            _ => bail!("the record holds no row, so there is nothing to show"),
        }
    }
    let Some(format) = format else {
        database(&recording, selects, options.output.as_deref())?;
        return Ok(exit::OK);
    };
    // Selected after the analysis: a row's limits come from rows that the filter may leave out.
    let text = match format {
        Format::Html => render_page(&recording, selects, &tariffs(&options.prices)?),
        _ => render_selected(&recording, selects, format, style())?,
    };
    written(&text, options)
}

/// To the file that was asked for, or to standard output.
fn written(text: &str, options: &Report) -> anyhow::Result<u8> {
    match &options.output {
        Some(path) => std::fs::write(path, text)
            .with_context(|| format!("{} cannot be written", path.display()))?,
        None => show(text),
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
    let Some(path) = path else {
        bail!("a database is no text: name its file with `--output runs.sqlite`");
    };
    let written = warpmark_report::sqlite::write(recording, selects, path);
    written.with_context(|| format!("{}", path.display()))
}

#[cfg(not(feature = "sqlite"))]
fn database(
    _recording: &Recording,
    _selects: impl Fn(&Record) -> bool,
    _path: Option<&Path>,
) -> anyhow::Result<()> {
    bail!(
        "this build has no SQLite in it; build it with the feature `sqlite`, which is there by default"
    )
}
