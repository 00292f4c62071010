//! Images of twice the size.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use half::{bf16, f16};
use rayon::prelude::*;

use super::{Element, by_dtype, contiguous};

/// `[.., h, w]` to `[.., 2h, 2w]`, each pixel four times: candle does it on one thread.
pub fn upsample(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1_no_bwd(&Upsample)
}

struct Upsample;

impl CustomOp1 for Upsample {
    fn name(&self) -> &'static str {
        "upsample"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut dims = layout.dims().to_vec();
        let [.., height, width] = dims.as_mut_slice() else { bail!("no image in {dims:?}") };
        let y = by_dtype!(x, upsample2x((x, layout), *width))?;
        (*height, *width) = (2 * *height, 2 * *width);
        Ok((y, Shape::from(dims)))
    }
}

fn upsample2x<T: Element>(x: (&CpuStorage, &Layout), width: usize) -> Result<CpuStorage> {
    /// Lines of a task: one alone would be too little to hand over.
    const LINES: usize = 64;
    let x = contiguous::<T>(x.0, x.1)?;
    let mut y = vec![T::narrow(0.0); 4 * x.len()];
    if y.is_empty() {
        return Ok(T::storage(y));
    }
    let tasks = y.par_chunks_mut(4 * width * LINES).zip(x.par_chunks(width * LINES));
    tasks.for_each(|(y, x)| {
        for (y, x) in y.chunks_mut(4 * width).zip(x.chunks(width)) {
            let (first, second) = y.split_at_mut(2 * width);
            for (pair, x) in first.chunks_mut(2).zip(x) {
                pair.fill(*x);
            }
            second.copy_from_slice(first);
        }
    });
    Ok(T::storage(y))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn every_pixel_is_where_candle_puts_it() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            for shape in [(2, 3, 5, 7), (1, 1, 1, 1), (1, 2, 70, 9), (1, 1, 0, 4)] {
                let x = Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
                let x = x.to_dtype(dtype).unwrap();
                let found = upsample(&x).unwrap();
                let (_, _, height, width) = shape;
                let wide = |x: &Tensor| x.to_dtype(DType::F32).unwrap();
                assert_eq!(found.dims()[2..], [2 * height, 2 * width]);
                if height == 0 {
                    continue;
                }
                let expected = wide(&x).upsample_nearest2d(2 * height, 2 * width).unwrap();
                let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                assert_eq!(flat(&wide(&found)), flat(&expected), "{dtype:?} {shape:?}");
            }
        }
    }
}
