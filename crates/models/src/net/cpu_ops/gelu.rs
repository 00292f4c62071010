//! Bias and GELU in one pass.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use half::{bf16, f16};
use rayon::prelude::*;

use super::{Element, by_dtype, contiguous};

/// `gelu(x + bias)` with the tanh approximation, `x` being `[.., n]` and `bias` `[n]`.
pub(in crate::net) fn bias_gelu(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2_no_bwd(bias, &BiasGelu)
}

struct BiasGelu;

impl CustomOp2 for BiasGelu {
    fn name(&self) -> &'static str {
        "bias-gelu"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x, bias_gelu_of(x, x_layout, bias, bias_layout))
    }
}

fn bias_gelu_of<T: Element>(
    x: &CpuStorage,
    x_layout: &Layout,
    bias: &CpuStorage,
    bias_layout: &Layout,
) -> Result<(CpuStorage, Shape)> {
    let x = contiguous::<T>(x, x_layout)?;
    let mut wide_bias = vec![0f32; bias_layout.shape().elem_count()];
    T::widen(contiguous::<T>(bias, bias_layout)?, &mut wide_bias);
    let n = wide_bias.len();
    let mut y = vec![T::narrow(0.0); x.len()];
    y.par_chunks_mut(n).zip(x.par_chunks(n)).for_each(|(y, x)| {
        let mut wide = vec![0f32; n];
        T::widen(x, &mut wide);
        for ((y, x), bias) in y.iter_mut().zip(&wide).zip(&wide_bias) {
            *y = T::narrow(gelu_tanh(x + bias));
        }
    });
    Ok((T::storage(y), x_layout.shape().clone()))
}

/// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`, Hendrycks and Gimpel 2016, equation 2; written with
/// the logistic function, for `(1 + tanh u)/2 = 1/(1 + exp(-2u))`.
fn gelu_tanh(x: f32) -> f32 {
    const TWICE_ROOT: f32 = 1.595_769;
    x / (1.0 + (-TWICE_ROOT * (x + 0.044_715 * x * x * x)).exp())
}
