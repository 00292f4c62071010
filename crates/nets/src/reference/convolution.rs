//! A convolution from products and sums alone.

use candle_core::{Result, Tensor};

/// The sum over all elements of an odd square kernel, `[outputs, channels, k, k]`, of the element's matrix times
/// the shifted image, `[1, channels, h, w]`, which is padded with zeros by half the kernel. Returns `[1, outputs,
/// ⌈h / stride⌉, ⌈w / stride⌉]`.
pub(super) fn convolution(x: &Tensor, weight: &Tensor, stride: usize) -> Result<Tensor> {
    let (outputs, _, kernel, _) = weight.dims4()?;
    let (_, channels, height, width) = x.dims4()?;
    let margin = kernel / 2;
    let padded = x.pad_with_zeros(2, margin, margin + stride)?;
    let padded = padded.pad_with_zeros(3, margin, margin + stride)?;
    let (rows, columns) = (height.div_ceil(stride), width.div_ceil(stride));
    let mut sum: Option<Tensor> = None;
    for down in 0..kernel {
        for across in 0..kernel {
            let shifted = every(&padded, (2, down), (rows, stride))?;
            let shifted = every(&shifted, (3, across), (columns, stride))?;
            let shifted = shifted.contiguous()?.reshape((channels, rows * columns))?;
            let element = weight.narrow(2, down, 1)?.narrow(3, across, 1)?;
            let part = element.contiguous()?.reshape((outputs, channels))?.matmul(&shifted)?;
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
    }
    let Some(sum) = sum else { candle_core::bail!("a kernel is empty") };
    sum.reshape((1, outputs, rows, columns))
}

/// So many slices of a dimension, every `stride`th from the first on.
pub(super) fn every(
    x: &Tensor,
    (dim, first): (usize, usize),
    (count, stride): (usize, usize),
) -> Result<Tensor> {
    if stride == 1 {
        return x.narrow(dim, first, count);
    }
    let mut split = x.dims().to_vec();
    split[dim] = count;
    split.insert(dim + 1, stride);
    let whole = x.narrow(dim, first, count * stride)?.contiguous()?;
    whole.reshape(split)?.narrow(dim + 1, 0, 1)?.squeeze(dim + 1)
}
