//! One pass over one thread's part of the arrays.
//!
//! Where the processor has them, results are stored past the cache (non-temporal stores). An ordinary
//! store reads the line it is about to overwrite, a third of a copy's traffic that the algorithm does
//! not need and that no count of bytes shows.

#![allow(
    clippy::inline_always,
    reason = "what a pass is made of must be compiled for the features of the pass it is inlined into"
)]

use super::{FACTOR, Operation};

/// Elements of a cache line. Parts of an array are a multiple of it.
pub(super) const LINE: usize = 16;

/// How results reach memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stores {
    /// Non-temporal, a cache line with one AVX-512 instruction.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Non-temporal, 16 bytes at a time; every x86-64 processor has them.
    #[cfg(target_arch = "x86_64")]
    Sse2,
    /// Through the cache.
    #[cfg(any(not(target_arch = "x86_64"), test))]
    Ordinary,
}

impl Stores {
    /// The best that this processor has.
    pub(crate) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        return if is_x86_feature_detected!("avx512f") { Self::Avx512 } else { Self::Sse2 };
        #[cfg(not(target_arch = "x86_64"))]
        Self::Ordinary
    }

    /// What to know of figures that were made with them.
    pub(super) fn caveat(self) -> Option<&'static str> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Sse2 => None,
            #[cfg(any(not(target_arch = "x86_64"), test))]
            Self::Ordinary => Some(
                "ordinary stores may read a cache line before they overwrite it; that traffic is not \
                 counted",
            ),
        }
    }

    /// What a record calls them.
    pub(super) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "non-temporal (AVX-512)",
            #[cfg(target_arch = "x86_64")]
            Self::Sse2 => "non-temporal (SSE2)",
            #[cfg(any(not(target_arch = "x86_64"), test))]
            Self::Ordinary => "ordinary",
        }
    }
}

/// Does `operation` on one part. The result is the fold of `a` for `read`, and 0 else.
///
/// `a`, `b` and `c` are equally long, a multiple of [`LINE`], and aligned to a cache line.
pub(super) fn sweep(
    operation: Operation,
    stores: Stores,
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
    pattern: [f32; 4],
) -> u32 {
    debug_assert!(a.len() == b.len() && b.len() == c.len() && c.len().is_multiple_of(LINE));
    debug_assert!((c.as_ptr() as usize).is_multiple_of(64));
    match stores {
        // SAFETY: `best` found the feature; the slices are as stated above.
        #[cfg(target_arch = "x86_64")]
        Stores::Avx512 => unsafe { x86::with_avx512(operation, a, b, c, pattern) },
        #[cfg(target_arch = "x86_64")]
        Stores::Sse2 => apply::<x86::Sse2>(operation, a, b, c, pattern),
        #[cfg(any(not(target_arch = "x86_64"), test))]
        Stores::Ordinary => apply::<Ordinary>(operation, a, b, c, pattern),
    }
}

/// Sweeps `a` so often. The exclusive or of the folds, which for an odd number is that of one.
pub(super) fn reread(a: &[f32], passes: u32) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        // Loads as wide as the processor has them: in the first cache nothing else is the limit.
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature is there.
            return unsafe { x86::reread_avx512(a, passes) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature is there.
            return unsafe { x86::reread_avx2(a, passes) };
        }
    }
    repeated(a, passes, fold)
}

#[inline(always)]
fn repeated(a: &[f32], passes: u32, fold: impl Fn(&[f32]) -> u32) -> u32 {
    let mut sum = 0;
    for _ in 0..passes {
        // The compiler may not know that a sweep finds what the one before it found.
        sum ^= fold(std::hint::black_box(a));
    }
    sum
}

/// A way of storing a line.
trait Store {
    /// Stores `values` over `line`, which is aligned to its own size.
    fn store(line: &mut [f32; LINE], values: [f32; LINE]);
    /// Makes all stores visible to whoever is told that the pass is over.
    fn finish() {}
}

#[cfg(any(not(target_arch = "x86_64"), test))]
struct Ordinary;

#[cfg(any(not(target_arch = "x86_64"), test))]
impl Store for Ordinary {
    #[inline(always)]
    fn store(line: &mut [f32; LINE], values: [f32; LINE]) {
        *line = values;
    }
}

#[inline(always)]
fn apply<S: Store>(
    operation: Operation,
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
    pattern: [f32; 4],
) -> u32 {
    match operation {
        Operation::Read => return fold(a),
        Operation::Write => {
            let values: [f32; LINE] = std::array::from_fn(|i| pattern[i % 4]);
            for line in c.as_chunks_mut::<LINE>().0 {
                S::store(line, values);
            }
        }
        Operation::Copy => map_one::<S>(a, c, |a| a),
        Operation::Scale => map_one::<S>(a, c, |a| FACTOR * a),
        Operation::Add => map_two::<S>(a, b, c, |a, b| a + b),
        Operation::Triad => map_two::<S>(a, b, c, |a, b| a + FACTOR * b),
    }
    S::finish();
    0
}

#[inline(always)]
fn map_one<S: Store>(a: &[f32], c: &mut [f32], map: impl Fn(f32) -> f32) {
    let sources = a.as_chunks::<LINE>().0;
    for (line, a) in c.as_chunks_mut::<LINE>().0.iter_mut().zip(sources) {
        S::store(line, std::array::from_fn(|i| map(a[i])));
    }
}

#[inline(always)]
fn map_two<S: Store>(a: &[f32], b: &[f32], c: &mut [f32], map: impl Fn(f32, f32) -> f32) {
    let sources = a.as_chunks::<LINE>().0.iter().zip(b.as_chunks::<LINE>().0);
    for (line, (a, b)) in c.as_chunks_mut::<LINE>().0.iter_mut().zip(sources) {
        S::store(line, std::array::from_fn(|i| map(a[i], b[i])));
    }
}

/// The exclusive or of all elements' bits.
#[inline(always)]
fn fold(a: &[f32]) -> u32 {
    // Lanes of their own keep several loads under way.
    const LANES: usize = 4 * LINE;
    let (blocks, rest) = a.as_chunks::<LANES>();
    let mut lanes = [0_u32; LANES];
    for block in blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane ^= value.to_bits();
        }
    }
    let rest = rest.iter().fold(0, |sum, value| sum ^ value.to_bits());
    lanes.into_iter().fold(rest, |sum, lane| sum ^ lane)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_setzero_si256, _mm256_xor_si256};
    use std::arch::x86_64::{
        __m512i, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_setzero_si512, _mm512_stream_ps,
        _mm512_xor_si512,
    };
    use std::arch::x86_64::{_mm_loadu_ps, _mm_sfence, _mm_stream_ps};

    use super::{LINE, Operation, Store, apply, fold, repeated};

    pub(super) struct Sse2;

    impl Store for Sse2 {
        #[inline(always)]
        fn store(line: &mut [f32; LINE], values: [f32; LINE]) {
            for (to, from) in line.as_chunks_mut::<4>().0.iter_mut().zip(values.as_chunks::<4>().0)
            {
                // SAFETY: SSE2 is part of x86-64; four elements are read and written, and a line's
                // alignment makes its quarters aligned to 16 bytes.
                unsafe { _mm_stream_ps(to.as_mut_ptr(), _mm_loadu_ps(from.as_ptr())) };
            }
        }

        #[inline(always)]
        fn finish() {
            // SAFETY: SSE is part of x86-64.
            unsafe { _mm_sfence() };
        }
    }

    struct Avx512;

    impl Store for Avx512 {
        #[inline(always)]
        fn store(line: &mut [f32; LINE], values: [f32; LINE]) {
            // SAFETY: inlined into `with_avx512` only, whose caller has checked the feature; sixteen
            // elements are read and written, and a line is aligned to its 64 bytes.
            unsafe { _mm512_stream_ps(line.as_mut_ptr(), _mm512_loadu_ps(values.as_ptr())) };
        }

        #[inline(always)]
        fn finish() {
            Sse2::finish();
        }
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn reread_avx512(a: &[f32], passes: u32) -> u32 {
        repeated(a, passes, |a| fold_avx512(a))
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn reread_avx2(a: &[f32], passes: u32) -> u32 {
        repeated(a, passes, |a| fold_avx2(a))
    }

    // By hand: left to itself the compiler keeps the lanes in memory, and that is then the limit.

    #[target_feature(enable = "avx512f")]
    fn fold_avx512(a: &[f32]) -> u32 {
        let (blocks, rest) = a.as_chunks::<{ 4 * LINE }>();
        let mut lanes = [_mm512_setzero_si512(); 4];
        for block in blocks {
            for (lane, words) in lanes.iter_mut().zip(block.as_chunks::<16>().0) {
                // SAFETY: sixteen elements are read.
                let words = unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
                *lane = _mm512_xor_si512(*lane, words);
            }
        }
        // SAFETY: both are as long, and plain numbers.
        let lanes = unsafe { std::mem::transmute::<[__m512i; 4], [f32; 4 * LINE]>(lanes) };
        fold(&lanes) ^ fold(rest)
    }

    #[target_feature(enable = "avx2")]
    fn fold_avx2(a: &[f32]) -> u32 {
        let (blocks, rest) = a.as_chunks::<{ 4 * LINE }>();
        let mut lanes = [_mm256_setzero_si256(); 8];
        for block in blocks {
            for (lane, words) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
                // SAFETY: eight elements are read.
                let words = unsafe { _mm256_loadu_si256(words.as_ptr().cast()) };
                *lane = _mm256_xor_si256(*lane, words);
            }
        }
        // SAFETY: both are as long, and plain numbers.
        let lanes = unsafe { std::mem::transmute::<[__m256i; 8], [f32; 4 * LINE]>(lanes) };
        fold(&lanes) ^ fold(rest)
    }

    /// The whole pass compiled for AVX-512.
    #[target_feature(enable = "avx512f")]
    pub(super) fn with_avx512(
        operation: Operation,
        a: &[f32],
        b: &[f32],
        c: &mut [f32],
        pattern: [f32; 4],
    ) -> u32 {
        apply::<Avx512>(operation, a, b, c, pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::super::array::Array;
    use super::*;
    use crate::data::Stream;

    fn every_kind() -> Vec<Stores> {
        let mut kinds = vec![Stores::Ordinary, Stores::best()];
        #[cfg(target_arch = "x86_64")]
        kinds.push(Stores::Sse2);
        kinds
    }

    #[test]
    fn every_operation_with_every_kind_of_store_does_what_its_formula_says() {
        let length = 5 * LINE * 4 + LINE;
        let numbers =
            |array: u64| Array::new(length, |i| Stream::new(9, array).uniform(i as u64)).unwrap();
        let (a, b) = (numbers(0), numbers(1));
        let pattern = [0.5, -0.25, 0.125, -1.0];
        for stores in every_kind() {
            for operation in Operation::ALL.into_iter().filter(|operation| operation.writes()) {
                let mut c = Array::new(length, |_| f32::NAN).unwrap();
                assert_eq!(sweep(operation, stores, &a, &b, &mut c, pattern), 0);
                for (i, value) in c.iter().enumerate() {
                    let want = operation.value(a[i], b[i], pattern[i % 4]);
                    assert_eq!(value.to_bits(), want.to_bits(), "{operation:?} {stores:?} {i}");
                }
            }
        }
    }

    #[test]
    fn every_width_of_load_folds_the_same() {
        let a = Array::new(3 * LINE * 4 + LINE, |i| Stream::new(9, 0).uniform(i as u64)).unwrap();
        assert_eq!(reread(&a, 5), fold(&a));
        assert_eq!(reread(&a, 4), 0);
        assert_eq!(repeated(&a, 5, fold), fold(&a));
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature is there.
            assert_eq!(unsafe { x86::reread_avx2(&a, 5) }, fold(&a));
        }
    }

    #[test]
    fn a_fold_changes_with_any_single_bit_of_the_array() {
        let length = 3 * LINE * 4 + LINE;
        let mut a = Array::new(length, |i| Stream::new(9, 0).uniform(i as u64)).unwrap();
        let whole = fold(&a);
        assert_eq!(whole, a.iter().fold(0, |sum, value| sum ^ value.to_bits()));
        for i in 0..length {
            let kept = a[i];
            a[i] = f32::from_bits(kept.to_bits() ^ 1);
            assert_ne!(fold(&a), whole, "element {i}");
            a[i] = kept;
        }
    }
}
