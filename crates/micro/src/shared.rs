//! Bandwidth of a GPU's shared memory: `kernels/shared.cu`. A CPU has nothing of the kind; its first
//! cache is measured by `cache`.

use std::sync::Arc;

use cudarc::driver::{CudaFunction, CudaStream};
use warpmark_device::Device;
use warpmark_measure::{Description, Entry, Group, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, Check, DeviceSpec, Value, Work};

use crate::cases::{self, Cases};
use crate::cuda::Compiler;
use crate::cuda::sum::Sum;
use crate::cuda::{self, Library, Split, argument};
use crate::{Micro, Processor, RunOptions, guess};

pub(crate) const MICRO: Micro = Micro { runs_on: Processor::Gpu, plan };

const ENGINE: &str = "nvrtc";

/// `THREADS` and `VECTORS` of `kernels/shared.cu`.
const THREADS: u32 = 256;
const VECTORS: u32 = 1024;

/// Blocks that run on a multiprocessor at once: their tiles of 16 KiB fit into the shared memory of
/// every card since 2018.
const BLOCKS: u32 = 4;

/// Reads of each thread, a multiple of the steps that lead once round the tile.
const STEPS: u32 = 8192;

fn plan(spec: &DeviceSpec, options: &RunOptions) -> Vec<Group> {
    let multiprocessors =
        spec.gpu.as_ref().and_then(|gpu| gpu.sm_count.known().copied()).unwrap_or(40);
    // Some eight times as fast as memory, for the plan.
    let iteration = bytes(BLOCKS * multiprocessors) / (guess::bandwidth(spec) * 8.0);
    let entry = cases::entry((spec, options), &["shared", "read"], ENGINE, iteration, Bytes(4.0));
    let key = options.seed as u32;
    let planned = entry.into_iter().map(|entry| (entry, ())).collect();
    vec![cases::group("shared memory of the GPU", planned, move |device, cases| {
        Shared::open(device, cases, key)
    })]
}

/// What a launch of so many blocks reads.
fn bytes(blocks: u32) -> Bytes {
    Bytes(f64::from(blocks) * f64::from(THREADS) * f64::from(STEPS) * 16.0)
}

struct Shared {
    stream: Arc<CudaStream>,
    kernel: CudaFunction,
    sum: Sum,
    blocks: u32,
    code: String,
    cases: Cases<()>,
    key: u32,
}

impl Shared {
    fn open(device: &Device, cases: Cases<()>, key: u32) -> Result<Self, WorkloadError> {
        let device = cuda::required(device, &[Library::Nvrtc])?;
        let compiler = Compiler::new(device)?;
        let kernels = compiler.compile("shared.cu", include_str!("../../../kernels/shared.cu"))?;
        let stream = device.stream.clone();
        let kernel = cuda::function(&kernels.module, "shared_read")?;
        cuda::prefer(&kernel, Split::Shared)?;
        Ok(Self {
            kernel,
            sum: Sum::new(&stream)?,
            blocks: BLOCKS * cuda::multiprocessors(device)?,
            code: kernels.code,
            stream,
            cases,
            key,
        })
    }
}

impl Session for Shared {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let (id, ()) = self.cases.find(entry)?;
        Ok(Box::new(Read { id, session: self }))
    }
}

struct Read<'a> {
    id: BenchmarkId,
    session: &'a mut Shared,
}

impl Read<'_> {
    /// Enqueues one launch; `mask` decides whether it keeps its sum.
    fn enqueue(&self, mask: u32) -> Result<(), WorkloadError> {
        let Shared { stream, kernel, sum, blocks, key, .. } = &*self.session;
        let mut arguments = [
            argument(key),
            argument(&STEPS),
            argument(&THREADS),
            argument(sum.address()),
            argument(&mask),
        ];
        // SAFETY: the arguments are those of the kernel, in order; the sum is one word.
        unsafe { cuda::launch(stream, kernel, *blocks, THREADS, &mut arguments) }
    }
}

/// What `blocks` blocks add up, modulo 2³²: every word of the tile is read equally often.
fn expected_sum(key: u32, blocks: u32) -> u32 {
    let word = |index: u32| index.wrapping_add(key).wrapping_mul(0x9E37_79B9);
    let tile = (0..4 * VECTORS).fold(0, |sum: u32, index| sum.wrapping_add(word(index)));
    let rounds = STEPS / (VECTORS / THREADS);
    tile.wrapping_mul(rounds).wrapping_mul(blocks)
}

impl Workload for Read<'_> {
    fn describe(&self) -> Description {
        let Shared { blocks, code, key, .. } = &*self.session;
        let parameters = [
            ("traffic", Value::from("reads")),
            ("tile_bytes", Value::from(VECTORS as usize * 16)),
            ("code", Value::from(code.as_str())),
        ];
        Description {
            id: self.id.clone(),
            parameters: parameters.map(|(name, value)| (name.to_owned(), value)).into(),
            work: Work { flops: None, bytes: Some(bytes(*blocks)), items: None },
            data: Some(format!("multiples of an odd number, seed {key}")),
            weights: None,
            caveats: Vec::new(),
        }
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.enqueue(0)
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        cuda::wait(&self.session.stream)
    }

    /// Timed launches leave nothing; one more is made with its sum kept.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        let stream = self.session.stream.clone();
        self.session.sum.clear(&stream)?;
        self.enqueue(u32::MAX)?;
        let expected = expected_sum(self.session.key, self.session.blocks);
        self.session.sum.check(&stream, expected, "the tile")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_kernel_source_are_those_of_the_launch() {
        let source = include_str!("../../../kernels/shared.cu");
        assert!(source.contains(&format!("#define THREADS {THREADS}\n")));
        assert!(source.contains(&format!("#define VECTORS {VECTORS}\n")));
        assert!(source.contains("(index + key) * 0x9E3779B9u"));
        assert_eq!(STEPS % (VECTORS / THREADS), 0);
    }
}
