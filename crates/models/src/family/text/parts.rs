//! What the cases of a causal language model share.

use candle_core::Tensor;

use super::check::ReferenceCache;
use super::lm::{CausalLm, Memory};
use super::work::{self, Numbers};
use super::{Case, Phase};
use crate::bench::{Context, Notes};
use crate::catalog::{Dtype, Format};
use warpmark_nets::NetError;

/// What its rows say of a model, and what it is fed.
#[derive(Clone, Copy)]
pub(super) struct ModelInfo {
    pub(super) numbers: Numbers,
    pub(super) format: Format,
    pub(super) seed: u64,
    /// What to know before trusting the rows of this program.
    pub(super) caveats: &'static [&'static str],
}

/// Sequences that have read their prompts and are ready for decoding.
pub(super) struct Filled<M> {
    pub(super) memory: M,
    pub(super) context: usize,
    /// The most likely token after each prompt.
    pub(super) next: Vec<u32>,
}

/// What a case has beside the net's memory.
pub(super) struct Parts<'a, N> {
    pub(super) net: &'a N,
    pub(super) info: &'a ModelInfo,
    pub(super) context: &'a Context,
    pub(super) reference: &'a mut ReferenceCache,
    pub(super) case: Case,
}

impl<M: Memory> Filled<M> {
    /// Whether a case can go on from here.
    pub(super) fn serves<N: CausalLm>(&self, case: Case) -> bool {
        let same = case.phase == Phase::Decode && self.context == case.length;
        let batch = self.memory.batch();
        same && (batch == case.batch || N::JOINS && batch < case.batch)
    }
}

impl ModelInfo {
    /// The prompt of one sequence.
    pub(super) fn prompt(&self, sequence: usize, length: usize) -> Vec<u32> {
        super::prompt(self.seed, sequence, length, self.numbers.vocabulary)
    }

    /// The prompts of neighbouring sequences, `[count, length]`.
    pub(super) fn prompts(
        &self,
        first: usize,
        count: usize,
        length: usize,
        device: &candle_core::Device,
    ) -> Result<Tensor, NetError> {
        let tokens: Vec<u32> =
            (first..first + count).flat_map(|sequence| self.prompt(sequence, length)).collect();
        Ok(Tensor::from_vec(tokens, (count, length), device)?)
    }

    /// The numbers of activations and of the cache.
    pub(super) fn dtype(&self) -> Dtype {
        self.format.compute()
    }

    /// What to know before trusting a row.
    pub(super) fn caveats(&self, context: &Context) -> Vec<String> {
        let mut caveats: Vec<String> = self.caveats.iter().map(|&text| text.to_owned()).collect();
        caveats.extend(context.widened());
        if let Format::Quantised(_) = self.format {
            caveats.push(
                "products of quantised weights are candle's: they round activations to 8 bits; \
                 everything between them, the cache included, is f32"
                    .to_owned(),
            );
        }
        caveats
    }
}

impl<N> Parts<'_, N> {
    /// What the row of a net says, its attention included; `continuation` follows what the prompts are.
    pub(super) fn notes_of_net(&self, continuation: &str) -> Notes
    where
        N: CausalLm,
    {
        let mut notes = self.notes(continuation);
        notes.caveats.extend(self.net.attention_note());
        notes
    }

    /// What the row says; `continuation` follows what the prompts are.
    pub(super) fn notes(&self, continuation: &str) -> Notes {
        Notes {
            work: work::work(&self.info.numbers, self.info.dtype(), self.case),
            data: format!(
                "another prompt for each sequence, tokens drawn evenly from the vocabulary, seed \
                 {}{continuation}",
                self.info.seed
            ),
            caveats: self.info.caveats(self.context),
            fields: Vec::new(),
        }
    }
}
