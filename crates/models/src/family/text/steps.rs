//! Prefill and decode, apart.

use candle_core::Tensor;
use warpmark_measure::WorkloadError;

use super::check::{check, chosen_errors};
use super::lm::{CausalLm, Memory as _};
use super::parts::{Filled, Parts};
use super::{Case, WINDOW};
use crate::bench::{Comparison, Notes, Program};
use crate::engine::workload_error;
use warpmark_nets::NetError;
use warpmark_nets::causal::argmax;

/// Decode steps that a check follows.
pub(super) const CHECKED_STEPS: usize = 3;

/// Reading prompts: one iteration is one pass over the batch's prompts into an empty cache, the logits
/// of their last positions and the tokens they choose.
pub(super) struct Prefill<'a, N: CausalLm> {
    parts: Parts<'a, N>,
    prompts: Tensor,
    memory: N::Memory,
}

impl<'a, N: CausalLm> Prefill<'a, N> {
    pub(super) fn new(parts: Parts<'a, N>) -> Result<Self, NetError> {
        let Case { batch, length, .. } = parts.case;
        Ok(Self {
            prompts: parts.info.prompts(0, batch, length, parts.net.device())?,
            memory: parts.net.memory(batch, length)?,
            parts,
        })
    }

    fn pass(&mut self) -> Result<Tensor, NetError> {
        self.memory.rewind(0);
        self.parts.net.read(&self.prompts, &mut self.memory)
    }
}

impl<N: CausalLm> Program for Prefill<'_, N> {
    fn notes(&self) -> Notes {
        self.parts.notes_of_net("")
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.pass().and_then(|logits| argmax(&logits)).map(drop).map_err(workload_error)
    }

    fn compare(&mut self) -> Result<Comparison, WorkloadError> {
        let logits = self.pass().map_err(workload_error)?;
        let chosen = argmax(&logits).and_then(|chosen| Ok(chosen.to_vec1()?));
        let chosen = [chosen.map_err(workload_error)?];
        let Parts { info, reference, case, .. } = &mut self.parts;
        let prompt = |sequence| info.prompt(sequence, case.length);
        let mut comparison = check(reference, info.format, &[logits], prompt)?;
        comparison.errors.extend(chosen_errors(reference, &chosen, prompt)?);
        Ok(comparison)
    }
}

/// Writing: one iteration is one token of every sequence, chosen on the device from the logits and fed
/// to the next iteration.
pub(super) struct Decode<'a, N: CausalLm> {
    parts: Parts<'a, N>,
    memory: &'a mut N::Memory,
    /// The tokens that follow the prompts, and those to be fed next.
    first: Tensor,
    tokens: Tensor,
}

impl<'a, N: CausalLm> Decode<'a, N> {
    pub(super) fn new(
        parts: Parts<'a, N>,
        filled: &'a mut Filled<N::Memory>,
    ) -> Result<Self, NetError> {
        let first = Tensor::new(filled.next.as_slice(), parts.net.device())?;
        Ok(Self { parts, memory: &mut filled.memory, tokens: first.clone(), first })
    }

    fn go_back(&mut self) {
        self.memory.rewind(self.parts.case.length);
        self.tokens = self.first.clone();
    }

    /// One step; returns its logits and leaves the chosen tokens for the next.
    fn step(&mut self) -> Result<Tensor, NetError> {
        let context = self.parts.case.length;
        if self.memory.length() == context + WINDOW {
            self.memory.rewind(context);
        }
        let logits = self.parts.net.read(&self.tokens.unsqueeze(1)?, self.memory)?;
        self.tokens = argmax(&logits)?;
        Ok(logits)
    }

    /// Follows a few steps from the context on: their logits, and the tokens fed to each and chosen by the last.
    fn trace(&mut self) -> Result<(Vec<Tensor>, Vec<Vec<u32>>), NetError> {
        self.go_back();
        let (mut logits, mut fed) = (Vec::new(), Vec::new());
        for _ in 0..CHECKED_STEPS {
            fed.push(self.tokens.to_vec1()?);
            logits.push(self.step()?);
        }
        fed.push(self.tokens.to_vec1()?);
        self.go_back();
        Ok((logits, fed))
    }

    /// What it remembers, for tests that damage it.
    #[cfg(test)]
    pub(super) fn memory(&self) -> &N::Memory {
        self.memory
    }
}

impl<N: CausalLm> Program for Decode<'_, N> {
    fn notes(&self) -> Notes {
        let from = self.parts.case.length;
        let to = from + WINDOW - 1;
        self.parts.notes_of_net(&format!(
            "; then each sequence's own most likely tokens, at positions {from} to {to}"
        ))
    }

    fn reset(&mut self) -> Result<(), WorkloadError> {
        self.go_back();
        Ok(())
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.step().map(drop).map_err(workload_error)
    }

    fn compare(&mut self) -> Result<Comparison, WorkloadError> {
        let (logits, fed) = self.trace().map_err(workload_error)?;
        let Parts { info, reference, case, .. } = &mut self.parts;
        let tokens = |sequence| {
            let mut tokens = info.prompt(sequence, case.length);
            tokens.extend(fed[..CHECKED_STEPS].iter().map(|step| step[sequence]));
            tokens
        };
        let mut comparison = check(reference, info.format, &logits, tokens)?;
        comparison.errors.extend(chosen_errors(reference, &fed[1..], tokens)?);
        Ok(comparison)
    }
}
