//! The matrices of a multiplication on the device, once or in as many copies as overflow the cache.

use std::sync::Arc;

use cudarc::driver::CudaStream;
use warpmark_cuda::cublaslt::Addresses;
use warpmark_measure::WorkloadError;

use super::{Inputs, Problem};
use crate::cuda::{Buffer, Filler};
use crate::data::Dtype;

/// What libraries ask of addresses at most, and what the driver gives to every allocation.
const ALIGNMENT: usize = 256;

/// One matrix, `copies` times.
struct Matrix {
    buffer: Buffer,
    /// Bytes from one copy to the next.
    stride: usize,
    elements: usize,
}

impl Matrix {
    /// Room for the largest of `shapes`, uninitialised.
    fn new(
        stream: &Arc<CudaStream>,
        name: &str,
        dtype: Dtype,
        shapes: impl Iterator<Item = (usize, usize)>,
        copies: usize,
    ) -> Result<Self, WorkloadError> {
        let (rows, columns) =
            shapes.max_by_key(|(rows, columns)| rows * columns).unwrap_or_default();
        let times = if copies > 1 { format!(", {copies} times") } else { String::new() };
        let what = format!("matrix {name} of {rows} x {columns} {}{times}", dtype.name());
        let stride = (rows * columns * dtype.size()).next_multiple_of(ALIGNMENT);
        let buffer = Buffer::new(stream, stride * copies, &what)?;
        Ok(Self { buffer, stride, elements: rows * columns })
    }

    fn address(&self, copy: usize) -> u64 {
        self.buffer.address + (copy * self.stride) as u64
    }
}

/// `A`, `B` and `C`, and whose turn it is.
pub(super) struct Operands {
    stream: Arc<CudaStream>,
    a: Matrix,
    b: Matrix,
    c: Matrix,
    copies: usize,
    /// The copy that the last launch multiplied.
    last: usize,
}

impl Operands {
    /// Random `A` and `B`, the same in every copy, and a `C` of no numbers, large enough for each of the
    /// problems, which are of one arithmetic: a smaller one takes the beginning of each matrix.
    pub(super) fn new(
        stream: &Arc<CudaStream>,
        filler: &Filler,
        problems: &[Problem],
        copies: usize,
        inputs: Inputs,
    ) -> Result<Self, WorkloadError> {
        let first = problems.first();
        let first = first.ok_or_else(|| WorkloadError::failed("there is nothing to multiply"))?;
        let (dtype, result) = (first.dtype, first.result());
        let shapes = |shape: fn(&Problem) -> (usize, usize)| problems.iter().map(shape);
        let matrix = |name, dtype, shape| Matrix::new(stream, name, dtype, shapes(shape), copies);
        let mut a = matrix("A", dtype, |p| (p.m, p.k))?;
        let mut b = matrix("B", dtype, |p| (p.k, p.n))?;
        let mut c = matrix("C", result, |p| (p.m, p.n))?;
        for (matrix, numbers) in [(&mut a, inputs.a), (&mut b, inputs.b)] {
            let (stride, elements) = (matrix.stride, matrix.elements);
            for copy in 0..copies {
                let buffer = &mut matrix.buffer;
                filler.fill_part(stream, buffer, copy * stride, elements, dtype, numbers)?;
            }
        }
        c.buffer.set(stream, 0xFF)?;
        let stream = Arc::clone(stream);
        Ok(Self { stream, a, b, c, copies, last: 0 })
    }

    pub(super) fn copies(&self) -> usize {
        self.copies
    }

    /// What the next launch multiplies: each copy in turn.
    pub(super) fn next(&mut self, workspace: &Buffer) -> Addresses {
        self.last = (self.last + 1) % self.copies;
        Addresses {
            // By columns, `B` comes first: see `lt::operation`.
            first: self.b.address(self.last),
            second: self.a.address(self.last),
            result: self.c.address(self.last),
            workspace: workspace.address,
            workspace_bytes: workspace.bytes(),
        }
    }

    /// An entry of the product that the last launch wrote, `index` elements from its beginning.
    pub(super) fn product(&self, index: usize, dtype: Dtype) -> Result<f64, WorkloadError> {
        let mut bytes = [0; 8];
        let element = &mut bytes[..dtype.size()];
        let offset = self.last * self.c.stride + index * dtype.size();
        self.c.buffer.read(&self.stream, offset, element)?;
        Ok(dtype.decode(bytes))
    }

    /// Leaves no product in any copy.
    pub(super) fn spoil(&mut self) -> Result<(), WorkloadError> {
        self.c.buffer.set(&self.stream, 0xFF)
    }
}
