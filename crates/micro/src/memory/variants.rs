//! The variants in which `kernels/memory.cu` is built: which is the fastest differs from card to card.

use cudarc::driver::CudaFunction;
use warpmark_measure::WorkloadError;

use super::Operation;
use crate::cuda;
use crate::cuda::Compiler;

/// A variant of `kernels/memory.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) threads: u32,
    /// Whether what is read and written is marked as not wanted again.
    pub(super) streaming: bool,
}

impl Variant {
    /// All that are tried, the plainest first.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let threads = [256, 512, 1024].into_iter();
        threads.flat_map(|threads| [false, true].map(|streaming| Self { threads, streaming }))
    }

    /// The source of this variant.
    pub(super) fn source(self) -> String {
        let streaming = if self.streaming { "#define STREAMING\n" } else { "" };
        let source = include_str!("../../../../kernels/memory.cu");
        format!("#define THREADS {}\n{streaming}#line 1\n{source}", self.threads)
    }

    pub(super) fn name(self) -> String {
        let kind = if self.streaming { "streaming" } else { "plain" };
        format!("{} threads, {kind} access", self.threads)
    }
}

/// Every source that is compiled here, for the test that does so with a real NVRTC.
#[cfg(test)]
pub(crate) fn sources() -> impl Iterator<Item = (String, String)> {
    Variant::all().map(|variant| (format!("memory.cu, {}", variant.name()), variant.source()))
}

/// The kernels of one variant.
pub(super) struct Build {
    pub(super) variant: Variant,
    kernels: Vec<(Operation, CudaFunction)>,
    /// What they were compiled to.
    pub(super) code: String,
}

impl Build {
    pub(super) fn new(compiler: &Compiler, variant: Variant) -> Result<Self, WorkloadError> {
        let made = compiler.compile("memory.cu", &variant.source())?;
        let each = |operation: Operation| {
            let name = format!("memory_{}", operation.name());
            Ok((operation, cuda::function(&made.module, &name)?))
        };
        let kernels = Operation::ALL.into_iter().map(each).collect::<Result<_, WorkloadError>>()?;
        Ok(Self { variant, kernels, code: made.code })
    }

    /// The kernel of an operation.
    pub(super) fn kernel(&self, operation: Operation) -> Result<&CudaFunction, WorkloadError> {
        let kernel = self.kernels.iter().find(|(which, _)| *which == operation);
        kernel.map(|(_, kernel)| kernel).ok_or_else(|| {
            WorkloadError::Failed(format!("memory.cu has no kernel for {}", operation.name()))
        })
    }
}
