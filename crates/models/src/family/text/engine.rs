//! A loaded causal language model as an engine.

use warpmark_measure::WorkloadError;
use warpmark_record::Bytes;

use super::check::{PlainLogits, ReferenceCache};
use super::generate::Generate;
use super::lm::{CausalLm, Memory as _};
use super::parts::{Filled, ModelInfo, Parts};
use super::steps::{Decode, Prefill};
use super::work::{self, FILL, Numbers};
use super::{Case, Implementation, Phase};
use crate::bench::{BenchContext, Context, Engine, Opened, Program};
use crate::catalog::Model;
use crate::engine::workload_error;
use warpmark_nets::NetError;
use warpmark_nets::causal::argmax;

/// A loaded model, and what its cases hand on to each other.
pub(super) struct TextEngine<N: CausalLm> {
    pub(super) net: N,
    pub(super) info: ModelInfo,
    reference: ReferenceCache,
    filled: Option<Filled<N::Memory>>,
}

/// Tokens to be fed first, memory, net, what is known of it, and what checks it.
type Lent<'a, N> =
    (Vec<u32>, &'a mut <N as CausalLm>::Memory, &'a N, &'a ModelInfo, &'a mut ReferenceCache);

/// Builds a net out of what was loaded, for sequences of up to so many positions.
pub(super) fn build<N: CausalLm>(
    model: &Model,
    positions: usize,
    (numbers, implementation): (Numbers, &Implementation<N>),
    opened: &Opened,
) -> Result<(N, ModelInfo, PlainLogits), WorkloadError> {
    let Opened { loaded, context, .. } = opened;
    let built = (implementation.build)(model, positions, loaded);
    let (net, plain) = built.map_err(workload_error)?;
    let caveats = implementation.caveats;
    let info = ModelInfo { numbers, format: context.format, seed: context.seed, caveats };
    Ok((net, info, plain))
}

impl<N: CausalLm> Engine for TextEngine<N> {
    type Case = Case;

    fn host_memory(&mut self, case: Case) -> Bytes {
        if !self.filled.as_ref().is_some_and(|filled| filled.serves::<N>(case)) {
            self.filled = None;
        }
        let (numbers, dtype) = (&self.info.numbers, self.info.dtype());
        let before = self.filled.as_ref().map_or(0, |filled| filled.memory.batch());
        let held = work::cache(numbers, dtype, case, before);
        work::memory(numbers, dtype, case, before) - held
    }

    fn prepare<'a>(
        &'a mut self,
        case: Case,
        bench: BenchContext<'a>,
    ) -> Result<Box<dyn Program + 'a>, WorkloadError> {
        if case.phase == Phase::Decode {
            return Ok(Box::new(self.decode(case, bench.context).map_err(workload_error)?));
        }
        self.filled = None;
        let Self { net, info, reference, .. } = self;
        let parts = Parts { net, info, context: bench.context, reference, case };
        Ok(match case.phase {
            Phase::Generate { tokens } => {
                Box::new(Generate::new(parts, tokens).map_err(workload_error)?)
            }
            Phase::Prefill | Phase::Decode => {
                Box::new(Prefill::new(parts).map_err(workload_error)?)
            }
        })
    }
}

impl<N: CausalLm> TextEngine<N> {
    pub(super) fn new(net: N, info: ModelInfo, plain: PlainLogits) -> Self {
        Self { net, info, reference: ReferenceCache::new(plain), filled: None }
    }

    /// The decoding of a case, whose prompts are read first where they are not yet.
    pub(super) fn decode<'a>(
        &'a mut self,
        case: Case,
        context: &'a Context,
    ) -> Result<Decode<'a, N>, NetError> {
        let filled = self.fill(case.batch, case.length)?;
        let Self { net, info, reference, .. } = self;
        let parts = Parts { net, info, context, reference, case };
        Decode::new(parts, self.filled.insert(filled))
    }

    /// What a case that goes on from filled memory works with: the tokens to be fed first, the memory, and the rest.
    pub(super) fn lent(&mut self, filled: Filled<N::Memory>) -> Lent<'_, N> {
        let Self { net, info, reference, filled: kept } = self;
        let filled = kept.insert(filled);
        (filled.next.clone(), &mut filled.memory, net, info, reference)
    }

    /// Lets `batch` sequences read their prompts. Those that fewer have read are copied; the others read
    /// theirs now, a few at a time to keep activations small, where the net's memory can be put together.
    pub(super) fn fill(
        &mut self,
        batch: usize,
        context: usize,
    ) -> Result<Filled<N::Memory>, NetError> {
        let capacity = context + super::WINDOW;
        let case = Case { phase: Phase::Decode, batch, length: context };
        let old = match self.filled.take().filter(|old| old.serves::<N>(case)) {
            Some(old) if old.memory.batch() == batch => return Ok(old),
            old => old,
        };
        let mut memory = self.net.memory(batch, capacity)?;
        let mut next = Vec::with_capacity(batch);
        if !N::JOINS {
            let prompts = self.info.prompts(0, batch, context, self.net.device())?;
            next = argmax(&self.net.read(&prompts, &mut memory)?)?.to_vec1::<u32>()?;
        } else if let Some(mut old) = old {
            old.memory.rewind(context);
            memory.take_over(0, &old.memory, old.memory.batch())?;
            next = old.next;
        }
        while next.len() < batch {
            let count = FILL.min(batch - next.len());
            let mut part = self.net.memory(count, capacity)?;
            let prompts = self.info.prompts(next.len(), count, context, self.net.device())?;
            let logits = self.net.read(&prompts, &mut part)?;
            memory.take_over(next.len(), &part, count)?;
            next.extend(argmax(&logits)?.to_vec1::<u32>()?);
        }
        memory.mark();
        Ok(Filled { memory, context, next })
    }
}
