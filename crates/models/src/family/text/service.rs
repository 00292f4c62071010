//! A causal language model that answers requests as they come: it writes text with continuous batching, or
//! reads whole prompts in batches.

mod reading;
#[cfg(test)]
mod tests;
mod writing;

use warpmark_measure::{Description, Offer, Service};
use warpmark_record::BenchmarkId;

use super::check::PlainLogits;
use super::engine;
use super::inputs::Inputs;
use super::lm::RaggedLm;
use super::parts::ModelInfo;
use super::work::{self, Numbers, spare};
use super::{Case, Implementation, Phase};
use crate::bench::estimate::guess;
use crate::bench::{Context, Loader};
use crate::catalog::{CatalogError, Dtype, Format, Model};
use crate::engine::unsupported;
use crate::options::RunOptions;
use reading::Reading;
use warpmark_harness::ServiceSettings;
use writing::Writing;

/// Prompt and answer where neither settings nor the entry says how long they are.
const PROMPT: usize = 128;
const TOKENS: usize = 64;

/// The services that a model can be: one that writes text, and one that reads prompts.
pub(in crate::family) fn offers<N: RaggedLm>(
    model: &Model,
    numbers: &Numbers,
    (options, settings): (&RunOptions, &ServiceSettings),
    implementation: &'static Implementation<N>,
) -> Result<Vec<Offer>, CatalogError> {
    let inputs = Inputs::of(model, numbers.context)?;
    let (prompt, tokens) = inputs.generation().unwrap_or((PROMPT, TOKENS));
    let (prompt, tokens) = (settings.prompt.unwrap_or(prompt), settings.tokens.unwrap_or(tokens));
    let positions = prompt + writing::positions(tokens);
    if prompt == 0 || tokens == 0 || positions > numbers.context {
        let advice =
            format!("with a token at least of each, and {} positions in all", numbers.context);
        return Err(model.invalid("inputs", format!("{prompt}+{tokens}"), advice));
    }
    let phases = [Phase::Generate { tokens }, Phase::Prefill];
    let wanted = |phase: &Phase| settings.phase.as_ref().is_none_or(|name| *name == phase.name());
    let mut offers = Vec::new();
    for dtype in settings.dtype.map_or_else(|| options.dtypes(model), |dtype| vec![dtype]) {
        for phase in phases.into_iter().filter(wanted) {
            let case = Case { phase, batch: settings.max_batch, length: prompt };
            offers.push(offer(model, numbers, (options, dtype, case), implementation)?);
        }
    }
    Ok(offers)
}

fn offer<N: RaggedLm>(
    model: &Model,
    numbers: &Numbers,
    (options, dtype, case): (&RunOptions, Dtype, Case),
    implementation: &'static Implementation<N>,
) -> Result<Offer, CatalogError> {
    let bad = |error: warpmark_record::IdError| model.invalid("id", &model.id, error.to_string());
    let id = id(&model.id, dtype, case, implementation.name).map_err(bad)?;
    let alone = Case { batch: 1, ..case };
    let passes = if let Phase::Generate { tokens } = case.phase { tokens } else { 1 };
    let kernels = implementation.kernels_of_a_block * numbers.layers * passes;
    let positions = case.length + spare(case.phase).max(writing::CHECKED_STEPS);
    let format = Format::Plain(dtype);
    let loader = Loader {
        model: model.clone(),
        wanted: model.weight_spec(format)?,
        checkpoint: model.checkpoint_in(format)?,
        format,
        weights: work::weight_bytes(numbers, dtype),
        options: options.clone(),
        on_host: false,
    };
    let (model, program) = (model.clone(), (*numbers, implementation));
    let (named, name) = (id.clone(), format!("{} {dtype}, {}", model.title, case.phase.name()));
    Ok(Offer {
        id,
        name,
        request_estimate: guess(&work::work(numbers, dtype, alone), kernels, dtype, &options.spec),
        memory_estimate: work::weight_bytes(numbers, dtype) + work::memory(numbers, dtype, case, 0),
        skip: unsupported(&options.spec, dtype),
        open: Box::new(move |device| {
            let opened = loader.load(device)?;
            let (net, info, plain) = engine::build(&model, positions, program, &opened)?;
            let ready = Ready { net, info, plain, context: opened.context };
            Ok(match case.phase {
                Phase::Generate { tokens } => {
                    Service::Streaming(Box::new(Writing::new(ready, named, case, tokens)?))
                }
                Phase::Prefill | Phase::Decode => {
                    Service::Batched(Box::new(Reading::new(ready, named, case)?))
                }
            })
        }),
    })
}

/// `serve/<model>/generate/<dtype>/p<prompt>+<tokens>/s<slots>@<engine>`
fn id(
    model: &str,
    dtype: Dtype,
    case: Case,
    engine: &str,
) -> Result<BenchmarkId, warpmark_record::IdError> {
    let (length, most) = match case.phase {
        Phase::Generate { tokens } => {
            (format!("p{}+{tokens}", case.length), format!("s{}", case.batch))
        }
        Phase::Prefill | Phase::Decode => (format!("p{}", case.length), format!("b{}", case.batch)),
    };
    let parts = [case.phase.name().to_owned(), dtype.to_string(), length, most];
    let segments = ["serve".to_owned(), model.to_owned()].into_iter().chain(parts);
    BenchmarkId::new(segments, engine)
}

/// A net that was loaded, and what goes with it.
struct Ready<N> {
    net: N,
    info: ModelInfo,
    plain: PlainLogits,
    context: Context,
}

/// What rows of load say of a service; the work is that of one options.
fn describe(info: &ModelInfo, context: &Context, id: &BenchmarkId, case: Case) -> Description {
    let alone = Case { batch: 1, ..case };
    let mut parameters = alone.parameters(info.format, "").fields(&context.model);
    parameters.remove("batch");
    parameters.insert("most".to_owned(), case.batch.into());
    Description {
        id: id.clone(),
        parameters,
        work: work::work(&info.numbers, info.dtype(), alone),
        data: Some(format!(
            "another prompt for each options, tokens drawn evenly from the vocabulary, seed {}",
            info.seed
        )),
        weights: Some(context.stamp.clone()),
        caveats: info.caveats(context),
    }
}
