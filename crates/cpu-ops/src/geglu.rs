//! The gated half of a feed-forward layer in one pass.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use half::{bf16, f16};
use rayon::prelude::*;

use super::elementary::{activation_of_sum, gelu_erf, scale};
use super::{Element, by_dtype, contiguous};

/// `a · gelu(b)` with `[a, b] = x + bias` (Shazeer 2020, `GEGLU`) and the error function in the GELU: `x`
/// is `[.., 2n]` and `bias` `[2n]`. Returns `[.., n]`.
pub fn bias_geglu(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2_no_bwd(bias, &BiasGeglu)
}

struct BiasGeglu;

impl CustomOp2 for BiasGeglu {
    fn name(&self) -> &'static str {
        "bias-geglu"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut dims = x_layout.dims().to_vec();
        match dims.last_mut() {
            Some(last) if *last % 2 == 0 && *last == bias_layout.shape().elem_count() => *last /= 2,
            _ => bail!("{dims:?} is not two halves of {:?}", bias_layout.shape()),
        }
        let y = by_dtype!(x, gate((x, x_layout), (bias, bias_layout)))?;
        Ok((y, Shape::from(dims)))
    }
}

type Operand<'a> = (&'a CpuStorage, &'a Layout);

fn gate<T: Element>(x: Operand<'_>, bias: Operand<'_>) -> Result<CpuStorage> {
    let x = contiguous::<T>(x.0, x.1)?;
    let narrow = contiguous::<T>(bias.0, bias.1)?;
    let mut bias = vec![0f32; narrow.len()];
    T::widen(narrow, &mut bias);
    let n = bias.len() / 2;
    let mut y = vec![T::narrow(0.0); x.len() / 2];
    let rows = y.par_chunks_mut(n.max(1)).zip(x.par_chunks((2 * n).max(1)));
    rows.for_each_init(
        || vec![0f32; 2 * n],
        |wide, (y, x)| {
            T::widen(x, wide);
            let (values, gates) = wide.split_at_mut(n);
            let (value_bias, gate_bias) = bias.split_at(n);
            f32::add_to(values, value_bias);
            activation_of_sum(gates, gate_bias, gelu_erf);
            scale(values, gates);
            T::narrow_all(values, y);
        },
    );
    Ok(T::storage(y))
}

#[cfg(test)]
mod tests {
    use candle_core::{D, DType, Device};

    use super::*;
    use crate::fixture::normal;
    use warpmark_record::agreement::relative_error;

    #[test]
    fn gates_are_those_of_the_plain_formula_in_every_dtype() {
        for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F16, 6e-4), (DType::BF16, 5e-3)] {
            let random = |shape: &[usize]| normal((0.0, 1.5), shape).to_dtype(dtype).unwrap();
            let (x, bias) = (random(&[2, 3, 14]), random(&[14]));
            let found = bias_geglu(&x, &bias).unwrap();
            let wide = |tensor: &Tensor| tensor.to_dtype(DType::F32).unwrap();
            let sum = wide(&x).broadcast_add(&wide(&bias)).unwrap();
            let half = |at: usize| sum.narrow(D::Minus1, at, 7).unwrap();
            let expected = (half(0) * half(7).gelu_erf().unwrap()).unwrap();
            let flat =
                |tensor: &Tensor| wide(tensor).flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(found.dims(), [2, 3, 7]);
            let off = relative_error(&flat(&found), &flat(&expected));
            assert!(off <= tolerance, "{dtype:?}: {off:e}");
        }
        let odd = Tensor::zeros((2, 5), DType::F32, &Device::Cpu).unwrap();
        assert!(bias_geglu(&odd, &odd.get(0).unwrap()).is_err());
    }
}
