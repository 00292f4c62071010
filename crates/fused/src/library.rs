//! Products of many rows by cuBLASLt, each by the algorithm that is the fastest here.

use std::sync::Arc;

use cudarc::cublaslt::sys::{
    cublasComputeType_t, cublasLtMatmulAlgo_t, cublasLtReductionScheme_t, cudaDataType_t,
};
use cudarc::driver::CudaStream;
use warpmark_cuda::Buffer;
use warpmark_cuda::cublaslt::{
    Addresses, Handle, Layout, Multiplication, Operation, none_proposed,
};
use warpmark_measure::WorkloadError;

use crate::Dtype;
use crate::kernels::VECTOR;
use crate::timing::Timer;
use crate::weights::Matrix;

/// What NVIDIA recommends for Hopper; older cards need less and take no harm.
pub(crate) const WORKSPACE: usize = 32 << 20;

/// Algorithms that are tried: the library's favourites.
const TRIED: usize = 6;

/// Launches that a trial times, behind one that is not timed.
const LAUNCHES: usize = 4;

/// cuBLASLt, opened.
pub(crate) struct Library {
    handle: Handle,
    workspace: Buffer,
    stream: Arc<CudaStream>,
    dtype: Dtype,
}

/// What a product leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// Halves.
    Halves,
    /// f32.
    Floats,
    /// f32, added to what is there.
    Sums,
}

/// The product of a matrix of weights and so many rows, by the algorithm that was chosen.
pub(crate) struct Product {
    operation: Operation,
    algorithm: cublasLtMatmulAlgo_t,
}

impl Library {
    pub(crate) fn open(stream: &Arc<CudaStream>, dtype: Dtype) -> Result<Self, WorkloadError> {
        Ok(Self {
            handle: Handle::new()?,
            workspace: Buffer::new(stream, WORKSPACE, "the workspace of cuBLASLt")?,
            stream: Arc::clone(stream),
            dtype,
        })
    }

    /// The fastest of a few algorithms for `rows` rows of `from` times matrices of one shape, into `to`, which
    /// holds no numbers that matter; each launch reads the next of the matrices, as a pass does.
    pub(crate) fn product(
        &self,
        matrices: &[&Matrix],
        rows: usize,
        (from, to): (u64, u64),
        leaves: Leaves,
    ) -> Result<Product, WorkloadError> {
        let Some(first) = matrices.first() else {
            return Err(WorkloadError::Failed("a net without layers".to_owned()));
        };
        let operation = Operation::new(&self.described(first, rows, leaves))?;
        let proposed = operation.candidates(&self.handle, self.workspace.bytes())?;
        let timer = Timer::new(&self.stream)?;
        let mut best: Option<(f64, cublasLtMatmulAlgo_t)> = None;
        let mut refusal = none_proposed();
        for algorithm in proposed.into_iter().take(TRIED) {
            let mut turn = matrices.iter().cycle();
            let mut launch = || match turn.next() {
                Some(matrix) => {
                    self.launch(&operation, &algorithm, matrix.weight.address, (from, to))
                }
                None => Ok(()),
            };
            // A candidate that is proposed and then refused is passed over.
            match launch() {
                Err(refused @ WorkloadError::Unsupported(_)) => {
                    refusal = refused;
                    continue;
                }
                launched => launched?,
            }
            let seconds = timer.time(LAUNCHES, launch)?;
            if best.is_none_or(|(least, _)| seconds < least) {
                best = Some((seconds, algorithm));
            }
        }
        let (_, algorithm) = best.ok_or(refusal)?;
        Ok(Product { operation, algorithm })
    }

    /// Enqueues a product.
    pub(crate) fn multiply(
        &self,
        product: &Product,
        matrix: &Matrix,
        at: (u64, u64),
    ) -> Result<(), WorkloadError> {
        self.launch(&product.operation, &product.algorithm, matrix.weight.address, at)
    }

    fn launch(
        &self,
        operation: &Operation,
        algorithm: &cublasLtMatmulAlgo_t,
        weight: u64,
        (from, to): (u64, u64),
    ) -> Result<(), WorkloadError> {
        let addresses = Addresses {
            first: weight,
            second: from,
            result: to,
            workspace: self.workspace.address,
            workspace_bytes: self.workspace.bytes(),
        };
        let stream = self.stream.cu_stream().cast();
        // SAFETY: the weights have the rows and columns that the operation was described with, and the buffers
        // of a pass have its rows of whole vectors.
        unsafe { operation.launch(&self.handle, algorithm, addresses, stream) }
    }

    /// Rows are columns to the library: it takes the weights transposed. What pads a row is zero on both sides,
    /// so that it is multiplied too and lengths are whole vectors.
    fn described(&self, matrix: &Matrix, rows: usize, leaves: Leaves) -> Multiplication {
        let half = match self.dtype {
            Dtype::F16 => cudaDataType_t::CUDA_R_16F,
            Dtype::Bf16 => cudaDataType_t::CUDA_R_16BF,
        };
        let wide = cudaDataType_t::CUDA_R_32F;
        let inner = matrix.columns.next_multiple_of(VECTOR);
        let operand = |columns| Layout { kind: half, rows: inner, columns, leading: inner };
        Multiplication {
            first: operand(matrix.rows),
            transposed: true,
            second: operand(rows),
            result: Layout {
                kind: if leaves == Leaves::Halves { half } else { wide },
                rows: matrix.rows,
                columns: rows,
                leading: matrix.rows.next_multiple_of(VECTOR),
            },
            compute: cublasComputeType_t::CUBLAS_COMPUTE_32F,
            scale: wide,
            one: u64::from(1.0_f32.to_bits()).to_le(),
            adds: leaves == Leaves::Sums,
            // Partial sums are added in f32, whatever the result is.
            reductions: cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32,
            kinds: None,
        }
    }
}
