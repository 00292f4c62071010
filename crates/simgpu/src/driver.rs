//! The CUDA driver's functions, as `cuda.h` of CUDA 13.0 declares them.
//!
//! Pointers that may be null are `Option<&mut T>`, which is what C passes; handles are numbers as wide
//! as a pointer.

mod context;
mod device;
pub(crate) use device::bus;
mod error;
mod graph;
pub(crate) use graph::{Capture, Kind, Node};
mod memory;
mod module;
mod peer;
pub(crate) use memory::{cuMemAllocAsync, cuMemFreeAsync, cuMemsetD8Async};
pub(crate) use module::{begin, module_variable};
mod stream;
pub(crate) use stream::cuStreamSynchronize;
mod stubs;

/// `CUDA_ERROR_INVALID_VALUE`.
const INVALID_VALUE: u32 = 1;
/// `CUDA_ERROR_NOT_SUPPORTED`.
const NOT_SUPPORTED: u32 = 801;
