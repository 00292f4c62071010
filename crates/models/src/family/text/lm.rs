//! A causal language model as the text workloads see it.

use candle_core::{Device, Tensor};

use warpmark_nets::decoder::Decoder;
use warpmark_nets::kv_cache::Cache;
use warpmark_nets::{NetError, launches_note};

/// A causal language model, loaded.
pub(in crate::family) trait CausalLm: 'static {
    /// What it remembers of the sequences it has read.
    type Memory: Memory;

    /// Whether [`Memory::take_over`] works: whether sequences can be read a few at a time and put together.
    const JOINS: bool;

    /// Where it is.
    fn device(&self) -> &Device;

    /// Room for `batch` sequences of up to `capacity` tokens.
    fn memory(&self, batch: usize, capacity: usize) -> Result<Self::Memory, NetError>;

    /// Reads tokens, `[batch, tokens]` of u32, after what is remembered. Returns the logits that follow
    /// the last of each sequence, `[batch, vocabulary]`.
    fn read(&self, tokens: &Tensor, memory: &mut Self::Memory) -> Result<Tensor, NetError>;

    /// What a row has to say of its attention.
    fn attention_note(&self) -> Option<String> {
        None
    }
}

/// A causal language model whose sequences may each be at a position of its own, as continuous batching
/// asks for.
pub(in crate::family) trait RaggedLm: CausalLm<Memory = Cache> {
    /// Reads one token of each of the first sequences of the cache, `[sequences]` of u32, each after a
    /// number of positions of its own. Returns the logits that follow, `[sequences, vocabulary]`.
    fn decode_ragged(
        &self,
        tokens: &Tensor,
        lengths: &[usize],
        cache: &Cache,
    ) -> Result<Tensor, NetError>;
}

/// A causal language model whose step needs no number of the host's, so that it can be captured and replayed.
pub(in crate::family) trait OnDeviceLm: CausalLm<Memory = Cache> {
    /// Reads one token of each sequence, `[sequences]` of u32, each after a number of positions that the device alone
    /// knows, `[sequences]` of u32. Returns the logits that follow, `[sequences, vocabulary]`.
    fn decode_on_device(
        &self,
        tokens: &Tensor,
        positions: &Tensor,
        cache: &Cache,
    ) -> Result<Tensor, NetError>;
}

/// What a causal language model remembers of the sequences it has read.
pub(in crate::family) trait Memory {
    /// Positions of each sequence.
    fn length(&self) -> usize;

    /// Sequences.
    fn batch(&self) -> usize;

    /// Forgets everything from this position on. A memory that cannot go back everywhere can go back to
    /// nothing and to where it was marked last.
    fn rewind(&mut self, length: usize);

    /// Makes the present length one that can be gone back to.
    fn mark(&mut self) {}

    /// Copies the first `count` sequences of another memory to the place from `at` on.
    fn take_over(&mut self, at: usize, other: &Self, count: usize) -> Result<(), NetError>;
}

impl Memory for Cache {
    fn length(&self) -> usize {
        self.len()
    }

    fn batch(&self) -> usize {
        Cache::batch(self)
    }

    fn rewind(&mut self, length: usize) {
        self.truncate(length);
    }

    fn take_over(&mut self, at: usize, other: &Self, count: usize) -> Result<(), NetError> {
        self.copy_sequences(at, other, 0, count)
    }
}

impl CausalLm for Decoder {
    type Memory = Cache;

    const JOINS: bool = true;

    fn device(&self) -> &Device {
        Self::device(self)
    }

    fn memory(&self, batch: usize, capacity: usize) -> Result<Cache, NetError> {
        self.cache(batch, capacity)
    }

    fn read(&self, tokens: &Tensor, memory: &mut Cache) -> Result<Tensor, NetError> {
        self.prefill(tokens, memory)
    }

    fn attention_note(&self) -> Option<String> {
        let note = launches_note(Self::device(self), self.dtype(), self.architecture().head_width);
        note.or_else(|| self.masked_note())
    }
}

impl RaggedLm for Decoder {
    fn decode_ragged(
        &self,
        tokens: &Tensor,
        lengths: &[usize],
        cache: &Cache,
    ) -> Result<Tensor, NetError> {
        self.decode_apart(tokens, lengths, cache)
    }
}

impl OnDeviceLm for Decoder {
    fn decode_on_device(
        &self,
        tokens: &Tensor,
        positions: &Tensor,
        cache: &Cache,
    ) -> Result<Tensor, NetError> {
        Self::decode_on_device(self, tokens, positions, cache)
    }
}
