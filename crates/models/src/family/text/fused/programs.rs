//! What is measured: reading prompts, writing a token, and both as a user waits for them.

use std::collections::BTreeMap;

use candle_core::Tensor;
use warpmark_fused::{Decoder, Net};
use warpmark_measure::{Clock, WallClock, WorkloadError};

use crate::bench::{Comparison, Notes, Program};
use crate::engine::workload_error;
use crate::family::text::WINDOW;
use crate::family::text::check::check;
use crate::family::text::parts::Parts;
use crate::family::text::steps::CHECKED_STEPS;

/// A decoder with its prompts read, and what the case has beside it.
pub(super) struct Running<'a> {
    pub(super) decoder: Decoder<'a>,
    pub(super) parts: Parts<'a, Net>,
}

impl Running<'_> {
    fn notes(&self, continuation: &str) -> Notes {
        let mut notes = self.parts.notes(continuation);
        notes.fields.push(("code", self.parts.net.code().into()));
        notes
    }

    /// The logits of the last pass or step, `[batch, vocabulary]`.
    fn logits(&self) -> Result<Tensor, WorkloadError> {
        let logits = self.decoder.logits()?;
        let shape = (logits.len(), self.parts.net.shape().vocabulary);
        let logits = Tensor::from_vec(logits.concat(), shape, &candle_core::Device::Cpu);
        logits.map_err(|error| workload_error(error.into()))
    }

    /// Holds the logits of the last few passes over whole sequences against the reference: `fed` are the tokens
    /// behind the prompts, those of each step.
    fn compare(
        &mut self,
        logits: &[Tensor],
        fed: &[Vec<u32>],
    ) -> Result<Comparison, WorkloadError> {
        let Parts { info, reference, case, .. } = &mut self.parts;
        check(reference, info.format, logits, |sequence| {
            let mut tokens = info.prompt(sequence, case.length);
            tokens.extend(fed.iter().map(|step| step[sequence]));
            tokens
        })
    }
}

/// Reading: one iteration is one launch of the graph that reads the batch's prompts into the cache, up to the tokens
/// that their last logits choose.
pub(super) struct Prefill<'a>(pub(super) Running<'a>);

impl Program for Prefill<'_> {
    fn notes(&self) -> Notes {
        let mut notes = self.0.notes("");
        notes.fields.push(("graph_launches", 1_usize.into()));
        notes
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.0.decoder.prefill()
    }

    fn compare(&mut self) -> Result<Comparison, WorkloadError> {
        self.0.decoder.prefill()?;
        let logits = self.0.logits()?;
        self.0.compare(&[logits], &[])
    }
}

/// Writing: one iteration is one launch of the graph, a token of every sequence.
pub(super) struct Decode<'a>(pub(super) Running<'a>);

impl Program for Decode<'_> {
    fn notes(&self) -> Notes {
        let Running { decoder, parts } = &self.0;
        let from = parts.case.length;
        let to = from + WINDOW - 1;
        let mut notes = self.0.notes(&format!(
            "; then each sequence's own most likely tokens, at positions {from} to {to}"
        ));
        notes.fields.push(("graph_launches", 1_usize.into()));
        notes.fields.push(("kernels", decoder.kernels().into()));
        notes.fields.push(("products", decoder.products().into()));
        notes.caveats.extend(decoder.choice());
        notes
    }

    fn reset(&mut self) -> Result<(), WorkloadError> {
        self.0.decoder.reset()
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.0.decoder.step()
    }

    fn compare(&mut self) -> Result<Comparison, WorkloadError> {
        let (mut logits, mut fed) = (Vec::new(), Vec::new());
        self.0.decoder.reset()?;
        for _ in 0..CHECKED_STEPS {
            fed.push(self.0.decoder.tokens()?);
            self.0.decoder.step()?;
            logits.push(self.0.logits()?);
        }
        self.0.decoder.reset()?;
        self.0.compare(&logits, &fed)
    }
}

/// One iteration reads the prompts and writes a number of tokens greedily, each of which the host waits for
/// before it asks for the next, as it must to show it or to see whether it is the last.
pub(super) struct Generate<'a> {
    running: Running<'a>,
    tokens: usize,
    first: Vec<f64>,
    between: Vec<f64>,
}

impl<'a> Generate<'a> {
    /// Refused where prompts are not read at once: token by token, nobody waits for the first one so long.
    pub(super) fn new(running: Running<'a>, tokens: usize) -> Result<Self, WorkloadError> {
        running.decoder.can_prefill()?;
        Ok(Self { running, tokens, first: Vec::new(), between: Vec::new() })
    }

    /// One generation; hands each step's tokens on.
    fn generate(
        &mut self,
        mut step: impl FnMut(&Running<'_>, &[u32]) -> Result<(), WorkloadError>,
    ) -> Result<(), WorkloadError> {
        let mut clock = WallClock::default();
        for index in 0..self.tokens {
            clock.start().map_err(WorkloadError::failed)?;
            let decoder = &mut self.running.decoder;
            if index == 0 {
                decoder.prefill()?;
            } else {
                decoder.step()?;
            }
            // The copy to the host is the wait.
            let tokens = decoder.tokens()?;
            let time = clock.finish().map_err(WorkloadError::failed)?.wall;
            let times = if index == 0 { &mut self.first } else { &mut self.between };
            times.push(time.0);
            step(&self.running, &tokens)?;
        }
        Ok(())
    }

    fn forget_times(&mut self) {
        self.first.clear();
        self.between.clear();
    }
}

impl Program for Generate<'_> {
    fn notes(&self) -> Notes {
        let mut notes = self.running.notes("; then each sequence's own most likely tokens");
        notes.fields.push(("graph_launches", self.tokens.into()));
        if self.tokens > 1 {
            notes.fields.push(("products", self.running.decoder.products().into()));
            notes.caveats.extend(self.running.decoder.choice());
        }
        notes.caveats.push(format!(
            "{} tokens whatever they are: an end is not looked for, so that every generation is as long",
            self.tokens
        ));
        notes
    }

    fn reset(&mut self) -> Result<(), WorkloadError> {
        self.forget_times();
        Ok(())
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.generate(|_, _| Ok(()))
    }

    /// Holds the logits of the last few steps against whole sequences recomputed.
    fn compare(&mut self) -> Result<Comparison, WorkloadError> {
        let (mut logits, mut written) = (Vec::new(), Vec::new());
        let after = self.tokens.saturating_sub(CHECKED_STEPS);
        self.generate(|running, tokens| {
            if written.len() >= after {
                logits.push(running.logits()?);
            }
            written.push(tokens.to_vec());
            Ok(())
        })?;
        self.forget_times();
        // The last token is chosen and not read.
        written.pop();
        self.running.compare(&logits, &written)
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
