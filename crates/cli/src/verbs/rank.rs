//! `warpmark rank`: several devices, workload by workload.

use warpmark_analyze::fleet::{self, By, FleetError};
use warpmark_analyze::rank::{RankError, rank};
use warpmark_record::stats::Bootstrap;
use warpmark_record::store::Recording;
use warpmark_report::{Format, decision, render_decision};

use super::cost::{recorded, selects};
use crate::arguments::Rank;
use crate::exit;
use crate::output::{show, warn};
use crate::terminal::style;

/// Ranks the devices of recorded runs.
pub fn run(options: &Rank) -> anyhow::Result<u8> {
    let mut recording = recorded(&options.recorded)?;
    recording.rows.retain(|row| selects(&options.recorded, row));
    if let Some(by) = &options.by {
        return by_member(&recording, by, options);
    }
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

/// Compares the members of a fleet.
fn by_member(recording: &Recording, by: &By, options: &Rank) -> anyhow::Result<u8> {
    match fleet::compare(recording, by) {
        Ok(found) => {
            let page = decision::fleet::of(&found, members(options.form.form()));
            show(&render_decision(&page, options.form.form(), style())?)?;
            Ok(if options.strict && found.has_faults() { exit::FAILED } else { exit::OK })
        }
        Err(FleetError::Rank(error)) => {
            warn(&error.to_string());
            Ok(exit::NOT_COMPARABLE)
        }
        Err(error) => Err(error.into()),
    }
}

/// How many members a table has: all where they can be searched, and what is read from the top to its end
/// elsewhere.
pub(super) fn members(format: Format) -> usize {
    match format {
        Format::Terminal | Format::Markdown => 40,
        Format::Csv | Format::Json | Format::Html => usize::MAX,
    }
}
