//! A net whose weights are on a card, and what its kernels and libraries are there.

use std::sync::Arc;

use cudarc::driver::CudaStream;
use warpmark_cuda::{Compiler, multiprocessors, wait};
use warpmark_device::CudaDevice;
use warpmark_measure::WorkloadError;
use warpmark_record::Field;

use crate::Dtype;
use crate::attention::Card;
use crate::kernels::Kernels;
use crate::library::Library;
use crate::pass::PassKernels;
use crate::shape::Shape;
use crate::weights::{Checkpoint, Weights};

/// A driver that knows `cuGraphInstantiateWithFlags`: CUDA 11.4's.
const GRAPHS: u32 = 11_040;

/// A net whose weights are on a card.
pub struct Net {
    pub(crate) stream: Arc<CudaStream>,
    pub(crate) shape: Shape,
    pub(crate) dtype: Dtype,
    pub(crate) kernels: Kernels,
    pub(crate) weights: Weights,
    pub(crate) multiprocessors: usize,
    /// What passes over many rows need, or why there is none.
    pub(crate) many: Result<Many, String>,
}

/// What passes over many rows need: a library that multiplies, and kernels for the rest.
pub(crate) struct Many {
    pub(crate) library: Library,
    pub(crate) kernels: PassKernels,
    pub(crate) compiler: Compiler,
    pub(crate) card: Card,
}

impl Net {
    /// Compiles the kernels for the card and brings the weights there. It has to be known that there is
    /// an NVRTC.
    ///
    /// # Errors
    /// What no kernel takes, a driver that has no graphs, a compiler's or driver's refusal, or memory
    /// that is not there.
    pub fn load(
        device: &CudaDevice,
        shape: Shape,
        dtype: Dtype,
        checkpoint: &dyn Checkpoint,
    ) -> Result<Self, WorkloadError> {
        shape.check(1, 1)?;
        let driver = device.spec.gpu.as_ref().map_or(0, |gpu| gpu.cuda_driver_version);
        if driver < GRAPHS {
            return Err(WorkloadError::Unsupported(format!(
                "a decode step is one CUDA graph, which needs a driver of CUDA 11.4; this one is of {}.{}: \
                 install a newer driver",
                driver / 1000,
                driver % 1000 / 10
            )));
        }
        let many = match Many::new(device, &shape, dtype) {
            Ok(many) => Ok(many),
            // What the card lacks, or a library that does not open: rows that need them say so.
            Err(WorkloadError::Unsupported(reason) | WorkloadError::Failed(reason)) => Err(reason),
            Err(error) => return Err(error),
        };
        Ok(Self {
            kernels: Kernels::compile(device, dtype)?,
            weights: Weights::load(&device.stream, &shape, checkpoint)?,
            multiprocessors: multiprocessors(device)? as usize,
            stream: device.stream.clone(),
            many,
            shape,
            dtype,
        })
    }

    /// Its numbers.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What its kernels were compiled to: `sm_90 cubin`.
    pub fn code(&self) -> &str {
        &self.kernels.code
    }

    /// Waits until everything launched is done.
    ///
    /// # Errors
    /// What the device met meanwhile.
    pub fn wait(&self) -> Result<(), WorkloadError> {
        wait(&self.stream)
    }

    /// What passes over many rows need.
    ///
    /// # Errors
    /// [`WorkloadError::Unsupported`] with what is missing.
    pub(crate) fn many(&self) -> Result<&Many, WorkloadError> {
        self.many.as_ref().map_err(|reason| WorkloadError::Unsupported(reason.clone()))
    }
}

impl Many {
    fn new(device: &CudaDevice, shape: &Shape, dtype: Dtype) -> Result<Self, WorkloadError> {
        let found = warpmark_device::libraries();
        if let Some(reason) = Field::reason(&found.cublaslt) {
            return Err(WorkloadError::Unsupported(format!(
                "many rows are multiplied by cuBLASLt, which is not usable: {reason}"
            )));
        }
        let gpu = device.spec.gpu.as_ref();
        let capability = gpu.map_or((0, 0), |gpu| gpu.compute_capability);
        shape.check_rows(dtype, capability)?;
        let shared = gpu.and_then(|gpu| gpu.shared_memory_per_sm.known());
        // Where it is not told, no block of twice the queries is taken.
        let shared = shared.map_or(0, |bytes| bytes.0 as u32);
        let card = Card { capability, multiprocessors: multiprocessors(device)?, shared };
        let compiler = Compiler::new(device)?;
        Ok(Self {
            library: Library::open(&device.stream, dtype)?,
            kernels: PassKernels::compile(&compiler, dtype)?,
            compiler,
            card,
        })
    }
}
