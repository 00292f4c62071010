//! Reading prompts at once into the cache: a pass over all their tokens.

use warpmark_cuda::{Buffer, Geometry, argument};
use warpmark_measure::WorkloadError;

use crate::attention::{Attention, AttentionMask, AttentionShape, Operands, Positions, Strides};
use crate::decoder::Sequences;
use crate::kernels::VECTOR;
use crate::library::{Leaves, Product};
use crate::net::Net;
use crate::pass::{Rows, Streams, parts_of};
use crate::shape::Shape;

/// Tokens of a pass at the most, unless one prompt has more: products of so many rows have long reached the card's
/// rate, and what they leave takes memory.
const MOST_TOKENS: usize = 8192;

/// How many prompts of a length are read at a time: as many as share a batch evenly.
pub(crate) fn group_of(batch: usize, length: usize) -> usize {
    let fits = |group: &usize| batch.is_multiple_of(*group) && group * length <= MOST_TOKENS;
    (1..=batch).rev().find(fits).unwrap_or(1)
}

/// A pass over the prompts of a decoder's sequences, a group of them after the other.
pub(crate) struct Prefill {
    /// Prompts that are read at a time, and the tokens of each.
    group: usize,
    length: usize,
    rows: Rows,
    head: Product,
    attention: Attention,
    shape: AttentionShape,
    x: Buffer,
    qkv: Buffer,
    queries: Buffer,
    mixed: Buffer,
    /// The rows of the last tokens, which go into the head.
    last: Buffer,
}

impl Shape {
    /// Bytes that a pass over so many prompts of a length takes.
    pub(crate) fn bytes_of_prefill(&self, group: usize, length: usize) -> usize {
        let (rows, padded) = (group * length, |columns: usize| columns.next_multiple_of(VECTOR));
        let row = 4 * padded(self.width) + 2 * (padded(self.qkv()) + 2 * self.mixed());
        rows * row + self.bytes_of_rows(rows) + 2 * group * padded(self.width)
    }
}

impl Prefill {
    pub(crate) fn new(sequences: &Sequences<'_>) -> Result<Self, WorkloadError> {
        let Sequences { net, batch, capacity, window, buffers, .. } = sequences;
        let many = net.many()?;
        let length = window.0;
        let group = group_of(*batch, length);
        let rows = group * length;
        let zeroed = |rows: usize, columns: usize, size: usize| -> Result<Buffer, WorkloadError> {
            let bytes = size * rows * columns.next_multiple_of(VECTOR);
            let mut buffer = Buffer::new(&net.stream, bytes, "the activations")?;
            buffer.set(&net.stream, 0)?;
            Ok(buffer)
        };
        let x = zeroed(rows, net.shape.width, 4)?;
        let qkv = zeroed(rows, net.shape.qkv(), 2)?;
        let mixed = zeroed(rows, net.shape.mixed(), 2)?;
        let last = zeroed(group, net.shape.width, 2)?;
        let at = Streams { x: x.address, qkv: qkv.address, mixed: mixed.address };
        let shape = attention_of(net, (group, length, *capacity));
        let head_size = net.shape.head_padded() as u32;
        let head = (last.address, buffers.logits.address);
        Ok(Self {
            rows: Rows::new(net, rows, at, Leaves::Halves)?,
            head: many.library.product(&[net.weights.head()], group, head, Leaves::Floats)?,
            attention: Attention::new(&many.compiler, (head_size, net.dtype), many.card, &[shape])?,
            queries: zeroed(rows, net.shape.mixed(), 2)?,
            group,
            length,
            shape,
            x,
            qkv,
            mixed,
            last,
        })
    }

    /// Enqueues the pass: keys and values of all prompts into the cache, the logits of their last tokens, and the
    /// tokens that follow.
    pub(crate) fn enqueue(&self, sequences: &Sequences<'_>) -> Result<(), WorkloadError> {
        let Sequences { net, batch, buffers, .. } = sequences;
        let at = Streams { x: self.x.address, qkv: self.qkv.address, mixed: self.mixed.address };
        let library = &net.many()?.library;
        let left = net.weights.layers.last().and_then(|layer| layer.down.bias.as_ref());
        for first in (0..*batch).step_by(self.group) {
            self.embed(sequences, first)?;
            for layer in 0..net.shape.layers {
                self.rows.begin(net, layer, at)?;
                self.attend(sequences, layer, first)?;
                self.rows.finish(net, layer, at)?;
            }
            let ends = (self.group, self.length - 1, self.length);
            let places = (at.x, self.last.address);
            net.normalise(places, left, &net.weights.last_norm, ends)?;
            let row = 4 * net.shape.vocabulary.next_multiple_of(VECTOR);
            let logits = buffers.logits.address + (first * row) as u64;
            library.multiply(&self.head, net.weights.head(), (self.last.address, logits))?;
        }
        net.best((buffers.logits.address, buffers.best.address), *batch)?;
        // Sequences stand behind their prompts, before and after.
        sequences.pick(parts_of(net.shape.vocabulary), (self.length, self.length + 1))
    }

    fn embed(&self, sequences: &Sequences<'_>, first: usize) -> Result<(), WorkloadError> {
        let Sequences { net, buffers, capacity, .. } = sequences;
        let prompts = buffers.prompts.address + 4 * (first * capacity) as u64;
        let positions = buffers.positions.address + 4 * first as u64;
        let places = net.weights.positions.as_ref().map_or(0, |places| places.weight.address);
        let fours = net.shape.width.next_multiple_of(VECTOR) / 4;
        let [length, capacity, fours] = [self.length, *capacity, fours].map(|number| number as u32);
        let mut arguments = [
            argument(&prompts),
            argument(&net.weights.embedding.weight.address),
            argument(&places),
            argument(&self.x.address),
            argument(&positions),
            argument(&length),
            argument(&capacity),
            argument(&fours),
        ];
        let geometry = Geometry::line((self.group * self.length) as u32, 128);
        net.launch(&net.many()?.kernels.embed, geometry, &mut arguments)
    }

    /// Queries, keys and values to where they belong, and attention over them.
    fn attend(
        &self,
        sequences: &Sequences<'_>,
        layer: usize,
        first: usize,
    ) -> Result<(), WorkloadError> {
        let Sequences { net, buffers, capacity, .. } = sequences;
        let Shape { heads, key_value_heads, head_width, .. } = net.shape;
        let padded = net.shape.head_padded();
        let cache = 2 * (first * key_value_heads * capacity * padded) as u64;
        let keys = buffers.keys[layer].address + cache;
        let values = buffers.values[layer].address + cache;
        let bias = net.weights.layers[layer].qkv.bias.as_ref().map_or(0, |bias| bias.address);
        let turns = buffers.turns.as_ref().map_or(0_u64, |turns| turns.address);
        let stride = net.shape.qkv().next_multiple_of(VECTOR);
        let numbers = [heads, key_value_heads, head_width, *capacity, stride, self.length];
        let [heads, shared, width, capacity, stride, length] = numbers.map(|number| number as u32);
        let mut arguments = [
            argument(&self.qkv.address),
            argument(&bias),
            argument(&turns),
            argument(&self.queries.address),
            argument(&keys),
            argument(&values),
            argument(&heads),
            argument(&shared),
            argument(&width),
            argument(&capacity),
            argument(&stride),
            argument(&length),
        ];
        let geometry = Geometry::line((self.group * self.length) as u32, 256);
        net.launch(&net.many()?.kernels.turn, geometry, &mut arguments)?;
        let operands =
            Operands { q: self.queries.address, k: keys, v: values, out: self.mixed.address };
        // SAFETY: queries and results are rows of whole heads, keys and values lie in the cache of the group.
        unsafe { self.attention.launch(&net.stream, operands, &self.shape) }
    }
}

/// Attention of the prompts of a group, whose keys and values lie in a cache of so many positions.
fn attention_of(net: &Net, (group, length, capacity): (usize, usize, usize)) -> AttentionShape {
    let Shape { heads, key_value_heads, head_width, .. } = net.shape;
    let padded = net.shape.head_padded() as u32;
    let [sequences, heads, key_heads, queries, capacity] =
        [group, heads, key_value_heads, length, capacity].map(|number| number as u32);
    let rows = Strides::by_position(heads, queries, padded);
    let cache = Strides::by_head(key_heads, capacity, padded);
    AttentionShape {
        sequences,
        heads,
        key_heads,
        queries,
        positions: Positions::Uniform { first: 0, keys: queries },
        mask: AttentionMask::Causal,
        scale: 1.0 / (head_width as f32).sqrt(),
        q: rows,
        k: cache,
        v: cache,
        out: rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_read_in_even_groups_of_as_many_as_fit() {
        assert_eq!(group_of(8, 128), 8);
        assert_eq!(group_of(128, 512), 16);
        assert_eq!(group_of(7, 4096), 1);
        assert_eq!(group_of(6, 2048), 3);
        assert_eq!(group_of(3, 100_000), 1);
    }
}
