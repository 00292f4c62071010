//! What the tests of several operators need.

use std::cell::RefCell;

use candle_core::{Device, Result, Shape, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

thread_local! {
    /// Each test has a thread of its own, and so the same numbers in every run.
    static RANDOM: RefCell<StdRng> = RefCell::new(StdRng::seed_from_u64(11));
}

/// Nearly normal numbers, others at each call. candle's own take no seed on a CPU, and what is held to a
/// tolerance would pass in one run and fail in another.
pub(crate) fn normal((mean, std): (f32, f32), shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    let values: Vec<f32> = RANDOM.with_borrow_mut(|random| {
        let mut next = || (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0;
        (0..shape.elem_count()).map(|_| mean + std * next()).collect()
    });
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// -inf above the diagonal, 0 elsewhere.
pub(crate) fn upper_triangle(tokens: usize, device: &Device) -> Result<Tensor> {
    let mut mask = vec![0f32; tokens * tokens];
    for row in 0..tokens {
        mask[row * tokens + row + 1..(row + 1) * tokens].fill(f32::NEG_INFINITY);
    }
    Tensor::from_vec(mask, (tokens, tokens), device)
}
