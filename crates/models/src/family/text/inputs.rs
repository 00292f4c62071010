//! What an entry of a causal language model asks to be measured.

use serde::Deserialize;

use super::work::spare;
use super::{Case, Phase};
use crate::catalog::{CatalogError, Model};
use crate::options::RunOptions;

/// `[model.inputs]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::family) struct Inputs {
    /// Tokens of a prompt that is read.
    prompts: Vec<usize>,
    /// Tokens in the cache when writing begins.
    contexts: Vec<usize>,
    /// Generations: the tokens of a prompt and those that are written.
    #[serde(default)]
    generations: Vec<(usize, usize)>,
}

/// Batches whose prefill the quick suite measures; its decode runs through all of them.
const QUICK_PREFILL: [usize; 2] = [1, 8];

/// The largest batch of the quick suite on a CPU, which has to be done within minutes: by then decode has
/// long been bound by arithmetic, and so is prefill from the first sequence on.
const QUICK_CPU_DECODE: usize = 16;
const QUICK_CPU_PREFILL: usize = 1;

/// The batch whose generations the quick suite measures.
const QUICK_GENERATE: usize = 1;

impl Inputs {
    /// The entry's inputs, refused where a model of so many positions has not enough of them.
    pub(in crate::family) fn of(model: &Model, context: usize) -> Result<Self, CatalogError> {
        let inputs: Self = model.section("inputs")?;
        for (field, phase, length) in inputs.lengths() {
            let most = context.saturating_sub(spare(phase));
            if !(1..=most).contains(&length) {
                let advice =
                    format!("must be from 1 to {most}, for the model has {context} positions");
                return Err(model.invalid(&format!("inputs.{field}"), length, advice));
            }
        }
        Ok(inputs)
    }

    /// The lengths with their key and the phase they belong to, in the order in which they run.
    fn lengths(&self) -> impl Iterator<Item = (&'static str, Phase, usize)> {
        let prompts = self.prompts.iter().map(|length| ("prompts", Phase::Prefill, *length));
        let contexts = self.contexts.iter().map(|length| ("contexts", Phase::Decode, *length));
        let generations = self.generations.iter().map(|(prompt, tokens)| {
            // Writing nothing is refused as a prompt of nothing would be.
            let length = if *tokens == 0 { 0 } else { *prompt };
            ("generations", Phase::Generate { tokens: (*tokens).max(1) }, length)
        });
        prompts.chain(contexts).chain(generations)
    }

    /// The first of the generations: the tokens of a prompt and those that are written.
    pub(super) fn generation(&self) -> Option<(usize, usize)> {
        self.generations.first().copied()
    }

    /// Positions that the longest of them needs.
    pub(in crate::family) fn longest(&self) -> usize {
        self.lengths().map(|(_, phase, length)| length + spare(phase)).max().unwrap_or(1)
    }

    /// The benchmarks of a model that suit the options: prefill, decode, generations, batches rising. The
    /// quick suite takes the first length of each.
    pub(super) fn cases(&self, model: &Model, options: &RunOptions) -> Vec<Case> {
        let mut cases: Vec<Case> = Vec::new();
        let mut seen: Vec<&str> = Vec::new();
        for (key, phase, length) in self.lengths() {
            let first = !seen.contains(&key);
            seen.push(key);
            if !model.has_phase(phase.name()) || !(options.full || first) {
                continue;
            }
            let on_cpu = options.spec.gpu.is_none();
            let wanted = |batch: &usize| match phase {
                _ if options.full => true,
                Phase::Decode => !on_cpu || *batch <= QUICK_CPU_DECODE,
                Phase::Prefill if on_cpu => *batch <= QUICK_CPU_PREFILL,
                Phase::Prefill => QUICK_PREFILL.contains(batch),
                Phase::Generate { .. } => *batch == QUICK_GENERATE,
            };
            let batches = model.batches.iter().copied().filter(wanted);
            cases.extend(batches.map(|batch| Case { phase, batch, length }));
        }
        cases
    }
}
