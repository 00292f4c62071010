//! Prefill and decode, apart.

use candle_core::Tensor;
use warpmark_measure::{Description, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Check, Memory};

use super::check::{Reference, check};
use super::lm::{CausalLm, Memory as _};
use super::session::{About, Filled};
use super::{Case, WINDOW, work};
use crate::family::workload_error;
use crate::marks::Marks;
use warpmark_nets::NetError;
use warpmark_nets::causal::argmax;

/// Decode steps that a check follows.
const CHECKED_STEPS: usize = 3;

/// A loaded net with what its workloads need beside it.
pub(super) struct Bench<'a, N> {
    pub(super) net: &'a N,
    pub(super) about: &'a About,
    pub(super) reference: &'a mut Reference,
    pub(super) marks: &'a mut Marks,
    pub(super) id: BenchmarkId,
    pub(super) case: Case,
}

/// Reading prompts: one iteration is one pass over the batch's prompts into an empty cache, the logits
/// of their last positions and the tokens they choose.
pub(super) struct Prefill<'a, N: CausalLm> {
    bench: Bench<'a, N>,
    prompts: Tensor,
    memory: N::Memory,
}

impl<'a, N: CausalLm> Prefill<'a, N> {
    pub(super) fn new(bench: Bench<'a, N>) -> Result<Self, NetError> {
        let Case { batch, length, .. } = bench.case;
        Ok(Self {
            prompts: bench.about.prompts(0, batch, length, bench.net.device())?,
            memory: bench.net.memory(batch, length)?,
            bench,
        })
    }

    fn pass(&mut self) -> Result<Tensor, NetError> {
        self.memory.rewind(0);
        self.bench.net.read(&self.prompts, &mut self.memory)
    }
}

impl<N: CausalLm> Workload for Prefill<'_, N> {
    fn describe(&self) -> Description {
        self.bench.describe("")
    }

    fn prepare(&mut self, _iterations: u64) -> Result<(), WorkloadError> {
        self.bench.marks.begin();
        Ok(())
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.pass().and_then(|logits| argmax(&logits)).map(drop).map_err(workload_error)
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        self.bench.wait()
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        let logits = self.pass().map_err(workload_error)?;
        let Bench { about, reference, case, .. } = &mut self.bench;
        check(reference, about.format, &[logits], |sequence| about.prompt(sequence, case.length))
    }

    fn memory(&mut self) -> Option<Memory> {
        Some(self.bench.memory())
    }
}

/// Writing: one iteration is one token of every sequence, chosen on the device from the logits and fed
/// to the next iteration.
pub(super) struct Decode<'a, N: CausalLm> {
    bench: Bench<'a, N>,
    memory: &'a mut N::Memory,
    /// The tokens that follow the prompts, and those to be fed next.
    first: Tensor,
    tokens: Tensor,
}

impl<'a, N: CausalLm> Decode<'a, N> {
    pub(super) fn new(
        bench: Bench<'a, N>,
        filled: &'a mut Filled<N::Memory>,
    ) -> Result<Self, NetError> {
        let first = Tensor::new(filled.next.as_slice(), bench.net.device())?;
        Ok(Self { bench, memory: &mut filled.memory, tokens: first.clone(), first })
    }

    fn reset(&mut self) {
        self.memory.rewind(self.bench.case.length);
        self.tokens = self.first.clone();
    }

    /// One step; returns its logits and leaves the chosen tokens for the next.
    fn step(&mut self) -> Result<Tensor, NetError> {
        let context = self.bench.case.length;
        if self.memory.length() == context + WINDOW {
            self.memory.rewind(context);
        }
        let logits = self.bench.net.read(&self.tokens.unsqueeze(1)?, self.memory)?;
        self.tokens = argmax(&logits)?;
        Ok(logits)
    }

    /// Follows a few steps from the context on: their logits, and the tokens fed to each.
    fn trace(&mut self) -> Result<(Vec<Tensor>, Vec<Vec<u32>>), NetError> {
        self.reset();
        let (mut logits, mut fed) = (Vec::new(), Vec::new());
        for _ in 0..CHECKED_STEPS {
            fed.push(self.tokens.to_vec1()?);
            logits.push(self.step()?);
        }
        self.reset();
        Ok((logits, fed))
    }

    /// What it remembers, for tests that damage it.
    #[cfg(test)]
    pub(super) fn memory(&self) -> &N::Memory {
        self.memory
    }
}

impl<N: CausalLm> Workload for Decode<'_, N> {
    fn describe(&self) -> Description {
        let from = self.bench.case.length;
        let to = from + WINDOW - 1;
        self.bench.describe(&format!(
            "; then each sequence's own most likely tokens, at positions {from} to {to}"
        ))
    }

    fn prepare(&mut self, _iterations: u64) -> Result<(), WorkloadError> {
        self.bench.marks.begin();
        self.reset();
        Ok(())
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.step().map(drop).map_err(workload_error)
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        self.bench.wait()
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        let (logits, fed) = self.trace().map_err(workload_error)?;
        let Bench { about, reference, case, .. } = &mut self.bench;
        check(reference, about.format, &logits, |sequence| {
            let mut tokens = about.prompt(sequence, case.length);
            tokens.extend(fed.iter().map(|step| step[sequence]));
            tokens
        })
    }

    fn memory(&mut self) -> Option<Memory> {
        Some(self.bench.memory())
    }
}

impl<N: CausalLm> Bench<'_, N> {
    pub(super) fn describe(&self, continuation: &str) -> Description {
        let about = self.about;
        Description {
            id: self.id.clone(),
            parameters: about.parameters(self.case),
            work: work::work(&about.numbers, about.dtype(), self.case),
            data: Some(format!(
                "another prompt for each sequence, tokens drawn evenly from the vocabulary, seed \
                 {}{continuation}",
                about.seed
            )),
            weights: Some(about.stamp.clone()),
            caveats: about.caveats(self.net.device().is_cpu()),
        }
    }

    pub(super) fn wait(&self) -> Result<(), WorkloadError> {
        self.net.device().synchronize().map_err(|error| workload_error(error.into()))
    }

    pub(super) fn memory(&self) -> Memory {
        self.marks.read(self.about.weights)
    }
}
