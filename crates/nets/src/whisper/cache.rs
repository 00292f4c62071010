//! What the decoder keeps of the audio and of the text so far.

use candle_core::Tensor;

use crate::NetError;

/// Keys and values of the audio for each block of the decoder, computed once for a batch of clips.
pub struct Cross {
    /// `[clips, heads, audio positions, head width]`, keys and values of each layer.
    pub(super) layers: Vec<(Tensor, Tensor)>,
    pub(super) clips: usize,
}

impl Cross {
    /// Clips there are.
    pub fn clips(&self) -> usize {
        self.clips
    }

    /// The keys and values of a layer.
    pub fn layer(&self, index: usize) -> Option<&(Tensor, Tensor)> {
        self.layers.get(index)
    }

    /// Clip `i` is clip `clips[i]` of these. `clips` is `[count]` of u32.
    pub fn select(&self, clips: &Tensor) -> Result<Self, NetError> {
        let chosen = |(keys, values): &(Tensor, Tensor)| {
            Ok((keys.index_select(clips, 0)?, values.index_select(clips, 0)?))
        };
        let layers = self.layers.iter().map(chosen).collect::<Result<_, NetError>>()?;
        Ok(Self { layers, clips: clips.dim(0)? })
    }
}

/// Keys and values of every token so far, in buffers of fixed size.
pub struct Cache {
    /// `[rows, heads, capacity, head width]`, keys and values of each layer.
    pub(super) layers: Vec<(Tensor, Tensor)>,
    pub(super) rows: usize,
    pub(super) capacity: usize,
    pub(super) length: usize,
}

impl Cache {
    /// Tokens that are filled.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no token is filled.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Transcripts there is room for: clips, or beams of all clips.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The same buffers, filled as far as now, with a length of its own. What one of the two writes, the
    /// other reads; after the length that both had, they must take turns.
    #[must_use]
    pub fn handle(&self) -> Self {
        Self { layers: self.layers.clone(), ..*self }
    }

    /// Forgets everything from this token on; the buffers stay.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Row `i` becomes row `parents[i]` of `other`, as far as that is filled. `parents` is `[rows]` of
    /// u32.
    pub fn take(&mut self, other: &Self, parents: &Tensor) -> Result<(), NetError> {
        self.length = other.length;
        for ((keys, values), (from_keys, from_values)) in self.layers.iter().zip(&other.layers) {
            for (own, from) in [(keys, from_keys), (values, from_values)] {
                let filled = from.narrow(2, 0, other.length)?.contiguous()?;
                own.slice_set(&filled.index_select(parents, 0)?, 2, 0)?;
            }
        }
        Ok(())
    }

    /// Row `i` becomes what row `parents[i]` was.
    pub fn reorder(&mut self, parents: &Tensor) -> Result<(), NetError> {
        for (keys, values) in &self.layers {
            for own in [keys, values] {
                let filled = own.narrow(2, 0, self.length)?.contiguous()?;
                own.slice_set(&filled.index_select(parents, 0)?, 2, 0)?;
            }
        }
        Ok(())
    }

    /// The buffers of a layer, keys and values: `[rows, heads, capacity, head width]`.
    pub fn layer(&self, index: usize) -> Option<&(Tensor, Tensor)> {
        self.layers.get(index)
    }
}
