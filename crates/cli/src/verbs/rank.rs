//! `warpmark rank`: several devices, workload by workload.

use warpmark_analyze::rank::{RankError, rank};
use warpmark_record::stats::Bootstrap;
use warpmark_report::{decision, render_decision};

use super::cost::{recorded, selects};
use crate::arguments::Rank;
use crate::exit;
use crate::output::{show, warn};
use crate::terminal::style;

/// Ranks the devices of recorded runs.
pub fn run(options: &Rank) -> anyhow::Result<u8> {
    let mut recording = recorded(&options.recorded)?;
    recording.rows.retain(|row| selects(&options.recorded, row));
    match rank(&recording, &Bootstrap::default()) {
        Ok(ranking) => {
            let page = decision::rank::of(&ranking);
            show(&render_decision(&page, options.form.form(), style())?)?;
            Ok(if ranking.means.is_empty() { exit::NOT_COMPARABLE } else { exit::OK })
        }
        Err(error @ (RankError::Methods(_) | RankError::Simulated(_))) => {
            warn(&error.to_string());
            Ok(exit::NOT_COMPARABLE)
        }
        Err(error) => Err(error.into()),
    }
}
