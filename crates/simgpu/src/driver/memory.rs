//! Memory: allocating, copying, setting, and the pool.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::c_int;
use std::sync::Arc;

use super::INVALID_VALUE;
use super::graph::{Kind, captured};
use super::stream::wait;
use crate::bytes::{self, Pinned};
use crate::call::{in_context, put, started, with_context};
use crate::card::{Device, ToHost};
use crate::contents::{Byte, Bytes, Contents, Source};
use crate::machine::{Machine, machine};
use crate::profile::Work;

/// Where pinned memory begins: at a page.
const PAGE: usize = 4096;

#[unsafe(no_mangle)]
pub(super) extern "C" fn cuMemAlloc_v2(address: Option<&mut u64>, bytes: usize) -> u32 {
    in_context("cuMemAlloc_v2", |device| {
        if bytes == 0 {
            return Err(INVALID_VALUE);
        }
        put(address, device.memory.allocate(bytes as u64, false)?, INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn cuMemFree_v2(address: u64) -> u32 {
    in_context("cuMemFree_v2", |device| device.memory.free(address))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemAllocAsync(
    address: Option<&mut u64>,
    bytes: usize,
    stream: u64,
) -> u32 {
    in_context("cuMemAllocAsync", |device| {
        if device.capture(stream).is_some() {
            let own = device.memory.address_for_graph(bytes as u64);
            if let Some(capture) = device.capture(stream) {
                capture.allocates(own, bytes as u64);
            }
            return put(address, own, INVALID_VALUE);
        }
        device.busy(stream, device.profile.alloc_us * 1e-6)?;
        put(address, device.memory.allocate(bytes as u64, true)?, INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemFreeAsync(address: u64, stream: u64) -> u32 {
    in_context("cuMemFreeAsync", |device| {
        if let Some(capture) = device.capture(stream) {
            return capture.frees(address);
        }
        device.busy(stream, device.profile.alloc_us * 1e-6)?;
        device.memory.free(address)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemGetInfo_v2(free: Option<&mut usize>, total: Option<&mut usize>) -> u32 {
    in_context("cuMemGetInfo_v2", |device| {
        put(free, device.free_memory() as usize, INVALID_VALUE)?;
        put(total, device.total_memory() as usize, INVALID_VALUE)
    })
}

fn of_pool(machine: &mut Machine, pool: u64) -> Result<&mut Device, u32> {
    machine.device(i32::try_from(pool).unwrap_or(0) - 1)
}

/// Every attribute that a pool has of the kind asked for here is a u64; 1 to 3 are ints and refused.
#[unsafe(no_mangle)]
extern "C" fn cuMemPoolGetAttribute(pool: u64, which: c_int, value: Option<&mut u64>) -> u32 {
    started("cuMemPoolGetAttribute", |machine| {
        let counters = of_pool(machine, pool)?.memory.pool;
        let found = match which {
            4 => counters.threshold,
            5 => counters.reserved,
            6 => counters.reserved_high,
            7 => counters.used,
            8 => counters.used_high,
            _ => return Err(INVALID_VALUE),
        };
        put(value, found, INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolSetAttribute(pool: u64, which: c_int, value: Option<&mut u64>) -> u32 {
    started("cuMemPoolSetAttribute", |machine| {
        let value = *value.ok_or(INVALID_VALUE)?;
        let counters = &mut of_pool(machine, pool)?.memory.pool;
        match (which, value) {
            (4, threshold) => counters.threshold = threshold,
            // High-water marks can be reset and nothing else.
            (6, 0) => counters.reserved_high = counters.reserved,
            (8, 0) => counters.used_high = counters.used,
            _ => return Err(INVALID_VALUE),
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolTrimTo(pool: u64, keep: usize) -> u32 {
    started("cuMemPoolTrimTo", |machine| {
        of_pool(machine, pool)?.memory.trim(keep as u64);
        Ok(())
    })
}

/// What graphs hold, and what the plan says that they hold.
#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetGraphMemAttribute(
    device: c_int,
    which: c_int,
    value: Option<&mut u64>,
) -> u32 {
    started("cuDeviceGetGraphMemAttribute", |machine| {
        let device = machine.device(device)?;
        let graphs = device.memory.graphs;
        let held = match which {
            0 => graphs.used,
            1 => graphs.used_high,
            2 => graphs.reserved,
            3 => graphs.reserved_high,
            _ => return Err(INVALID_VALUE),
        };
        put(value, held + device.wrong.graphs, INVALID_VALUE)
    })
}

/// High-water marks can be reset and nothing else.
#[unsafe(no_mangle)]
extern "C" fn cuDeviceSetGraphMemAttribute(
    device: c_int,
    which: c_int,
    value: Option<&mut u64>,
) -> u32 {
    started("cuDeviceSetGraphMemAttribute", |machine| {
        let graphs = &mut machine.device(device)?.memory.graphs;
        let reset = value.is_some_and(|value| *value == 0);
        match which {
            1 if reset => graphs.used_high = graphs.used,
            3 if reset => graphs.reserved_high = graphs.reserved,
            _ => return Err(INVALID_VALUE),
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostAlloc(address: Option<&mut usize>, bytes: usize, _flags: u32) -> u32 {
    with_context("cuMemHostAlloc", |machine| {
        let layout = Layout::from_size_align(bytes.max(1), PAGE).map_err(|_| INVALID_VALUE)?;
        // SAFETY: the size is not zero.
        let memory = unsafe { alloc_zeroed(layout) } as usize;
        machine.pinned.insert(memory, bytes.max(1));
        put(address, memory, INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeHost(address: usize) -> u32 {
    with_context("cuMemFreeHost", |machine| {
        let bytes = machine.pinned.remove(&address).ok_or(INVALID_VALUE)?;
        // The driver waits for what reads it.
        for device in &mut machine.devices {
            device.to_come.retain(|copy| {
                let copy = copy.upgrade();
                let inside = copy.as_ref().filter(|copy| copy.is_within(address, bytes));
                inside.map(|copy| copy.arrived()).is_none() && copy.is_some()
            });
        }
        let inside = |copy: &ToHost| (address..address + bytes).contains(&copy.to);
        machine.working()?.on_the_way.retain(|copy| !inside(copy));
        let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| INVALID_VALUE)?;
        // SAFETY: it was allocated with this layout and is known no more.
        unsafe { dealloc(address as *mut u8, layout) };
        Ok(())
    })
}

/// Work of the card's own memory.
fn crossing(bytes: u64) -> Work {
    Work { bytes: bytes as f64, flops: None }
}

/// A copy between the host and the card.
fn over_the_bus(device: &mut Device, bytes: usize, pinned: bool, stream: u64) -> Result<(), u32> {
    let seconds = bytes as f64 / device.profile.bus(pinned);
    device.work(stream, Work::lasting(seconds))
}

fn set(device: &mut Device, at: u64, byte: u8, bytes: u64, stream: u64) -> Result<(), u32> {
    let act = move |device: &mut Device, stream| set(device, at, byte, bytes, stream);
    if captured(device, stream, Kind::Set, act) {
        return Ok(());
    }
    let (contents, offset) = device.memory.contents(at, bytes)?;
    contents.write(offset, bytes, Arc::new(Byte(byte)));
    device.work(stream, crossing(bytes))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8_v2(at: u64, byte: u8, bytes: usize) -> u32 {
    in_context("cuMemsetD8_v2", |device| set(device, at, byte, bytes as u64, 0))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuMemsetD8Async(at: u64, byte: u8, bytes: usize, stream: u64) -> u32 {
    in_context("cuMemsetD8Async", |device| set(device, at, byte, bytes as u64, stream))
}

/// Where a copy of `bytes` bytes is to go.
fn target(
    device: &mut Device,
    to: u64,
    from: *const u8,
    bytes: usize,
) -> Result<(&mut Contents, u64), u32> {
    if from.is_null() {
        return Err(INVALID_VALUE);
    }
    device.memory.contents(to, bytes as u64)
}

/// Copies at once: out of memory that is not pinned the driver does so, whatever it is asked.
fn to_device(
    device: &mut Device,
    to: u64,
    from: *const u8,
    bytes: usize,
    stream: u64,
    pinned: bool,
) -> Result<(), u32> {
    let (contents, offset) = target(device, to, from, bytes)?;
    // SAFETY: the caller has `bytes` bytes there.
    let copied = Bytes::of(unsafe { std::slice::from_raw_parts(from, bytes) });
    contents.write(offset, bytes as u64, Arc::new(copied));
    over_the_bus(device, bytes, pinned, stream)
}

/// Copies out of pinned memory, when it is looked at or waited for.
fn to_device_later(
    device: &mut Device,
    to: u64,
    from: *const u8,
    bytes: usize,
    stream: u64,
) -> Result<(), u32> {
    let (contents, offset) = target(device, to, from, bytes)?;
    // SAFETY: `cuMemFreeHost`, by which alone pinned memory goes, has such copies made before.
    let copy = Arc::new(unsafe { Pinned::new(from, bytes) });
    contents.write(offset, bytes as u64, copy.clone());
    device.to_come.push(Arc::downgrade(&copy));
    over_the_bus(device, bytes, true, stream)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoD_v2(to: u64, from: *const u8, bytes: usize) -> u32 {
    let pinned = is_pinned(from as usize);
    in_context("cuMemcpyHtoD_v2", |device| to_device(device, to, from, bytes, 0, pinned))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: *const u8, bytes: usize, stream: u64) -> u32 {
    let pinned = is_pinned(from as usize);
    in_context("cuMemcpyHtoDAsync_v2", |device| {
        if pinned {
            to_device_later(device, to, from, bytes, stream)
        } else {
            to_device(device, to, from, bytes, stream, false)
        }
    })
}

/// Copies to the host. Into pinned memory nothing arrives before somebody waits; into other memory the
/// call itself waits, as the driver does.
fn to_host(
    name: &'static str,
    to: *mut u8,
    from: u64,
    len: usize,
    stream: u64,
    pinned: bool,
) -> u32 {
    let mut copy = None;
    let code = in_context(name, |device| {
        if to.is_null() {
            return Err(INVALID_VALUE);
        }
        let what = device.memory.snapshot(from, len as u64)?;
        over_the_bus(device, len, pinned, stream)?;
        if pinned {
            let to = to as usize;
            // Nobody can have seen what this one covers.
            device.on_the_way.pop_if(|last| last.to == to && last.len <= len);
            device.on_the_way.push(ToHost { what, to, len });
        } else {
            copy = Some((what, device.stream(stream)?.end().at));
        }
        Ok(())
    });
    let Some((what, done)) = copy.filter(|_| code == 0) else { return code };
    let code = wait(done);
    if code == 0 {
        bytes::count(len);
        // SAFETY: the caller has room for `len` bytes.
        what.read(0, unsafe { std::slice::from_raw_parts_mut(to, len) });
    }
    code
}

fn is_pinned(address: usize) -> bool {
    let machine = machine();
    let below = machine.pinned.range(..=address).next_back();
    below.is_some_and(|(start, bytes)| address < start + bytes)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoH_v2(to: *mut u8, from: u64, bytes: usize) -> u32 {
    to_host("cuMemcpyDtoH_v2", to, from, bytes, 0, false)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut u8, from: u64, bytes: usize, stream: u64) -> u32 {
    let pinned = is_pinned(to as usize);
    to_host("cuMemcpyDtoHAsync_v2", to, from, bytes, stream, pinned)
}

fn within(device: &mut Device, to: u64, from: u64, bytes: u64, stream: u64) -> Result<(), u32> {
    let act = move |device: &mut Device, stream| within(device, to, from, bytes, stream);
    if captured(device, stream, Kind::Copy, act) {
        return Ok(());
    }
    let what = device.memory.snapshot(from, bytes)?;
    let (contents, offset) = device.memory.contents(to, bytes)?;
    contents.copy(offset, what);
    // Read and written.
    device.work(stream, crossing(2 * bytes))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) -> u32 {
    in_context("cuMemcpyDtoD_v2", |device| within(device, to, from, bytes as u64, 0))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: u64) -> u32 {
    in_context("cuMemcpyDtoDAsync_v2", |device| within(device, to, from, bytes as u64, stream))
}
