//! Copies from one card to another.

use std::ffi::c_int;

use super::INVALID_VALUE;
use crate::call::{put, started, with_context};
use crate::profile::Work;

#[unsafe(no_mangle)]
extern "C" fn cuDeviceCanAccessPeer(can: Option<&mut c_int>, device: c_int, peer: c_int) -> u32 {
    started("cuDeviceCanAccessPeer", |machine| {
        machine.device(device)?;
        machine.device(peer)?;
        put(can, c_int::from(device != peer), INVALID_VALUE)
    })
}

/// `CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED`.
const ALREADY: u32 = 704;

#[unsafe(no_mangle)]
extern "C" fn cuCtxEnablePeerAccess(peer: u64, _flags: u32) -> u32 {
    with_context("cuCtxEnablePeerAccess", |machine| {
        let slot = machine.of_context(peer)?.slot;
        let own = machine.working()?;
        if own.slot == slot {
            return Err(INVALID_DEVICE);
        }
        if own.reaches.insert(slot) { Ok(()) } else { Err(ALREADY) }
    })
}

/// `CUDA_ERROR_INVALID_DEVICE`: a card is no peer of its own.
const INVALID_DEVICE: u32 = 101;

/// Through the host, and so over the bus twice, unless the cards reach each other.
#[unsafe(no_mangle)]
extern "C" fn cuMemcpyPeerAsync(
    to: u64,
    to_context: u64,
    from: u64,
    from_context: u64,
    bytes: usize,
    stream: u64,
) -> u32 {
    with_context("cuMemcpyPeerAsync", |machine| {
        let what = machine.of_context(from_context)?.memory.snapshot(from, bytes as u64)?;
        let (contents, offset) =
            machine.of_context(to_context)?.memory.contents(to, bytes as u64)?;
        contents.copy(offset, what);
        let slot = machine.of_context(to_context)?.slot;
        let device = machine.working()?;
        let profile = &device.profile;
        let rate = if device.reaches.contains(&slot) {
            profile.peer_gb_s * 1e9
        } else {
            profile.bus(true) / 2.0
        };
        device.work(stream, Work::lasting(bytes as f64 / rate))
    })
}
