//! What decoding takes of a card's memory, and how its work is cut into blocks.

use warpmark_record::Bytes;

use crate::Dtype;
use crate::kernels::{AttentionCut, Cut, VECTOR};
use crate::library::WORKSPACE;
use crate::pass::parts_of;
use crate::prefill::group_of;
use crate::shape::{Positions, Shape};

impl Shape {
    /// Bytes that decoding takes beside the weights, for `batch` sequences that read a prompt of some tokens and
    /// have so many positions, on a card of so many multiprocessors.
    pub fn memory(
        &self,
        dtype: Dtype,
        (batch, prompt, capacity): (usize, usize, usize),
        multiprocessors: usize,
    ) -> Bytes {
        let sizes = Sizes::of(self, (batch, capacity), multiprocessors);
        let cache = 2 * self.layers * sizes.cache_elements * dtype.bytes();
        let turns = match &self.positions {
            Positions::Learned(_) => 0,
            Positions::Rotary(frequencies) => 8 * capacity * frequencies.len(),
        };
        let floats = sizes.stream + sizes.qkv + sizes.mixed + sizes.hidden + sizes.logits;
        let parts = sizes.parts * (2 + self.head_padded());
        let words = 2 * sizes.best + batch * (2 + capacity);
        // Of passes over many rows: a part of the prompts at a time, and a step.
        let group = group_of(batch, prompt);
        let passes = self.bytes_of_prefill(group, prompt)
            + self.bytes_of_rows(batch)
            + 2 * batch * self.width.next_multiple_of(VECTOR);
        Bytes::from_count(cache + turns + 4 * (floats + parts + words) + passes + WORKSPACE)
    }
}

/// How products and attention are cut, and the elements of each buffer.
pub(crate) struct Sizes {
    pub(crate) attention: AttentionCut,
    pub(crate) head: Cut,
    /// Of keys or values of a layer.
    pub(crate) cache_elements: usize,
    pub(crate) stream: usize,
    pub(crate) qkv: usize,
    pub(crate) mixed: usize,
    pub(crate) hidden: usize,
    pub(crate) logits: usize,
    /// Parts of attention, over all heads and sequences.
    pub(crate) parts: usize,
    pub(crate) best: usize,
}

impl Sizes {
    pub(crate) fn of(
        shape: &Shape,
        (batch, capacity): (usize, usize),
        multiprocessors: usize,
    ) -> Self {
        let heads = [shape.heads, shape.key_value_heads];
        let attention =
            AttentionCut::of(heads, shape.head_width, (batch, capacity), multiprocessors);
        let head = Cut::of(shape.vocabulary, shape.width, batch, multiprocessors);
        let padded = |columns: usize| batch * columns.next_multiple_of(VECTOR);
        Self {
            cache_elements: batch * shape.key_value_heads * capacity * shape.head_padded(),
            stream: padded(shape.width),
            qkv: padded(shape.qkv()),
            mixed: padded(shape.mixed()),
            hidden: padded(shape.hidden),
            logits: padded(shape.vocabulary),
            parts: batch * shape.heads * attention.parts,
            best: batch * head.blocks().max(parts_of(shape.vocabulary)),
            attention,
            head,
        }
    }
}
