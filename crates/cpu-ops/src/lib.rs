//! Ops of our own for candle's CPU backend, where its general ones leave memory bandwidth unused.
//!
//! candle multiplies a single row on one thread, widens both operands of a bf16 product to f32 in full
//! each time, and runs a batch of attention products one after the other. Decoding is made of just
//! these three, so on a CPU they are done here: on all threads, reading each weight once, summing in
//! f32 whatever the storage type. What denoising is made of (convolutions, group norms, attention of
//! whole images) it does on one thread for the greater part, or in several passes over memory; that is
//! done here too. On a GPU none of this is used.

mod add;
mod attention;
mod convolution;
mod elementary;
#[cfg(test)]
mod fixture;
mod geglu;
mod gelu;
mod group_norm;
mod large_gemm;
mod mixture;
mod prefill_attention;
mod product;
mod swiglu;
mod whole_attention;

use candle_core::{CpuStorage, Layout, Result, bail};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

pub use add::add_to;
pub use attention::decode_attention;
pub use convolution::conv2d;
pub use geglu::bias_geglu;
pub use gelu::{bias_gelu, bias_gelu_erf, bias_quick_gelu};
pub use group_norm::group_norm;
pub use large_gemm::large_gemm;
pub use prefill_attention::prefill_attention;
pub use product::{DOTS_ROWS, skinny_gemm};
pub use swiglu::swiglu;
pub use whole_attention::{AttentionMask, whole_attention};

/// A storage type that is summed in f32.
trait Element: Copy + Send + Sync + 'static {
    fn narrow(value: f32) -> Self;
    fn narrow_all(source: &[f32], target: &mut [Self]);
    fn widen(source: &[Self], target: &mut [f32]);
    /// The elements themselves where they are f32 already.
    fn as_f32(elements: &[Self]) -> Option<&[f32]> {
        let _ = elements;
        None
    }
    fn slice(storage: &CpuStorage) -> Option<&[Self]>;
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
    /// `y += x`, each sum rounded once.
    fn add_to(y: &mut [Self], x: &[Self]);
    fn storage(values: Vec<Self>) -> CpuStorage;
}

impl Element for f32 {
    fn narrow(value: f32) -> Self {
        value
    }
    fn narrow_all(source: &[f32], target: &mut [Self]) {
        target.copy_from_slice(source);
    }
    fn as_f32(elements: &[Self]) -> Option<&[f32]> {
        Some(elements)
    }
    fn widen(source: &[Self], target: &mut [f32]) {
        target.copy_from_slice(source);
    }
    fn slice(storage: &CpuStorage) -> Option<&[Self]> {
        if let CpuStorage::F32(values) = storage { Some(values) } else { None }
    }
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F32(values) = storage { Some(values) } else { None }
    }
    fn add_to(y: &mut [Self], x: &[Self]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
    fn storage(values: Vec<Self>) -> CpuStorage {
        CpuStorage::F32(values)
    }
}

macro_rules! half {
    ($half:ty, $variant:ident) => {
        impl Element for $half {
            fn narrow(value: f32) -> Self {
                Self::from_f32(value)
            }
            fn narrow_all(source: &[f32], target: &mut [Self]) {
                target.convert_from_f32_slice(source);
            }
            fn widen(source: &[Self], target: &mut [f32]) {
                source.convert_to_f32_slice(target);
            }
            fn slice(storage: &CpuStorage) -> Option<&[Self]> {
                if let CpuStorage::$variant(values) = storage { Some(values) } else { None }
            }
            fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
                if let CpuStorage::$variant(values) = storage { Some(values) } else { None }
            }
            fn add_to(y: &mut [Self], x: &[Self]) {
                const PART: usize = 256;
                let (mut sums, mut wide) = ([0f32; PART], [0f32; PART]);
                for (y, x) in y.chunks_mut(PART).zip(x.chunks(PART)) {
                    let (sums, wide) = (&mut sums[..y.len()], &mut wide[..y.len()]);
                    Self::widen(y, sums);
                    Self::widen(x, wide);
                    for (sum, wide) in sums.iter_mut().zip(wide) {
                        *sum += *wide;
                    }
                    Self::narrow_all(sums, y);
                }
            }
            fn storage(values: Vec<Self>) -> CpuStorage {
                CpuStorage::$variant(values)
            }
        }
    };
}

half!(f16, F16);
half!(bf16, BF16);

/// The elements of a contiguous tensor.
fn contiguous<'a, T: Element>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let Some(values) = T::slice(storage) else { bail!("operands differ in dtype") };
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&values[from..to]),
        None => bail!("expected a contiguous operand, got strides {:?}", layout.stride()),
    }
}

/// Calls a generic function with the storage type of an operand.
macro_rules! by_dtype {
    ($storage:expr, $call:ident $arguments:tt) => {
        match $storage {
            CpuStorage::F32(_) => $call::<f32> $arguments,
            CpuStorage::F16(_) => $call::<f16> $arguments,
            CpuStorage::BF16(_) => $call::<bf16> $arguments,
            other => bail!("no f32, f16 or bf16 operand but {:?}", other.dtype()),
        }
    };
}

use by_dtype;
