//! Sums in place.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};
use half::{bf16, f16};
use rayon::prelude::*;

use super::{Element, by_dtype, contiguous};

/// `y += x`: `x` has the shape of `y`, `[.., n]`, or is one row of it, `[n]`.
///
/// candle's own sum of 64 Ki elements and more wakes a second set of threads, which then spin on the
/// processors that the next op needs; and it writes to new memory.
///
/// `y` is taken, for its memory is written to: nothing else may look at it.
#[expect(clippy::needless_pass_by_value, reason = "what is written to must not be used as it was")]
pub fn add_to(y: Tensor, x: &Tensor) -> Result<Tensor> {
    let y = y.contiguous()?;
    y.inplace_op2(&x.contiguous()?, &AddTo)?;
    Ok(y)
}

struct AddTo;

impl InplaceOp2 for AddTo {
    fn name(&self) -> &'static str {
        "add-to"
    }

    fn cpu_fwd(
        &self,
        y: &mut CpuStorage,
        y_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> Result<()> {
        let row = y_layout.dims().last().copied().unwrap_or(0);
        if x_layout.dims() != y_layout.dims() && x_layout.dims() != [row] {
            bail!("cannot add {:?} to {:?}", x_layout.shape(), y_layout.shape());
        }
        by_dtype!(x, add(y, y_layout, (x, x_layout)))
    }
}

/// Elements that a thread takes at a time.
const PART: usize = 16 << 10;

fn add<T: Element>(y: &mut CpuStorage, layout: &Layout, x: (&CpuStorage, &Layout)) -> Result<()> {
    let Some((from, to)) = layout.contiguous_offsets() else { bail!("a sum in place has gaps") };
    let x = contiguous::<T>(x.0, x.1)?;
    let Some(y) = T::slice_mut(y) else { bail!("operands differ in dtype") };
    let y = &mut y[from..to];
    if x.is_empty() {
        return Ok(());
    }
    if x.len() == y.len() {
        y.par_chunks_mut(PART).zip(x.par_chunks(PART)).for_each(|(y, x)| T::add_to(y, x));
        return Ok(());
    }
    let rows = (PART / x.len()).max(1);
    y.par_chunks_mut(rows * x.len()).for_each(|y| {
        for y in y.chunks_mut(x.len()) {
            T::add_to(y, x);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::fixture::normal;

    #[test]
    fn sums_are_those_of_candle_for_a_whole_tensor_and_for_a_row() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            // More than a part, and a row that does not divide it.
            let random = |shape: &[usize]| normal((0.0, 1.0), shape).to_dtype(dtype).unwrap();
            let y = random(&[2, 61, 301]);
            for x in [random(&[2, 61, 301]), random(&[301])] {
                let expected = y.broadcast_add(&x).unwrap();
                let found = add_to(y.copy().unwrap(), &x).unwrap();
                let flat = |x: &Tensor| {
                    let x = x.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
                    x.to_vec1::<f32>().unwrap()
                };
                assert_eq!(flat(&found), flat(&expected), "{dtype:?}");
            }
        }
    }

    #[test]
    fn a_part_of_a_tensor_leaves_the_rest_of_it() {
        let y = Tensor::zeros((3, 4), DType::F32, &Device::Cpu).unwrap();
        let one = Tensor::ones((1, 4), DType::F32, &Device::Cpu).unwrap();
        add_to(y.narrow(0, 1, 1).unwrap(), &one).unwrap();
        let rows: Vec<f32> = y.sum(1).unwrap().to_vec1().unwrap();
        assert_eq!(rows, [0.0, 4.0, 0.0]);
    }

    #[test]
    fn unlike_shapes_and_dtypes_are_refused() {
        let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
        let y = || zeros(&[2, 3], DType::F32);
        assert!(add_to(y(), &zeros(&[2], DType::F32)).is_err());
        assert!(add_to(y(), &zeros(&[3, 2], DType::F32)).is_err());
        assert!(add_to(y(), &zeros(&[3], DType::F16)).is_err());
    }
}
