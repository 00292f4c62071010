//! Group normalisation and SiLU in one pass.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use half::{bf16, f16};
use rayon::prelude::*;

use super::elementary::silu;
use super::{Element, by_dtype, contiguous};

/// Group normalisation (Wu and He 2018) of `x`, `[b, c, ..]`, with a gain and a bias for each channel,
/// and SiLU after it where asked for. Statistics and arithmetic in f32.
pub fn group_norm(
    x: &Tensor,
    gain: &Tensor,
    bias: &Tensor,
    groups: usize,
    epsilon: f32,
    silu: bool,
) -> Result<Tensor> {
    x.contiguous()?.apply_op3_no_bwd(gain, bias, &GroupNorm { groups, epsilon, silu })
}

struct GroupNorm {
    groups: usize,
    epsilon: f32,
    silu: bool,
}

impl CustomOp3 for GroupNorm {
    fn name(&self) -> &'static str {
        "group-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        gain: &CpuStorage,
        gain_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y =
            by_dtype!(x, normalise((x, x_layout), (gain, gain_layout), (bias, bias_layout), self))?;
        Ok((y, x_layout.shape().clone()))
    }
}

type Operand<'a> = (&'a CpuStorage, &'a Layout);

fn normalise<T: Element>(
    x: Operand<'_>,
    gain: Operand<'_>,
    bias: Operand<'_>,
    op: &GroupNorm,
) -> Result<CpuStorage> {
    let [batch, channels, ..] = *x.1.dims() else { bail!("no channels in {:?}", x.1.shape()) };
    let x = contiguous::<T>(x.0, x.1)?;
    let (gain, bias) = (wide::<T>(gain)?, wide::<T>(bias)?);
    if op.groups == 0
        || channels % op.groups != 0
        || gain.len() != channels
        || bias.len() != channels
    {
        bail!("{channels} channels do not make {} groups", op.groups);
    }
    let mut y = vec![T::narrow(0.0); x.len()];
    let size = x.len() / (batch * op.groups).max(1);
    let members = channels / op.groups;
    let plane = size / members;
    y.par_chunks_mut(size.max(1)).zip(x.par_chunks(size.max(1))).enumerate().for_each_init(
        || vec![0f32; size],
        |wide, (group, (y, x))| {
            T::widen(x, wide);
            let (mean, deviation) = statistics(wide, op.epsilon);
            let first = group % op.groups * members;
            for (index, values) in wide.chunks_mut(plane).enumerate() {
                let scale = gain[first + index] / deviation;
                let shift = bias[first + index] - mean * scale;
                for value in values {
                    *value = *value * scale + shift;
                }
            }
            if op.silu {
                silu(wide);
            }
            T::narrow_all(wide, y);
        },
    );
    Ok(T::storage(y))
}

fn wide<T: Element>((storage, layout): Operand<'_>) -> Result<Vec<f32>> {
    let narrow = contiguous::<T>(storage, layout)?;
    let mut wide = vec![0f32; narrow.len()];
    T::widen(narrow, &mut wide);
    Ok(wide)
}

/// Mean, and the root of variance and `epsilon`. Two passes: a sum of squares alone would lose the
/// variance of values far from zero.
fn statistics(values: &[f32], epsilon: f32) -> (f32, f32) {
    let count = values.len() as f32;
    let mean = sum(values, |value| value) / count;
    let variance = sum(values, |value| (value - mean) * (value - mean)) / count;
    (mean, (variance + epsilon).sqrt())
}

/// A sum in sixteen partial sums, which the compiler keeps in vector registers.
fn sum(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut total = 0f64;
    for block in values.chunks(4096) {
        let mut sums = [0f32; LANES];
        let lanes = block.chunks_exact(LANES);
        let rest: f32 = lanes.remainder().iter().map(|value| of(*value)).sum();
        for lane in lanes {
            for (sum, value) in sums.iter_mut().zip(lane) {
                *sum += of(*value);
            }
        }
        total += f64::from(rest + sums.iter().sum::<f32>());
    }
    total as f32
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::fixture::normal;
    use warpmark_record::agreement::relative_error;

    fn flat(tensor: &Tensor) -> Vec<f32> {
        tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn groups_are_normalised_as_candle_does_it_in_f32() {
        // Far from zero, where a sum of squares fails; more than one block of a sum.
        let x = normal((30.0, 2.0), (2, 12, 40, 31));
        let gain = normal((1.0, 0.5), 12);
        let bias = normal((0.0, 0.5), 12);
        let norm = candle_nn::GroupNorm::new(gain.clone(), bias.clone(), 12, 4, 1e-5).unwrap();
        let expected = candle_nn::Module::forward(&norm, &x).unwrap();
        let found = group_norm(&x, &gain, &bias, 4, 1e-5, false).unwrap();
        let off = relative_error(&flat(&found), &flat(&expected));
        assert!(off < 2e-5, "{off:e}");
        let found = group_norm(&x, &gain, &bias, 4, 1e-5, true).unwrap();
        let off = relative_error(&flat(&found), &flat(&expected.silu().unwrap()));
        assert!(off < 2e-5, "{off:e}");
    }

    #[test]
    fn channels_that_do_not_divide_into_groups_are_refused() {
        let x = Tensor::zeros((1, 6, 2, 2), DType::F32, &Device::Cpu).unwrap();
        let ones = Tensor::ones(6, DType::F32, &Device::Cpu).unwrap();
        let error = group_norm(&x, &ones, &ones, 4, 1e-5, false).unwrap_err().to_string();
        assert!(error.contains("4 groups"), "{error}");
    }
}
