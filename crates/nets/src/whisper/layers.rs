//! What both halves of the net are made of.

use std::collections::HashMap;

use candle_core::{Device, Result, Tensor};
use candle_nn::ops::layer_norm;

use super::architecture::KERNEL;
use crate::NetError;
use crate::ops::{Biased, activate, add_bias, attend, linear, whole_by_sequence};

/// Added to the variance in every layer norm; the same in all published sizes.
pub(crate) const LAYER_NORM_EPSILON: f32 = 1e-5;

/// The net's tensors by name.
pub(super) struct Tensors<'a>(pub(super) &'a HashMap<String, Tensor>);

impl Tensors<'_> {
    pub(super) fn get(&self, name: &str) -> std::result::Result<Tensor, NetError> {
        self.0.get(name).cloned().ok_or_else(|| NetError::Missing(name.to_owned()))
    }

    pub(super) fn norm(&self, name: &str) -> std::result::Result<Norm, NetError> {
        Ok(Norm {
            weight: self.get(&format!("{name}.weight"))?,
            bias: self.get(&format!("{name}.bias"))?,
        })
    }

    pub(super) fn product(&self, name: &str) -> std::result::Result<Linear, NetError> {
        let bias = self.0.get(&format!("{name}.bias")).cloned();
        Ok(Linear { weight: self.get(&format!("{name}.weight"))?.t()?, bias })
    }

    /// A convolution as a product over the elements under its kernel, whose weight is copied into that order.
    pub(super) fn convolution(&self, name: &str) -> std::result::Result<Convolution, NetError> {
        let weight = self.get(&format!("{name}.weight"))?;
        let (outputs, channels, elements) = weight.dims3()?;
        let weight = weight.permute((2, 1, 0))?.reshape((elements * channels, outputs))?;
        Ok(Convolution {
            product: Linear {
                weight: weight.contiguous()?,
                bias: Some(self.get(&format!("{name}.bias"))?),
            },
        })
    }

    pub(super) fn attention(
        &self,
        name: &str,
        heads: usize,
    ) -> std::result::Result<Attention, NetError> {
        let product = |part: &str| self.product(&format!("{name}.{part}"));
        Ok(Attention {
            norm: self.norm(&format!("{name}_layer_norm"))?,
            query: product("q_proj")?,
            key: product("k_proj")?,
            value: product("v_proj")?,
            out: product("out_proj")?,
            heads,
        })
    }

    pub(super) fn feed_forward(&self, block: &str) -> std::result::Result<FeedForward, NetError> {
        Ok(FeedForward {
            norm: self.norm(&format!("{block}.final_layer_norm"))?,
            widen: self.product(&format!("{block}.fc1"))?,
            narrow: self.product(&format!("{block}.fc2"))?,
        })
    }
}

pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm(x, &self.weight, &self.bias, LAYER_NORM_EPSILON)
    }
}

pub(super) struct Linear {
    /// `[in, out]`: a view of what is stored.
    weight: Tensor,
    /// `[out]`.
    bias: Option<Tensor>,
}

impl Linear {
    /// Over the last dimension of `[batch, count, in]`.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let product = self.multiply(x)?;
        match &self.bias {
            Some(bias) => add_bias(product, bias),
            None => Ok(product),
        }
    }

    /// As [`Linear::apply`], with the GELU of the sum.
    fn gelu(&self, x: &Tensor) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => activate(&self.multiply(x)?, bias, Biased::GeluErf),
            None => self.multiply(x)?.gelu_erf(),
        }
    }

    fn multiply(&self, x: &Tensor) -> Result<Tensor> {
        linear(x, &self.weight)
    }
}

/// A convolution over time with a kernel of [`KERNEL`] elements and as much padding as keeps its length.
pub(super) struct Convolution {
    product: Linear,
}

impl Convolution {
    /// The GELU of the convolution of `[batch, frames, channels]`, every frame or every second one of
    /// it: `[batch, frames / stride, out]`.
    ///
    /// Frames under the kernel lie beside each other in memory, so that im2col is a matter of putting
    /// shifted copies side by side, and what is left is one product.
    pub(super) fn gelu(&self, x: &Tensor, stride: usize) -> Result<Tensor> {
        let (batch, frames, channels) = x.dims3()?;
        let out = frames / stride;
        let padded = x.pad_with_zeros(1, 1, 1)?;
        let steps = padded.reshape((batch, (frames + 2) / stride, stride * channels))?;
        let part = |step: usize, element: usize, elements: usize| {
            steps
                .narrow(1, step, out)?
                .narrow(2, element * channels, elements * channels)?
                .contiguous()
        };
        let parts = match stride {
            1 => (0..KERNEL).map(|element| part(element, 0, 1)).collect::<Result<Vec<_>>>()?,
            // A step is two frames; the third element is the first frame of the next step.
            _ => vec![part(0, 0, 2)?, part(1, 0, 1)?],
        };
        self.product.gelu(&Tensor::cat(&parts, 2)?)
    }
}

/// The half of a block that looks at one position alone.
pub(super) struct FeedForward {
    norm: Norm,
    widen: Linear,
    narrow: Linear,
}

impl FeedForward {
    /// What it adds to the residual stream.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.narrow.apply(&self.widen.gelu(&self.norm.apply(x)?)?)
    }
}

/// An attention with the norm before it.
pub(super) struct Attention {
    norm: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
}

impl Attention {
    /// What whole sequences, `[batch, count, width]`, each over all of itself, add to the residual
    /// stream.
    pub(super) fn whole(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.norm.apply(x)?;
        let (q, k, v) = (self.query.apply(&x)?, self.key.apply(&x)?, self.value.apply(&x)?);
        self.out.apply(&whole_by_sequence(&q, &k, &v, self.heads)?)
    }

    /// What new positions, `[rows, count, width]`, over themselves and the `length` positions in the
    /// buffers add to the residual stream; their keys and values are added to the buffers. `mask` is
    /// that of the net.
    pub(super) fn cached(
        &self,
        x: &Tensor,
        (keys, values): &(Tensor, Tensor),
        length: usize,
        mask: &Tensor,
    ) -> Result<Tensor> {
        let (_, count, _) = x.dims3()?;
        let x = self.norm.apply(x)?;
        let (new_keys, new_values) = self.keys_and_values(&x)?;
        keys.slice_set(&new_keys, 2, length)?;
        values.slice_set(&new_values, 2, length)?;
        let (k, v) = (keys.narrow(2, 0, length + count)?, values.narrow(2, 0, length + count)?);
        let mask = match count {
            1 => None,
            _ => Some(mask.narrow(0, length, count)?.narrow(1, 0, length + count)?),
        };
        self.attend(&x, &k, &v, mask.as_ref())
    }

    /// What positions of the text, `[rows, count, width]`, over the audio's keys and values, `[clips,
    /// heads, positions, head width]`, add to the residual stream. Rows of one clip lie beside each
    /// other and look at the same keys as more positions of it would, so that nothing is repeated.
    pub(super) fn across(&self, x: &Tensor, (keys, values): &(Tensor, Tensor)) -> Result<Tensor> {
        let (rows, count, width) = x.dims3()?;
        let clips = keys.dim(0)?;
        let x = self.norm.apply(x)?.reshape((clips, rows / clips * count, width))?;
        self.attend(&x, keys, values, None)?.reshape((rows, count, width))
    }

    /// Keys and values of positions, `[batch, heads, count, head width]` each.
    pub(super) fn keys_and_values(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((self.split(&self.key.apply(x)?)?, self.split(&self.value.apply(x)?)?))
    }

    fn attend(&self, x: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (batch, count, width) = x.dims3()?;
        // A power of two for every published size, so that scaling first is exact in half precision.
        let q = (self.query.apply(x)? * (1.0 / ((width / self.heads) as f64).sqrt()))?;
        let q = self.split(&q)?;
        let mixed = attend(&q, k, v, mask)?;
        self.out.apply(&mixed.transpose(1, 2)?.reshape((batch, count, width))?)
    }

    /// `[batch, count, width]` as `[batch, heads, count, head width]`.
    fn split(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, count, width) = x.dims3()?;
        let x = x.reshape((batch, count, self.heads, width / self.heads))?;
        x.transpose(1, 2)?.contiguous()
    }
}

/// 0 on and below the diagonal, -inf above, `[positions, positions]` in f32.
pub(super) fn causal_mask(positions: usize, device: &Device) -> Result<Tensor> {
    let row = |row: usize| {
        (0..positions).map(move |column| if column <= row { 0.0f32 } else { f32::NEG_INFINITY })
    };
    let mask: Vec<f32> = (0..positions).flat_map(row).collect();
    Tensor::from_vec(mask, (positions, positions), device)
}
