//! The layers of a decoder on its weights, plain or blocks of a quantised file.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{D, DType, Result, Tensor};
use candle_nn::ops::{layer_norm, rms_norm};

use super::architecture::{Activation, Architecture, Norm, Product};
use crate::NetError;
use crate::matrix::{Matrix, Table};
use crate::ops::{Biased, activate, add_bias, swiglu};

/// Weights by name, some of which may be blocks.
pub(super) struct Stored<'a> {
    pub(super) plain: &'a HashMap<String, Tensor>,
    pub(super) blocks: &'a HashMap<String, Arc<QTensor>>,
}

fn missing(name: &str) -> NetError {
    NetError::Missing(name.to_owned())
}

impl Stored<'_> {
    pub(super) fn shape(&self, name: &str) -> std::result::Result<&[usize], NetError> {
        match self.blocks.get(name) {
            Some(blocks) => Ok(blocks.shape().dims()),
            None => self.plain.get(name).map(Tensor::dims).ok_or_else(|| missing(name)),
        }
    }

    pub(super) fn plain(&self, name: &str) -> std::result::Result<Tensor, NetError> {
        self.plain.get(name).cloned().ok_or_else(|| missing(name))
    }

    /// A matrix, `[out, in]` as it is stored.
    pub(super) fn matrix(&self, name: &str) -> std::result::Result<Matrix, NetError> {
        match self.blocks.get(name) {
            Some(blocks) => Ok(Matrix::blocks(blocks)?),
            None => Ok(Matrix::plain(&self.plain(name)?)?),
        }
    }

    pub(super) fn table(&self, name: &str) -> std::result::Result<Table, NetError> {
        match self.blocks.get(name) {
            Some(blocks) => Ok(Table::Blocks(Arc::clone(blocks))),
            None => Ok(Table::Plain(self.plain(name)?)),
        }
    }

    pub(super) fn linear(
        &self,
        architecture: &Architecture,
        product: &Product,
    ) -> std::result::Result<Linear, NetError> {
        let name = format!("{}.weight", product.name);
        let weight = if architecture.names().transposed {
            Matrix::Plain(self.plain(&name)?)
        } else {
            self.matrix(&name)?
        };
        let bias = product.bias.then(|| self.plain(&format!("{}.bias", product.name)));
        Ok(Linear { weight, bias: bias.transpose()? })
    }

    /// A norm whose files may have one added to the gains already.
    pub(super) fn norm(
        &self,
        architecture: &Architecture,
        (name, complete): (&str, bool),
    ) -> std::result::Result<NormLayer, NetError> {
        let gain = self.plain(&format!("{name}.weight"))?;
        let gain = match architecture.norm {
            Norm::RmsOne if !complete => {
                (gain.to_dtype(DType::F32)? + 1.0)?.to_dtype(gain.dtype())?
            }
            Norm::Layer | Norm::Rms | Norm::RmsOne => gain,
        };
        let bias = match architecture.norm {
            Norm::Layer => Some(self.plain(&format!("{name}.bias"))?),
            Norm::Rms | Norm::RmsOne => None,
        };
        Ok(NormLayer { gain, bias, epsilon: architecture.norm_epsilon })
    }
}

/// A norm over the last dimension.
pub(super) struct NormLayer {
    pub(super) gain: Tensor,
    bias: Option<Tensor>,
    epsilon: f32,
}

impl NormLayer {
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => layer_norm(x, &self.gain, bias, self.epsilon),
            None => rms_norm(x, &self.gain, self.epsilon),
        }
    }
}

/// A product with its bias.
pub(super) struct Linear {
    weight: Matrix,
    bias: Option<Tensor>,
}

impl Linear {
    /// `[sequences, new, in]` to `[sequences, new, out]`.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.weight.linear(x)?;
        match &self.bias {
            Some(bias) => add_bias(y, bias),
            None => Ok(y),
        }
    }

    fn activated(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let biased = match activation {
            Activation::GeluTanh => Some(Biased::GeluTanh),
            Activation::Gelu => Some(Biased::GeluErf),
            Activation::Relu | Activation::Silu => None,
        };
        match (biased, &self.bias) {
            (Some(biased), Some(bias)) => activate(&self.weight.linear(x)?, bias, biased),
            _ => apply(activation, &self.apply(x)?),
        }
    }
}

/// An activation; what is computed of several steps is so in f32.
fn apply(activation: Activation, x: &Tensor) -> Result<Tensor> {
    let wide =
        |of: fn(&Tensor) -> Result<Tensor>| of(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype());
    match activation {
        Activation::Relu => x.relu(),
        Activation::GeluTanh => wide(Tensor::gelu),
        Activation::Gelu => wide(Tensor::gelu_erf),
        Activation::Silu => wide(Tensor::silu),
    }
}

/// Queries, keys and values of a block.
pub(super) enum Projections {
    /// Of a product each.
    Apart([Linear; 3]),
    /// Of one, in this order.
    Together(Linear),
}

/// A feed-forward layer.
pub(super) struct Mlp {
    up: Up,
    down: Linear,
    activation: Activation,
}

enum Up {
    Plain(Linear),
    Gated { gate: Linear, up: Linear },
    GatedTogether(Linear),
}

impl Mlp {
    /// Out of the linear layers of its products.
    pub(super) fn of(architecture: &Architecture, mut linears: Vec<Linear>) -> Option<Self> {
        let down = linears.pop()?;
        let last = linears.pop()?;
        let up = match (architecture.gated, linears.pop()) {
            (false, _) => Up::Plain(last),
            (true, Some(gate)) => Up::Gated { gate, up: last },
            (true, None) => Up::GatedTogether(last),
        };
        Some(Self { up, down, activation: architecture.activation })
    }

    /// `[sequences, new, width]` of the same.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = match &self.up {
            Up::Plain(up) => up.activated(x, self.activation)?,
            Up::Gated { gate, up } => self.gate(&gate.apply(x)?, &up.apply(x)?)?,
            Up::GatedTogether(both) => {
                let both = both.apply(x)?;
                let half = both.dim(D::Minus1)? / 2;
                let part = |at: usize| both.narrow(D::Minus1, at * half, half)?.contiguous();
                self.gate(&part(0)?, &part(1)?)?
            }
        };
        self.down.apply(&hidden)
    }

    fn gate(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        match self.activation {
            Activation::Silu => swiglu(gate, up),
            other => apply(other, gate)? * up,
        }
    }
}
