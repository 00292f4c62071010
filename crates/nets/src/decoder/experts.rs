//! A mixture of experts: each token passes the few feed-forward layers that a router weighs most.
//!
//! Which ones is read on the host, once a layer: the products that are launched follow from it.

use candle_core::{DType, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::architecture::Experts;
use super::layers::{Linear, Mlp};

/// The feed-forward layers of a block and what chooses among them.
pub(super) struct Mixture {
    pub(super) router: Linear,
    pub(super) experts: Vec<Mlp>,
    pub(super) numbers: Experts,
}

/// Tokens that pass one expert: their rows, and the weight of each.
type Routed = (Vec<u32>, Vec<f32>);

impl Mixture {
    /// `[sequences, new, width]` of the same.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, count, width) = x.dims3()?;
        let scores = self.router.apply(x)?.reshape((batch * count, ()))?.to_dtype(DType::F32)?;
        let weights: Vec<Vec<f32>> = softmax_last_dim(&scores)?.to_vec2()?;
        let rows = x.reshape((batch * count, width))?;
        let mut sum = Tensor::zeros((batch * count, width), x.dtype(), x.device())?;
        for (expert, (tokens, weights)) in self.experts.iter().zip(self.route(&weights)) {
            if tokens.is_empty() {
                continue;
            }
            let here = tokens.len();
            let tokens = Tensor::from_vec(tokens, here, x.device())?;
            let weights = Tensor::from_vec(weights, (here, 1), x.device())?.to_dtype(x.dtype())?;
            let of_expert = expert.apply(&rows.index_select(&tokens, 0)?.unsqueeze(0)?)?;
            let weighed = of_expert.squeeze(0)?.broadcast_mul(&weights)?;
            sum = sum.index_add(&tokens, &weighed, 0)?;
        }
        sum.reshape((batch, count, width))
    }

    /// By expert, the tokens that pass it.
    fn route(&self, weights: &[Vec<f32>]) -> Vec<Routed> {
        let mut routed = vec![Routed::default(); self.numbers.count];
        for (token, weights) in weights.iter().enumerate() {
            let mut order: Vec<usize> = (0..weights.len()).collect();
            // Stable: of equals the first is taken.
            order.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]));
            order.truncate(self.numbers.per_token);
            let total: f32 = order.iter().map(|expert| weights[*expert]).sum();
            let divisor = if self.numbers.normalised { total } else { 1.0 };
            for expert in order {
                routed[expert].0.push(token as u32);
                routed[expert].1.push(weights[expert] / divisor);
            }
        }
        routed
    }
}
