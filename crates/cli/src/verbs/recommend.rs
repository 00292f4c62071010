//! `warpmark recommend`: which of the recorded devices to rent.

use warpmark_analyze::analyze;
use warpmark_analyze::recommend::{Wish, recommend};
use warpmark_record::Seconds;
use warpmark_report::{decision, render_decision};

use super::cost::{recorded, selects};
use crate::arguments::Recommend;
use crate::exit;
use crate::output::show;
use crate::sources::tariffs;
use crate::terminal::style;

/// Recommends a device; the exit code says whether there is one.
pub fn run(options: &Recommend) -> anyhow::Result<u8> {
    let mut recording = recorded(&options.recorded)?;
    recording.rows.retain(|row| selects(&options.recorded, row));
    let wish = Wish {
        model: options.model.clone(),
        phase: options.phase.clone(),
        latency: options.latency.map(|latency| Seconds(latency.as_secs_f64())),
        budget: options.budget,
    };
    let found = recommend(&analyze(&recording), &wish, &tariffs(&options.prices)?);
    let page = decision::recommend::of(&found, &wish);
    show(&render_decision(&page, options.form.form(), style())?)?;
    Ok(if found.candidates.is_empty() { exit::FAILED } else { exit::OK })
}
