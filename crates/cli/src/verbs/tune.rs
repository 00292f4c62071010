//! `warpmark tune`: what recorded rows say about precision, batch and model size.

use warpmark_record::Record;
use warpmark_report::{decision, render_decision};

use super::cost::{recorded, selects};
use crate::arguments::Tune;
use crate::exit;
use crate::output::show;
use crate::terminal::style;

/// Shows what to use and what to change.
pub fn run(options: &Tune) -> anyhow::Result<u8> {
    let recording = recorded(&options.recorded)?;
    let page = decision::tune::of(&recording, |row: &Record| selects(&options.recorded, row));
    show(&render_decision(&page, options.form.form(), style())?)?;
    Ok(exit::OK)
}
