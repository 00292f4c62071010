//! What a workload takes of a GPU's memory, by every count that there is.
//!
//! No single count is the truth. The pool's high-water mark is exact for what was allocated, and knows
//! nothing of context and libraries; those are what the device has less since the context was made, which
//! other processes can change; NVML knows the whole of the process, where it may tell.

use warpmark_record::{Bytes, DeviceMemory, Field, Memory};

use crate::{CudaDevice, pool};

/// How the peak is measured where there are no memory pools, as under many a vGPU.
pub const WITHOUT_POOLS: &str = "cuMemGetInfo after the samples (the device has no memory pools): without what was given back before";

/// What the device had when it was opened.
#[derive(Debug, Clone)]
pub struct Baseline {
    /// What making the context took.
    pub(crate) context: Field<Bytes>,
    /// What was free after it.
    pub(crate) free: Field<Bytes>,
}

/// The counts of one workload, from a moment on.
pub struct Footprint {
    device: CudaDevice,
    loaded: Field<Bytes>,
    /// Whether the marks begin at that moment, or why they do not.
    reset: Result<(), String>,
}

impl Footprint {
    /// Of a workload whose weights were just loaded, or that has none and is ready. Its peak is unknown
    /// until [`Footprint::begin`].
    pub fn of(device: &CudaDevice) -> Self {
        let loaded = device.held_in_all();
        Self { device: device.clone(), loaded, reset: Err("no sample was begun".to_owned()) }
    }

    /// Starts the high-water marks anew.
    pub fn begin(&mut self) {
        self.reset = if self.device.context.has_async_alloc() {
            self.device.reset_peak().map_err(|error| error.to_string())
        } else {
            Ok(())
        };
    }

    /// The counts since then. Waits for nothing.
    pub fn read(&self, weights: Field<Bytes>) -> Memory {
        let device = &self.device;
        let pools = device.context.has_async_alloc();
        let peak = match &self.reset {
            Ok(()) if pools => device.peak(),
            Ok(()) => device.held_in_all(),
            Err(reason) => {
                Field::absent(format!("the high-water mark could not be reset: {reason}"))
            }
        };
        let counts = DeviceMemory {
            loaded: self.loaded.clone(),
            pool_reserved: device.reserved(),
            graphs: device.graphs_peak(),
            graphs_reserved: device.graphs_reserved(),
            context: device.baseline.context.clone(),
            libraries: device.beside_the_pool(),
            process: device.process_memory(),
        };
        let method = if pools { pool::METHOD } else { WITHOUT_POOLS };
        Memory { method: method.to_owned(), weights, peak, device: Some(Box::new(counts)) }
    }
}

impl CudaDevice {
    /// What live allocations hold; without pools, all that went since the context was made.
    fn held_in_all(&self) -> Field<Bytes> {
        if self.context.has_async_alloc() { self.held() } else { self.gone() }
    }

    /// What the device has less than when the context was made.
    fn gone(&self) -> Field<Bytes> {
        match &self.baseline.free {
            Field::Known(then) => self.free().map(|now| (*then - now).max(Bytes(0.0))),
            absent @ Field::Absent { .. } => absent.clone(),
        }
    }

    /// What went since the context was made and lies neither in the pool nor with graphs. Other processes
    /// that came or went in between are in it.
    fn beside_the_pool(&self) -> Field<Bytes> {
        if !self.context.has_async_alloc() {
            return Field::absent(
                "without memory pools it cannot be told apart from what was allocated",
            );
        }
        let pools = match (self.reserved(), self.graphs_reserved()) {
            (Field::Known(pool), Field::Known(graphs)) => pool + graphs,
            (Field::Absent { absent }, _) | (_, Field::Absent { absent }) => {
                return Field::absent(absent);
            }
        };
        self.gone().map(|gone| (gone - pools).max(Bytes(0.0)))
    }

    /// The whole of this process as NVML has it.
    fn process_memory(&self) -> Field<Bytes> {
        match self.card() {
            Ok(card) => card.own_memory(),
            Err(reason) => Field::absent(reason),
        }
    }
}
