//! The libraries that multiply on a CPU.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use gemm::Parallelism;
use half::f16;

use super::Problem;

/// `c = a · b` by so many of the calling pool's threads; all are row-major.
pub(super) type Kernel<T> = fn(&Problem, [&[T]; 2], &mut [T], usize);

/// An element type that the `gemm` crate multiplies.
pub(super) trait Element: Copy + 'static {
    const ZERO: Self;
    const ONE: Self;
}

impl Element for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
}

impl Element for f16 {
    const ZERO: Self = Self::ZERO;
    const ONE: Self = Self::ONE;
}

/// By the `gemm` crate.
pub(super) fn by_gemm<T: Element>(
    problem: &Problem,
    [a, b]: [&[T]; 2],
    c: &mut [T],
    threads: usize,
) {
    let Problem { m, n, k, .. } = *problem;
    assert!(a.len() == m * k && b.len() == k * n && c.len() == m * n);
    // SAFETY: row-major matrices of m × k, k × n and m × n elements, as asserted: column stride 1, row
    // stride the row's length. `c` is borrowed mutably and overlaps neither.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n.cast_signed(),
            false,
            a.as_ptr(),
            1,
            k.cast_signed(),
            b.as_ptr(),
            1,
            n.cast_signed(),
            T::ZERO,
            T::ONE,
            false,
            false,
            false,
            Parallelism::Rayon(threads),
        );
    }
}

/// By the `faer` crate.
pub(super) fn by_faer(problem: &Problem, [a, b]: [&[f32]; 2], c: &mut [f32], threads: usize) {
    let Problem { m, n, k, .. } = *problem;
    let (a, b) = (MatRef::from_row_major_slice(a, m, k), MatRef::from_row_major_slice(b, k, n));
    let c = MatMut::from_row_major_slice_mut(c, m, n);
    matmul(c, Accum::Replace, a, b, 1.0, Par::rayon(threads));
}
