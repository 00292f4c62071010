//! cuBLASLt's objects with an owner each: handle, operation, layouts, preference.
//!
//! cudarc has a safe type over these, but making it panics when the device is full, dropping it panics
//! when the library refuses, and it always takes the library's first guess of an algorithm.

use std::ffi::c_void;
use std::mem::{MaybeUninit, size_of};

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use cudarc::cublaslt::sys::cublasLtMatmulPreferenceAttributes_t as Preferences;
use half::f16;
use warpmark_measure::WorkloadError;

use super::Problem;
use crate::data::Dtype;

/// `CUBLAS_OP_T`, as the library takes it.
static TRANSPOSED: i32 = 1;

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

/// `CUBLAS_STATUS_NOT_SUPPORTED`: what the library answers where it has no algorithm at all.
const NOT_SUPPORTED: u32 = 15;

/// How many candidates the library is asked for.
pub(super) const CANDIDATES: u16 = 16;

/// A handle of the library together with the function that destroys it.
struct Owned<T: Copy> {
    raw: T,
    destroy: unsafe fn(T) -> Result<(), CublasError>,
}

impl<T: Copy> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `raw` came from the matching create function and is destroyed only here. There is
        // nothing to be done about a refusal at this point but to leak.
        let _ = unsafe { (self.destroy)(self.raw) };
    }
}

/// The library's refusal by number: its text is made from an enum that a newer library can step out of.
fn refused(call: &str) -> impl Fn(CublasError) -> WorkloadError {
    move |error| {
        let code = error.0 as u32;
        let name = match code {
            1 => "NOT_INITIALIZED",
            3 => "ALLOC_FAILED",
            7 => "INVALID_VALUE",
            8 => "ARCH_MISMATCH",
            13 => "EXECUTION_FAILED",
            14 => "INTERNAL_ERROR",
            NOT_SUPPORTED => "NOT_SUPPORTED",
            16 => "LICENSE_ERROR",
            _ => "a code that cublas_api.h 13.0 lacks",
        };
        // As cuBLASLt of CUDA 13 answers on a driver for 12.
        let advice = if code == 1 {
            ": is the library newer than the driver? `warpmark doctor`"
        } else {
            ""
        };
        let words = format!("{call} answered {name} ({code}){advice}");
        match code {
            NOT_SUPPORTED => WorkloadError::Unsupported(words),
            _ => WorkloadError::Failed(words),
        }
    }
}

/// What a row says for which the library has nothing.
pub(super) fn none_proposed() -> WorkloadError {
    WorkloadError::Unsupported(
        "cuBLASLt proposes no algorithm for this multiplication on this card".to_owned(),
    )
}

/// The library, opened.
pub(super) struct Handle(Owned<sys::cublasLtHandle_t>);

impl Handle {
    pub(super) fn new() -> Result<Self, WorkloadError> {
        let raw = result::create_handle().map_err(refused("cublasLtCreate"))?;
        Ok(Self(Owned { raw, destroy: result::destroy_handle }))
    }
}

/// A multiplication as the library wants it described.
///
/// The library thinks in columns. A row-major matrix read by columns is its transpose, so `C = A · B`
/// by rows is asked for as `Cᵗ = Bᵗ · Aᵗ` by columns, with nothing to transpose. A `B` that lies by columns
/// is its own transpose to the library, and has to be transposed back.
pub(super) struct Operation {
    description: Owned<sys::cublasLtMatmulDesc_t>,
    a: Owned<sys::cublasLtMatrixLayout_t>,
    b: Owned<sys::cublasLtMatrixLayout_t>,
    c: Owned<sys::cublasLtMatrixLayout_t>,
    one: Scalar,
    /// How partial sums may be added up.
    reductions: u32,
    /// The kinds of algorithms that are what the id says; `None` where all are.
    kinds: Option<u64>,
}

/// Addresses on the device.
#[derive(Clone, Copy)]
pub(super) struct Addresses {
    pub(super) a: u64,
    pub(super) b: u64,
    pub(super) c: u64,
    pub(super) workspace: u64,
    pub(super) workspace_bytes: usize,
}

impl Operation {
    /// The sums are in the type that the problem states; for f32 operands in true f32 arithmetic (no
    /// TF32), for fp8 ones with scales of 1, which are the library's own where none is set.
    pub(super) fn new(problem: &Problem) -> Result<Self, WorkloadError> {
        let Problem { m, n, k, .. } = *problem;
        let operand = data_type(problem.dtype);
        let (compute, scale, one) = arithmetic(problem)?;
        let description = Owned {
            raw: result::create_matmul_desc(compute, scale)
                .map_err(refused("cublasLtMatmulDescCreate"))?,
            destroy: result::destroy_matmul_desc,
        };
        let b = if problem.by_columns() {
            transpose_first(&description)?;
            layout(operand, k, n)?
        } else {
            layout(operand, n, k)?
        };
        let a = layout(operand, k, m)?;
        let c = layout(data_type(problem.result()), n, m)?;
        let in_place = if problem.result() == problem.accumulate { REDUCE_IN_PLACE } else { 0 };
        let reductions = REDUCE_IN_COMPUTE_TYPE | in_place;
        let kinds = (problem.dtype == Dtype::Tf32).then_some(TF32_BY_TENSOR_CORES);
        Ok(Self { description, a, b, c, one, reductions, kinds })
    }

    /// The algorithms that the library proposes, its favourite first: those of the kinds wanted, or where it
    /// has none of them, whatever it has, of which the check of the answer then decides.
    pub(super) fn candidates(
        &self,
        handle: &Handle,
        workspace_bytes: usize,
    ) -> Result<Vec<sys::cublasLtMatmulAlgo_t>, WorkloadError> {
        if self.kinds.is_some() {
            match self.proposed(handle, workspace_bytes, self.kinds) {
                Err(WorkloadError::Unsupported(_)) => {}
                Ok(none) if none.is_empty() => {}
                proposed => return proposed,
            }
        }
        self.proposed(handle, workspace_bytes, None)
    }

    /// The algorithms that the library proposes of some kinds, or of all.
    fn proposed(
        &self,
        handle: &Handle,
        workspace_bytes: usize,
        kinds: Option<u64>,
    ) -> Result<Vec<sys::cublasLtMatmulAlgo_t>, WorkloadError> {
        let preference = Owned {
            raw: result::create_matmul_pref().map_err(refused("cublasLtMatmulPreferenceCreate"))?,
            destroy: result::destroy_matmul_pref,
        };
        prefer(
            &preference,
            Preferences::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
            &workspace_bytes,
        )?;
        prefer(
            &preference,
            Preferences::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
            &self.reductions,
        )?;
        if let Some(kinds) = kinds {
            prefer(&preference, Preferences::CUBLASLT_MATMUL_PREF_IMPL_MASK, &kinds)?;
        }
        let mut found =
            [MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::zeroed(); CANDIDATES as usize];
        let mut count = 0;
        // SAFETY: all objects are alive, and there is room for as many results as are asked for.
        unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                handle.0.raw,
                self.description.raw,
                self.b.raw,
                self.a.raw,
                self.c.raw,
                self.c.raw,
                preference.raw,
                CANDIDATES.into(),
                found.as_mut_ptr().cast(),
                &raw mut count,
            )
        }
        .result()
        .map_err(|error| match error.0 as u32 {
            NOT_SUPPORTED => none_proposed(),
            _ => refused("cublasLtMatmulAlgoGetHeuristic")(error),
        })?;
        // SAFETY: zeroed results are valid (a zero status is success), and the library overwrites the
        // first `count` of them.
        let results = found.map(|result| unsafe { result.assume_init() });
        let usable = results.iter().take(usize::try_from(count).unwrap_or(0));
        Ok(usable.filter(|result| result.state as u32 == 0).map(|result| result.algo).collect())
    }

    /// Enqueues one multiplication. Allocates nothing.
    pub(super) fn launch(
        &self,
        handle: &Handle,
        algorithm: &sys::cublasLtMatmulAlgo_t,
        at: Addresses,
        stream: sys::cudaStream_t,
    ) -> Result<(), WorkloadError> {
        let zero: Scalar = 0;
        // SAFETY: all objects are alive; the addresses are allocations of the sizes that the layouts
        // state, made by the caller who owns this operation; the scalars are of the operation's type
        // and are read before the call returns.
        unsafe {
            result::matmul(
                handle.0.raw,
                self.description.raw,
                (&raw const self.one).cast(),
                (&raw const zero).cast(),
                at.b as *const c_void,
                self.b.raw,
                at.a as *const c_void,
                self.a.raw,
                at.c as *const c_void,
                self.c.raw,
                at.c as *mut c_void,
                self.c.raw,
                algorithm,
                at.workspace as *mut c_void,
                at.workspace_bytes,
                stream,
            )
        }
        .map_err(refused("cublasLtMatmul"))
    }
}

/// Sets one attribute of a preference.
fn prefer<T>(
    preference: &Owned<sys::cublasLtMatmulPreference_t>,
    attribute: Preferences,
    value: &T,
) -> Result<(), WorkloadError> {
    // SAFETY: the preference is alive; the library checks the size against the attribute's and copies
    // the value.
    unsafe {
        result::set_matmul_pref_attribute(
            preference.raw,
            attribute,
            std::ptr::from_ref(value).cast(),
            size_of::<T>(),
        )
    }
    .map_err(refused("cublasLtMatmulPreferenceSetAttribute"))
}

/// A factor of a multiplication: the bits of a number of the type that the operation says come first.
type Scalar = u64;

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

/// A matrix that lies without gaps, `rows` elements to a column.
fn layout(
    kind: sys::cudaDataType_t,
    rows: usize,
    columns: usize,
) -> Result<Owned<sys::cublasLtMatrixLayout_t>, WorkloadError> {
    let leading = rows.cast_signed() as i64;
    let raw = result::create_matrix_layout(kind, rows as u64, columns as u64, leading)
        .map_err(refused("cublasLtMatrixLayoutCreate"))?;
    Ok(Owned { raw, destroy: result::destroy_matrix_layout })
}

/// Lets a multiplication take its first operand transposed.
fn transpose_first(description: &Owned<sys::cublasLtMatmulDesc_t>) -> Result<(), WorkloadError> {
    // SAFETY: the description is alive; the library checks the size against the attribute's and copies
    // the value.
    unsafe {
        result::set_matmul_desc_attribute(
            description.raw,
            sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA,
            (&raw const TRANSPOSED).cast(),
            size_of::<i32>(),
        )
    }
    .map_err(refused("cublasLtMatmulDescSetAttribute"))
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
