//! `warpmark report`: recorded runs, in any form.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use warpmark_record::Record;
use warpmark_record::store::{self, Recording, StoreError};
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
        store::read(&newest(&options.results)?)?
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
        bail!("no row is selected; without `--filter` all {} are shown", recording.rows.len());
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

/// The results file that was written to last.
pub(super) fn newest(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for item in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = item.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "jsonl") {
                let modified = item.metadata().and_then(|metadata| metadata.modified());
                files.push((modified.ok(), path));
            }
        }
    }
    let newest = files.into_iter().max().map(|(_, path)| path);
    Ok(newest.ok_or_else(|| StoreError::NoFiles(folder.to_path_buf()))?)
}
