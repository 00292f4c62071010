//! Multiplications of the suite as cuBLASLt has them described.

use cudarc::cublaslt::sys;
use half::f16;
use warpmark_cuda::cublaslt::{Layout, Multiplication, Operation, Scalar};
use warpmark_measure::WorkloadError;

use super::Problem;
use crate::data::Dtype;

/// Partial sums of a product that is split along k are added in the type of the sums. The library may
/// otherwise add them in the type of the result, which is not what the id says.
const REDUCE_IN_COMPUTE_TYPE: u32 =
    sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;

/// Adding them up in the result itself is the same where that is of the type of the sums.
const REDUCE_IN_PLACE: u32 =
    sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_INPLACE as u32;

/// Multiplications by tensor cores, with TF32 operands and f32 sums: `CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA`,
/// `..._ACCUMULATOR_32F` and `..._INPUT_TF32` of `cublasLt.h`.
const TF32_BY_TENSOR_CORES: u64 = 0x2 | 0x2 << 8 | 0x4 << 16;

/// A problem as the library wants it described. The sums are in the type that the problem states; for f32
/// operands in true f32 arithmetic (no TF32), for fp8 ones with scales of 1, which are the library's own where
/// none is set.
///
/// The library thinks in columns. A row-major matrix read by columns is its transpose, so `C = A · B`
/// by rows is asked for as `Cᵗ = Bᵗ · Aᵗ` by columns, with nothing to transpose. A `B` that lies by columns
/// is its own transpose to the library, and has to be transposed back.
pub(super) fn operation(problem: &Problem) -> Result<Operation, WorkloadError> {
    let Problem { m, n, k, .. } = *problem;
    let operand = data_type(problem.dtype);
    let (compute, scale, one) = arithmetic(problem)?;
    let by_columns = problem.by_columns();
    let in_place = if problem.result() == problem.accumulate { REDUCE_IN_PLACE } else { 0 };
    Operation::new(&Multiplication {
        first: if by_columns { without_gaps(operand, k, n) } else { without_gaps(operand, n, k) },
        transposed: by_columns,
        second: without_gaps(operand, k, m),
        result: without_gaps(data_type(problem.result()), n, m),
        compute,
        scale,
        one,
        adds: false,
        reductions: REDUCE_IN_COMPUTE_TYPE | in_place,
        kinds: (problem.dtype == Dtype::Tf32).then_some(TF32_BY_TENSOR_CORES),
    })
}

fn without_gaps(kind: sys::cudaDataType_t, rows: usize, columns: usize) -> Layout {
    Layout { kind, rows, columns, leading: rows }
}

/// How sums are made, the type of the factors, and a factor of 1.
fn arithmetic(
    problem: &Problem,
) -> Result<(sys::cublasComputeType_t, sys::cudaDataType_t, Scalar), WorkloadError> {
    use sys::cublasComputeType_t as Compute;
    use sys::cudaDataType_t as Kind;
    let f32 = (Kind::CUDA_R_32F, u64::from(1.0_f32.to_bits()));
    let (compute, (scale, one)) = match (problem.dtype, problem.accumulate) {
        (Dtype::F64, Dtype::F64) => {
            (Compute::CUBLAS_COMPUTE_64F, (Kind::CUDA_R_64F, 1.0_f64.to_bits()))
        }
        (Dtype::F16, Dtype::F16) => {
            (Compute::CUBLAS_COMPUTE_16F, (Kind::CUDA_R_16F, u64::from(f16::ONE.to_bits())))
        }
        (Dtype::Int8, Dtype::Int32) => (Compute::CUBLAS_COMPUTE_32I, (Kind::CUDA_R_32I, 1)),
        (Dtype::Tf32, Dtype::F32) => (Compute::CUBLAS_COMPUTE_32F_FAST_TF32, f32),
        (Dtype::F32 | Dtype::F16 | Dtype::Bf16 | Dtype::Fp8, Dtype::F32) => {
            (Compute::CUBLAS_COMPUTE_32F, f32)
        }
        _ => {
            let arithmetic = problem.arithmetic();
            let reason = format!("cuBLASLt has no multiplication of {arithmetic}");
            return Err(WorkloadError::Unsupported(reason));
        }
    };
    Ok((compute, scale, one.to_le()))
}

fn data_type(dtype: Dtype) -> sys::cudaDataType_t {
    match dtype {
        Dtype::F64 => sys::cudaDataType_t::CUDA_R_64F,
        Dtype::F32 | Dtype::Tf32 => sys::cudaDataType_t::CUDA_R_32F,
        Dtype::F16 => sys::cudaDataType_t::CUDA_R_16F,
        Dtype::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
        Dtype::Fp8 => sys::cudaDataType_t::CUDA_R_8F_E4M3,
        Dtype::Int8 => sys::cudaDataType_t::CUDA_R_8I,
        Dtype::Int32 => sys::cudaDataType_t::CUDA_R_32I,
    }
}
