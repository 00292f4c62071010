//! `warpmark verify`: every answer, no times.

use warpmark_record::{Outcome, Record};

use crate::arguments::Verify;
use crate::campaign::Campaign;
use crate::output::say;
use crate::{exit, supervisor};

/// Checks every answer of a selection.
pub fn run(options: &Verify) -> anyhow::Result<u8> {
    let campaign = Campaign::prepare(&options.selection, None)?;
    if campaign.is_on_a_gpu() {
        return conclude(&supervisor::verify(campaign, options)?);
    }
    check(campaign)
}

/// Checks every answer of a campaign in this process.
pub fn check(campaign: Campaign) -> anyhow::Result<u8> {
    conclude(&campaign.verify()?)
}

/// Says how far each answer was off.
fn conclude(rows: &[Record]) -> anyhow::Result<u8> {
    let (mut right, mut skipped, mut wrong) = (0, 0, 0);
    for row in rows {
        match (&row.outcome, &row.check) {
            (Outcome::Failed { .. }, _) => wrong += 1,
            (_, Some(check)) => {
                right += 1;
                say(&format!(
                    "{}: {}: error {:.1e}, tolerance {:.1e}\n",
                    row.id, check.what, check.worst_error, check.tolerance
                ))?;
            }
            _ => skipped += 1,
        }
    }
    say(&format!("{right} right, {wrong} wrong or failed, {skipped} skipped\n"))?;
    Ok(if wrong == 0 { exit::OK } else { exit::FAILED })
}
