//! `warpmark serve`: load on a model inside the process, level by level.

use std::fmt::Write;

use anyhow::bail;
use warpmark_measure::Offer;
use warpmark_models::service::{self, Form};
use warpmark_record::store;
use warpmark_record::{DeviceSpec, Filter};

use super::run::show_recorded;
use crate::arguments::{AudioOption, Selection, Serve, Suite};
use crate::output::show;
use crate::progress::Bars;
use crate::serving::{self, Level};
use crate::{environment, exit, sources};

/// Puts each level of load on each service.
pub fn run(options: &Serve) -> anyhow::Result<u8> {
    let selection = selection(options);
    let described = warpmark_device::look(options.device.device)?;
    let bars = Bars::new();
    let offers = offers(options, &selection, &described.spec, &bars)?;
    let levels = serving::levels(&options.traffic)?;
    if options.dry_run {
        show(&plan(&offers, &levels, options));
        return Ok(exit::OK);
    }
    let serving = serving::Serving {
        described: &described,
        selection: &selection,
        options,
        levels: &levels,
        bars: &bars,
    };
    let results = serving.run(offers, environment::new_run_id())?;
    show_recorded(&store::read(&results.path)?, &results.path, options.json)?;
    Ok(if results.failures() == 0 { exit::OK } else { exit::FAILED })
}

/// The services that are asked for: of each model and dtype one.
fn offers(
    options: &Serve,
    selection: &Selection,
    spec: &DeviceSpec,
    bars: &Bars,
) -> anyhow::Result<Vec<Offer>> {
    let catalog = sources::catalog(&options.catalog)?;
    let request = sources::request(selection, spec, bars.transfers())?;
    let wanted = &options.service;
    let mut offers = Vec::new();
    for name in &options.names {
        let model = catalog.model(name)?;
        let mut listed = [false, true].into_iter().flat_map(|full| model.dtypes(full, spec));
        let Some(dtype) = wanted.dtype.or_else(|| listed.next()) else {
            bail!(
                "no suite measures {name} on a device of this kind; name a number format to try it \
                   all the same, such as `--dtype f16`"
            );
        };
        let form = Form {
            phase: wanted.phase.clone(),
            dtype: Some(dtype),
            most: wanted.most as usize,
            prompt: wanted.prompt.map(|tokens| tokens as usize),
            tokens: wanted.tokens.map(|tokens| tokens as usize),
        };
        let found = service::offers(&catalog, std::slice::from_ref(name), &request, &form)?;
        match (found.into_iter().next(), &wanted.phase) {
            (Some(offer), _) => offers.push(offer),
            (None, Some(phase)) => bail!("{name} answers no requests for {phase:?}"),
            (None, None) => bail!("{name} lists no phase that answers requests"),
        }
    }
    Ok(offers)
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
            let time = options.traffic.warm_up + options.traffic.window;
            let _ = writeln!(text, "  {id}  {time:?}, and the last answers");
        }
    }
    let _ = writeln!(
        text,
        "\n{} levels, about {:?}; the last answers of each are waited for {:?} at most",
        offers.len() * levels.len(),
        (options.traffic.warm_up + options.traffic.window)
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
