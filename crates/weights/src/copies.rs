//! Tensors that a checkpoint stores beside those that are computed with in their place: a head that is a copy of
//! the embeddings. One that differs belongs to another net.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use half::{bf16, f16};

use super::{Copied, Dtype, WeightsError};

/// Where a tensor's values are stored.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    pub(super) file: &'a File,
    pub(super) path: &'a Path,
    pub(super) dtype: Dtype,
    pub(super) offset: u64,
    pub(super) elements: usize,
}

/// A stored tensor beside the one that is computed with in its place.
#[derive(Debug)]
pub(super) struct Pair<'a> {
    pub(super) rule: &'static Copied,
    pub(super) copy: Stored<'a>,
    pub(super) of: Stored<'a>,
}

/// Elements that are compared at a time.
const LOT: usize = 1 << 20;

impl Pair<'_> {
    /// Refuses a copy that is none: the net that the checkpoint describes would compute with it.
    pub(super) fn compare(&self) -> Result<(), WeightsError> {
        let (copy, of) = (&self.copy, &self.of);
        let mut equal = copy.elements == of.elements;
        let mut first = 0;
        while equal && first < copy.elements {
            let count = LOT.min(copy.elements - first);
            equal = copy.values(first, count)? == of.values(first, count)?;
            first += count;
        }
        if equal {
            return Ok(());
        }
        Err(WeightsError::NoCopy {
            name: self.rule.copy.to_owned(),
            of: self.rule.of,
            path: copy.path.to_owned(),
            advice: self.rule.advice,
        })
    }
}

impl Stored<'_> {
    /// `count` of the values from `first` on.
    pub(super) fn values(&self, first: usize, count: usize) -> Result<Vec<f32>, WeightsError> {
        let size = self.dtype.bytes();
        let mut bytes = vec![0; count * size];
        self.file
            .read_exact_at(&mut bytes, self.offset + (first * size) as u64)
            .map_err(WeightsError::io("read", self.path))?;
        let pair = |pair: &[u8]| [pair[0], pair[1]];
        Ok(match self.dtype {
            Dtype::F32 => bytes
                .chunks_exact(4)
                .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]))
                .collect(),
            Dtype::F16 => {
                bytes.chunks_exact(2).map(|word| f16::from_le_bytes(pair(word)).to_f32()).collect()
            }
            Dtype::Bf16 => {
                bytes.chunks_exact(2).map(|word| bf16::from_le_bytes(pair(word)).to_f32()).collect()
            }
        })
    }
}
