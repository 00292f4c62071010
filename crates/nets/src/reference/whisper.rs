//! Whisper once more, for checking: one clip at a time, no cache, every step in f32 from candle's
//! plainest ops, one head after the other. Slow, and meant to share nothing with the measured net but
//! the weights.

use std::collections::HashMap;

use candle_core::{D, DType, Device, Result, Tensor};

use super::mask::upper_triangle;
use super::rounding::Rounding;
use crate::whisper::{Architecture, LAYER_NORM_EPSILON};

/// Where nets that are called Whisper differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// As published: the stored positions, and the error function in the GELU.
    Published,
    /// candle-transformers': positions recomputed from sinusoids, and the tanh approximation.
    Candle,
}

/// The net on its weights in any dtype; each is widened to f32 while it is used.
pub struct ReferenceWhisper<'a> {
    /// Its numbers.
    pub architecture: &'a Architecture,
    /// Its weights.
    pub tensors: &'a HashMap<String, Tensor>,
    /// Whose Whisper it is.
    pub dialect: Dialect,
    /// What each step's result is rounded to.
    pub rounding: Rounding,
}

impl ReferenceWhisper<'_> {
    /// Reads the mel spectrogram of one clip, `[mels, frames]`. Returns `[audio positions, width]`.
    pub fn encode(&self, mels: &Tensor) -> Result<Tensor> {
        let mels = self.keep(mels.to_dtype(DType::F32)?)?;
        let x = self.gelu(&self.conv("model.encoder.conv1", &mels, 1)?)?;
        let x = self.gelu(&self.conv("model.encoder.conv2", &x, 2)?)?.t()?.contiguous()?;
        let mut x = self.keep((x + self.audio_positions()?)?)?;
        for layer in 0..self.architecture.encoder_layers {
            let block = format!("model.encoder.layers.{layer}");
            x = self.attention(&format!("{block}.self_attn"), &x, None, None)?;
            x = self.feed_forward(&block, &x)?;
        }
        self.norm("model.encoder.layer_norm", &x)
    }

    /// The logits after each of the last `count` tokens of a transcript, `[count, vocabulary]`.
    pub fn logits(&self, encoded: &Tensor, tokens: &[u32], count: usize) -> Result<Tensor> {
        let embedding = self.get("model.decoder.embed_tokens.weight")?;
        let ids = Tensor::new(tokens, embedding.device())?;
        let positions = self.get("model.decoder.embed_positions.weight")?;
        let positions = positions.narrow(0, 0, tokens.len())?;
        let mut x = self.keep((embedding.index_select(&ids, 0)? + positions)?)?;
        let above = upper_triangle(tokens.len(), embedding.device())?;
        for layer in 0..self.architecture.decoder_layers {
            let block = format!("model.decoder.layers.{layer}");
            x = self.attention(&format!("{block}.self_attn"), &x, None, Some(&above))?;
            x = self.attention(&format!("{block}.encoder_attn"), &x, Some(encoded), None)?;
            x = self.feed_forward(&block, &x)?;
        }
        let last = x.narrow(0, tokens.len() - count, count)?;
        self.keep(self.norm("model.decoder.layer_norm", &last)?.matmul(&embedding.t()?)?)
    }

    fn keep(&self, x: Tensor) -> Result<Tensor> {
        self.rounding.keep(x)
    }

    fn get(&self, name: &str) -> Result<Tensor> {
        match self.tensors.get(name) {
            Some(tensor) => tensor.to_dtype(DType::F32),
            None => candle_core::bail!("the weights have no tensor {name:?}"),
        }
    }

    fn linear(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let product = self.keep(x.matmul(&self.get(&format!("{name}.weight"))?.t()?)?)?;
        let bias = format!("{name}.bias");
        if self.tensors.contains_key(&bias) {
            self.keep(product.broadcast_add(&self.get(&bias)?)?)
        } else {
            Ok(product)
        }
    }

    fn norm(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = centred
            .broadcast_div(&(variance + f64::from(LAYER_NORM_EPSILON))?.sqrt()?)?
            .broadcast_mul(&self.get(&format!("{name}.weight"))?)?
            .broadcast_add(&self.get(&format!("{name}.bias"))?)?;
        self.keep(normed)
    }

    /// Tap by element over `[channels, frames]`, with a frame of padding at both ends.
    fn conv(&self, name: &str, x: &Tensor, stride: usize) -> Result<Tensor> {
        let weight = self.get(&format!("{name}.weight"))?;
        let (_, channels, elements) = weight.dims3()?;
        let out = x.dim(1)? / stride;
        let padded = x.pad_with_zeros(1, 1, stride)?;
        let bias = self.get(&format!("{name}.bias"))?;
        let mut sum = Tensor::zeros((bias.dim(0)?, out), DType::F32, x.device())?;
        for element in 0..elements {
            let under = padded.narrow(1, element, out * stride)?.contiguous()?;
            let under = under.reshape((channels, out, stride))?.narrow(2, 0, 1)?.squeeze(2)?;
            let weight = weight.narrow(2, element, 1)?.squeeze(2)?.contiguous()?;
            sum = (sum + weight.matmul(&under.contiguous()?)?)?;
        }
        self.keep(self.keep(sum)?.broadcast_add(&bias.unsqueeze(1)?)?)
    }

    /// The residual stream behind an attention: `x` over itself, or over `audio`.
    fn attention(
        &self,
        name: &str,
        x: &Tensor,
        audio: Option<&Tensor>,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let normed = self.norm(&format!("{name}_layer_norm"), x)?;
        let source = audio.unwrap_or(&normed);
        let q = self.linear(&format!("{name}.q_proj"), &normed)?;
        let k = self.linear(&format!("{name}.k_proj"), source)?;
        let v = self.linear(&format!("{name}.v_proj"), source)?;
        let width = self.architecture.head_width();
        let head = |index: usize| {
            let part = |x: &Tensor| x.narrow(1, index * width, width)?.contiguous();
            let scores = (part(&q)?.matmul(&part(&k)?.t()?)? / (width as f64).sqrt())?;
            let scores = self.keep(scores)?;
            let scores = match mask {
                Some(mask) => scores.add(mask)?,
                None => scores,
            };
            let powers = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
            let shares = powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?;
            self.keep(self.keep(shares)?.matmul(&part(&v)?)?)
        };
        let heads: Vec<Tensor> = (0..self.architecture.heads).map(head).collect::<Result<_>>()?;
        self.keep((x + self.linear(&format!("{name}.out_proj"), &Tensor::cat(&heads, 1)?)?)?)
    }

    fn feed_forward(&self, block: &str, x: &Tensor) -> Result<Tensor> {
        let normed = self.norm(&format!("{block}.final_layer_norm"), x)?;
        let hidden = self.gelu(&self.linear(&format!("{block}.fc1"), &normed)?)?;
        self.keep((x + self.linear(&format!("{block}.fc2"), &hidden)?)?)
    }

    fn gelu(&self, x: &Tensor) -> Result<Tensor> {
        let share = match self.dialect {
            Dialect::Published => ((x / std::f64::consts::SQRT_2)?.erf()? + 1.0)?,
            Dialect::Candle => {
                let inner =
                    ((x + (x.powf(3.0)? * 0.044_715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
                (inner.tanh()? + 1.0)?
            }
        };
        self.keep(((x * 0.5)? * share)?)
    }

    fn audio_positions(&self) -> Result<Tensor> {
        let stored = self.get("model.encoder.embed_positions.weight")?;
        match self.dialect {
            Dialect::Published => Ok(stored),
            Dialect::Candle => sinusoids(stored.dims2()?, stored.device()),
        }
    }
}

/// Sines of a position at wavelengths that rise geometrically from 2π to 10000 · 2π, then cosines.
fn sinusoids((positions, width): (usize, usize), device: &Device) -> Result<Tensor> {
    let half = width / 2;
    let step = 10_000f64.ln() / (half - 1) as f64;
    let value = |position: usize, column: usize| {
        let angle = position as f64 * (-step * (column % half) as f64).exp();
        (if column < half { angle.sin() } else { angle.cos() }) as f32
    };
    let all = (0..positions).flat_map(|row| (0..width).map(move |column| value(row, column)));
    Tensor::from_vec(all.collect(), (positions, width), device)
}
