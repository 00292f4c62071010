//! `warpmark baseline`: runs that are kept under a name to be compared with.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use warpmark_record::store;

use crate::arguments::{Baseline, BaselineVerb};
use crate::output::{left_out, say};
use crate::{exit, files};

/// Keeps, lists or removes baselines.
pub fn run(options: &Baseline) -> anyhow::Result<u8> {
    let folder = &options.baselines.folder;
    match &options.verb {
        BaselineVerb::Save { name, run, results, force } => {
            let source = run.clone().map_or_else(|| store::newest(results), Ok)?;
            save(&path(folder, name)?, &source, *force)?;
        }
        BaselineVerb::List => list(folder)?,
        BaselineVerb::Remove { name } => {
            let path = path(folder, name)?;
            fs::remove_file(&path).with_context(|| missing(&path))?;
        }
    }
    Ok(exit::OK)
}

/// The file of a baseline. A name that is none is refused, so that none reaches outside the folder.
pub(super) fn path(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        bail!(
            "{name:?} is no name for a baseline: use letters, digits, `.`, `_` and `-`, not starting \
             with `.`"
        );
    }
    Ok(folder.join(format!("{name}.jsonl")))
}

fn missing(path: &Path) -> String {
    format!(
        "there is no baseline at {}; `warpmark baseline list` shows what there is",
        path.display()
    )
}

/// Copies a results file as it is, once it has been read: a baseline that cannot be read is none.
fn save(to: &Path, from: &Path, force: bool) -> anyhow::Result<()> {
    if from.is_dir() {
        bail!("{} is a folder: name the results file of one run", from.display());
    }
    let recording = store::read(from)?;
    left_out(&recording);
    if recording.rows.is_empty() {
        bail!("{} holds no row, so there is nothing to compare with", from.display());
    }
    if to.exists() && !force {
        bail!("{} is there already: remove it, choose another name, or add --force", to.display());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    files::replace(to, |draft| {
        let copied = fs::copy(from, draft);
        copied.map(drop).with_context(|| format!("{} cannot be written", to.display()))
    })?;
    say(&format!("{}: {} rows of {}\n", to.display(), recording.rows.len(), from.display()))?;
    Ok(())
}

fn list(folder: &Path) -> anyhow::Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        bail!("{} holds no baselines: `warpmark baseline save NAME` keeps one", folder.display());
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let recording = store::read(&file)?;
        let runs = recording.runs.iter();
        let runs: Vec<String> =
            runs.map(|run| format!("{} of {}", run.device.name, run.started_at)).collect();
        let line = format!("{name}: {} rows, {}", recording.rows.len(), runs.join("; "));
        say(&(line + "\n"))?;
    }
    Ok(())
}
