//! `warpmark serve`: load on a model inside the process, level by level.

use std::fmt::Write;

use warpmark_measure::Offer;
use warpmark_record::store;
use warpmark_record::{DeviceKind, Filter};

use super::run::show_recorded;
use crate::arguments::{AudioOption, Selection, Serve, Suite};
use crate::budget::Budget;
use crate::environment::Identity;
use crate::output::say;
use crate::progress::Bars;
use crate::serving::{self, Level};
use crate::{environment, exit, supervisor};

/// Puts each level of load on each service.
pub fn run(options: &Serve) -> anyhow::Result<u8> {
    let selection = selection(options);
    let described = warpmark_device::look(options.device.device)?;
    let bars = Bars::new();
    let offers = serving::offers(
        options,
        &selection,
        &described.spec,
        bars.transfers(Budget::starting(selection.budget)),
    )?;
    let levels = serving::levels(&options.traffic)?;
    if options.dry_run {
        say(&plan(&offers, &levels, options))?;
        return Ok(exit::OK);
    }
    let serving = serving::Serving {
        described: &described,
        selection: &selection,
        options,
        levels: &levels,
        bars: &bars,
    };
    let tags = options.tags.by_key()?;
    let identity = Identity { tags, ..Identity::named(environment::new_run_id()) };
    let results = match described.spec.kind {
        DeviceKind::Cpu => serving.run(offers, identity)?,
        // A context that is lost must cost one level and no other.
        DeviceKind::Cuda | DeviceKind::Simulated => supervisor::serve(&serving, &offers, identity)?,
    };
    show_recorded(&store::read(&results.path)?, &results.path, options.json)?;
    Ok(if results.failures() == 0 { exit::OK } else { exit::FAILED })
}

/// The levels of each service, with the time and memory that they should take.
fn plan(offers: &[Offer], levels: &[Level], options: &Serve) -> String {
    let mut text = String::new();
    for offer in offers {
        let _ = writeln!(text, "{}: {}", offer.name, offer.memory_estimate.binary());
        let _ = writeln!(text, "  a request alone should take {}", offer.request_estimate);
        if let Some(reason) = &offer.skip {
            let _ = writeln!(text, "  skipped: {reason}");
            continue;
        }
        for level in levels {
            let id = serving::id(offer, level);
            let time = options.traffic.warm_up + options.traffic.duration;
            let _ = writeln!(text, "  {id}  {time:?}, and the last answers");
        }
    }
    let _ = writeln!(
        text,
        "\n{} levels, about {:?}; the last answers of each are waited for {:?} at most",
        offers.len() * levels.len(),
        (options.traffic.warm_up + options.traffic.duration)
            * u32::try_from(offers.len() * levels.len()).unwrap_or(u32::MAX),
        options.traffic.timeout
    );
    text
}

/// What the stamp of the run says was chosen.
fn selection(options: &Serve) -> Selection {
    Selection {
        suite: Suite::Quick,
        exhaustive: false,
        filter: None::<Filter>,
        device: options.device.clone(),
        weights: options.weights.clone(),
        catalog: options.catalog.clone(),
        budget: None,
        audio: AudioOption::default(),
    }
}
