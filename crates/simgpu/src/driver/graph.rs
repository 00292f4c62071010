//! Graphs: kernels captured from one stream, launched again as a whole.
//!
//! A stream that is being captured takes launches and nothing else.

use std::ffi::c_int;

use super::module::{self, Captured};
use super::{INVALID_VALUE, NOT_SUPPORTED};
use crate::call::{in_context, put, with_context};

const INVALID_HANDLE: u32 = 400;
const ILLEGAL_STATE: u32 = 401;
const CAPTURE_UNSUPPORTED: u32 = 900;
const CAPTURE_INVALIDATED: u32 = 901;

/// `CU_STREAM_CAPTURE_STATUS_ACTIVE`.
const ACTIVE: c_int = 1;

/// A capture under way.
pub(crate) struct Capture {
    pub(crate) stream: u64,
    pub(crate) kernels: Vec<Captured>,
    /// Whether something was asked of the stream that no capture takes.
    pub(crate) spoiled: bool,
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamIsCapturing(stream: u64, status: Option<&mut c_int>) -> u32 {
    in_context("cuStreamIsCapturing", |device| {
        device.stream(stream)?;
        let active = device.capture(stream).is_some();
        put(status, if active { ACTIVE } else { 0 }, INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamBeginCapture_v2(stream: u64, _mode: c_int) -> u32 {
    in_context("cuStreamBeginCapture_v2", |device| {
        device.stream(stream)?;
        // The legacy stream cannot be captured.
        if stream <= 1 {
            return Err(CAPTURE_UNSUPPORTED);
        }
        if device.capturing.is_some() {
            return Err(ILLEGAL_STATE);
        }
        device.capturing = Some(Capture { stream, kernels: Vec::new(), spoiled: false });
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamEndCapture(stream: u64, graph: Option<&mut u64>) -> u32 {
    with_context("cuStreamEndCapture", |machine| {
        let capture = machine.working()?.capturing.take_if(|capture| capture.stream == stream);
        let capture = capture.ok_or(ILLEGAL_STATE)?;
        if capture.spoiled {
            return Err(CAPTURE_INVALIDATED);
        }
        let handle = machine.handle();
        machine.graphs.insert(handle, capture.kernels);
        put(graph, handle, INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphInstantiateWithFlags(exec: Option<&mut u64>, graph: u64, flags: u64) -> u32 {
    with_context("cuGraphInstantiateWithFlags", |machine| {
        if flags != 0 {
            return Err(NOT_SUPPORTED);
        }
        let kernels = machine.graphs.get(&graph).cloned().ok_or(INVALID_HANDLE)?;
        let handle = machine.handle();
        machine.graphs.insert(handle, kernels);
        put(exec, handle, INVALID_VALUE)
    })
}

fn destroy(name: &'static str, handle: u64) -> u32 {
    with_context(name, |machine| machine.graphs.remove(&handle).map(drop).ok_or(INVALID_HANDLE))
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphDestroy(graph: u64) -> u32 {
    destroy("cuGraphDestroy", graph)
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphExecDestroy(exec: u64) -> u32 {
    destroy("cuGraphExecDestroy", exec)
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphUpload(exec: u64, stream: u64) -> u32 {
    with_context("cuGraphUpload", |machine| {
        machine.working()?.stream(stream)?;
        machine.graphs.contains_key(&exec).then_some(()).ok_or(INVALID_HANDLE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphLaunch(exec: u64, stream: u64) -> u32 {
    with_context("cuGraphLaunch", |machine| {
        let kernels = machine.graphs.get(&exec).cloned().ok_or(INVALID_HANDLE)?;
        machine.working()?.launched(stream)?;
        kernels.into_iter().try_for_each(|kernel| module::replay(machine, kernel, stream))
    })
}
