//! Reading prompts for requests that come and go, in batches: what classifiers, rankers and the first half
//! of every answer do.

use candle_core::Tensor;
use warpmark_measure::{Batched, Description, WorkloadError};
use warpmark_record::{BenchmarkId, Check, Memory};

use super::super::Case;
use super::super::check::{ReferenceCache, check};
use super::super::lm::RaggedLm;
use super::super::parts::ModelInfo;
use super::{Ready, describe};
use crate::bench::Context;
use crate::engine::workload_error;
use warpmark_nets::NetError;
use warpmark_nets::causal::argmax;
use warpmark_nets::kv_cache::Cache;

/// Prompts that are read together, as many as wait.
pub(super) struct Reading<N: RaggedLm> {
    net: N,
    info: ModelInfo,
    reference: ReferenceCache,
    context: Context,
    id: BenchmarkId,
    case: Case,
    /// Room for the largest batch; smaller ones use a part of it.
    cache: Cache,
    /// Prompts that have been read so far: the number of the next one.
    asked: usize,
}

impl<N: RaggedLm> Reading<N> {
    pub(super) fn new(ready: Ready<N>, id: BenchmarkId, case: Case) -> Result<Self, WorkloadError> {
        let Ready { net, info, plain, context } = ready;
        let cache = net.memory(case.batch, case.length).map_err(workload_error)?;
        Ok(Self {
            cache,
            net,
            info,
            reference: ReferenceCache::new(plain),
            context,
            id,
            case,
            asked: 0,
        })
    }

    /// Reads so many prompts; returns the logits after each, `[requests, vocabulary]`.
    fn read(&mut self, requests: usize) -> Result<Tensor, NetError> {
        let mut cache = self.cache.first(requests)?;
        let prompts =
            self.info.prompts(self.asked, requests, self.case.length, self.net.device())?;
        self.asked += requests;
        self.net.read(&prompts, &mut cache)
    }
}

impl<N: RaggedLm> Batched for Reading<N> {
    fn describe(&self) -> Description {
        describe(&self.info, &self.context, &self.id, self.case)
    }

    fn max_batch(&self) -> usize {
        self.case.batch
    }

    fn answer(&mut self, requests: usize) -> Result<(), WorkloadError> {
        let logits = self.read(requests).map_err(workload_error)?;
        let chosen = argmax(&logits).map_err(workload_error)?;
        // The copy to the host is the wait.
        chosen.to_vec1::<u32>().map(drop).map_err(|error| workload_error(error.into()))
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        let first = self.asked;
        let logits = self.read(self.case.batch.min(2)).map_err(workload_error)?;
        let (info, length) = (&self.info, self.case.length);
        let prompt = |at| info.prompt(first + at, length);
        check(&mut self.reference, info.format, &[logits], prompt)?.verdict()
    }

    fn prepare(&mut self) {
        self.context.begin_peak();
    }

    fn memory(&mut self) -> Option<Memory> {
        Some(self.context.memory())
    }
}
