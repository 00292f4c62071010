//! The operators of every net: on a CPU our own where candle's leave memory bandwidth unused, elsewhere
//! candle's. This is the only place that asks which it is.

mod attention;

use candle_core::{D, DType, Result, Tensor};
use candle_nn::ops::{layer_norm, sigmoid};
use warpmark_cpu_ops as cpu_ops;

pub use attention::launches_note;
pub(crate) use attention::{
    attend, causal_over_cache, causal_whole, over_cache_masked, whole, whole_by_sequence,
};

/// An activation that follows a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Biased {
    /// GELU by its tanh formula.
    GeluTanh,
    /// GELU by the error function.
    GeluErf,
    /// `y · logistic(1.702 y)`.
    QuickGelu,
}

/// Up to this many rows, a product on a CPU is bound by reading its weights.
const FEW_ROWS: usize = 64;

/// `[m, k] · [k, n]`.
pub(crate) fn multiply(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return x.matmul(w);
    }
    let (rows, depth) = x.dims2()?;
    let few = if w.stride() == [1, depth] { cpu_ops::DOTS_ROWS } else { FEW_ROWS };
    match x.dtype() {
        DType::F32 if rows > few => cpu_ops::large_gemm(x, w),
        DType::F16 if rows > FEW_ROWS => x.matmul(w),
        // candle has no bf16 product on a CPU: it widens the whole of both operands first, each time.
        _ => cpu_ops::skinny_gemm(x, w),
    }
}

/// `x · w` over the last dimension: `[.., k] · [k, n]`.
pub(crate) fn linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    let rows: usize = dims.iter().rev().skip(1).product();
    let y = multiply(&x.reshape((rows, ()))?, w)?;
    if let Some(last) = dims.last_mut() {
        *last = y.dim(1)?;
    }
    y.reshape(dims)
}

/// `[b, m, n]` to `[b, n, m]`, laid out anew.
pub(crate) fn transpose(x: &Tensor) -> Result<Tensor> {
    x.transpose(1, 2)?.contiguous()
}

/// `x + y`, where `y` is new and nothing else looks at it: on a CPU its memory takes the sum.
pub(crate) fn add(x: &Tensor, y: Tensor) -> Result<Tensor> {
    if y.device().is_cpu() { cpu_ops::add_to(y, x) } else { x + y }
}

/// `y + bias`, `[.., n]` and `[n]`, where `y` is new and nothing else looks at it.
pub(crate) fn add_bias(y: Tensor, bias: &Tensor) -> Result<Tensor> {
    if y.device().is_cpu() { cpu_ops::add_to(y, bias) } else { y.broadcast_add(bias) }
}

/// The activation of `y + bias`, `[.., n]` and `[n]`.
pub(crate) fn activate(y: &Tensor, bias: &Tensor, activation: Biased) -> Result<Tensor> {
    if y.device().is_cpu() {
        return match activation {
            Biased::GeluTanh => cpu_ops::bias_gelu(y, bias),
            Biased::GeluErf => cpu_ops::bias_gelu_erf(y, bias),
            Biased::QuickGelu => cpu_ops::bias_quick_gelu(y, bias),
        };
    }
    let y = y.broadcast_add(bias)?;
    match activation {
        Biased::GeluTanh => y.gelu(),
        Biased::GeluErf => y.gelu_erf(),
        Biased::QuickGelu => &y * sigmoid(&(&y * 1.702)?)?,
    }
}

/// `a · gelu(b)` of the two halves of `y + bias`, `[.., 2 n]` and `[2 n]`.
pub(crate) fn geglu(y: &Tensor, bias: &Tensor) -> Result<Tensor> {
    if y.device().is_cpu() {
        return cpu_ops::bias_geglu(y, bias);
    }
    let y = y.broadcast_add(bias)?;
    let half = y.dim(D::Minus1)? / 2;
    y.narrow(D::Minus1, 0, half)? * y.narrow(D::Minus1, half, half)?.contiguous()?.gelu_erf()?
}

/// `silu(gate) · up`.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.device().is_cpu() { cpu_ops::swiglu(gate, up) } else { gate.silu()? * up }
}

/// What follows a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing.
    Nothing,
    /// Zero in the place of what is below it.
    Relu,
}

impl After {
    fn apply(self, y: Tensor) -> Result<Tensor> {
        match self {
            Self::Nothing => Ok(y),
            Self::Relu => y.relu(),
        }
    }
}

/// A convolution of `[b, channels, h, w]` with `[outputs, channels, kernel, kernel]`; `bias` is `[b or 1,
/// outputs]`.
pub(crate) fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    geometry: (usize, usize),
    after: After,
) -> Result<Tensor> {
    let (stride, padding) = geometry;
    if x.device().is_cpu() {
        return cpu_ops::conv2d(x, weight, bias, geometry, after == After::Relu);
    }
    let y = x.conv2d(weight, padding, stride, 1, 1)?;
    after.apply(y.broadcast_add(&bias.unsqueeze(2)?.unsqueeze(3)?)?)
}

/// `y · scale + shift` of each channel of `[b, channels, h, w]`; both are `[1, channels]`.
pub(crate) fn scale_channels(
    y: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    after: After,
) -> Result<Tensor> {
    let each = |x: &Tensor| x.unsqueeze(2)?.unsqueeze(3);
    after.apply(y.broadcast_mul(&each(scale)?)?.broadcast_add(&each(shift)?)?)
}

/// Group normalisation over the channels of `[b, channels, h, w]`, with the SiLU of it where `silu` says so.
pub(crate) fn group_norm(
    x: &Tensor,
    (gain, bias): (&Tensor, &Tensor),
    (groups, epsilon): (usize, f32),
    silu: bool,
) -> Result<Tensor> {
    if x.device().is_cpu() {
        return cpu_ops::group_norm(x, gain, bias, groups, epsilon, silu);
    }
    let (batch, channels, height, width) = x.dims4()?;
    // A group is a row: the layer norm's kernel takes its statistics in f32 in one pass.
    let rows = x.reshape((batch * groups, ()))?;
    let columns = rows.dim(1)?;
    let (one, zero) = (
        Tensor::ones(columns, x.dtype(), x.device())?,
        Tensor::zeros(columns, x.dtype(), x.device())?,
    );
    let y = layer_norm(&rows, &one, &zero, epsilon)?;
    let y = y
        .reshape((batch, channels, height, width))?
        .broadcast_mul(&gain.reshape((1, channels, 1, 1))?)?
        .broadcast_add(&bias.reshape((1, channels, 1, 1))?)?;
    if silu { y.silu() } else { Ok(y) }
}

/// Every pixel four times, `[b, c, h, w]` to `[b, c, 2h, 2w]`.
pub(crate) fn upsample2x(x: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    x.upsample_nearest2d(2 * height, 2 * width)
}
