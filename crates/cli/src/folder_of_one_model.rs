//! A folder of weights is one model's: a plan that takes several models' from it unasked is a slip.

use std::collections::BTreeSet;

use anyhow::bail;
use warpmark_models::weights::{Quiet, Source};
use warpmark_models::{Model, configuration};

use crate::arguments::Selection;
use crate::plan::Plan;
use crate::sources;

/// Refuses a plan, chosen by no filter, of several models on the weights of one folder, and names those
/// that the folder's own configuration fits.
pub(crate) fn check(
    selection: &Selection,
    request: &warpmark_models::RunOptions,
    plan: &Plan,
) -> anyhow::Result<()> {
    let Source::Folder(folder) = request.source.as_ref() else { return Ok(()) };
    // A filter is a choice, and a folder may hold several models' components side by side.
    if selection.filter.is_some() {
        return Ok(());
    }
    let named: BTreeSet<&str> =
        plan.entries().filter_map(|entry| entry.id.segments().get(1).map(String::as_str)).collect();
    let catalog = sources::catalog(&selection.catalog)?;
    let planned: Vec<&Model> =
        catalog.models().iter().filter(|model| named.contains(model.id.as_str())).collect();
    if planned.len() < 2 {
        return Ok(());
    }
    let fitting: Vec<&str> = planned
        .iter()
        .filter(|model| configuration::fits(model, &request.source, &Quiet) == Some(true))
        .map(|model| model.id.as_str())
        .collect();
    let advice = match fitting.as_slice() {
        [] => format!(
            "choose the one whose weights they are with --filter, for one --filter {}/; `warpmark models` \
             lists them, and a model that is not among them needs an entry in a file of your own (--models)",
            planned[0].id
        ),
        [one] => format!("its configuration is that of {one}: choose it with --filter {one}/"),
        several => format!(
            "its configuration is that of {}: choose one of them with --filter {}/",
            several.join(", "),
            several[0]
        ),
    };
    bail!(
        "--weights {} holds the weights of one model, and {} models are selected: {advice}",
        folder.display(),
        planned.len()
    )
}
