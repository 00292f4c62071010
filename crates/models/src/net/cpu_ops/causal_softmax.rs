//! The softmax of scores that see no later position.

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, bail};
use rayon::prelude::*;

use super::elementary::{powers, scale_by, widest};

/// The softmax over the last dimension of scores in f32, `[.., new, attended]`, whose rows are `new`
/// positions, the first of which has `length` others in front of it; each sees itself and what is in front.
///
/// `scores` are taken, for their memory is written to: nothing else may look at them.
#[expect(clippy::needless_pass_by_value, reason = "what is written to must not be used as it was")]
pub(in crate::net) fn causal_softmax(scores: Tensor, new: usize, length: usize) -> Result<Tensor> {
    let scores = scores.contiguous()?;
    scores.inplace_op1(&CausalSoftmax { new, length })?;
    Ok(scores)
}

struct CausalSoftmax {
    new: usize,
    length: usize,
}

impl InplaceOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, scores: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let attended = layout.dims().last().copied().unwrap_or(0);
        let (CpuStorage::F32(scores), Some((from, to))) = (scores, layout.contiguous_offsets())
        else {
            bail!("scores are f32 without gaps");
        };
        let block = self.new * attended;
        if block == 0 || attended != self.length + self.new || (to - from) % block != 0 {
            bail!(
                "{:?} are no scores of {} positions behind {}",
                layout.shape(),
                self.new,
                self.length
            );
        }
        scores[from..to].par_chunks_mut(block).for_each(|scores| {
            // Parts of a head, so that a single one keeps all threads busy.
            let rows = self.new.div_ceil(rayon::current_num_threads());
            scores.par_chunks_mut(rows * attended).enumerate().for_each(|(part, scores)| {
                softmax(scores, attended, self.length + part * rows + 1);
            });
        });
        Ok(())
    }
}

widest! {
    /// The softmax of rows of scores, the first of which sees `seen` of them, and each other one more than the
    /// row before.
    fn softmax(scores: &mut [f32], attended: usize, seen: usize) {
        for (row, scores) in scores.chunks_mut(attended).enumerate() {
            let (seen, rest) = scores.split_at_mut(seen + row);
            let total = powers(seen);
            scale_by(seen, 1.0 / total);
            rest.fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::net::plain::upper_triangle;
    use crate::worst::relative_error;

    #[test]
    fn it_equals_a_mask_and_candles_softmax() {
        for (heads, new, length) in [(3, 7, 0), (1, 130, 0), (2, 5, 33), (4, 1, 9)] {
            let attended = new + length;
            let scores = Tensor::randn(0f32, 3.0, (2, heads, new, attended), &Device::Cpu).unwrap();
            let mask = upper_triangle(attended, &Device::Cpu).unwrap();
            let mask = mask.narrow(0, length, new).unwrap();
            let masked = scores.broadcast_add(&mask).unwrap();
            let expected = candle_nn::ops::softmax_last_dim(&masked).unwrap();
            let found = causal_softmax(scores.copy().unwrap(), new, length).unwrap();
            let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let off = relative_error(&flat(&found), &flat(&expected));
            assert!(off < 1e-6, "{heads} {new} {length}: {off:e}");
        }
    }

    #[test]
    fn scores_of_another_number_or_type_are_refused() {
        let scores = |dtype| Tensor::zeros((1, 2, 3, 4), dtype, &Device::Cpu).unwrap();
        assert!(causal_softmax(scores(DType::F32), 3, 0).is_err());
        assert!(causal_softmax(scores(DType::F16), 3, 1).is_err());
        assert!(causal_softmax(scores(DType::F32), 3, 1).is_ok());
    }
}
