//! Bias and GELU in one pass.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use half::{bf16, f16};
use rayon::prelude::*;

use super::elementary::{activation_of_sum, gelu_erf, logistic};
use super::{Element, by_dtype, contiguous};

/// `gelu(x + bias)` with the tanh approximation, `x` being `[.., n]` and `bias` `[n]`.
pub fn bias_gelu(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2_no_bwd(bias, &BiasGelu { activation: Activation::Tanh })
}

/// `gelu(x + bias)` with the error function, `x` being `[.., n]` and `bias` `[n]`.
pub fn bias_gelu_erf(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2_no_bwd(bias, &BiasGelu { activation: Activation::Erf })
}

/// `y · logistic(1.702 y)` with `y = x + bias`, `x` being `[.., n]` and `bias` `[n]` (Hendrycks and Gimpel
/// 2016, section 2).
pub fn bias_quick_gelu(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2_no_bwd(bias, &BiasGelu { activation: Activation::Quick })
}

#[derive(Clone, Copy)]
enum Activation {
    Tanh,
    Erf,
    Quick,
}

struct BiasGelu {
    activation: Activation,
}

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
        by_dtype!(x, bias_gelu_of((x, x_layout), (bias, bias_layout), self.activation))
    }
}

type Operand<'a> = (&'a CpuStorage, &'a Layout);

fn bias_gelu_of<T: Element>(
    x: Operand<'_>,
    bias: Operand<'_>,
    activation: Activation,
) -> Result<(CpuStorage, Shape)> {
    let shape = x.1.shape().clone();
    let x = contiguous::<T>(x.0, x.1)?;
    let mut wide_bias = vec![0f32; bias.1.shape().elem_count()];
    T::widen(contiguous::<T>(bias.0, bias.1)?, &mut wide_bias);
    let y = match activation {
        Activation::Tanh => rows(x, &wide_bias, gelu_tanh),
        Activation::Erf => rows(x, &wide_bias, gelu_erf),
        Activation::Quick => rows(x, &wide_bias, gelu_quick),
    };
    Ok((T::storage(y), shape))
}

/// `activation(x + bias)` row by row.
fn rows<T: Element>(
    x: &[T],
    bias: &[f32],
    activation: impl Fn(f32) -> f32 + Sync + Copy,
) -> Vec<T> {
    let n = bias.len();
    let mut y = vec![T::narrow(0.0); x.len()];
    y.par_chunks_mut(n).zip(x.par_chunks(n)).for_each_init(
        || vec![0f32; n],
        |wide, (y, x)| {
            T::widen(x, wide);
            activation_of_sum(wide, bias, activation);
            T::narrow_all(wide, y);
        },
    );
    y
}

/// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`, Hendrycks and Gimpel 2016, equation 2; written with
/// the logistic function, for `(1 + tanh u)/2 = 1/(1 + exp(-2u))`.
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    const TWICE_ROOT: f32 = 1.595_769;
    x * logistic(TWICE_ROOT * (x + 0.044_715 * x * x * x))
}

#[inline(always)]
fn gelu_quick(x: f32) -> f32 {
    const SLOPE: f32 = 1.702;
    x * logistic(SLOPE * x)
}
