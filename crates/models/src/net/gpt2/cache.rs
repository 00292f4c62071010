//! The key-value cache.

use candle_core::Tensor;

use crate::net::NetError;

/// Keys and values of every position so far, in buffers of fixed size.
pub struct Cache {
    /// `[batch, heads, capacity, head width]`, keys and values of each layer.
    pub(super) layers: Vec<(Tensor, Tensor)>,
    pub(super) batch: usize,
    pub(super) capacity: usize,
    pub(super) length: usize,
}

impl Cache {
    /// Positions that are filled.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no position is filled.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Positions there are.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets everything from this position on; the buffers stay.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Sequences there is room for.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Copies the first `count` sequences of `other` into this cache from sequence `at` on. Both must
    /// have the same capacity, and this cache then counts as filled as far as `other`.
    pub fn copy_sequences(
        &mut self,
        at: usize,
        other: &Self,
        count: usize,
    ) -> Result<(), NetError> {
        for ((keys, values), (from_keys, from_values)) in self.layers.iter().zip(&other.layers) {
            keys.slice_set(&from_keys.narrow(0, 0, count)?, 0, at)?;
            values.slice_set(&from_values.narrow(0, 0, count)?, 0, at)?;
        }
        self.length = other.length;
        Ok(())
    }

    /// The buffers of a layer, keys and values: `[batch, heads, capacity, head width]`.
    pub fn layer(&self, index: usize) -> Option<&(Tensor, Tensor)> {
        self.layers.get(index)
    }
}
