//! Attention of queries over keys and values, `softmax(scale · q · kᵀ) · v`, by `kernels/attention.cu`.
//!
//! Its scores never reach memory, so that what it needs there grows with the length alone. Whatever the kernel
//! cannot do is refused before anything is launched.

mod shape;

use cudarc::driver::{CudaFunction, CudaStream};
use warpmark_cuda::{Compiler, Geometry, argument, function, launch};
use warpmark_measure::WorkloadError;

use crate::Dtype;
use shape::Parameters;
pub use shape::{AttentionMask, AttentionShape, Positions, Strides};

/// The kernel's text.
const SOURCE: &str = include_str!("../../../kernels/attention.cu");

/// Threads of a block.
const THREADS: u32 = 128;

/// The largest head size that has room in registers.
const LARGEST_HEAD: u32 = 256;

/// The largest head size of which a warp's registers hold 32 queries.
const LARGEST_OF_TWO_TILES: u32 = 64;

/// What the kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttentionBuild {
    /// Elements of a head: a multiple of 8, up to 256.
    pub head_size: u32,
    /// The type of queries, keys, values and results.
    pub dtype: Dtype,
    /// Sixteens of queries that a warp has: 1, or 2 up to head size 64, which halves the reads of shared memory.
    pub tiles: u32,
}

impl AttentionBuild {
    /// Whether a card of this compute capability (major and minor) can run it.
    ///
    /// # Errors
    /// [`WorkloadError::Unsupported`] with the reason.
    pub fn check(self, capability: (u32, u32)) -> Result<(), WorkloadError> {
        let refuse = |reason: String| Err(WorkloadError::Unsupported(reason));
        let (major, minor) = capability;
        if capability < (7, 5) {
            return refuse(format!(
                "attention by tensor cores needs compute capability 7.5, and the card has {major}.{minor}"
            ));
        }
        if self.dtype == Dtype::Bf16 && capability < (8, 0) {
            return refuse(format!(
                "attention in bf16 needs compute capability 8.0, and the card has {major}.{minor}; f16 would do"
            ));
        }
        let size = self.head_size;
        if size == 0 || !size.is_multiple_of(8) || size > LARGEST_HEAD {
            return refuse(format!(
                "attention by tensor cores takes head sizes that are multiples of 8 up to {LARGEST_HEAD}, and \
                 not {size}"
            ));
        }
        let two = self.tiles == 2 && size <= LARGEST_OF_TWO_TILES && capability >= (8, 0);
        if self.tiles != 1 && !two {
            return refuse(format!(
                "no warp holds {} sixteens of queries of size {size}",
                self.tiles
            ));
        }
        Ok(())
    }

    /// The text that NVRTC is given.
    pub fn source(self) -> String {
        let bf16 = if self.dtype == Dtype::Bf16 { "#define BF16\n" } else { "" };
        format!(
            "#define HEAD {}\n#define TILES {}\n{bf16}#line 1\n{SOURCE}",
            self.head_size, self.tiles
        )
    }

    /// The kernel's name.
    fn name(self) -> String {
        format!("attention_{}_{}x{}", self.dtype.name(), self.head_size, self.tiles)
    }

    /// Queries of a block.
    fn rows(self) -> u32 {
        THREADS / 32 * 16 * self.tiles
    }
}

/// Addresses on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operands {
    /// Queries.
    pub q: u64,
    /// Keys.
    pub k: u64,
    /// Values.
    pub v: u64,
    /// Results, which lie nowhere in the others.
    pub out: u64,
}

/// The kernel for one head size and type, on one card.
#[derive(Debug)]
pub struct Attention {
    small: (AttentionBuild, CudaFunction),
    /// For launches that fill the card even with twice the queries in a block.
    large: Option<(AttentionBuild, CudaFunction)>,
    multiprocessors: u32,
}

impl Attention {
    /// Compiles the kernel for a card of this compute capability, with so many multiprocessors.
    ///
    /// # Errors
    /// [`WorkloadError::Unsupported`] where [`AttentionBuild::check`] says so; NVRTC's and the driver's refusals.
    pub fn new(
        compiler: &Compiler,
        (head_size, dtype): (u32, Dtype),
        capability: (u32, u32),
        multiprocessors: u32,
    ) -> Result<Self, WorkloadError> {
        let build = |tiles| {
            let build = AttentionBuild { head_size, dtype, tiles };
            build.check(capability)?;
            let module = compiler.compile("attention.cu", &build.source())?.module;
            Ok((build, function(&module, &build.name())?))
        };
        let has_two = head_size <= LARGEST_OF_TWO_TILES && capability >= (8, 0);
        let large = if has_two { Some(build(2)?) } else { None };
        Ok(Self { small: build(1)?, large, multiprocessors })
    }

    /// The build for a launch, and how many blocks of queries a head then has: large blocks read shared memory
    /// less, but only where every multiprocessor still gets two of them.
    fn choose(&self, shape: &AttentionShape) -> (&CudaFunction, u32) {
        let blocks = |build: &AttentionBuild| shape.queries.div_ceil(build.rows());
        if let Some((build, function)) = &self.large {
            let all =
                u64::from(blocks(build)) * u64::from(shape.sequences) * u64::from(shape.heads);
            if all >= 2 * u64::from(self.multiprocessors) {
                return (function, blocks(build));
            }
        }
        (&self.small.1, blocks(&self.small.0))
    }

    /// Enqueues the attention of a shape.
    ///
    /// # Safety
    /// The operands are the addresses of memory on the stream's device in which all lies that the shape's counts,
    /// strides and positions make of them; ragged positions too.
    ///
    /// # Errors
    /// [`WorkloadError::Unsupported`] where [`AttentionShape::check`] says so; the driver's refusal.
    pub unsafe fn launch(
        &self,
        stream: &CudaStream,
        operands: Operands,
        shape: &AttentionShape,
    ) -> Result<(), WorkloadError> {
        shape.check(operands)?;
        let (function, blocks) = self.choose(shape);
        let grid = shape.grid(blocks)?;
        let Operands { q, k, v, out } = operands;
        let (positions, parameters) = (shape.positions.address(), Parameters::of(shape, blocks));
        let mut arguments = [
            argument(&q),
            argument(&k),
            argument(&v),
            argument(&out),
            argument(&positions),
            argument(&parameters),
        ];
        // SAFETY: five pointers and the parameters, as the kernel has them; what they point to is the caller's
        // promise.
        unsafe { launch(stream, function, Geometry::line(grid, THREADS), &mut arguments) }
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
