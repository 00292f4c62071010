//! The weights of a net on the device, in the order in which the kernels read them.

use std::sync::Arc;

use cudarc::driver::CudaStream;
use warpmark_cuda::Buffer;
use warpmark_measure::WorkloadError;
use warpmark_record::Bytes;

use crate::Dtype;
use crate::kernels::VECTOR;
use crate::shape::{Activation, NormKind, Positions, Shape};

/// A part of a net's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// `[vocabulary, width]`.
    Embedding,
    /// The learned positions, `[positions, width]`.
    Positions,
    /// What is done before the attention of a layer.
    AttentionNorm(usize),
    /// Queries, keys and values of a layer, one after the other: `[(heads + 2 key-value heads) · head width,
    /// width]`.
    Qkv(usize),
    /// The product after the attention of a layer, `[width, heads · head width]`.
    Output(usize),
    /// What is done before the feed-forward layer.
    FeedForwardNorm(usize),
    /// Its first product, `[hidden, width]`; of a gated one gates and values row by row in turn, `[2 ·
    /// hidden, width]`.
    Up(usize),
    /// Its second product, `[width, hidden]`.
    Down(usize),
    /// The norm after all layers.
    LastNorm,
    /// The head, `[vocabulary, width]`, unless it is the table of embeddings.
    Head,
}

/// A part as a checkpoint has it.
pub struct Tensor {
    /// The weights, row by row: `[out, in]` of a product.
    pub weight: Vec<u16>,
    /// The bias, where there is one.
    pub bias: Option<Vec<u16>>,
}

/// Where the weights come from.
pub trait Checkpoint {
    /// A part, its numbers as bits of the type that the net is loaded in.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    fn read(&self, part: Part) -> Result<Tensor, WorkloadError>;
}

/// A matrix on the device, its rows padded with zeros to whole vectors.
pub(crate) struct Matrix {
    pub(crate) weight: Buffer,
    pub(crate) bias: Option<Buffer>,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// A norm's factors, and what is added after them.
pub(crate) struct Norm {
    pub(crate) weight: Buffer,
    pub(crate) bias: Option<Buffer>,
}

pub(crate) struct Layer {
    pub(crate) attention_norm: Norm,
    pub(crate) qkv: Matrix,
    pub(crate) output: Matrix,
    pub(crate) feed_forward_norm: Norm,
    pub(crate) up: Matrix,
    pub(crate) down: Matrix,
}

/// All weights of a net.
pub(crate) struct Weights {
    pub(crate) embedding: Matrix,
    pub(crate) positions: Option<Matrix>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) last_norm: Norm,
    /// `None` where it is the embedding.
    pub(crate) head: Option<Matrix>,
}

impl Weights {
    pub(crate) fn load(
        stream: &Arc<CudaStream>,
        shape: &Shape,
        checkpoint: &dyn Checkpoint,
    ) -> Result<Self, WorkloadError> {
        let loader = Loader { stream, checkpoint };
        let Shape { width, hidden, vocabulary, .. } = *shape;
        let norm = |part| loader.norm(part, width, shape.norm);
        let layer = |layer| -> Result<Layer, WorkloadError> {
            Ok(Layer {
                attention_norm: norm(Part::AttentionNorm(layer))?,
                qkv: loader.matrix(Part::Qkv(layer), shape.qkv(), width)?,
                output: loader.spread(Part::Output(layer), shape)?,
                feed_forward_norm: norm(Part::FeedForwardNorm(layer))?,
                up: loader.matrix(Part::Up(layer), shape.up(), width)?,
                down: loader.matrix(Part::Down(layer), width, hidden)?,
            })
        };
        let positions = match shape.positions {
            Positions::Learned(count) => Some(loader.matrix(Part::Positions, count, width)?),
            Positions::Rotary(_) => None,
        };
        let head = || loader.matrix(Part::Head, vocabulary, width);
        Ok(Self {
            embedding: loader.matrix(Part::Embedding, vocabulary, width)?,
            positions,
            layers: (0..shape.layers).map(layer).collect::<Result<_, _>>()?,
            last_norm: norm(Part::LastNorm)?,
            head: if shape.tied { None } else { Some(head()?) },
        })
    }

    pub(crate) fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

struct Loader<'a> {
    stream: &'a Arc<CudaStream>,
    checkpoint: &'a dyn Checkpoint,
}

impl Loader<'_> {
    fn matrix(&self, part: Part, rows: usize, columns: usize) -> Result<Matrix, WorkloadError> {
        let Tensor { weight, bias } = self.checkpoint.read(part)?;
        Ok(Matrix {
            weight: self.upload(part, &weight, rows, columns)?,
            bias: bias.map(|bias| self.upload(part, &bias, 1, rows)).transpose()?,
            rows,
            columns,
        })
    }

    /// A matrix whose columns are heads, each of which becomes whole vectors.
    fn spread(&self, part: Part, shape: &Shape) -> Result<Matrix, WorkloadError> {
        let Tensor { weight, bias } = self.checkpoint.read(part)?;
        let (rows, width, padded) = (shape.width, shape.head_width, shape.head_padded());
        counted(part, &weight, rows, shape.heads * width)?;
        let heads = weight.chunks(width);
        let zeros = std::iter::repeat_n(0, padded - width);
        let spread: Vec<u16> =
            heads.flat_map(|head| head.iter().copied().chain(zeros.clone())).collect();
        Ok(Matrix {
            weight: self.upload(part, &spread, rows, shape.mixed())?,
            bias: bias.map(|bias| self.upload(part, &bias, 1, rows)).transpose()?,
            rows,
            columns: shape.mixed(),
        })
    }

    fn norm(&self, part: Part, width: usize, kind: NormKind) -> Result<Norm, WorkloadError> {
        let Tensor { weight, bias } = self.checkpoint.read(part)?;
        if bias.is_some() != (kind == NormKind::Layer) {
            return Err(WorkloadError::Failed(format!("{part:?}: a bias belongs to {kind:?}")));
        }
        Ok(Norm {
            weight: self.upload(part, &weight, 1, width)?,
            bias: bias.map(|bias| self.upload(part, &bias, 1, width)).transpose()?,
        })
    }

    /// Rows of whole vectors.
    fn upload(
        &self,
        part: Part,
        numbers: &[u16],
        rows: usize,
        columns: usize,
    ) -> Result<Buffer, WorkloadError> {
        counted(part, numbers, rows, columns)?;
        let padded = columns.next_multiple_of(VECTOR);
        let mut bytes = vec![0; 2 * rows * padded];
        for (row, to) in numbers.chunks(columns).zip(bytes.chunks_mut(2 * padded)) {
            for (number, to) in row.iter().zip(to.as_chunks_mut::<2>().0) {
                *to = number.to_le_bytes();
            }
        }
        let mut buffer = Buffer::new(self.stream, bytes.len(), "the weights")?;
        buffer.write(self.stream, &bytes)?;
        Ok(buffer)
    }
}

/// Refuses a part of another size.
fn counted(part: Part, numbers: &[u16], rows: usize, columns: usize) -> Result<(), WorkloadError> {
    if numbers.len() == rows * columns {
        return Ok(());
    }
    let count = numbers.len();
    Err(WorkloadError::Failed(format!("{part:?} has {count} numbers, not {rows} x {columns}")))
}

impl Shape {
    /// Bytes of the weights on the device.
    pub fn weights(&self, dtype: Dtype) -> Bytes {
        let padded = |rows: usize, columns: usize| rows * columns.next_multiple_of(VECTOR);
        let biases = if self.norm == NormKind::Layer { 2 } else { 1 };
        let norm = biases * padded(1, self.width);
        let product = |rows: usize, columns: usize| {
            let bias = if self.activation == Activation::Swiglu { 0 } else { padded(1, rows) };
            padded(rows, columns) + bias
        };
        let layer = 2 * norm
            + product(self.qkv(), self.width)
            + product(self.width, self.mixed())
            + product(self.up(), self.width)
            + product(self.width, self.hidden);
        let table = padded(self.vocabulary, self.width);
        let tables = if self.tied { table } else { 2 * table };
        let positions = match self.positions {
            Positions::Learned(count) => padded(count, self.width),
            Positions::Rotary(_) => 0,
        };
        Bytes::from_count((self.layers * layer + tables + positions + norm) * dtype.bytes())
    }
}
