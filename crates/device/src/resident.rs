//! The memory of this process that is really there: its resident set, now and at its highest.
//!
//! Resident memory counts pages, file mappings that were touched among them, and whatever the allocator
//! keeps after a free. For a workload on the CPU it is the nearest thing to a device's memory mark.

use std::fs;
use std::io;

use warpmark_record::{Bytes, Field};

use crate::memory::kilobytes;

/// How [`now`] and [`peak`] are measured, as records name it.
pub const METHOD: &str = "resident set";

/// What is resident now (`VmRSS`).
pub fn now() -> Field<Bytes> {
    status("VmRSS")
}

/// The most that was resident since the process began or [`reset_peak`] was called (`VmHWM`).
pub fn peak() -> Field<Bytes> {
    status("VmHWM")
}

/// Starts [`peak`] anew at what is resident now, by writing 5 to `/proc/self/clear_refs`.
///
/// # Errors
/// Where the kernel was built without it or a sandbox forbids it; the peak then covers the whole life
/// of the process, and whoever reports it must say so.
pub fn reset_peak() -> io::Result<()> {
    fs::write("/proc/self/clear_refs", "5")
}

fn status(key: &str) -> Field<Bytes> {
    match fs::read_to_string("/proc/self/status") {
        Ok(text) => match kilobytes(&text, key) {
            Some(bytes) => Field::Known(bytes),
            None => Field::absent(format!("/proc/self/status has no {key}")),
        },
        Err(error) => Field::absent(format!("/proc/self/status cannot be read: {error}")),
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    const MIB: f64 = 1024.0 * 1024.0;

    #[test]
    fn the_peak_remembers_what_was_freed_until_it_is_reset() {
        let before = now().known().unwrap().get();
        let block = vec![1u8; 256 * 1024 * 1024];
        assert!(std::hint::black_box(&block).iter().step_by(4096).all(|byte| *byte == 1));
        drop(block);
        let peak_with = peak().known().unwrap().get();
        assert!(peak_with > before + 200.0 * MIB, "{before} {peak_with}");
        match reset_peak() {
            Ok(()) => {
                let after = peak().known().unwrap().get();
                assert!(after < peak_with - 150.0 * MIB, "{after} {peak_with}");
            }
            // Some sandboxes forbid it; then the peak must stand.
            Err(_) => assert!(peak().known().unwrap().get() >= peak_with),
        }
    }
}
