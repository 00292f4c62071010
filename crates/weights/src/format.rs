//! The formats in which weights can be asked for: plain numbers, or blocks of a GGUF file.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Dtype;

/// The format in which a model's weights are held on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Format {
    /// Numbers of one kind, which are the activations' too.
    Plain(Dtype),
    /// Blocks of small integers with scales.
    Quantised(Quantisation),
}

/// A way in which llama.cpp quantises a whole checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantisation {
    /// Blocks of 32 weights of 8 bits with one scale: 8.5 bits a weight.
    Q8_0,
    /// Mostly super-blocks of 256 weights of 4 bits with two scales for every 32, and of 6 bits where
    /// errors cost most: between 4.5 and 5 bits a weight.
    #[serde(rename = "q4_k_m")]
    Q4KM,
}

impl Format {
    /// The numbers in which activations and the cache are kept. candle's quantised products read and
    /// write f32.
    pub fn compute(self) -> Dtype {
        match self {
            Self::Plain(dtype) => dtype,
            Self::Quantised(_) => Dtype::F32,
        }
    }

    /// The dtype of plain weights.
    pub fn plain(self) -> Option<Dtype> {
        match self {
            Self::Plain(dtype) => Some(dtype),
            Self::Quantised(_) => None,
        }
    }
}

impl From<Dtype> for Format {
    fn from(dtype: Dtype) -> Self {
        Self::Plain(dtype)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(dtype) => dtype.fmt(f),
            Self::Quantised(quantisation) => quantisation.fmt(f),
        }
    }
}

impl fmt::Display for Quantisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Q8_0 => "q8_0",
            Self::Q4KM => "q4_k_m",
        })
    }
}
