//! `warpmark reference`: what is published of cards, and what contradicts it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use warpmark_analyze::Prices;
use warpmark_analyze::reference::{Card, Cards, Doubt, Reference, doubts};
use warpmark_report::{decision, render_decision};

use crate::arguments;
use crate::exit;
use crate::output::show;
use crate::sources::text_of;
use crate::terminal::style;

/// Shows published tables.
pub fn run(options: &arguments::Reference) -> anyhow::Result<u8> {
    let (reference, doubts) = read(&options.files)?;
    let page = decision::reference::tables(&reference, &doubts);
    show(&render_decision(&page, options.form.form(), style())?)?;
    Ok(if options.strict && !doubts.is_empty() { exit::FAILED } else { exit::OK })
}

/// The tables of some files and folders, or the built-in ones where none is named, and what contradicts
/// them.
pub(super) fn read(paths: &[PathBuf]) -> anyhow::Result<(Reference, Vec<Doubt>)> {
    let book = warpmark_device::book::book()?;
    let cards = Cards(
        book.entries()
            .map(|entry| Card { book: entry.clone(), memories: book.memories(&entry.name) })
            .collect(),
    );
    let reference = if paths.is_empty() {
        Reference::builtin(&cards)?
    } else {
        let mut texts = Vec::new();
        for path in paths {
            for file in files(path)? {
                texts.push((file.display().to_string(), text_of(&file)?));
            }
        }
        let texts: Vec<(&str, &str)> =
            texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        Reference::parse(&texts, &cards)?
    };
    let doubts = doubts::of(&reference, &cards, &Prices::builtin()?);
    Ok((reference, doubts))
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
