//! Streams and events.

use std::time::Instant;

use super::INVALID_VALUE;
use crate::call::{in_context, put, with_context};
use crate::card::Device;
use crate::machine::{Event, machine};
use crate::timeline::{now, wait_until};

const INVALID_HANDLE: u32 = 400;
const NOT_READY: u32 = 600;
/// `CU_EVENT_DISABLE_TIMING`.
const DISABLE_TIMING: u32 = 2;

/// A call that waits until a moment of this thread's device.
pub(super) fn wait_for_device(
    name: &'static str,
    until: impl FnOnce(&mut Device) -> Result<Instant, u32>,
) -> u32 {
    let mut moment = now();
    let code = in_context(name, |device| {
        moment = until(device)?;
        Ok(())
    });
    if code == 0 { wait(moment) } else { code }
}

/// Waits. What was on its way to the host arrives, and a kernel that went wrong is told now.
pub(super) fn wait(until: Instant) -> u32 {
    // Other threads go on meanwhile.
    wait_until(until);
    match machine().working() {
        Ok(device) => {
            device.waited();
            0
        }
        Err(code) => code,
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamCreate(stream: Option<&mut u64>, _flags: u32) -> u32 {
    with_context("cuStreamCreate", |machine| {
        let handle = machine.handle();
        machine.working()?.add_stream(handle);
        put(stream, handle, INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy_v2(stream: u64) -> u32 {
    in_context("cuStreamDestroy_v2", |device| device.remove_stream(stream))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuStreamSynchronize(stream: u64) -> u32 {
    wait_for_device("cuStreamSynchronize", |device| {
        device.not_captured(stream)?;
        Ok(device.stream(stream)?.end().at)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(stream: u64, event: u64, _flags: u32) -> u32 {
    with_context("cuStreamWaitEvent", |machine| {
        let moment = machine.event(event)?.recorded;
        let queue = machine.working()?.stream(stream)?;
        // An event that was never recorded holds nobody up.
        if let Some(moment) = moment {
            queue.wait_for(&moment);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventCreate(event: Option<&mut u64>, flags: u32) -> u32 {
    with_context("cuEventCreate", |machine| {
        let handle = machine.handle();
        let timing = flags & DISABLE_TIMING == 0;
        machine.events.insert(handle, Event { timing, recorded: None });
        put(event, handle, INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventDestroy_v2(event: u64) -> u32 {
    with_context("cuEventDestroy_v2", |machine| {
        machine.events.remove(&event).map(drop).ok_or(INVALID_HANDLE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecord(event: u64, stream: u64) -> u32 {
    with_context("cuEventRecord", |machine| {
        let moment = machine.working()?.stream(stream)?.end();
        machine.event(event)?.recorded = Some(moment);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventQuery(event: u64) -> u32 {
    with_context("cuEventQuery", |machine| {
        let reached = machine.event(event)?.recorded.is_none_or(|moment| moment.at <= now());
        reached.then_some(()).ok_or(NOT_READY)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventSynchronize(event: u64) -> u32 {
    let recorded = machine().event(event).map(|event| event.recorded.map(|moment| moment.at));
    wait_for_device("cuEventSynchronize", |_| Ok(recorded?.unwrap_or_else(now)))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventElapsedTime_v2(milliseconds: Option<&mut f32>, start: u64, end: u64) -> u32 {
    with_context("cuEventElapsedTime_v2", |machine| {
        let mut moment = |handle| {
            let event = machine.event(handle)?;
            event.recorded.filter(|_| event.timing).ok_or(INVALID_HANDLE)
        };
        let (start, end) = (moment(start)?, moment(end)?);
        if end.at.max(start.at) > now() {
            return Err(NOT_READY);
        }
        put(milliseconds, (end.since(&start) * 1e3) as f32, INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventElapsedTime(milliseconds: Option<&mut f32>, start: u64, end: u64) -> u32 {
    cuEventElapsedTime_v2(milliseconds, start, end)
}
