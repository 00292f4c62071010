//! Primary contexts.

use std::ffi::c_int;

use super::INVALID_VALUE;
use super::stream::wait_for_device;
use crate::call::{put, started};
use crate::machine::{current, set_current};

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRetain(context: Option<&mut u64>, device: c_int) -> u32 {
    started("cuDevicePrimaryCtxRetain", |machine| {
        put(context, machine.retain(device)?, INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> u32 {
    started("cuDevicePrimaryCtxRelease_v2", |machine| machine.release(device))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetCurrent(context: Option<&mut u64>) -> u32 {
    started("cuCtxGetCurrent", |_| put(context, current(), INVALID_VALUE))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(context: u64) -> u32 {
    started("cuCtxSetCurrent", |_| {
        set_current(context);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSynchronize() -> u32 {
    wait_for_device("cuCtxSynchronize", |device| Ok(device.busy_until))
}
