//! Rows that tell the speed a card keeps, and the one that it begins with after a rest.
//!
//! A card that has rested is cool and below its power limit, and clocks as high as it can; under load
//! it settles where power and heat allow. The ordinary rows are taken somewhere in between, within
//! seconds. These rest first, keep what the first second under load was like, go on under load, and
//! take their samples then.

use warpmark_measure::{Entry, Sampling};
use warpmark_record::{BenchmarkId, Seconds};

use crate::RunOptions;

/// What their ids end in.
pub(crate) const NAME: &str = "sustained";

/// The rest before the load: power is back at idle after it, and the core has cooled off the most part.
const REST: Seconds = Seconds(3.0);

/// How the benchmark of this id rests before it begins; `None` for all others.
pub(crate) fn rest_before(id: &BenchmarkId) -> Option<Seconds> {
    let sustained = id.segments().last().is_some_and(|last| last == NAME);
    sustained.then_some(REST)
}

/// Makes an entry one of these: a load before the samples, and samples over as long again.
pub(crate) fn plan(entry: &mut Entry, options: &RunOptions) {
    let (samples, load) = if options.full { (20, Seconds(20.0)) } else { (10, Seconds(5.0)) };
    entry.sampling =
        Sampling { samples, target: load, warm_up: load, single: false, may_end_early: false };
    entry.preparation_estimate = entry.preparation_estimate + REST;
    // One that does not fit leaves its place to nothing else.
    entry.sweep = None;
}
