//! Attention of new positions over a cache and over themselves.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use half::{bf16, f16};
use rayon::prelude::*;

use super::attention::Heads;
use super::mixture::{Mixture, Seen};
use super::product::Strided;
use super::{Element, by_dtype, contiguous};

/// Attention of new positions over everything up to themselves: `q` is `[b, h, n, d]` and already scaled,
/// `k` and `v` are the first `length + n` positions of caches, `[b, g, length + n, d]` with any stride
/// between heads, each of which serves `h / g` neighbouring heads of `q`. Returns `[b, h, n, d]`.
///
/// A head is a task: candle multiplies one after the other, each of them too small to share out.
pub fn prefill_attention(q: &Tensor, k: &Tensor, v: &Tensor, length: usize) -> Result<Tensor> {
    q.contiguous()?.apply_op3_no_bwd(k, v, &PrefillAttention { length })
}

struct PrefillAttention {
    length: usize,
}

impl CustomOp3 for PrefillAttention {
    fn name(&self) -> &'static str {
        "prefill-attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let attend = (q, q_layout);
        by_dtype!(q, attend_all(attend, (k, k_layout), (v, v_layout), self.length))
    }
}

type Operand<'a> = (&'a CpuStorage, &'a Layout);

fn attend_all<T: Element>(
    q: Operand<'_>,
    k: Operand<'_>,
    v: Operand<'_>,
    length: usize,
) -> Result<(CpuStorage, Shape)> {
    let (_, heads, new, width) = q.1.shape().dims4()?;
    let attended = k.1.shape().dims4()?.2;
    if new == 0 || attended != length + new || v.1.shape().dims4()?.2 != attended {
        bail!("{new} positions after {length} cannot attend to {attended}");
    }
    let (keys, values) = (Heads::<T>::new(k, heads)?, Heads::<T>::new(v, heads)?);
    let queries = contiguous::<T>(q.0, q.1)?;
    let mut mixed = vec![T::narrow(0.0); queries.len()];
    let all = mixed.par_chunks_mut(new * width).zip(queries.par_chunks(new * width));
    all.enumerate().for_each_init(Scratch::default, |scratch, (index, (mixed, queries))| {
        scratch.attend(width, length, queries, keys.head(index), values.head(index), mixed);
    });
    Ok((T::storage(mixed), q.1.shape().clone()))
}

/// Buffers of a thread.
#[derive(Default)]
struct Scratch {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    mixture: Mixture,
}

impl Scratch {
    /// One head: `softmax(queries · keysᵀ) · values`.
    fn attend<T: Element>(
        &mut self,
        width: usize,
        length: usize,
        queries: &[T],
        keys: &[T],
        values: &[T],
        mixed: &mut [T],
    ) {
        let attended = keys.len() / width;
        let queries = wide(queries, &mut self.queries);
        let keys = Strided { elements: wide(keys, &mut self.keys), strides: (1, width) };
        let values = Strided { elements: wide(values, &mut self.values), strides: (width, 1) };
        let (keys, values) = ((&keys, attended), (&values, attended));
        let seen = Seen { first: length + 1, more: 1 };
        T::narrow_all(self.mixture.of((queries, width), keys, values, seen), mixed);
    }
}

/// Elements in f32, where they are not already.
fn wide<'a, T: Element>(elements: &'a [T], buffer: &'a mut Vec<f32>) -> &'a [f32] {
    if let Some(elements) = T::as_f32(elements) {
        return elements;
    }
    buffer.resize(elements.len(), 0.0);
    T::widen(elements, buffer);
    buffer
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::fixture::normal;
    use crate::fixture::upper_triangle;
    use warpmark_record::agreement::relative_error;

    fn plain(q: &Tensor, k: &Tensor, v: &Tensor, length: usize) -> Tensor {
        let (_, heads, new, _) = q.dims4().unwrap();
        let shared = heads / k.dim(1).unwrap();
        let repeat = |x: &Tensor| {
            let (batch, own, count, width) = x.dims4().unwrap();
            let x = x.unsqueeze(2).unwrap().repeat((1, 1, shared, 1, 1)).unwrap();
            x.reshape((batch, own * shared, count, width)).unwrap()
        };
        let scores = q.matmul(&repeat(k).t().unwrap()).unwrap();
        let mask = upper_triangle(length + new, &Device::Cpu).unwrap();
        let masked = scores.broadcast_add(&mask.narrow(0, length, new).unwrap()).unwrap();
        candle_nn::ops::softmax_last_dim(&masked).unwrap().matmul(&repeat(v)).unwrap()
    }

    #[test]
    fn it_equals_the_plain_formula_in_every_dtype_over_a_cache_with_shared_heads() {
        for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F16, 1e-3), (DType::BF16, 8e-3)] {
            for (heads, own, new, length) in [(4, 4, 7, 0), (6, 2, 130, 0), (3, 1, 5, 33)] {
                let random = |heads: usize, count: usize| {
                    let x = normal((0.0, 1.0), (2, heads, count, 8));
                    x.to_dtype(dtype).unwrap()
                };
                // Buffers are longer than what is attended to.
                let part = |x: Tensor| x.narrow(2, 0, length + new).unwrap();
                let (k, v) = (part(random(own, 200)), part(random(own, 200)));
                let q = random(heads, new);
                let found = prefill_attention(&q, &k, &v, length).unwrap();
                let wide = |x: &Tensor| x.to_dtype(DType::F32).unwrap().contiguous().unwrap();
                let expected = plain(&wide(&q), &wide(&k), &wide(&v), length);
                let flat = |x: &Tensor| wide(x).flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let off = relative_error(&flat(&found), &flat(&expected));
                assert!(off <= tolerance, "{dtype:?} {heads} {new} {length}: {off:e}");
            }
        }
    }

    #[test]
    fn positions_and_caches_that_do_not_fit_are_refused() {
        let zeros = |heads: usize, count: usize| {
            Tensor::zeros((1, heads, count, 4), DType::F32, &Device::Cpu).unwrap()
        };
        assert!(prefill_attention(&zeros(2, 3), &zeros(2, 4), &zeros(2, 4), 0).is_err());
        assert!(prefill_attention(&zeros(3, 3), &zeros(2, 3), &zeros(2, 3), 0).is_err());
        assert!(prefill_attention(&zeros(2, 3), &zeros(2, 3), &zeros(2, 4), 0).is_err());
    }
}
