//! A loaded causal language model in one format, from which its workloads are made.

use std::collections::BTreeMap;

use candle_core::Tensor;
use warpmark_device::Device;
use warpmark_measure::{Entry, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, Value, WeightsStamp};

use super::check::{PlainLogits, Reference};
use super::generate::Generate;
use super::lm::{CausalLm, Memory as _};
use super::work::{self, FILL, Numbers};
use super::workloads::{Bench, Decode, Prefill};
use super::{Build, Case, Phase};
use crate::catalog::{Dtype, Format, Model};
use crate::configuration;
use crate::engine::{aftermath, candle_device, check_host_memory};
use crate::family::workload_error;
use crate::marks::Marks;
use crate::request::Request;
use crate::weights::Wanted;
use warpmark_nets::NetError;
use warpmark_nets::causal::argmax;

/// Everything needed to load a model once the device is open.
pub(super) struct Recipe<N> {
    pub(super) numbers: Numbers,
    /// Builds the net, for sequences of up to `positions` tokens.
    pub(super) build: Build<N>,
    pub(super) positions: usize,
    pub(super) format: Format,
    pub(super) model: Model,
    pub(super) wanted: Wanted,
    pub(super) cases: Vec<(BenchmarkId, Case)>,
    pub(super) caveats: &'static [&'static str],
    pub(super) request: Request,
}

/// A loaded model and what its workloads hand on to each other.
pub(super) struct TextSession<N: CausalLm> {
    net: N,
    about: About,
    reference: Reference,
    filled: Option<Filled<N::Memory>>,
    marks: Marks,
    cases: Vec<(BenchmarkId, Case)>,
}

/// What rows say of the model.
pub(super) struct About {
    pub(super) model: String,
    pub(super) format: Format,
    pub(super) numbers: Numbers,
    /// Bytes that the loaded weights hold.
    pub(super) weights: Bytes,
    pub(super) seed: u64,
    pub(super) stamp: WeightsStamp,
    pub(super) caveats: &'static [&'static str],
}

/// Sequences that have read their prompts and are ready for decoding.
pub(super) struct Filled<M> {
    pub(super) memory: M,
    pub(super) context: usize,
    /// The most likely token behind each prompt.
    pub(super) next: Vec<u32>,
}

/// A net that was loaded, and what goes with it.
pub(super) struct Ready<N> {
    pub(super) net: N,
    pub(super) about: About,
    pub(super) plain: PlainLogits,
    pub(super) marks: Marks,
}

impl<N: CausalLm> Recipe<N> {
    /// Loads the model for its workloads.
    pub(super) fn open(self, device: &Device) -> Result<TextSession<N>, WorkloadError> {
        let Ready { net, about, plain, marks } = self.load(device)?;
        Ok(TextSession::new(net, about, plain, marks, self.cases))
    }

    /// Finds the weights, loads them and builds the net.
    pub(super) fn load(&self, device: &Device) -> Result<Ready<N>, WorkloadError> {
        if matches!(device, Device::Cpu(_)) {
            let needed = work::weight_bytes(&self.numbers, self.format.compute());
            check_host_memory("the weights", needed)?;
        }
        let candle = candle_device(device)?;
        let request = &self.request;
        let checkpoint = self.model.checkpoint_in(self.format).map_err(WorkloadError::failed)?;
        let files = configuration::locate(&self.model, &self.wanted, &checkpoint, request)?;
        let loaded = self.wanted.load(&checkpoint, &files, &candle)?;
        let (net, plain) =
            (self.build)(&self.model, self.positions, &loaded).map_err(workload_error)?;
        let about = About {
            model: self.model.id.clone(),
            format: self.format,
            numbers: self.numbers,
            weights: loaded.held(),
            seed: request.seed,
            stamp: files.stamp(),
            caveats: self.caveats,
        };
        Ok(Ready { net, about, plain, marks: Marks::of(device) })
    }
}

impl<N: CausalLm> Session for TextSession<N> {
    fn aftermath(&mut self) -> Result<(), WorkloadError> {
        aftermath(self.net.device())
    }

    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let case = self.cases.iter().find(|(id, _)| *id == entry.id).map(|(_, case)| *case);
        let case = case.ok_or_else(|| {
            WorkloadError::Failed(format!(
                "{} is not a benchmark of {}",
                entry.id, self.about.model
            ))
        })?;
        if !self.filled.as_ref().is_some_and(|filled| filled.serves::<N>(case)) {
            self.filled = None;
        }
        if self.net.device().is_cpu() {
            self.check_host_memory(case)?;
        }
        if case.phase == Phase::Decode {
            self.fill(case.batch, case.length).map_err(workload_error)?;
        }
        let (bench, filled) = self.bench(&entry.id, case);
        let workload: Box<dyn Workload + 'a> = match (case.phase, filled) {
            (Phase::Generate { tokens }, _) => {
                Box::new(Generate::new(bench, tokens).map_err(workload_error)?)
            }
            (_, Some(filled)) => Box::new(Decode::new(bench, filled).map_err(workload_error)?),
            (_, None) => Box::new(Prefill::new(bench).map_err(workload_error)?),
        };
        Ok(workload)
    }
}

impl<M: super::lm::Memory> Filled<M> {
    /// Whether a case can go on from here.
    fn serves<N: CausalLm>(&self, case: Case) -> bool {
        let same = case.phase == Phase::Decode && self.context == case.length;
        let batch = self.memory.batch();
        same && (batch == case.batch || N::JOINS && batch < case.batch)
    }
}

impl About {
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
    pub(super) fn caveats(&self, on_cpu: bool) -> Vec<String> {
        let mut caveats: Vec<String> = self.caveats.iter().map(|&text| text.to_owned()).collect();
        match self.format {
            Format::Plain(Dtype::F32) => {}
            Format::Plain(dtype) if on_cpu => {
                caveats.push(format!("on this CPU, {dtype} is widened to f32 to be multiplied"));
            }
            Format::Plain(_) => {}
            Format::Quantised(_) => caveats.push(
                "products of quantised weights are candle's: they round activations to 8 bits; \
                 everything between them, the cache included, is f32"
                    .to_owned(),
            ),
        }
        caveats
    }

    /// The parameters of a case as data.
    pub(super) fn parameters(&self, case: Case) -> BTreeMap<String, Value> {
        let length = match case.phase {
            Phase::Prefill | Phase::Generate { .. } => "prompt",
            Phase::Decode => "context",
        };
        let mut parameters = BTreeMap::from([
            ("model".to_owned(), self.model.as_str().into()),
            ("dtype".to_owned(), self.format.to_string().as_str().into()),
            ("batch".to_owned(), case.batch.into()),
            (length.to_owned(), case.length.into()),
        ]);
        if let Phase::Generate { tokens } = case.phase {
            parameters.insert("tokens".to_owned(), tokens.into());
        }
        parameters
    }
}

impl<N: CausalLm> TextSession<N> {
    pub(super) fn new(
        net: N,
        about: About,
        plain: PlainLogits,
        marks: Marks,
        cases: Vec<(BenchmarkId, Case)>,
    ) -> Self {
        Self { net, about, reference: Reference::new(plain), filled: None, marks, cases }
    }

    /// Refuses a case for which the host has no memory left beside what is there already.
    fn check_host_memory(&self, case: Case) -> Result<(), WorkloadError> {
        let (numbers, dtype) = (&self.about.numbers, self.about.dtype());
        let before = self.filled.as_ref().map_or(0, |filled| filled.memory.batch());
        let held = work::cache(numbers, dtype, case, before);
        let needed = work::memory(numbers, dtype, case, before) - held;
        check_host_memory(&format!("the cache and activations of batch {}", case.batch), needed)
    }

    /// What a workload of that case borrows, and the filled memory if there is one.
    fn bench(
        &mut self,
        id: &BenchmarkId,
        case: Case,
    ) -> (Bench<'_, N>, Option<&mut Filled<N::Memory>>) {
        let Self { net, about, reference, marks, filled, .. } = self;
        (Bench { net, about, reference, marks, id: id.clone(), case }, filled.as_mut())
    }

    /// Lets `batch` sequences read their prompts. Those that fewer have read are copied; the others read
    /// theirs now, a few at a time to keep activations small, where the net's memory can be put together.
    pub(super) fn fill(&mut self, batch: usize, context: usize) -> Result<(), NetError> {
        let capacity = context + super::WINDOW;
        let old = self.filled.take();
        if old.as_ref().is_some_and(|old| old.memory.batch() == batch) {
            self.filled = old;
            return Ok(());
        }
        let mut memory = self.net.memory(batch, capacity)?;
        let mut next = Vec::with_capacity(batch);
        if !N::JOINS {
            let prompts = self.about.prompts(0, batch, context, self.net.device())?;
            next = argmax(&self.net.read(&prompts, &mut memory)?)?.to_vec1::<u32>()?;
        } else if let Some(mut old) = old {
            old.memory.rewind(context);
            memory.take_over(0, &old.memory, old.memory.batch())?;
            next = old.next;
        }
        while next.len() < batch {
            let count = FILL.min(batch - next.len());
            let mut part = self.net.memory(count, capacity)?;
            let prompts = self.about.prompts(next.len(), count, context, self.net.device())?;
            let logits = self.net.read(&prompts, &mut part)?;
            memory.take_over(next.len(), &part, count)?;
            next.extend(argmax(&logits)?.to_vec1::<u32>()?);
        }
        memory.mark();
        self.filled = Some(Filled { memory, context, next });
        Ok(())
    }

    /// The decode workload as its own type.
    #[cfg(test)]
    pub(super) fn decode(&mut self, entry: &Entry, case: Case) -> Option<Decode<'_, N>> {
        let (bench, filled) = self.bench(&entry.id, case);
        Decode::new(bench, filled?).ok()
    }
}
