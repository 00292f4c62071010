//! What a decode step works on.

use warpmark_cuda::Buffer;
use warpmark_measure::WorkloadError;

use super::Sizes;
use crate::net::Net;
use crate::shape::Positions;

/// What a decode step works on.
pub(crate) struct Buffers {
    pub(crate) keys: Vec<Buffer>,
    pub(crate) values: Vec<Buffer>,
    /// Cosine and sine of each position and pair, `[capacity, head width / 2]`; none without rotary
    /// positions.
    pub(crate) turns: Option<Buffer>,
    /// The residual stream, `[batch, width]` as all below, rows padded to whole vectors.
    pub(crate) x: Buffer,
    pub(crate) qkv: Buffer,
    pub(crate) mixed: Buffer,
    pub(crate) hidden: Buffer,
    pub(crate) logits: Buffer,
    pub(crate) sums: Buffer,
    pub(crate) mixtures: Buffer,
    pub(crate) best: Buffer,
    pub(crate) tokens: Buffer,
    pub(crate) positions: Buffer,
    /// The prompts, `[batch, capacity]`; -1 where a sequence goes on by itself.
    pub(crate) prompts: Buffer,
}

impl Buffers {
    pub(crate) fn new(
        net: &Net,
        sizes: &Sizes,
        (batch, capacity): (usize, usize),
    ) -> Result<Self, WorkloadError> {
        let Net { stream, shape, dtype, .. } = net;
        let zeroed = |bytes: usize, what: &str| -> Result<Buffer, WorkloadError> {
            let mut buffer = Buffer::new(stream, bytes.max(4), what)?;
            buffer.set(stream, 0)?;
            Ok(buffer)
        };
        let cache = || -> Result<Vec<Buffer>, WorkloadError> {
            let bytes = sizes.cache_elements * dtype.bytes();
            (0..shape.layers).map(|_| zeroed(bytes, "the cache")).collect()
        };
        let floats = |count: usize| zeroed(4 * count, "the activations");
        Ok(Self {
            keys: cache()?,
            values: cache()?,
            turns: turns(net, capacity)?,
            // What pads a row is never written, and read.
            x: floats(sizes.stream)?,
            qkv: floats(sizes.qkv)?,
            mixed: floats(sizes.mixed)?,
            hidden: floats(sizes.hidden)?,
            logits: floats(sizes.logits)?,
            sums: floats(2 * sizes.parts)?,
            mixtures: floats(sizes.parts * shape.head_padded())?,
            best: floats(2 * sizes.best)?,
            tokens: floats(batch)?,
            positions: floats(batch)?,
            prompts: floats(batch * capacity)?,
        })
    }
}

/// Cosines and sines of so many positions.
fn turns(net: &Net, capacity: usize) -> Result<Option<Buffer>, WorkloadError> {
    let Positions::Rotary(frequencies) = &net.shape.positions else { return Ok(None) };
    let row = |position: usize| {
        frequencies.iter().flat_map(move |frequency| {
            // The angle in f32, as published nets have it.
            let angle = position as f32 * *frequency as f32;
            [angle.cos(), angle.sin()]
        })
    };
    let bytes: Vec<u8> = (0..capacity).flat_map(row).flat_map(f32::to_le_bytes).collect();
    let mut buffer = Buffer::new(&net.stream, bytes.len(), "the turns")?;
    buffer.write(&net.stream, &bytes)?;
    Ok(Some(buffer))
}
