//! What all multiplications of a group by cuBLASLt share, and what each of them is.

use std::sync::Arc;

use cudarc::cublaslt::sys::cublasLtMatmulAlgo_t;
use cudarc::driver::CudaStream;
use warpmark_cuda::cublaslt::{Handle, Operation};
use warpmark_device::Device;
use warpmark_measure::WorkloadError;
use warpmark_record::{BenchmarkId, Bytes, DeviceSpec, Seconds};

use super::Problem;
use super::operands::Operands;
use crate::cuda::Compiler;
use crate::cuda::blocking::BlockingKernel;
use crate::cuda::{self, Buffer, Filler, Library};

/// What NVIDIA recommends for Hopper; older cards need less and take no harm.
pub(super) const WORKSPACE: usize = 32 << 20;

/// What the last cache has to do with a multiplication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cache {
    /// The matrices do not fit it, or its size is not known.
    Exceeded,
    /// They fit half of it, and each launch finds them where the last one left them.
    Warm,
    /// They fit it and not its half: of an L2 in two partitions, as from Ampere on, each multiprocessor has
    /// one, and what all of them read lies in both. A launch finds a part of them.
    Mixed,
    /// They fit, and launches take turns on so many copies that each has been displaced when it is its
    /// turn again.
    Cold { copies: usize },
}

impl Cache {
    pub(super) fn copies(self) -> usize {
        match self {
            Self::Exceeded | Self::Warm | Self::Mixed => 1,
            Self::Cold { copies } => copies,
        }
    }

    /// What an id ends in.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Exceeded => None,
            Self::Warm => Some("warm"),
            Self::Mixed => Some("mixed"),
            Self::Cold { .. } => Some("cold"),
        }
    }

    /// Every way to multiply matrices of `bytes` on the device. The copies take four times the cache and one
    /// more: a cache that lets go at random still holds a line with probability e⁻⁴, 2 %, when its turn comes
    /// again, and after twice its size 14 %.
    pub(super) fn ways(bytes: Bytes, spec: &DeviceSpec) -> Vec<Self> {
        let cache = spec.last_level_cache.known().map_or(0.0, |cache| cache.0);
        if bytes.0 >= cache {
            return vec![Self::Exceeded];
        }
        let copies = 1 + (4.0 * cache / bytes.0).ceil() as usize;
        let again = if bytes.0 <= cache / 2.0 { Self::Warm } else { Self::Mixed };
        vec![again, Self::Cold { copies }]
    }
}

/// What an entry multiplies, and how.
#[derive(Debug, Clone)]
pub(super) struct Case {
    /// The problem, or those among which the fastest is searched.
    pub(super) problems: Vec<Problem>,
    pub(super) cache: Cache,
    /// The layer of a real model that has this shape.
    pub(super) layer: Option<&'static str>,
    pub(super) search_limit: Seconds,
    pub(super) caveat: Option<String>,
}

/// What all multiplications of a group share.
pub(super) struct LtSession {
    pub(super) stream: Arc<CudaStream>,
    pub(super) handle: Handle,
    pub(super) filler: Filler,
    pub(super) workspace: Buffer,
    pub(super) blocking: BlockingKernel,
    pub(super) cases: Vec<(BenchmarkId, Case)>,
    pub(super) seed: u64,
}

impl LtSession {
    pub(super) fn open(
        device: &Device,
        cases: Vec<(BenchmarkId, Case)>,
        seed: u64,
    ) -> Result<Self, WorkloadError> {
        let device = cuda::required(device, &[Library::Nvrtc, Library::Cublaslt])?;
        let stream = device.stream.clone();
        let compiler = Compiler::new(device)?;
        Ok(Self {
            handle: Handle::new()?,
            filler: Filler::new(&compiler)?,
            workspace: Buffer::new(&stream, WORKSPACE, "the workspace of cuBLASLt")?,
            blocking: BlockingKernel::new(&compiler, &stream)?,
            stream,
            cases,
            seed,
        })
    }

    /// Enqueues a multiplication of the copy whose turn it is.
    pub(super) fn launch(
        &self,
        operation: &Operation,
        algorithm: &cublasLtMatmulAlgo_t,
        operands: &mut Operands,
    ) -> Result<(), WorkloadError> {
        let addresses = operands.next(&self.workspace);
        let stream = self.stream.cu_stream().cast();
        // SAFETY: the operands were made for every problem of the session, one of which the operation is.
        unsafe { operation.launch(&self.handle, algorithm, addresses, stream) }
    }
}
