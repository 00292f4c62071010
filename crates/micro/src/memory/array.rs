//! Memory for one thread's part of an array: aligned, on huge pages where there are any, touched first
//! by the thread that will use it.

use std::alloc::{Layout, alloc, dealloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// The size of a huge page on x86-64 and on most ARM kernels.
const HUGE_PAGE: usize = 2 << 20;

/// An array of f32.
pub(crate) struct Array {
    start: NonNull<f32>,
    length: usize,
    layout: Layout,
    /// Whether the kernel took the request for huge pages.
    pub(crate) huge_pages: bool,
}

// SAFETY: the memory is owned and holds plain numbers.
unsafe impl Send for Array {}

impl Array {
    /// `length` elements, each written by `element(index)` on the calling thread before anyone can read
    /// it: that thread's memory controller gets the page, and no page fault is left for the clock.
    /// `None` where there is no memory.
    pub(crate) fn new(length: usize, mut element: impl FnMut(usize) -> f32) -> Option<Self> {
        let bytes = length.checked_mul(size_of::<f32>())?.max(1);
        let layout = Layout::from_size_align(bytes, HUGE_PAGE).ok()?;
        // SAFETY: the layout is not of size zero.
        let start = NonNull::new(unsafe { alloc(layout) })?.cast::<f32>();
        let huge_pages = ask_for_huge_pages(start, bytes);
        for index in 0..length {
            // SAFETY: within the allocation, which is aligned for f32.
            unsafe { start.add(index).write(element(index)) };
        }
        Some(Self { start, length, layout, huge_pages })
    }
}

/// Asks for huge pages: with small ones a large part of a sweep's time is address translation.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages(start: NonNull<f32>, bytes: usize) -> bool {
    use rustix::mm::{Advice, madvise};
    // SAFETY: advice on our own allocation that changes no contents.
    unsafe { madvise(start.as_ptr().cast(), bytes, Advice::LinuxHugepage) }.is_ok()
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_start: NonNull<f32>, _bytes: usize) -> bool {
    false
}

impl Deref for Array {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `length` elements were written in `new`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for Array {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start.as_ptr().cast(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_holds_what_it_was_made_of_at_an_aligned_address() {
        let array = Array::new(1000, |i| i as f32).unwrap();
        assert_eq!(array.as_ptr() as usize % HUGE_PAGE, 0);
        assert!(
            array.iter().enumerate().all(|(i, &value)| value.to_bits() == (i as f32).to_bits())
        );
    }

    #[test]
    fn an_absurd_size_is_refused_without_a_panic() {
        assert!(Array::new(usize::MAX, |_| 0.0).is_none());
        assert!(Array::new(usize::MAX / 8, |_| 0.0).is_none());
    }
}
