//! Products with weights and the sums around them, as every net has them.

use candle_core::{DType, Result, Tensor};

use warpmark_cpu_ops as cpu_ops;

/// Up to this many rows, a product on a CPU is bound by reading its weights.
const FEW_ROWS: usize = 64;

/// `[m, k] · [k, n]`.
pub(super) fn multiply(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return x.matmul(w);
    }
    let (rows, depth) = x.dims2()?;
    let few = if w.stride() == [1, depth] { cpu_ops::DOTS_ROWS } else { FEW_ROWS };
    match x.dtype() {
        DType::F32 if rows > few => cpu_ops::many_rows(x, w),
        DType::F16 if rows > FEW_ROWS => x.matmul(w),
        // candle has no bf16 product on a CPU: it widens the whole of both operands first, each time.
        _ => cpu_ops::few_rows(x, w),
    }
}

/// `x · w` over the last dimension: `[.., k] · [k, n]`.
pub(super) fn multiply_each(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    let rows: usize = dims.iter().rev().skip(1).product();
    let y = multiply(&x.reshape((rows, ()))?, w)?;
    if let Some(last) = dims.last_mut() {
        *last = y.dim(1)?;
    }
    y.reshape(dims)
}

/// `[b, m, n]` to `[b, n, m]`, laid out anew.
pub(super) fn transpose(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() { cpu_ops::transpose(x) } else { x.transpose(1, 2)?.contiguous() }
}

/// `x + y`, where `y` is new and nothing else looks at it: on a CPU its memory takes the sum.
pub(super) fn add(x: &Tensor, y: Tensor) -> Result<Tensor> {
    if y.device().is_cpu() { cpu_ops::add_to(y, x) } else { x + y }
}

/// `y + bias`, `[.., n]` and `[n]`, where `y` is new and nothing else looks at it.
pub(super) fn add_bias(y: Tensor, bias: &Tensor) -> Result<Tensor> {
    if y.device().is_cpu() { cpu_ops::add_to(y, bias) } else { y.broadcast_add(bias) }
}
