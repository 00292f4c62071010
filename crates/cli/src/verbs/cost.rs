//! `warpmark cost`: what recorded rows cost.

use warpmark_record::Record;
use warpmark_record::store::{self, Recording};
use warpmark_report::{decision, render_decision};

use crate::arguments::{Cost, Recorded};
use crate::exit;
use crate::filter;
use crate::output::{left_out, show};
use crate::sources::tariffs;
use crate::terminal::style;

/// Shows what rows cost.
pub fn run(options: &Cost) -> anyhow::Result<u8> {
    let tariffs = tariffs(&options.prices)?;
    let recording = recorded(&options.recorded)?;
    let selects = |row: &Record| selects(&options.recorded, row);
    let page = decision::cost::of(&recording, selects, &tariffs);
    show(&render_decision(&page, options.form.form(), style())?)?;
    Ok(exit::OK)
}

/// The recording that the options name; what its reader left out is said on standard error.
pub(super) fn recorded(options: &Recorded) -> anyhow::Result<Recording> {
    let recording = if options.paths.is_empty() {
        store::read(&options.results)?
    } else {
        store::read_all(&options.paths)?
    };
    left_out(&recording);
    let ids = recording.rows.iter().map(|row| &row.id);
    filter::look_for_rows(options.filter.as_ref(), ids)?;
    Ok(recording)
}

/// Whether the options choose a row.
pub(super) fn selects(options: &Recorded, row: &Record) -> bool {
    options.filter.as_ref().is_none_or(|filter| filter.selects(&row.id))
}
