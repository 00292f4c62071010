//! Whole generations, as a user waits for them.

use std::collections::BTreeMap;

use candle_core::Tensor;
use warpmark_measure::{Clock, WallClock, WorkloadError};

use super::check::{check, chosen_errors};
use super::lm::{CausalLm, Memory as _};
use super::parts::Parts;
use super::work::spare;
use super::{Case, Phase};
use crate::bench::{Comparison, Notes, Program};
use crate::engine::workload_error;
use warpmark_nets::NetError;
use warpmark_nets::causal::argmax;

/// One iteration reads the prompts and writes a number of tokens greedily, each of which the host waits for
/// before it asks for the next, as it must to show it or to see whether it is the last.
pub(super) struct Generate<'a, N: CausalLm> {
    parts: Parts<'a, N>,
    prompts: Tensor,
    memory: N::Memory,
    tokens: usize,
    first: Vec<f64>,
    between: Vec<f64>,
}

impl<'a, N: CausalLm> Generate<'a, N> {
    pub(super) fn new(parts: Parts<'a, N>, tokens: usize) -> Result<Self, NetError> {
        let Case { batch, length, .. } = parts.case;
        Ok(Self {
            prompts: parts.info.prompts(0, batch, length, parts.net.device())?,
            memory: parts.net.memory(batch, length + spare(Phase::Generate { tokens }))?,
            parts,
            tokens,
            first: Vec::new(),
            between: Vec::new(),
        })
    }

    /// One generation; hands each step's logits and chosen tokens on.
    fn generate(&mut self, mut step: impl FnMut(&Tensor, &[u32])) -> Result<(), WorkloadError> {
        self.memory.rewind(0);
        let mut clock = WallClock::default();
        let mut fed = self.prompts.clone();
        for index in 0..self.tokens {
            clock.start().map_err(WorkloadError::failed)?;
            let (logits, chosen, on_host) = self.token(&fed).map_err(workload_error)?;
            let time = clock.finish().map_err(WorkloadError::failed)?.wall;
            let times = if index == 0 { &mut self.first } else { &mut self.between };
            times.push(time.0);
            step(&logits, &on_host);
            fed = chosen;
        }
        Ok(())
    }

    /// The next token of each sequence: the logits it was chosen by, what is fed for the one after it,
    /// `[batch, 1]`, and the tokens on the host. The copy there is the wait.
    fn token(&mut self, fed: &Tensor) -> Result<(Tensor, Tensor, Vec<u32>), NetError> {
        let logits = self.parts.net.read(fed, &mut self.memory)?;
        let chosen = argmax(&logits)?;
        let on_host = chosen.to_vec1()?;
        Ok((logits, chosen.unsqueeze(1)?, on_host))
    }

    fn forget_times(&mut self) {
        self.first.clear();
        self.between.clear();
    }
}

impl<N: CausalLm> Program for Generate<'_, N> {
    fn notes(&self) -> Notes {
        let mut notes = self.parts.notes_of_net("; then each sequence's own most likely tokens");
        let count = format!(
            "{} tokens whatever they are: an end is not looked for, so that every generation is as long",
            self.tokens
        );
        notes.caveats.push(count);
        notes
    }

    fn reset(&mut self) -> Result<(), WorkloadError> {
        self.forget_times();
        Ok(())
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.generate(|_, _| ())
    }

    /// Holds the logits of the last few steps against whole sequences recomputed.
    fn compare(&mut self) -> Result<Comparison, WorkloadError> {
        const LAST: usize = 3;
        let (mut logits, mut written) = (Vec::new(), Vec::new());
        self.generate(|step, tokens| {
            logits.push(step.clone());
            written.push(tokens.to_vec());
        })?;
        self.forget_times();
        let after = logits.split_off(logits.len().saturating_sub(LAST));
        let Parts { info, reference, case, .. } = &mut self.parts;
        let tokens = |sequence| {
            let mut tokens = info.prompt(sequence, case.length);
            // The last token is chosen and not read.
            tokens.extend(written[..written.len() - 1].iter().map(|step| step[sequence]));
            tokens
        };
        let mut comparison = check(reference, info.format, &after, tokens)?;
        let chosen = &written[written.len() - after.len()..];
        comparison.errors.extend(chosen_errors(reference, chosen, tokens)?);
        Ok(comparison)
    }

    fn distributions(&mut self) -> BTreeMap<String, Vec<f64>> {
        let mut times = BTreeMap::new();
        times.insert("time_to_first_token_s".to_owned(), std::mem::take(&mut self.first));
        if !self.between.is_empty() {
            times.insert("time_between_tokens_s".to_owned(), std::mem::take(&mut self.between));
        }
        times
    }
}
