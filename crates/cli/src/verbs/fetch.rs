//! `warpmark fetch`: weights into the cache, so that a run does not wait for them.

use anyhow::bail;
use warpmark_models::Format;
use warpmark_models::tokenizer::Tokenizer;
use warpmark_models::weights::locate_tokenizer;

use crate::arguments::Fetch;
use crate::budget::Budget;
use crate::output::say;
use crate::progress::Bars;
use crate::{exit, sources};

/// Brings the weights of every named model, and says where they are.
pub fn run(options: &Fetch) -> anyhow::Result<u8> {
    if !matches!(options.weights.as_str(), "hub" | "synthetic") {
        bail!(
            "--weights {:?}: weights are fetched from `hub` or written as `synthetic`; a folder of \
             your own needs no fetching",
            options.weights
        );
    }
    let catalog = sources::catalog(&options.catalog)?;
    let source = sources::weights(&options.weights, options.seed, options.offline)?;
    let cache = sources::cache()?;
    let bars = Bars::new();
    let progress = bars.transfers(Budget::starting(None));
    // All names are looked up before the first byte is fetched: a slip in the last one costs nothing.
    let models =
        options.names.iter().map(|name| catalog.model(name)).collect::<Result<Vec<_>, _>>()?;
    // What killed runs have left.
    cache.sweep();
    for model in models {
        let format = match options.quantised {
            Some(quantisation) => Format::Quantised(quantisation),
            None => Format::Plain(model.checkpoint),
        };
        let (wanted, checkpoint) = (model.weight_spec(format)?, model.checkpoint_in(format)?);
        // A file that is there already may have been damaged since.
        for damaged in wanted.examine(&checkpoint, &source, &cache, progress.as_ref())? {
            bars.line(&damaged);
        }
        let files = wanted.locate(&checkpoint, &source, &cache, progress.as_ref())?;
        let paths: Vec<String> =
            files.paths().iter().map(|path| format!("  {}\n", path.display())).collect();
        say(&format!("{} ({})\n{}", model.id, files.bytes()?.binary(), paths.concat()))?;
        let published = model.checkpoint_in(model.checkpoint)?;
        if let Some(path) = locate_tokenizer(&published, &source, progress.as_ref())? {
            // A tokenizer of another model is noticed here and not in the middle of a run.
            Tokenizer::of(model, &path)?;
            say(&format!("  {}\n", path.display()))?;
        }
    }
    Ok(exit::OK)
}
