//! The SM clock while something was timed, by the device's own counters: `kernels/stamp.ptx`.
//!
//! NVML tells a clock ten times a second, and a sample may be shorter than that. A small kernel in front of
//! the start event and one after the end event read `%globaltimer` and `%clock64`; cycles over nanoseconds
//! are the mean clock in between. Neither kernel is between the two events.

use std::sync::Arc;

use cudarc::driver::{CudaFunction, CudaStream, DriverError, result, sys};
use cudarc::nvrtc::Ptx;
use warpmark_record::Seconds;

const TEXT: &str = include_str!("../../../kernels/stamp.ptx");

/// Blocks that read the clocks: a card deals them out to its multiprocessors in an order of its own, and one
/// that both kernels met is enough.
const BLOCKS: usize = 8;

/// What a block writes: the multiprocessor, nanoseconds, cycles.
type Reading = [u64; 3];

/// The readings of the two kernels.
type Pair = [[Reading; BLOCKS]; 2];

/// Below this time `%globaltimer`, of which many cards show a new value every microsecond, tells a
/// clock worse than to a percent.
pub(crate) const SHORTEST: Seconds = Seconds(100e-6);

/// Cycles of the SM clock, and the seconds in which they were counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counted {
    /// Cycles of one multiprocessor.
    pub cycles: f64,
    /// Seconds by the device's timer.
    pub time: Seconds,
}

impl Counted {
    /// What passed between two readings, by a multiprocessor that is in both; the one that saw the longest.
    fn between([before, after]: &Pair) -> Option<Self> {
        let both = after.iter().filter_map(|[place, end, cycles]| {
            let [_, start, counted] = before.iter().find(|[other, ..]| other == place)?;
            let passed = end.checked_sub(*start).filter(|passed| *passed > 0)?;
            Some((passed, cycles.checked_sub(*counted)?))
        });
        let (nanoseconds, cycles) = both.max_by_key(|(passed, _)| *passed)?;
        Some(Self { cycles: cycles as f64, time: Seconds(nanoseconds as f64 * 1e-9) })
    }

    /// Both together.
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        Self { cycles: self.cycles + other.cycles, time: self.time + other.time }
    }
}

/// The kernel, and the memory that it writes to.
pub(crate) struct Stamps {
    stream: Arc<CudaStream>,
    kernel: CudaFunction,
    out: sys::CUdeviceptr,
}

/// Which of the two readings.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Start,
    Stop,
}

impl Stamps {
    /// Loads the kernel and runs it once: what is launched for the first time may be loaded then, which
    /// waits for the device.
    pub(crate) fn new(stream: &Arc<CudaStream>) -> Result<Self, DriverError> {
        let module = stream.context().load_module(Ptx::from_src(TEXT))?;
        let kernel = module.load_function("stamp")?;
        // Not from the pool, whose marks are a row's memory.
        // SAFETY: given back in `drop`.
        let out = unsafe { result::malloc_sync(size_of::<Pair>()) }?;
        let stamps = Self { stream: Arc::clone(stream), kernel, out };
        stamps.take(End::Start)?;
        stamps.take(End::Stop)?;
        stamps.read()?;
        Ok(stamps)
    }

    /// Queues a reading.
    pub(crate) fn take(&self, end: End) -> Result<(), DriverError> {
        let after = match end {
            End::Start => 0,
            End::Stop => size_of::<Pair>() as u64 / 2,
        };
        let out = self.out + after;
        let mut arguments = [std::ptr::from_ref(&out).cast_mut().cast()];
        // SAFETY: the kernel takes one address and writes one reading for each block there, for which there
        // is room; the function belongs to a loaded module that it keeps alive.
        unsafe {
            result::launch_kernel(
                self.kernel.cu_function(),
                (BLOCKS as u32, 1, 1),
                (1, 1, 1),
                0,
                self.stream.cu_stream(),
                &mut arguments,
            )
        }
    }

    /// What passed between the last two readings; waits for the second. `None` where no multiprocessor is
    /// in both.
    pub(crate) fn read(&self) -> Result<Option<Counted>, DriverError> {
        let mut words = [0_u64; 2 * BLOCKS * 3];
        self.stream.synchronize()?;
        // SAFETY: as many bytes as were allocated, and everything that writes them is done.
        unsafe { result::memcpy_dtoh_sync(&mut words, self.out) }?;
        let reading = |place: usize| [0, 1, 2].map(|word| words[3 * place + word]);
        let end = |first: usize| std::array::from_fn(|block| reading(first + block));
        Ok(Counted::between(&[end(0), end(BLOCKS)]))
    }
}

impl Drop for Stamps {
    fn drop(&mut self) {
        // A context that answers with an error has lost its memory anyway.
        let _ = self.stream.synchronize();
        // SAFETY: allocated in `new`, freed only here, and nothing writes to it any more.
        let _ = unsafe { result::free_sync(self.out) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(of: &[Reading]) -> [Reading; BLOCKS] {
        let last = *of.last().unwrap();
        std::array::from_fn(|block| of.get(block).copied().unwrap_or(last))
    }

    #[test]
    fn cycles_are_those_of_one_multiprocessor_that_both_readings_met() {
        let before = readings(&[[3, 1000, 70], [9, 1000, 5_000_000]]);
        let after = readings(&[[8, 501_000, 1], [9, 501_000, 5_800_000]]);
        let counted = Counted::between(&[before, after]).unwrap();
        assert!((counted.cycles - 800_000.0).abs() < 0.5, "{counted:?}");
        assert!((counted.time.get() - 500e-6).abs() < 1e-15);
    }

    #[test]
    fn readings_of_other_multiprocessors_or_of_a_clock_that_stands_still_tell_nothing() {
        let [first, second] = [readings(&[[1, 10, 10]]), readings(&[[2, 20, 20]])];
        assert_eq!(Counted::between(&[first, second]), None);
        assert_eq!(Counted::between(&[first, first]), None);
        // A counter that went back was reset in between.
        assert_eq!(Counted::between(&[readings(&[[1, 10, 10]]), readings(&[[1, 20, 5]])]), None);
    }
}
