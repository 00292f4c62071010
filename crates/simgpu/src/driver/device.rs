//! What devices there are, and what they are.

use std::ffi::{c_char, c_int};

use super::INVALID_VALUE;
use crate::call::{anywhere, put, started};
use crate::card::Device;

#[unsafe(no_mangle)]
extern "C" fn cuInit(flags: u32) -> u32 {
    anywhere("cuInit", |machine| {
        if flags != 0 {
            return Err(INVALID_VALUE);
        }
        machine.initialise()
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDriverGetVersion(version: Option<&mut c_int>) -> u32 {
    anywhere("cuDriverGetVersion", |machine| {
        put(version, machine.driver_version as c_int, INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetCount(count: Option<&mut c_int>) -> u32 {
    started("cuDeviceGetCount", |machine| put(count, machine.devices.len() as c_int, INVALID_VALUE))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGet(device: Option<&mut c_int>, ordinal: c_int) -> u32 {
    started("cuDeviceGet", |machine| {
        machine.device(ordinal)?;
        put(device, ordinal, INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetName(name: *mut c_char, len: c_int, device: c_int) -> u32 {
    started("cuDeviceGetName", |machine| {
        let full = machine.device(device)?.name();
        if name.is_null() || len < 1 {
            return Err(INVALID_VALUE);
        }
        // As the driver does it: cut to what fits, and always ended by a zero.
        let fits = full.len().min(len as usize - 1);
        // SAFETY: the caller has room for `len` bytes, of which at most all are written.
        unsafe {
            std::ptr::copy_nonoverlapping(full.as_ptr().cast(), name, fits);
            *name.add(fits) = 0;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetUuid_v2(uuid: Option<&mut [u8; 16]>, device: c_int) -> u32 {
    started("cuDeviceGetUuid_v2", |machine| {
        put(uuid, machine.device(device)?.uuid(), INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceTotalMem_v2(bytes: Option<&mut usize>, device: c_int) -> u32 {
    started("cuDeviceTotalMem_v2", |machine| {
        put(bytes, machine.device(device)?.total_memory() as usize, INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetAttribute(value: Option<&mut c_int>, which: c_int, device: c_int) -> u32 {
    started("cuDeviceGetAttribute", |machine| {
        let found = attribute(machine.device(device)?, which)?;
        put(value, found, INVALID_VALUE)
    })
}

/// The default memory pool of a device is its index plus one.
#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetDefaultMemPool(pool: Option<&mut u64>, device: c_int) -> u32 {
    started("cuDeviceGetDefaultMemPool", |machine| {
        machine.device(device)?;
        put(pool, device as u64 + 1, INVALID_VALUE)
    })
}

/// `CUdevice_attribute` by number; those that nobody asks for are refused, so that whoever adds one
/// sees it.
fn attribute(device: &Device, which: c_int) -> Result<c_int, u32> {
    let card = &device.profile;
    let turing = card.compute_capability == (7, 5);
    let value = match which {
        // Threads of a block, in x and y; in z; blocks in x; in y and z.
        1..=3 => 1024,
        4 => 64,
        5 => return Ok(c_int::MAX),
        6 | 7 => 65535,
        // Shared memory of a block, unasked; the most of it; that of a multiprocessor.
        8 => 48 * 1024,
        97 => card.shared_per_block_kib * 1024,
        81 => card.shared_per_sm_kib * 1024,
        // Threads of a warp; registers of a block and of a multiprocessor; its threads; its blocks.
        10 => 32,
        12 | 82 => 65536,
        39 => {
            if turing {
                1024
            } else {
                2048
            }
        }
        106 => 16,
        // Concurrent kernels, one address space, managed memory, cooperative launches.
        31 | 41 | 83 | 95 => 1,
        // Memory pools.
        115 => u32::from(!device.wrong.no_pools),
        // Integrated; PCI device and domain; bus.
        18 | 34 | 50 => 0,
        33 => bus(device),
        // Clocks in kHz, and the rest by name.
        13 => card.sm_clock_mhz * 1000,
        36 => card.memory_clock_mhz * 1000,
        16 => card.sm_count,
        32 => u32::from(card.ecc),
        37 => card.memory_bus_bits,
        38 => card.l2_kib * 1024,
        40 => 2, // copy engines
        75 => card.compute_capability.0,
        76 => card.compute_capability.1,
        _ => return Err(INVALID_VALUE),
    };
    Ok(value as c_int)
}

/// The PCI bus of a card.
pub(crate) fn bus(device: &Device) -> u32 {
    0x3b + device.slot
}
