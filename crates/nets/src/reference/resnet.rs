//! A residual net once more, for checking: one image at a time, in f32, a convolution as a sum of products, each
//! normalisation by its formula. Slow, and shares nothing with the measured net but the weights: even which layers
//! there are is read off their names.

#![expect(clippy::implicit_hasher, reason = "the map that weights are loaded into")]

use std::collections::HashMap;

use candle_core::{D, DType, Result, Tensor, bail};

use super::Rounding;
use super::convolution::{convolution, every};

/// The logits of one image, `[1, 3, h, w]` to `[1, classes]`. All is widened to f32, and each step rounded as
/// `rounding` says.
pub fn logits(
    tensors: &HashMap<String, Tensor>,
    image: &Tensor,
    rounding: Rounding,
) -> Result<Tensor> {
    let net = Plain { tensors, rounding };
    let x = net.convolve("conv1", "bn1", &image.to_dtype(DType::F32)?, 2)?.relu()?;
    let mut x = largest_of_nine(&x)?;
    for stage in 1.. {
        let of_stage = format!("layer{stage}");
        if !net.has(&format!("{of_stage}.0.conv1.weight")) {
            break;
        }
        for block in 0.. {
            let name = format!("{of_stage}.{block}");
            if !net.has(&format!("{name}.conv1.weight")) {
                break;
            }
            x = net.block(&name, &x, if stage > 1 && block == 0 { 2 } else { 1 })?;
        }
    }
    let mean = (x.flatten_from(2)?.sum(D::Minus1)? / (x.dim(2)? * x.dim(3)?) as f64)?;
    let product = rounding.keep(rounding.keep(mean)?.matmul(&net.get("fc.weight")?.t()?)?)?;
    rounding.keep(product.broadcast_add(&net.get("fc.bias")?)?)
}

struct Plain<'a> {
    tensors: &'a HashMap<String, Tensor>,
    rounding: Rounding,
}

impl Plain<'_> {
    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn get(&self, name: &str) -> Result<Tensor> {
        match self.tensors.get(name) {
            Some(tensor) => tensor.to_dtype(DType::F32),
            None => bail!("the weights have no tensor {name:?}"),
        }
    }

    fn block(&self, name: &str, x: &Tensor, stride: usize) -> Result<Tensor> {
        let layer = |index: usize, x: &Tensor, stride: usize| {
            self.convolve(&format!("{name}.conv{index}"), &format!("{name}.bn{index}"), x, stride)
        };
        let y = if self.has(&format!("{name}.conv3.weight")) {
            let y = layer(1, x, 1)?.relu()?;
            layer(3, &layer(2, &y, stride)?.relu()?, 1)?
        } else {
            layer(2, &layer(1, x, stride)?.relu()?, 1)?
        };
        if !self.has(&format!("{name}.downsample.0.weight")) {
            return self.rounding.keep((x + y)?)?.relu();
        }
        let shortcut = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
        let x = self.convolve(&shortcut.0, &shortcut.1, x, stride)?;
        self.rounding.keep((x + y)?)?.relu()
    }

    fn convolve(&self, name: &str, norm: &str, x: &Tensor, stride: usize) -> Result<Tensor> {
        let weight = self.get(&format!("{name}.weight"))?;
        let y = self.rounding.keep(convolution(x, &weight, stride)?)?;
        let of = |part: &str| self.get(&format!("{norm}.{part}"))?.reshape((1, (), 1, 1));
        let centred = y.broadcast_sub(&of("running_mean")?)?;
        let deviation = (of("running_var")? + 1e-5)?.sqrt()?;
        let scaled = centred.broadcast_div(&deviation)?.broadcast_mul(&of("weight")?)?;
        self.rounding.keep(scaled.broadcast_add(&of("bias")?)?)
    }
}

/// The largest of the pixels up to one away, around every second one; none is below zero.
fn largest_of_nine(x: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    let padded = x.pad_with_zeros(2, 1, 3)?.pad_with_zeros(3, 1, 3)?;
    let mut largest: Option<Tensor> = None;
    for down in 0..3 {
        for across in 0..3 {
            let rows = every(&padded, (2, down), (height.div_ceil(2), 2))?;
            let seen = every(&rows, (3, across), (width.div_ceil(2), 2))?;
            largest = Some(match largest {
                Some(largest) => largest.maximum(&seen)?,
                None => seen,
            });
        }
    }
    let Some(largest) = largest else { bail!("no pixels") };
    Ok(largest)
}
