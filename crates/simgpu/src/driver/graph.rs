//! Graphs: what was captured from one stream, done again as a whole.
//!
//! A stream that is being captured takes kernels, products, copies and settings within the device, and memory of the
//! graph's own, which is there from the node that allocates it to the one that frees it and holds nothing before. It
//! takes nothing from the host or to it.

use std::ffi::c_int;
use std::sync::Arc;

use super::{INVALID_VALUE, NOT_SUPPORTED};
use crate::call::{in_context, put, with_context};
use crate::card::Device;
use crate::machine::Machine;

const INVALID_HANDLE: u32 = 400;
const ILLEGAL_STATE: u32 = 401;
const CAPTURE_UNSUPPORTED: u32 = 900;
const CAPTURE_INVALIDATED: u32 = 901;

/// `CU_STREAM_CAPTURE_STATUS_ACTIVE`.
const ACTIVE: c_int = 1;

/// What a node does when its graph is launched on a stream.
type Act = dyn Fn(&mut Machine, u64) -> Result<(), u32> + Send + Sync;

/// A node, which comes after the one in front of it.
#[derive(Clone)]
pub(crate) struct Node {
    kind: Kind,
    act: Arc<Act>,
}

/// What the driver calls a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A kernel, ours or a library's.
    Kernel = 0,
    /// A copy.
    Copy = 1,
    /// Memory set to a byte.
    Set = 2,
    /// Memory of the graph's own.
    Allocate = 10,
    /// The end of it.
    Free = 11,
}

/// A capture under way.
pub(crate) struct Capture {
    pub(crate) stream: u64,
    nodes: Vec<Node>,
    /// Memory of the graph's own that is not freed yet.
    own: Vec<u64>,
    /// Whether something was asked of the stream that no capture takes.
    pub(crate) spoiled: bool,
}

impl Capture {
    /// Keeps what is to be done.
    pub(crate) fn node(
        &mut self,
        kind: Kind,
        act: impl Fn(&mut Machine, u64) -> Result<(), u32> + Send + Sync + 'static,
    ) {
        self.nodes.push(Node { kind, act: Arc::new(act) });
    }

    /// Memory of the graph's own.
    pub(super) fn allocates(&mut self, address: u64, bytes: u64) {
        self.own.push(address);
        self.node(Kind::Allocate, move |machine, _| {
            machine.working()?.memory.allocate_for_graph(address, bytes)
        });
    }

    /// The end of it; nothing else can be freed by a graph.
    pub(super) fn frees(&mut self, address: u64) -> Result<(), u32> {
        let at = self.own.iter().position(|own| *own == address).ok_or(INVALID_VALUE)?;
        self.own.swap_remove(at);
        self.node(Kind::Free, move |machine, _| machine.working()?.memory.free(address));
        Ok(())
    }
}

/// Keeps what is to be done where the stream is captured; tells whether it is.
pub(super) fn captured(
    device: &mut Device,
    stream: u64,
    kind: Kind,
    act: impl Fn(&mut Device, u64) -> Result<(), u32> + Send + Sync + 'static,
) -> bool {
    let Some(capture) = device.capture(stream) else { return false };
    capture.node(kind, move |machine, stream| act(machine.working()?, stream));
    true
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
        device.capturing =
            Some(Capture { stream, nodes: Vec::new(), own: Vec::new(), spoiled: false });
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
        machine.graphs.insert(handle, capture.nodes);
        put(graph, handle, INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphInstantiateWithFlags(exec: Option<&mut u64>, graph: u64, flags: u64) -> u32 {
    with_context("cuGraphInstantiateWithFlags", |machine| {
        if flags != 0 {
            return Err(NOT_SUPPORTED);
        }
        let nodes = machine.graphs.get(&graph).cloned().ok_or(INVALID_HANDLE)?;
        let handle = machine.handle();
        machine.graphs.insert(handle, nodes);
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
        let nodes = machine.graphs.get(&exec).cloned().ok_or(INVALID_HANDLE)?;
        machine.working()?.launched(stream)?;
        machine.touched = 0;
        nodes.iter().try_for_each(|node| (node.act)(machine, stream))
    })
}

/// Bits of a node's handle that say which of its graph's it is.
const INDEX_BITS: u32 = 24;

#[unsafe(no_mangle)]
extern "C" fn cuGraphGetNodes(graph: u64, nodes: *mut u64, count: Option<&mut usize>) -> u32 {
    with_context("cuGraphGetNodes", |machine| {
        let there = machine.graphs.get(&graph).ok_or(INVALID_HANDLE)?.len();
        let count = count.ok_or(INVALID_VALUE)?;
        if !nodes.is_null() {
            for index in 0..there.min(*count) {
                // SAFETY: the caller has room for as many as it says.
                unsafe { nodes.add(index).write(graph << INDEX_BITS | index as u64) };
            }
        }
        *count = there;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphNodeGetType(node: u64, kind: Option<&mut c_int>) -> u32 {
    with_context("cuGraphNodeGetType", |machine| {
        let nodes = machine.graphs.get(&(node >> INDEX_BITS)).ok_or(INVALID_HANDLE)?;
        let index = node & ((1 << INDEX_BITS) - 1);
        let found = nodes.get(index as usize).ok_or(INVALID_HANDLE)?;
        put(kind, found.kind as c_int, INVALID_VALUE)
    })
}
