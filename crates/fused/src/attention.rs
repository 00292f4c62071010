//! Attention of queries over keys and values, `softmax(scale · q · kᵀ) · v`, by `kernels/attention.cu`.
//!
//! Its scores never reach memory, so that what it needs there grows with the length alone. Whatever the kernel
//! cannot do is refused before anything is launched.

mod shape;

use cudarc::driver::{CudaFunction, CudaStream};
use warpmark_cuda::{Compiler, Geometry, argument, function, launch, room};
use warpmark_measure::WorkloadError;

use crate::Dtype;
use shape::Parameters;
pub use shape::{AttentionMask, AttentionShape, Positions, Strides};

/// The kernel's text.
const SOURCE: &str = include_str!("../../../kernels/attention.cu");

/// The name that NVRTC is given for it.
pub const FILE: &str = "attention.cu";

/// Threads of a block.
const THREADS: u32 = 128;

/// The largest head size that has room in registers.
const LARGEST_HEAD: u32 = 256;

/// The largest head size of which a warp takes 32 queries.
const LARGEST_OF_TWO_TILES: u32 = 128;

/// The largest of which its registers hold them; those of larger ones stay in shared memory.
const LARGEST_KEPT: u32 = 64;

/// Bytes of shared memory that a launch may have without leave.
const SHARED_WITHOUT_LEAVE: u32 = 48 << 10;

/// Bytes of shared memory that a block takes beside what it asks for, from compute capability 8.0 on.
const SHARED_OF_A_BLOCK: u32 = 1 << 10;

/// What of a card the kernel depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Card {
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of shared memory that each of them has.
    pub shared: u32,
}

impl Card {
    /// Whether a build of twice the queries runs here: two blocks of it on a multiprocessor, or one would wait
    /// for memory while nobody works.
    fn holds_double(self, build: AttentionBuild) -> bool {
        let room = 2 * (build.dynamic() + SHARED_OF_A_BLOCK);
        build.check(self.capability).is_ok() && room <= self.shared
    }
}

/// What the kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttentionBuild {
    /// Elements of a head: a multiple of 8, up to 256.
    pub head_size: u32,
    /// The type of queries, keys, values and results.
    pub dtype: Dtype,
    /// Sixteens of queries that a warp has: 1, or 2 up to head size 128, which halves its reads of keys and values
    /// in shared memory.
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
    pub fn name(self) -> String {
        format!("attention_{}_{}x{}", self.dtype.name(), self.head_size, self.tiles)
    }

    /// The build for a launch: large blocks read shared memory less, but only where every multiprocessor still gets
    /// two of them.
    pub fn chosen((head_size, dtype): (u32, Dtype), card: Card, shape: &AttentionShape) -> Self {
        let large = Self { head_size, dtype, tiles: 2 };
        let blocks = u64::from(shape.queries.div_ceil(large.rows()))
            * u64::from(shape.sequences)
            * u64::from(shape.heads);
        let fills = blocks >= 2 * u64::from(card.multiprocessors);
        if card.holds_double(large) && fills { large } else { Self { tiles: 1, ..large } }
    }

    /// Bytes of dynamic shared memory of a launch: for queries that no registers keep, and keys and values.
    fn dynamic(self) -> u32 {
        if self.tiles == 1 || self.head_size <= LARGEST_KEPT {
            return 0;
        }
        let width = self.head_size.next_multiple_of(16);
        let keys = if width > 96 { 32 } else { 64 };
        (self.rows() + 2 * keys) * (width + 8) * 2
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
    head: (u32, Dtype),
    card: Card,
    builds: Vec<(AttentionBuild, CudaFunction)>,
}

impl Attention {
    /// Compiles the kernel for a card, in the builds that these shapes take.
    ///
    /// # Errors
    /// [`WorkloadError::Unsupported`] where [`AttentionBuild::check`] says so; NVRTC's and the driver's refusals.
    pub fn new(
        compiler: &Compiler,
        head: (u32, Dtype),
        card: Card,
        shapes: &[AttentionShape],
    ) -> Result<Self, WorkloadError> {
        let load = |build: AttentionBuild| {
            build.check(card.capability)?;
            let module = compiler.compile(FILE, &build.source())?.module;
            Ok((build, function(&module, &build.name())?))
        };
        let mut builds: Vec<AttentionBuild> =
            shapes.iter().map(|shape| AttentionBuild::chosen(head, card, shape)).collect();
        builds.sort_unstable_by_key(|build| build.tiles);
        builds.dedup();
        let builds = builds.into_iter().map(load).collect::<Result<_, _>>()?;
        Ok(Self { head, card, builds })
    }

    /// Enqueues the attention of a shape.
    ///
    /// # Safety
    /// As that of [`enqueue`].
    ///
    /// # Errors
    /// Those of [`enqueue`].
    pub unsafe fn launch(
        &self,
        stream: &CudaStream,
        operands: Operands,
        shape: &AttentionShape,
    ) -> Result<(), WorkloadError> {
        let chosen = AttentionBuild::chosen(self.head, self.card, shape);
        let found = self.builds.iter().find(|(build, _)| *build == chosen);
        let Some((build, function)) = found.or_else(|| self.builds.first()) else {
            return Err(WorkloadError::Failed(
                "attention of a shape that was not planned".to_owned(),
            ));
        };
        // SAFETY: the caller's promise; the function is that of the build.
        unsafe { enqueue(stream, (*build, function), operands, shape) }
    }
}

/// Enqueues the attention of a shape by a build's function.
///
/// # Safety
/// The function is of this build, on the stream's device. The operands are the addresses of memory there in which all
/// lies that the shape's counts, strides and positions make of them; ragged positions too.
///
/// # Errors
/// [`WorkloadError::Unsupported`] where the kernel cannot do the shape, with the reason; the driver's refusal.
pub unsafe fn enqueue(
    stream: &CudaStream,
    (build, function): (AttentionBuild, &CudaFunction),
    operands: Operands,
    shape: &AttentionShape,
) -> Result<(), WorkloadError> {
    shape.check(operands)?;
    let blocks = shape.queries.div_ceil(build.rows());
    let grid = shape.grid(blocks)?;
    let geometry = Geometry { shared: build.dynamic(), ..Geometry::line(grid, THREADS) };
    if geometry.shared > SHARED_WITHOUT_LEAVE {
        room(function, geometry.shared)?;
    }
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
    // SAFETY: five pointers and the parameters, as the kernel has them; what they point to is the caller's promise.
    unsafe { launch(stream, function, geometry, &mut arguments) }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
