//! Bytes that were really copied, between the host and a card.
//!
//! A transfer that is measured moves the same megabytes hundreds of times, of which nobody ever looks at most. So the
//! room of a large copy is used again by the next, and copies out of pinned memory are made where somebody
//! could tell: what a later copy covers before that is never made at all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::contents::Source;

/// From this many bytes on, room is kept: the system gives and takes smaller ones at little cost.
const LARGE: usize = 1 << 20;

/// Room of the last large copy that was given back. One is enough: a copy goes where another one was.
static SPARE: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Bytes that this process has copied between the host and its cards.
static COPIED: AtomicU64 = AtomicU64::new(0);

/// See [`COPIED`].
pub(crate) fn copied() -> u64 {
    COPIED.load(Ordering::Relaxed)
}

/// Counts bytes that went to the host.
pub(crate) fn count(bytes: usize) {
    COPIED.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// Bytes as they are.
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    /// A copy of the host's.
    pub(crate) fn of(host: &[u8]) -> Self {
        count(host.len());
        if host.len() < LARGE {
            return Self(host.to_vec());
        }
        let mut room = std::mem::take(&mut *SPARE.lock().unwrap_or_else(PoisonError::into_inner));
        if room.capacity() < host.len() || room.capacity() / 2 > host.len() {
            room = Vec::with_capacity(host.len());
        }
        room.clear();
        room.extend_from_slice(host);
        Self(room)
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if self.0.capacity() >= LARGE {
            *SPARE.lock().unwrap_or_else(PoisonError::into_inner) = std::mem::take(&mut self.0);
        }
    }
}

impl Source for Bytes {
    fn read(&self, offset: u64, out: &mut [u8]) {
        let offset = offset as usize;
        out.copy_from_slice(&self.0[offset..offset + out.len()]);
    }
}

/// What a copy brings that was launched out of pinned memory: the card reads that at some time until
/// somebody waits, and so does this.
pub(crate) struct Pinned {
    from: usize,
    len: usize,
    arrived: OnceLock<Bytes>,
}

impl Pinned {
    /// A copy of `len` bytes at `from`.
    ///
    /// # Safety
    /// They stay readable until [`Self::arrived`] was called or this is dropped.
    pub(crate) unsafe fn new(from: *const u8, len: usize) -> Self {
        Self { from: from as usize, len, arrived: OnceLock::new() }
    }

    /// The bytes, which from now on are what they are.
    pub(crate) fn arrived(&self) -> &Bytes {
        self.arrived.get_or_init(|| {
            // SAFETY: readable until now, by the promise made in `new`.
            Bytes::of(unsafe { std::slice::from_raw_parts(self.from as *const u8, self.len) })
        })
    }

    /// Whether the bytes lie within `len` bytes at `start`.
    pub(crate) fn is_within(&self, start: usize, len: usize) -> bool {
        (start..start + len).contains(&self.from)
    }
}

impl Source for Pinned {
    fn read(&self, offset: u64, out: &mut [u8]) {
        self.arrived().read(offset, out);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_is_copied_out_of_pinned_memory_is_what_stands_there_when_somebody_looks() {
        let host = [1_u8; 4].map(Cell::new);
        // SAFETY: `host` outlives it.
        let copy = unsafe { Pinned::new(host.as_ptr().cast(), 4) };
        host[1].set(2);
        let mut seen = [0; 2];
        copy.read(1, &mut seen);
        assert_eq!(seen, [2, 1]);
        host[1].set(3);
        copy.read(1, &mut seen);
        assert_eq!(seen, [2, 1], "it arrived before");
    }

    #[test]
    fn room_that_is_used_again_holds_the_new_bytes_alone() {
        drop(Bytes::of(&vec![7; LARGE + 9]));
        let again = Bytes::of(&vec![8; LARGE]);
        assert_eq!(again.0.len(), LARGE);
        assert!(again.0.iter().all(|byte| *byte == 8));
    }
}
