//! `warpmark reference`: what is published of cards, and what contradicts it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use warpmark_analyze::Prices;
use warpmark_analyze::reference::{Card, Cards, PublishedTables, Warning, warnings};
use warpmark_report::{decision, render_decision};

use crate::arguments;
use crate::exit;
use crate::output::show;
use crate::sources::text_of;
use crate::terminal::style;

/// Shows published tables.
pub fn run(options: &arguments::Reference) -> anyhow::Result<u8> {
    let (reference, warnings) = read(&options.files)?;
    let page = decision::reference::tables(&reference, &warnings);
    show(&render_decision(&page, options.form.form(), style())?)?;
    Ok(if options.strict && !warnings.is_empty() { exit::FAILED } else { exit::OK })
}

/// The tables of some files and folders, or the built-in ones where none is named, and what contradicts
/// them.
pub(super) fn read(paths: &[PathBuf]) -> anyhow::Result<(PublishedTables, Vec<Warning>)> {
    let datasheet = warpmark_device::datasheet::datasheets()?;
    let cards = Cards(
        datasheet
            .entries()
            .map(|entry| Card {
                datasheet: entry.clone(),
                memories: datasheet.memories(&entry.name),
            })
            .collect(),
    );
    let reference = if paths.is_empty() {
        PublishedTables::builtin(&cards)?
    } else {
        let mut texts = Vec::new();
        for path in paths {
            for file in files(path)? {
                texts.push((file.display().to_string(), text_of(&file)?));
            }
        }
        let texts: Vec<(&str, &str)> =
            texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        PublishedTables::parse(&texts, &cards)?
    };
    let warnings = warnings::of(&reference, &cards, &Prices::builtin()?);
    Ok((reference, warnings))
}

fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let entries =
        std::fs::read_dir(path).with_context(|| format!("{} cannot be listed", path.display()))?;
    for entry in entries {
        let file = entry.with_context(|| format!("{} cannot be listed", path.display()))?.path();
        if file.extension().is_some_and(|extension| extension == "toml") {
            files.push(file);
        }
    }
    if files.is_empty() {
        bail!("{} holds no published figures (no .toml file)", path.display());
    }
    files.sort();
    Ok(files)
}
