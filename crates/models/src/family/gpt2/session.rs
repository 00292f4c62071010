//! A loaded GPT-2 in one dtype, from which its workloads are made.

use std::collections::BTreeMap;
#[cfg(test)]
use std::collections::HashMap;

use candle_core::Tensor;
use warpmark_device::Device;
use warpmark_measure::{Entry, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, Value, WeightsStamp};

use super::check::Reference;
use super::work::{self, FILL};
use super::workloads::{Bench, Decode, Prefill};
use crate::catalog::{Dtype, Model};
use crate::engine::{candle_device, check_host_memory};
use crate::family::text::{self, Case, Phase};
use crate::family::workload_error;
use crate::marks::Marks;
use crate::net::NetError;
use crate::net::gpt2::{Architecture, Cache, Gpt2, argmax};
use crate::request::Request;
use crate::weights::{self, TensorSpec};

/// Everything needed to load a model once the device is open.
pub(super) struct Recipe {
    pub(super) architecture: Architecture,
    pub(super) dtype: Dtype,
    pub(super) model: Model,
    pub(super) tensors: Vec<TensorSpec>,
    pub(super) cases: Vec<(BenchmarkId, Case)>,
    pub(super) request: Request,
}

/// A loaded model and what its workloads hand on to each other.
pub(super) struct Gpt2Session {
    net: Gpt2,
    about: About,
    reference: Reference,
    filled: Option<Filled>,
    marks: Marks,
    cases: Vec<(BenchmarkId, Case)>,
}

/// What rows say of the model.
pub(super) struct About {
    pub(super) model: String,
    pub(super) dtype: Dtype,
    pub(super) seed: u64,
    pub(super) stamp: WeightsStamp,
    pub(super) weight_bytes: Bytes,
    pub(super) vocabulary: usize,
}

/// A decode cache: each sequence has read its prompt.
pub(super) struct Filled {
    pub(super) cache: Cache,
    pub(super) context: usize,
    /// The most likely token behind each prompt.
    pub(super) next: Vec<u32>,
}

impl Recipe {
    /// Finds the weights, loads them and builds the net.
    pub(super) fn open(self, device: &Device) -> Result<Gpt2Session, WorkloadError> {
        let weight_bytes = work::weight_bytes(&self.architecture, self.dtype);
        if matches!(device, Device::Cpu(_)) {
            check_host_memory("the weights", weight_bytes)?;
        }
        let candle = candle_device(device)?;
        let request = &self.request;
        let files = weights::locate(
            &self.model,
            &self.tensors,
            &request.source,
            &request.cache,
            request.progress.as_ref(),
        )?;
        let loaded = files.load(&self.tensors, self.dtype.candle(), &candle)?;
        let net = Gpt2::new(self.architecture, &loaded.tensors).map_err(workload_error)?;
        Ok(Gpt2Session {
            net,
            about: About {
                model: self.model.id.clone(),
                dtype: self.dtype,
                seed: request.seed,
                stamp: files.stamp(),
                weight_bytes,
                vocabulary: self.architecture.vocabulary,
            },
            reference: Reference::new(self.architecture, loaded.tensors),
            filled: None,
            marks: Marks::of(device),
            cases: self.cases,
        })
    }
}

impl Session for Gpt2Session {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let case = self.cases.iter().find(|(id, _)| *id == entry.id).map(|(_, case)| *case);
        let case = case.ok_or_else(|| {
            WorkloadError::Failed(format!(
                "{} is not a benchmark of {}",
                entry.id, self.about.model
            ))
        })?;
        if !self.filled.as_ref().is_some_and(|filled| filled.serves(case)) {
            self.filled = None;
        }
        if self.net.device().is_cpu() {
            self.check_host_memory(case)?;
        }
        if case.phase == Phase::Decode {
            self.fill(case.batch, case.length).map_err(workload_error)?;
        }
        let (bench, filled) = self.bench(&entry.id, case);
        match filled {
            Some(filled) => Ok(Box::new(Decode::new(bench, filled).map_err(workload_error)?)),
            None => Ok(Box::new(Prefill::new(bench).map_err(workload_error)?)),
        }
    }
}

impl Filled {
    /// Whether a case can go on from this cache.
    fn serves(&self, case: Case) -> bool {
        let same = case.phase == Phase::Decode && self.context == case.length;
        same && self.cache.batch() <= case.batch
    }
}

impl About {
    /// The prompt of one sequence.
    pub(super) fn prompt(&self, sequence: usize, length: usize) -> Vec<u32> {
        text::prompt(self.seed, sequence, length, self.vocabulary)
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

    /// The parameters of a case as data.
    pub(super) fn parameters(&self, case: Case) -> BTreeMap<String, Value> {
        let length = match case.phase {
            Phase::Prefill => "prompt",
            Phase::Decode => "context",
        };
        BTreeMap::from([
            ("model".to_owned(), self.model.as_str().into()),
            ("dtype".to_owned(), self.dtype.to_string().as_str().into()),
            ("batch".to_owned(), case.batch.into()),
            (length.to_owned(), case.length.into()),
        ])
    }
}

impl Gpt2Session {
    /// Refuses a case for which the host has no memory left beside what is there already.
    fn check_host_memory(&self, case: Case) -> Result<(), WorkloadError> {
        let (architecture, dtype) = (self.net.architecture(), self.about.dtype);
        let before = self.filled.as_ref().map_or(0, |filled| filled.cache.batch());
        let held = work::cache(architecture, dtype, case, before);
        let needed = work::memory(architecture, dtype, case, before) - held;
        check_host_memory(&format!("the cache and activations of batch {}", case.batch), needed)
    }

    /// What a workload of that case borrows, and the decode cache if there is one.
    fn bench(&mut self, id: &BenchmarkId, case: Case) -> (Bench<'_>, Option<&mut Filled>) {
        let Self { net, about, reference, marks, filled, .. } = self;
        (Bench { net, about, reference, marks, id: id.clone(), case }, filled.as_mut())
    }

    /// Makes the decode cache of `batch` sequences. Those that a smaller one has read are copied; the
    /// others read their prompts now, a few at a time to keep activations small.
    pub(super) fn fill(&mut self, batch: usize, context: usize) -> Result<(), NetError> {
        let capacity = context + text::WINDOW;
        let old = self.filled.take();
        if old.as_ref().is_some_and(|old| old.cache.batch() == batch) {
            self.filled = old;
            return Ok(());
        }
        let mut cache = self.net.cache(batch, capacity)?;
        let mut next = Vec::with_capacity(batch);
        if let Some(mut old) = old {
            old.cache.truncate(context);
            cache.copy_sequences(0, &old.cache, old.cache.batch())?;
            next = old.next;
        }
        while next.len() < batch {
            let count = FILL.min(batch - next.len());
            let mut part = self.net.cache(count, capacity)?;
            let prompts = self.about.prompts(next.len(), count, context, self.net.device())?;
            let logits = self.net.prefill(&prompts, &mut part)?;
            cache.copy_sequences(next.len(), &part, count)?;
            next.extend(argmax(&logits)?.to_vec1::<u32>()?);
        }
        self.filled = Some(Filled { cache, context, next });
        Ok(())
    }
}

#[cfg(test)]
impl Gpt2Session {
    /// A session on given weights, with a net built from `net_tensors` and checked against `tensors`.
    pub(super) fn on(
        architecture: Architecture,
        dtype: Dtype,
        net_tensors: &HashMap<String, Tensor>,
        tensors: HashMap<String, Tensor>,
        cases: Vec<(BenchmarkId, Case)>,
    ) -> Result<Self, NetError> {
        Ok(Self {
            net: Gpt2::new(architecture, net_tensors)?,
            about: About {
                model: "tiny".to_owned(),
                dtype,
                seed: 7,
                stamp: WeightsStamp::Synthetic { seed: 7 },
                weight_bytes: work::weight_bytes(&architecture, dtype),
                vocabulary: architecture.vocabulary,
            },
            reference: Reference::new(architecture, tensors),
            filled: None,
            marks: Marks::host(),
            cases,
        })
    }

    /// The decode workload as its own type.
    pub(super) fn decode(&mut self, entry: &Entry, case: Case) -> Option<Decode<'_>> {
        let (bench, filled) = self.bench(&entry.id, case);
        Decode::new(bench, filled?).ok()
    }
}
