//! cuBLASLt's objects with an owner each: handle, operation, layouts, preference.
//!
//! cudarc has a safe type over these, but making it panics when the device is full, dropping it panics
//! when the library refuses, and it always takes the library's first guess of an algorithm.

use std::ffi::c_void;
use std::mem::{MaybeUninit, size_of};

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use cudarc::cublaslt::sys::cublasLtMatmulPreferenceAttributes_t as Preferences;
use warpmark_measure::WorkloadError;

use super::Problem;
use crate::data::Dtype;

/// Partial sums of a product that is split along k are added in f32. The library may otherwise add them
/// in the type of the result, which is not what the id says.
const REDUCE_IN_COMPUTE_TYPE: u32 =
    sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;

/// How many candidates the library is asked for.
const CANDIDATES: i32 = 16;

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
            15 => "NOT_SUPPORTED",
            16 => "LICENSE_ERROR",
            _ => "a code that cublas_api.h 13.0 lacks",
        };
        WorkloadError::Failed(format!("{call} answered {name} ({code})"))
    }
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
/// by rows is asked for as `Cᵗ = Bᵗ · Aᵗ` by columns, with nothing to transpose.
pub(super) struct Operation {
    description: Owned<sys::cublasLtMatmulDesc_t>,
    a: Owned<sys::cublasLtMatrixLayout_t>,
    b: Owned<sys::cublasLtMatrixLayout_t>,
    c: Owned<sys::cublasLtMatrixLayout_t>,
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
    /// Sums are always in f32, in true f32 arithmetic for f32 operands (no TF32).
    pub(super) fn new(problem: &Problem) -> Result<Self, WorkloadError> {
        let kind = data_type(problem.dtype);
        let layout = |rows: usize, columns: usize| {
            let raw = result::create_matrix_layout(
                kind,
                columns as u64,
                rows as u64,
                columns.cast_signed() as i64,
            )
            .map_err(refused("cublasLtMatrixLayoutCreate"))?;
            Ok::<_, WorkloadError>(Owned { raw, destroy: result::destroy_matrix_layout })
        };
        let description = result::create_matmul_desc(
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cudaDataType_t::CUDA_R_32F,
        )
        .map_err(refused("cublasLtMatmulDescCreate"))?;
        Ok(Self {
            description: Owned { raw: description, destroy: result::destroy_matmul_desc },
            a: layout(problem.m, problem.k)?,
            b: layout(problem.k, problem.n)?,
            c: layout(problem.m, problem.n)?,
        })
    }

    /// The algorithms that the library proposes, its favourite first.
    pub(super) fn candidates(
        &self,
        handle: &Handle,
        workspace_bytes: usize,
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
            &REDUCE_IN_COMPUTE_TYPE,
        )?;
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
                CANDIDATES,
                found.as_mut_ptr().cast(),
                &raw mut count,
            )
        }
        .result()
        .map_err(refused("cublasLtMatmulAlgoGetHeuristic"))?;
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
        let (one, zero) = (1.0_f32, 0.0_f32);
        // SAFETY: all objects are alive; the addresses are allocations of the sizes that the layouts
        // state, made by the caller who owns this operation; the scalars are f32 as the operation says
        // and are read before the call returns.
        unsafe {
            result::matmul(
                handle.0.raw,
                self.description.raw,
                (&raw const one).cast(),
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

fn data_type(dtype: Dtype) -> sys::cudaDataType_t {
    match dtype {
        Dtype::F32 => sys::cudaDataType_t::CUDA_R_32F,
        Dtype::F16 => sys::cudaDataType_t::CUDA_R_16F,
        Dtype::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
    }
}
