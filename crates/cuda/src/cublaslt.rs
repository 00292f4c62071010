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

/// `CUBLAS_OP_T`, as the library takes it.
static TRANSPOSED: i32 = 1;

/// `CUBLAS_STATUS_NOT_SUPPORTED`: what the library answers where it has no algorithm at all.
const NOT_SUPPORTED: u32 = 15;

/// How many candidates the library is asked for.
pub const CANDIDATES: u16 = 16;

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

/// What is said of a multiplication for which the library has nothing.
pub fn none_proposed() -> WorkloadError {
    WorkloadError::Unsupported(
        "cuBLASLt proposes no algorithm for this multiplication on this card".to_owned(),
    )
}

/// The library, opened.
pub struct Handle(Owned<sys::cublasLtHandle_t>);

impl Handle {
    /// Opens it. It has to be known that it is there: see [`crate::required`].
    ///
    /// # Errors
    /// The library's refusal.
    pub fn new() -> Result<Self, WorkloadError> {
        let raw = result::create_handle().map_err(refused("cublasLtCreate"))?;
        Ok(Self(Owned { raw, destroy: result::destroy_handle }))
    }
}

/// A matrix in the library's order, column after column.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The type of its elements.
    pub kind: sys::cudaDataType_t,
    /// Elements of a column.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Elements from one column to the next.
    pub leading: usize,
}

/// What is multiplied, and how, in the library's order of columns.
#[derive(Debug, Clone, Copy)]
pub struct Multiplication {
    /// The first operand.
    pub first: Layout,
    /// Whether its transpose is meant.
    pub transposed: bool,
    /// The second operand.
    pub second: Layout,
    /// The result.
    pub result: Layout,
    /// How sums are made.
    pub compute: sys::cublasComputeType_t,
    /// The type of the factors.
    pub scale: sys::cudaDataType_t,
    /// A factor of 1, in that type.
    pub one: Scalar,
    /// Whether the product is added to what the result held.
    pub adds: bool,
    /// How partial sums may be added up: bits of `cublasLtReductionScheme_t`.
    pub reductions: u32,
    /// The kinds of algorithms that are wanted: bits of `cublasLtNumericalImplFlags_t`; `None` where all are.
    pub kinds: Option<u64>,
}

/// A multiplication as the library has it described.
pub struct Operation {
    description: Owned<sys::cublasLtMatmulDesc_t>,
    first: Owned<sys::cublasLtMatrixLayout_t>,
    second: Owned<sys::cublasLtMatrixLayout_t>,
    result: Owned<sys::cublasLtMatrixLayout_t>,
    one: Scalar,
    adds: bool,
    reductions: u32,
    kinds: Option<u64>,
}

/// Addresses on the device.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Of the first operand.
    pub first: u64,
    /// Of the second.
    pub second: u64,
    /// Of the result.
    pub result: u64,
    /// Of a work area.
    pub workspace: u64,
    /// Its bytes.
    pub workspace_bytes: usize,
}

impl Operation {
    /// Describes a multiplication to the library.
    ///
    /// # Errors
    /// The library's refusal.
    pub fn new(what: &Multiplication) -> Result<Self, WorkloadError> {
        let description = Owned {
            raw: result::create_matmul_desc(what.compute, what.scale)
                .map_err(refused("cublasLtMatmulDescCreate"))?,
            destroy: result::destroy_matmul_desc,
        };
        if what.transposed {
            transpose_first(&description)?;
        }
        Ok(Self {
            description,
            first: layout(what.first)?,
            second: layout(what.second)?,
            result: layout(what.result)?,
            one: what.one,
            adds: what.adds,
            reductions: what.reductions,
            kinds: what.kinds,
        })
    }

    /// The algorithms that the library proposes, its favourite first: those of the kinds wanted, or where it
    /// has none of them, whatever it has, of which the check of the answer then decides.
    ///
    /// # Errors
    /// The library's refusal.
    pub fn candidates(
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
                self.first.raw,
                self.second.raw,
                self.result.raw,
                self.result.raw,
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
    ///
    /// # Safety
    /// The addresses are those of allocations of the sizes that the layouts state, on the stream's device, where no
    /// two of them overlap.
    ///
    /// # Errors
    /// The library's refusal.
    pub unsafe fn launch(
        &self,
        handle: &Handle,
        algorithm: &sys::cublasLtMatmulAlgo_t,
        at: Addresses,
        stream: sys::cudaStream_t,
    ) -> Result<(), WorkloadError> {
        let kept: Scalar = if self.adds { self.one } else { 0 };
        // SAFETY: all objects are alive; what the addresses point to is the caller's promise; the scalars are of
        // the operation's type and are read before the call returns.
        unsafe {
            result::matmul(
                handle.0.raw,
                self.description.raw,
                (&raw const self.one).cast(),
                (&raw const kept).cast(),
                at.first as *const c_void,
                self.first.raw,
                at.second as *const c_void,
                self.second.raw,
                at.result as *const c_void,
                self.result.raw,
                at.result as *mut c_void,
                self.result.raw,
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
pub type Scalar = u64;

fn layout(layout: Layout) -> Result<Owned<sys::cublasLtMatrixLayout_t>, WorkloadError> {
    let Layout { kind, rows, columns, leading } = layout;
    let raw = result::create_matrix_layout(
        kind,
        rows as u64,
        columns as u64,
        leading.cast_signed() as i64,
    )
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
