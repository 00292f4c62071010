//! Launches captured once and launched again as a whole.

use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys::{self, CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, CudaStream};
use warpmark_measure::WorkloadError;

use crate::refused;

/// Launches that the driver knows as one.
pub struct Graph(CudaGraph);

impl Graph {
    /// What `enqueue` launches on the stream, in that order. It may do nothing else there, and what the launches
    /// point to has to live as long as the graph is launched.
    ///
    /// # Errors
    /// Those of `enqueue`, or the driver's refusal.
    pub fn capture(
        stream: &Arc<CudaStream>,
        enqueue: impl FnOnce() -> Result<(), WorkloadError>,
    ) -> Result<Self, WorkloadError> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).map_err(refused("beginning to capture"))?;
        let captured = enqueue();
        // Ended in any case: a stream that is left capturing takes nothing else.
        let graph = stream.end_capture(CUgraphInstantiate_flags(0));
        captured?;
        let graph = graph.map_err(refused("making a graph"))?;
        let graph =
            graph.ok_or_else(|| WorkloadError::Failed("the driver captured nothing".to_owned()))?;
        Ok(Self(graph))
    }

    /// Brings it to the device, so that its first launch takes no longer than the others.
    ///
    /// # Errors
    /// The driver's refusal.
    pub fn upload(&self) -> Result<(), WorkloadError> {
        self.0.upload().map_err(refused("uploading a graph"))
    }

    /// How many kernels it launches, those of libraries included.
    ///
    /// # Errors
    /// The driver's refusal.
    pub fn kernels(&self) -> Result<usize, WorkloadError> {
        let graph = self.0.cu_graph();
        let mut count = 0;
        // SAFETY: the graph is alive; without room the driver writes the count alone.
        unsafe { sys::cuGraphGetNodes(graph, ptr::null_mut(), &raw mut count) }
            .result()
            .map_err(refused("counting the nodes of a graph"))?;
        let mut nodes = vec![ptr::null_mut(); count];
        // SAFETY: there is room for as many nodes as the driver said.
        unsafe { sys::cuGraphGetNodes(graph, nodes.as_mut_ptr(), &raw mut count) }
            .result()
            .map_err(refused("listing the nodes of a graph"))?;
        nodes.truncate(count);
        let mut kernels = 0;
        for node in nodes {
            let mut kind = sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_EMPTY;
            // SAFETY: a node of a graph that is alive.
            unsafe { sys::cuGraphNodeGetType(node, &raw mut kind) }
                .result()
                .map_err(refused("asking what a node of a graph is"))?;
            kernels += usize::from(kind == sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_KERNEL);
        }
        Ok(kernels)
    }

    /// Enqueues all of it.
    ///
    /// # Errors
    /// The driver's refusal.
    pub fn launch(&self) -> Result<(), WorkloadError> {
        self.0.launch().map_err(refused("launching a graph"))
    }
}
