//! The key-value cache of a causal language model.

use std::cell::OnceCell;

use candle_core::{DType, Device, Result, Tensor};

use super::NetError;

/// Keys and values of every position so far, in buffers of fixed size.
pub struct Cache {
    /// `[batch, key-value heads, capacity, head width]`, keys and values of each layer.
    layers: Vec<(Tensor, Tensor)>,
    batch: usize,
    capacity: usize,
    length: usize,
    /// The numbers of all positions, `[capacity]` of u32: masks are made of them on the device, where a pass that is
    /// captured may bring nothing from the host.
    columns: Tensor,
}

/// The extents of a cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extents {
    pub(super) layers: usize,
    pub(super) batch: usize,
    pub(super) heads: usize,
    pub(super) capacity: usize,
    pub(super) head_width: usize,
}

/// Where the new positions of a pass stand.
pub(super) enum Positions {
    /// After the same number of positions in every sequence.
    Uniform {
        /// Positions that are there.
        length: usize,
    },
    /// One new position in each sequence, after a number of its own.
    Ragged(RaggedPositions),
}

/// One new position in each sequence, after a number of its own.
pub(super) struct RaggedPositions {
    /// Positions that each sequence has, the new one not counted; empty where the device alone knows them.
    pub(super) lengths: Vec<usize>,
    /// The same on the device, `[sequences]` of u32.
    pub(super) positions: Tensor,
    /// How many positions of the buffers are looked at: those of the longest sequence, its new one included.
    pub(super) attended: usize,
    /// Each sequence's new position and how many it then has, `[sequences, 2]` of u32 on the device.
    pub(super) keys: Tensor,
    /// The numbers of the positions that are looked at, `[1, attended]` of u32.
    pub(super) columns: Tensor,
    /// What [`RaggedPositions::mask`] has made.
    mask: OnceCell<Tensor>,
}

impl RaggedPositions {
    /// 0 on the positions that a sequence attends to, -inf after them: `[sequences, 1, 1, attended]` of f32. Made on the
    /// device, once for all layers.
    pub(super) fn mask(&self) -> Result<Tensor> {
        if let Some(mask) = self.mask.get() {
            return Ok(mask.clone());
        }
        let (device, attended) = (self.positions.device(), self.attended);
        let sequences = self.positions.dim(0)?;
        let seen = self.columns.broadcast_le(&self.positions.reshape((sequences, 1))?)?;
        let (zero, none) = (
            Tensor::zeros((sequences, attended), DType::F32, device)?,
            Tensor::full(f32::NEG_INFINITY, (sequences, attended), device)?,
        );
        let mask = seen.where_cond(&zero, &none)?.reshape((sequences, 1, 1, attended))?;
        Ok(self.mask.get_or_init(|| mask).clone())
    }
}

impl Positions {
    /// One new position in each of the first sequences, after these numbers of positions.
    pub(super) fn ragged(lengths: &[usize], cache: &Cache) -> Result<Self> {
        let attended = attended(lengths);
        let keys: Vec<u32> = lengths.iter().flat_map(|n| [*n as u32, *n as u32 + 1]).collect();
        let keys = Tensor::from_vec(keys, (lengths.len(), 2), cache.columns.device())?;
        Ok(Self::Ragged(RaggedPositions {
            positions: keys.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?,
            attended,
            columns: cache.columns.narrow(0, 0, attended)?.unsqueeze(0)?,
            lengths: lengths.to_vec(),
            keys,
            mask: OnceCell::new(),
        }))
    }
}

impl Positions {
    /// One new position in each of the first sequences, where the device alone knows: `positions` is `[sequences]` of
    /// u32, each below the capacity of the cache, all of which is looked at.
    pub(super) fn on_device(positions: &Tensor, cache: &Cache) -> Result<Self> {
        // A CPU's operators take the lengths as they are.
        let lengths = if positions.device().is_cpu() {
            positions.to_vec1::<u32>()?.into_iter().map(|length| length as usize).collect()
        } else {
            Vec::new()
        };
        let next = (positions + &positions.ones_like()?)?;
        Ok(Self::Ragged(RaggedPositions {
            positions: positions.clone(),
            attended: cache.capacity,
            columns: cache.columns.unsqueeze(0)?,
            lengths,
            keys: Tensor::stack(&[positions, &next], 1)?,
            mask: OnceCell::new(),
        }))
    }
}

/// Positions of the longest sequence, its new one included.
fn attended(lengths: &[usize]) -> usize {
    lengths.iter().max().map_or(0, |longest| longest + 1)
}

impl Cache {
    /// An empty cache.
    pub(super) fn new(extents: Extents, dtype: DType, device: &Device) -> Result<Self> {
        let Extents { layers, batch, heads, capacity, head_width } = extents;
        let buffer = || Tensor::zeros((batch, heads, capacity, head_width), dtype, device);
        let layers = (0..layers).map(|_| Ok((buffer()?, buffer()?))).collect::<Result<_>>()?;
        let columns = Tensor::arange(0, capacity as u32, device)?;
        Ok(Self { layers, batch, capacity, length: 0, columns })
    }

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

    /// An empty cache for the first `count` sequences, in the same buffers: nothing is allocated, and what
    /// this one holds of them is overwritten.
    pub fn first(&self, count: usize) -> std::result::Result<Self, NetError> {
        if count > self.batch {
            return Err(NetError::Batch { tokens: count, cache: self.batch });
        }
        let view = |(keys, values): &(Tensor, Tensor)| {
            Ok((keys.narrow(0, 0, count)?, values.narrow(0, 0, count)?))
        };
        let layers = self.layers.iter().map(view).collect::<Result<_>>()?;
        let columns = self.columns.clone();
        Ok(Self { layers, batch: count, capacity: self.capacity, length: 0, columns })
    }

    /// Copies `count` sequences of `other` from its sequence `from` on into this cache from sequence `at`
    /// on, as many positions as `other` has filled, which then count as filled here.
    pub fn copy_sequences(
        &mut self,
        at: usize,
        other: &Self,
        from: usize,
        count: usize,
    ) -> std::result::Result<(), NetError> {
        if at + count > self.batch || from + count > other.batch {
            return Err(NetError::Batch { tokens: at + count, cache: self.batch });
        }
        if other.length > self.capacity {
            let (tokens, limit) = (other.length, self.capacity);
            return Err(NetError::TooLong { tokens, length: 0, what: "the cache", limit });
        }
        let copy = |target: &Tensor, source: &Tensor| -> Result<()> {
            let source = source.narrow(0, from, count)?;
            if other.capacity == self.capacity {
                return target.slice_set(&source, 0, at);
            }
            let source = source.narrow(2, 0, other.length)?.contiguous()?;
            target.narrow(0, at, count)?.slice_set(&source, 2, 0)
        };
        for ((keys, values), (from_keys, from_values)) in self.layers.iter().zip(&other.layers) {
            copy(keys, from_keys)?;
            copy(values, from_values)?;
        }
        self.length = other.length;
        Ok(())
    }

    /// The buffers of a layer, keys and values: `[batch, key-value heads, capacity, head width]`.
    pub fn layer(&self, index: usize) -> Option<&(Tensor, Tensor)> {
        self.layers.get(index)
    }

    /// The buffers of all layers.
    pub(super) fn layers(&self) -> &[(Tensor, Tensor)] {
        &self.layers
    }

    /// Refuses tokens of another batch, and more of them than there is room for.
    pub(super) fn check(&self, batch: usize, count: usize) -> std::result::Result<(), NetError> {
        if batch != self.batch {
            return Err(NetError::Batch { tokens: batch, cache: self.batch });
        }
        let (length, limit) = (self.length, self.capacity);
        if length + count > limit {
            return Err(NetError::TooLong { tokens: count, length, what: "the cache", limit });
        }
        Ok(())
    }

    /// Refuses more sequences than there are, and one without room for its new position.
    pub(super) fn check_apart(&self, lengths: &[usize]) -> std::result::Result<(), NetError> {
        if lengths.len() > self.batch || lengths.is_empty() {
            return Err(NetError::Batch { tokens: lengths.len(), cache: self.batch });
        }
        let (attended, limit) = (attended(lengths), self.capacity);
        if attended > limit {
            let length = attended - 1;
            return Err(NetError::TooLong { tokens: 1, length, what: "the cache", limit });
        }
        Ok(())
    }

    /// Refuses another number of sequences than positions.
    pub(super) fn check_on_device(&self, positions: &Tensor) -> std::result::Result<(), NetError> {
        let count = positions.dims1()?;
        if count > self.batch || count == 0 {
            return Err(NetError::Batch { tokens: count, cache: self.batch });
        }
        Ok(())
    }

    /// Counts so many more positions as filled in every sequence.
    pub(super) fn advance(&mut self, count: usize) {
        self.length += count;
    }
}

/// Writes the keys and values of new positions, `[sequences, key-value heads, new, head width]`, into a
/// layer's buffers. Returns everything that they may attend to.
pub(super) fn append(
    (keys, values): &(Tensor, Tensor),
    (new_keys, new_values): (&Tensor, &Tensor),
    positions: &Positions,
) -> Result<(Tensor, Tensor)> {
    match positions {
        Positions::Uniform { length } => {
            let attended = length + new_keys.dim(2)?;
            keys.slice_set(new_keys, 2, *length)?;
            values.slice_set(new_values, 2, *length)?;
            Ok((keys.narrow(2, 0, attended)?, values.narrow(2, 0, attended)?))
        }
        Positions::Ragged(ragged) => {
            let sequences = ragged.positions.dim(0)?;
            let index = ragged.positions.reshape((sequences, 1, 1, 1))?;
            let index = index.broadcast_as(new_keys.shape())?.contiguous()?;
            let (keys, values) = (keys.narrow(0, 0, sequences)?, values.narrow(0, 0, sequences)?);
            keys.scatter_set(&index, new_keys, 2)?;
            values.scatter_set(&index, new_values, 2)?;
            let attended = ragged.attended;
            Ok((keys.narrow(2, 0, attended)?, values.narrow(2, 0, attended)?))
        }
    }
}
