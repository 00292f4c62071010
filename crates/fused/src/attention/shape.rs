//! The shapes of attention, and what the kernel refuses of them.

use warpmark_measure::WorkloadError;

use super::Operands;

/// Bytes that the kernel loads and stores at once: where everything has to begin at a multiple of.
const ALIGNMENT: u64 = 16;

/// Elements of a half that are loaded at once.
const ELEMENTS: u64 = ALIGNMENT / 2;

/// The farthest that two positions may lie apart, in elements: the lines of a block are counted in 32 bits.
const FARTHEST: u32 = 1 << 24;

/// The longest that a sequence may be.
const LONGEST: u32 = 1 << 30;

/// How far apart the parts of an operand lie, in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Strides {
    /// From a sequence to the next.
    pub sequence: i64,
    /// From a head to the next.
    pub head: i64,
    /// From a position to the next.
    pub position: u32,
}

impl Strides {
    /// Of `[sequences, heads, positions, size]` without gaps.
    pub fn by_head(heads: u32, positions: u32, size: u32) -> Self {
        let head = i64::from(positions) * i64::from(size);
        Self { sequence: i64::from(heads) * head, head, position: size }
    }

    /// Of `[sequences, positions, heads, size]` without gaps.
    pub fn by_position(heads: u32, positions: u32, size: u32) -> Self {
        let position = heads * size;
        let sequence = i64::from(positions) * i64::from(position);
        Self { sequence, head: i64::from(size), position }
    }

    fn is_aligned(self) -> bool {
        let parts = [self.sequence.unsigned_abs(), self.head.unsigned_abs(), self.position.into()];
        parts.iter().all(|part| part.is_multiple_of(ELEMENTS)) && self.position < FARTHEST
    }
}

/// Which keys a query may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionMask {
    /// All of its sequence.
    Full,
    /// Those at its own position and in front of it.
    Causal,
}

/// Where queries stand, and how many keys there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// The same for every sequence.
    Uniform {
        /// The position of the first query.
        first: u32,
        /// How many keys there are.
        keys: u32,
    },
    /// Each sequence's own: the device address of two u32 for each, the position of its first query and the
    /// count of its keys.
    Ragged(u64),
}

impl Positions {
    /// What the kernel is given for those of each sequence: null where they are the same.
    pub(super) fn address(self) -> u64 {
        match self {
            Self::Uniform { .. } => 0,
            Self::Ragged(address) => address,
        }
    }
}

/// An attention's shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Sequences.
    pub sequences: u32,
    /// Heads of queries.
    pub heads: u32,
    /// Heads of keys and values, of which neighbouring heads of queries share one.
    pub key_heads: u32,
    /// Queries of each sequence.
    pub queries: u32,
    /// Where queries stand, and how many keys there are.
    pub positions: Positions,
    /// Which keys a query may see.
    pub mask: AttentionMask,
    /// What scores are multiplied with.
    pub scale: f32,
    /// How queries lie.
    pub q: Strides,
    /// How keys lie.
    pub k: Strides,
    /// How values lie.
    pub v: Strides,
    /// How results lie.
    pub out: Strides,
}

impl AttentionShape {
    /// Whether the kernel can do it.
    ///
    /// # Errors
    /// [`WorkloadError::Unsupported`] with the reason.
    pub(super) fn check(&self, operands: Operands) -> Result<(), WorkloadError> {
        let refuse = |reason: String| Err(WorkloadError::Unsupported(reason));
        let (heads, shared) = (self.heads, self.key_heads);
        if [self.sequences, heads, shared, self.queries].contains(&0) {
            return refuse("attention without sequences, heads or queries".to_owned());
        }
        if !heads.is_multiple_of(shared) {
            return refuse(format!("{heads} heads cannot share {shared} of keys evenly"));
        }
        if !self.scale.is_finite() || self.scale <= 0.0 {
            return refuse(format!("attention with scores times {}", self.scale));
        }
        let longest = match self.positions {
            Positions::Uniform { first, keys } => keys.max(first).max(self.queries),
            Positions::Ragged(_) => self.queries,
        };
        if longest > LONGEST {
            return refuse(format!("attention over {longest} positions; {LONGEST} is the most"));
        }
        let Operands { q, k, v, out } = operands;
        let all = [
            ("queries", q, self.q),
            ("keys", k, self.k),
            ("values", v, self.v),
            ("results", out, self.out),
        ];
        for (what, address, strides) in all {
            if !address.is_multiple_of(ALIGNMENT) || !strides.is_aligned() {
                return refuse(format!(
                    "{what} that lie not at multiples of {ALIGNMENT} bytes, or {FARTHEST} elements apart"
                ));
            }
        }
        Ok(())
    }

    /// How many blocks a launch has, of which each head has so many.
    pub(super) fn grid(&self, blocks: u32) -> Result<u32, WorkloadError> {
        let all = u64::from(blocks) * u64::from(self.heads) * u64::from(self.sequences);
        u32::try_from(all).ok().filter(|all| i32::try_from(*all).is_ok()).ok_or_else(|| {
            WorkloadError::Unsupported(format!(
                "attention of {all} blocks; a launch has 2³¹ - 1 at most"
            ))
        })
    }
}

/// `Shape` of the kernel.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Parameters {
    q: Strides,
    k: Strides,
    v: Strides,
    out: Strides,
    heads: u32,
    sharing: u32,
    queries: u32,
    blocks: u32,
    first: u32,
    keys: u32,
    causal: u32,
    scale: f32,
}

impl Parameters {
    /// Those of a shape whose heads have so many blocks of queries.
    pub(super) fn of(shape: &AttentionShape, blocks: u32) -> Self {
        let (first, keys) = match shape.positions {
            Positions::Uniform { first, keys } => (first, keys),
            Positions::Ragged(_) => (0, 0),
        };
        Self {
            q: shape.q,
            k: shape.k,
            v: shape.v,
            out: shape.out,
            heads: shape.heads,
            sharing: shape.heads / shape.key_heads,
            queries: shape.queries,
            blocks,
            first,
            keys,
            causal: u32::from(shape.mask == AttentionMask::Causal),
            scale: shape.scale * std::f32::consts::LOG2_E,
        }
    }
}
