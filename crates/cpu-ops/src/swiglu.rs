//! The gated half of a feed-forward layer, its two products kept apart.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use half::{bf16, f16};
use rayon::prelude::*;

use super::elementary::{scale, silu};
use super::{Element, by_dtype, contiguous};

/// `silu(gate) · up` (Shazeer 2020, `SwiGLU`), both of one shape.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.contiguous()?.apply_op2_no_bwd(&up.contiguous()?, &Swiglu)
}

struct Swiglu;

impl CustomOp2 for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if gate_layout.dims() != up_layout.dims() {
            bail!("a gate of {:?} for values of {:?}", gate_layout.dims(), up_layout.dims());
        }
        let y = by_dtype!(gate, gated((gate, gate_layout), (up, up_layout)))?;
        Ok((y, gate_layout.shape().clone()))
    }
}

type Operand<'a> = (&'a CpuStorage, &'a Layout);

/// Elements that a thread takes at a time.
const PART: usize = 1024;

fn gated<T: Element>(gate: Operand<'_>, up: Operand<'_>) -> Result<CpuStorage> {
    let (gate, up) = (contiguous::<T>(gate.0, gate.1)?, contiguous::<T>(up.0, up.1)?);
    let mut y = vec![T::narrow(0.0); gate.len()];
    let parts = y.par_chunks_mut(PART).zip(gate.par_chunks(PART).zip(up.par_chunks(PART)));
    parts.for_each_init(
        || (vec![0f32; PART], vec![0f32; PART]),
        |(wide_gate, wide_up), (y, (gate, up))| {
            let (wide_gate, wide_up) = (&mut wide_gate[..y.len()], &mut wide_up[..y.len()]);
            T::widen(gate, wide_gate);
            T::widen(up, wide_up);
            silu(wide_gate);
            scale(wide_gate, wide_up);
            T::narrow_all(wide_gate, y);
        },
    );
    Ok(T::storage(y))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::fixture::normal;
    use warpmark_record::agreement::relative_error;

    #[test]
    fn gates_are_those_of_the_plain_formula_in_every_dtype() {
        for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F16, 6e-4), (DType::BF16, 5e-3)] {
            let random = || normal((0.0, 1.5), (3, 700)).to_dtype(dtype).unwrap();
            let (gate, up) = (random(), random());
            let found = swiglu(&gate, &up).unwrap();
            let wide = |tensor: &Tensor| tensor.to_dtype(DType::F32).unwrap();
            let expected = (wide(&gate).silu().unwrap() * wide(&up)).unwrap();
            let flat =
                |tensor: &Tensor| wide(tensor).flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let off = relative_error(&flat(&found), &flat(&expected));
            assert!(off <= tolerance, "{dtype:?}: {off:e}");
        }
        let other = Tensor::zeros((3, 699), DType::F32, &Device::Cpu).unwrap();
        let gate = Tensor::zeros((3, 700), DType::F32, &Device::Cpu).unwrap();
        assert!(swiglu(&gate, &other).is_err());
    }
}
