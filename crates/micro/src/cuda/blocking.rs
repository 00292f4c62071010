//! Blocking a stream while launches are queued on it: `kernels/blocking.cu`.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cudarc::driver::{CudaFunction, CudaStream, result};
use warpmark_measure::{Blocking, WorkloadError};

use super::Compiler;
use super::{argument, function, launch, refused};

/// After so many nanoseconds the device goes on by itself: long against queueing a few hundred launches,
/// and short against what a person waits and what the watchdog of a card with a display allows a kernel.
const LIMIT: u64 = 1_500_000_000;

/// A flag in memory of the host, and the kernel that waits for it.
pub(crate) struct BlockingKernel {
    stream: Arc<CudaStream>,
    kernel: CudaFunction,
    words: Words,
    /// The number of the last block.
    ticket: Cell<u32>,
    /// Whether the device can be blocked at all. Where each launch waits for its own end (by
    /// `CUDA_LAUNCH_BLOCKING`, or under a debugger) every block would only last to its limit.
    blocks: Cell<bool>,
}

/// Two words of pinned memory, which the device reads where they are: with unified addressing, which
/// every 64-bit driver has, their address on the host is that on the device.
struct Words(*const AtomicU32);

impl Words {
    fn new() -> Result<Self, WorkloadError> {
        // SAFETY: it is given back in `drop`.
        let start = unsafe { result::malloc_host(2 * size_of::<AtomicU32>(), 0) }
            .map_err(refused("pinning a word of the host's memory"))?;
        let words = Self(start.cast::<AtomicU32>());
        words.at(0).store(0, Ordering::SeqCst);
        words.at(1).store(0, Ordering::SeqCst);
        Ok(words)
    }

    fn at(&self, index: usize) -> &AtomicU32 {
        // SAFETY: there are two words, page-aligned, which live until `drop`; every access is atomic, and
        // the device's are of one aligned word.
        unsafe { &*self.0.add(index % 2) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`, and freed only here.
        let _ = unsafe { result::free_host(self.0.cast_mut().cast()) };
    }
}

impl BlockingKernel {
    pub(crate) fn new(
        compiler: &Compiler,
        stream: &Arc<CudaStream>,
    ) -> Result<Self, WorkloadError> {
        let source = include_str!("../../../../kernels/blocking.cu");
        let module = compiler.compile("blocking.cu", source)?.module;
        let blocking = Self {
            stream: Arc::clone(stream),
            kernel: function(&module, "block_stream")?,
            words: Words::new()?,
            ticket: Cell::new(0),
            blocks: Cell::new(true),
        };
        // Once without a wait: a kernel that is launched for the first time may be loaded then,
        // which waits for the device.
        blocking.block()?;
        blocking.unblock();
        super::wait(stream)?;
        blocking.blocks.set(blocking.lasted());
        Ok(blocking)
    }

    /// Whether blocking works on this device.
    pub(crate) fn blocks(&self) -> bool {
        self.blocks.get()
    }

    /// Blocks nothing from here on.
    pub(crate) fn give_up(&self) {
        self.unblock();
        self.blocks.set(false);
    }
}

impl Blocking for BlockingKernel {
    fn block(&self) -> Result<(), WorkloadError> {
        if !self.blocks() {
            return Ok(());
        }
        let ticket = self.ticket.get().wrapping_add(1);
        let address = self.words.0 as u64;
        let mut arguments = [argument(&address), argument(&ticket), argument(&LIMIT)];
        // SAFETY: the arguments are those of the kernel, in order; it reads and writes the two words,
        // which are freed after everything on the stream.
        unsafe { launch(&self.stream, &self.kernel, 1, 1, &mut arguments) }?;
        self.ticket.set(ticket);
        Ok(())
    }

    fn unblock(&self) {
        self.words.at(0).store(self.ticket.get(), Ordering::SeqCst);
    }

    fn lasted(&self) -> bool {
        self.blocks() && self.words.at(1).load(Ordering::SeqCst) != self.ticket.get()
    }
}

impl Drop for BlockingKernel {
    fn drop(&mut self) {
        self.unblock();
        // The kernel may still look at the words. A context that answers with an error runs nothing.
        let _ = self.stream.synchronize();
    }
}
