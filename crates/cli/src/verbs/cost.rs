//! `warpmark cost`: what recorded rows cost.

use std::path::Path;

use anyhow::Context;
use warpmark_analyze::Prices;
use warpmark_analyze::cost::Tariffs;
use warpmark_analyze::prices::Wanted;
use warpmark_record::Record;
use warpmark_record::store::{self, Recording};
use warpmark_report::{decision, render_decision};

use super::report::warn;
use crate::arguments::{Cost, PriceOptions, Recorded};
use crate::exit;
use crate::output::{show, style};

/// Shows what rows cost.
pub fn run(options: &Cost) -> anyhow::Result<u8> {
    let tariffs = tariffs(&options.prices)?;
    let recording = recorded(&options.recorded)?;
    let selects = |row: &Record| selects(&options.recorded, row);
    let page = decision::cost::of(&recording, selects, &tariffs);
    show(&render_decision(&page, options.form.form(), style())?);
    Ok(exit::OK)
}

/// The recording that the options name; what its reader left out is said on standard error.
pub(super) fn recorded(options: &Recorded) -> anyhow::Result<Recording> {
    let recording = if options.paths.is_empty() {
        store::read(&options.results)?
    } else {
        store::read_all(&options.paths)?
    };
    warn(&recording);
    Ok(recording)
}

/// Whether the options choose a row.
pub(super) fn selects(options: &Recorded, row: &Record) -> bool {
    options.filter.as_ref().is_none_or(|filter| filter.selects(&row.id))
}

/// Where prices come from.
pub(super) fn tariffs(options: &PriceOptions) -> anyhow::Result<Tariffs> {
    let list = match &options.prices {
        Some(path) => Prices::parse(&text_of(path)?, &path.display().to_string())?,
        None => Prices::builtin()?,
    };
    let mut tariffs = Tariffs {
        list,
        wanted: Wanted {
            region: options.region.clone(),
            terms: options.terms.map(|terms| terms.name().to_owned()),
        },
        ..Tariffs::default()
    };
    for price in &options.usd_per_hour {
        match &price.card {
            Some(card) => drop(tariffs.own.insert(card.clone(), price.per_hour)),
            None => tariffs.every = Some(price.per_hour),
        }
    }
    Ok(tariffs)
}

/// The text of a file that the user named.
pub(super) fn text_of(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}
