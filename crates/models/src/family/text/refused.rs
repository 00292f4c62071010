//! Benchmarks that an engine does not run for a net that it does not compute: planned, and skipped with the reason.

use super::work::{self, Numbers};
use super::{Inputs, Phase};
use crate::bench::estimate::guess;
use crate::bench::{Plan, Planned, PlannedGroup};
use crate::catalog::{CatalogError, Format, Model};
use crate::options::RunOptions;
use warpmark_measure::WorkloadError;

/// The decode benchmarks of a model in half types under an engine of that name, each skipped.
pub(in crate::family) fn groups(
    model: &Model,
    numbers: &Numbers,
    options: &RunOptions,
    (engine, reason): (&'static str, &str),
) -> Result<Vec<PlannedGroup>, CatalogError> {
    let mut cases = Inputs::of(model, numbers.context)?.cases(model, options);
    // One row says it.
    cases.retain(|case| case.phase == Phase::Decode);
    cases.truncate(1);
    let mut groups = Vec::new();
    for format in options.formats(model) {
        let Format::Plain(dtype) = format else { continue };
        let weights = work::weight_bytes(numbers, dtype);
        let plan = Plan { model, options, format, weights };
        let planned = |case: &super::Case| Planned {
            case: *case,
            parameters: case.parameters(format, engine),
            iteration: guess(&work::work(numbers, dtype, *case), 1, dtype, &options.spec),
            preparation: warpmark_record::Seconds(0.0),
            memory: work::memory(numbers, dtype, *case, 0),
            sampling: case.sampling(options.full, warpmark_record::Seconds(0.0)),
            skip: Some(reason.to_owned()),
        };
        let planned = cases.iter().map(planned).collect();
        let reason = reason.to_owned();
        groups.extend(plan.group(planned, move |_| Err(WorkloadError::Unsupported(reason)))?);
    }
    Ok(groups)
}
