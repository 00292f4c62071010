//! Writing text for requests that come and go: continuous batching.

use candle_core::Tensor;
use warpmark_measure::{Description, Streaming, WorkloadError};
use warpmark_record::{BenchmarkId, Check, Memory};

use super::super::check::{ReferenceCache, check};
use super::super::lm::RaggedLm;
use super::super::parts::ModelInfo;
use super::super::work::FILL;
use super::super::{Case, Phase};
use super::{Ready, describe};
use crate::bench::Context;
use crate::engine::workload_error;
use warpmark_nets::NetError;
use warpmark_nets::causal::argmax;
use warpmark_nets::kv_cache::Cache;

/// Steps that a check follows, after the prompt.
pub(super) const CHECKED_STEPS: usize = 4;

/// Positions after the prompt that answers of so many tokens need, checks included. The last token that is
/// written is not read.
pub(super) fn positions(tokens: usize) -> usize {
    tokens.saturating_sub(1).max(CHECKED_STEPS)
}

/// Sequences in slots of one cache, each at a position of its own.
///
/// A pass goes over the slots up to the last that is taken, and the host waits for its tokens, as it must to
/// send them out. New requests take the lowest slots that are free.
pub(super) struct Writing<N: RaggedLm> {
    net: N,
    info: ModelInfo,
    reference: ReferenceCache,
    context: Context,
    id: BenchmarkId,
    case: Case,
    tokens: usize,
    cache: Cache,
    slots: Vec<Slot>,
    /// Prompts that have been read so far: the number of the next one.
    asked: usize,
}

/// What is in a slot. An empty one has no position, and what a pass writes into it is overwritten.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Positions that are in the cache.
    length: usize,
    /// The token that the next pass reads.
    token: u32,
}

impl<N: RaggedLm> Writing<N> {
    pub(super) fn new(
        ready: Ready<N>,
        id: BenchmarkId,
        case: Case,
        tokens: usize,
    ) -> Result<Self, WorkloadError> {
        let Ready { net, info, plain, context } = ready;
        let cache = net.memory(case.batch, case.length + positions(tokens));
        Ok(Self {
            cache: cache.map_err(workload_error)?,
            net,
            info,
            reference: ReferenceCache::new(plain),
            context,
            id,
            tokens,
            slots: vec![Slot::default(); case.batch],
            case,
            asked: 0,
        })
    }

    /// Reads a prompt into each of these slots, a few at a time to keep activations small.
    fn read(&mut self, slots: &[usize]) -> Result<(), NetError> {
        for part in slots.chunks(FILL) {
            let length = self.case.length;
            let mut memory = self.net.memory(part.len(), length)?;
            let prompts = self.info.prompts(self.asked, part.len(), length, self.net.device())?;
            let logits = self.net.read(&prompts, &mut memory)?;
            let tokens: Vec<u32> = argmax(&logits)?.to_vec1()?;
            for (from, (&at, token)) in part.iter().zip(tokens).enumerate() {
                self.cache.copy_sequences(at, &memory, from, 1)?;
                self.slots[at] = Slot { length, token };
            }
            self.asked += part.len();
        }
        Ok(())
    }

    /// Reads the next token of each of these slots. Returns the logits of all slots up to the last of them.
    fn write(&mut self, slots: &[usize]) -> Result<Tensor, NetError> {
        let end = slots.iter().max().map_or(0, |last| last + 1);
        let taken = |at: usize| if slots.contains(&at) { self.slots[at] } else { Slot::default() };
        let (tokens, lengths): (Vec<u32>, Vec<usize>) =
            (0..end).map(taken).map(|slot| (slot.token, slot.length)).unzip();
        let tokens = Tensor::new(tokens, self.net.device())?;
        let logits = self.net.decode_ragged(&tokens, &lengths, &self.cache)?;
        let chosen: Vec<u32> = argmax(&logits)?.to_vec1()?;
        for &at in slots {
            self.slots[at] = Slot { length: self.slots[at].length + 1, token: chosen[at] };
        }
        Ok(logits)
    }

    /// The last token of a slot.
    #[cfg(test)]
    pub(super) fn token(&self, slot: usize) -> u32 {
        self.slots[slot].token
    }

    /// Lets a second request join one that has been written for a while, and follows both for two steps:
    /// the logits of the two, and the tokens of each up to the last that was read.
    fn trace(&mut self) -> Result<(Vec<Tensor>, [Vec<u32>; 2]), NetError> {
        let both = [0, self.slots.len() - 1];
        let asked = self.asked;
        self.read(&both[..1])?;
        let mut tokens = [
            self.info.prompt(asked, self.case.length),
            self.info.prompt(asked + 1, self.case.length),
        ];
        for _ in 2..CHECKED_STEPS {
            tokens[0].push(self.slots[0].token);
            self.write(&both[..1])?;
        }
        if both[1] == 0 {
            // One slot alone: nobody can join.
            let [first, second] = &mut tokens;
            second.clone_from(first);
        } else {
            self.read(&both[1..])?;
        }
        let mut logits = Vec::new();
        for _ in 0..2 {
            for (tokens, slot) in tokens.iter_mut().zip(both) {
                tokens.push(self.slots[slot].token);
            }
            let distinct = if both[1] == 0 { &both[..1] } else { &both[..] };
            let rows = Tensor::new(&[0, both[1] as u32], self.net.device())?;
            logits.push(self.write(distinct)?.index_select(&rows, 0)?);
        }
        self.slots.fill(Slot::default());
        Ok((logits, tokens))
    }
}

impl<N: RaggedLm> Streaming for Writing<N> {
    fn describe(&self) -> Description {
        let case = Case { phase: Phase::Generate { tokens: self.tokens }, ..self.case };
        let mut description = describe(&self.info, &self.context, &self.id, case);
        description.caveats.push(format!(
            "{} tokens whatever they are: an end is not looked for, so that every answer is as long",
            self.tokens
        ));
        description
    }

    fn slots(&self) -> usize {
        self.slots.len()
    }

    fn tokens(&self) -> usize {
        self.tokens
    }

    fn admit(&mut self, slots: &[usize]) -> Result<(), WorkloadError> {
        self.read(slots).map_err(workload_error)
    }

    fn step(&mut self, slots: &[usize]) -> Result<(), WorkloadError> {
        self.write(slots).map(drop).map_err(workload_error)
    }

    /// The logits of two requests that are at different positions, against each recomputed alone.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        let (logits, tokens) = self.trace().map_err(workload_error)?;
        let format = self.info.format;
        check(&mut self.reference, format, &logits, |at| tokens[at].clone())?.verdict()
    }

    fn prepare(&mut self) {
        self.context.begin_peak();
    }

    fn memory(&mut self) -> Option<Memory> {
        Some(self.context.memory())
    }
}
