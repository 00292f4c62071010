//! Read bandwidth of a GPU's caches: `kernels/cache.cu`.

use std::sync::Arc;

use cudarc::driver::{CudaFunction, CudaStream};
use rayon::prelude::*;
use warpmark_device::Device;
use warpmark_measure::{Description, Entry, Group, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Check, DeviceSpec, Value};

use super::{entry, parameters, work};
use crate::cases::{self, Cases};
use crate::cuda::Compiler;
use crate::cuda::sum::Sum;
use crate::cuda::{self, Buffer, Filler, Library, Split, argument};
use crate::data::{self, Dtype, Stream};
use crate::levels::Levels;
use crate::memory::cache_caveat;
use crate::{Micro, Processor, RunOptions};

pub(crate) const MICRO: Micro = Micro { runs_on: Processor::Gpu, plan };

const ENGINE: &str = "nvrtc";

/// Inside the L1 cache of every card since 2017, shared memory taken from it or not.
const FIRST: usize = 32 << 10;

/// `THREADS` of `kernels/cache.cu`, and the bytes of its tile.
const THREADS: u32 = 256;
const TILE: usize = 16 << 10;

/// What a launch reads: so much that filling the caches first does not count.
const TRAFFIC: usize = 4 << 30;

fn plan(spec: &DeviceSpec, options: &RunOptions) -> Vec<Group> {
    let levels = Levels::of(spec, FIRST, 1);
    let sizes =
        if options.full { levels.all() } else { vec![levels.first, levels.last, levels.beyond] };
    let planned = sizes.into_iter().filter_map(|size| {
        Some((entry((spec, options), ENGINE, size, TRAFFIC, levels.beyond)?, size))
    });
    let seed = options.seed;
    vec![cases::group("caches of the GPU", planned.collect(), move |device, cases| {
        Caches::open(device, cases, levels.beyond, seed)
    })]
}

/// The memory that is read, of which each working set is the beginning.
struct Caches {
    stream: Arc<CudaStream>,
    kernel: CudaFunction,
    data: Buffer,
    sum: Sum,
    blocks: u32,
    code: String,
    caveat: Option<String>,
    cases: Cases<usize>,
    seed: u64,
}

impl Caches {
    fn open(
        device: &Device,
        cases: Cases<usize>,
        largest: usize,
        seed: u64,
    ) -> Result<Self, WorkloadError> {
        let device = cuda::required(device, &[Library::Nvrtc])?;
        let stream = device.stream.clone();
        let compiler = Compiler::new(device)?;
        let kernels = compiler.compile("cache.cu", include_str!("../../../../kernels/cache.cu"))?;
        let mut data = Buffer::new(&stream, largest, "the largest working set")?;
        Filler::new(&compiler)?.fill(&stream, &mut data, Dtype::F32, Stream::new(seed, 0))?;
        let sum = Sum::new(&stream)?;
        cuda::wait(&stream)?;
        let kernel = cuda::function(&kernels.module, "cache_read")?;
        cuda::prefer(&kernel, Split::Cache)?;
        Ok(Self {
            kernel,
            blocks: 4 * cuda::multiprocessors(device)?,
            caveat: cache_caveat(&device.spec),
            code: kernels.code,
            stream,
            data,
            sum,
            cases,
            seed,
        })
    }

    /// Tiles that each block reads in a launch.
    fn steps(&self) -> u32 {
        (TRAFFIC / TILE) as u32 / self.blocks
    }
}

impl Session for Caches {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let (id, size) = self.cases.find(entry)?;
        Ok(Box::new(Sweep { id, size, expected: None, session: self }))
    }
}

struct Sweep<'a> {
    id: BenchmarkId,
    size: usize,
    /// The sum of what a launch reads, computed when the first check asks for it.
    expected: Option<u32>,
    session: &'a mut Caches,
}

impl Sweep<'_> {
    fn tiles(&self) -> u32 {
        (self.size / TILE) as u32
    }

    /// Enqueues one launch; `mask` decides whether it keeps its sum.
    fn enqueue(&self, mask: u32) -> Result<(), WorkloadError> {
        let Caches { stream, kernel, data, sum, blocks, .. } = &*self.session;
        let (tiles, steps) = (self.tiles(), self.session.steps());
        let mut arguments = [
            argument(&data.address),
            argument(&tiles),
            argument(&steps),
            argument(sum.address()),
            argument(&mask),
        ];
        // SAFETY: the arguments are those of the kernel, in order; it reads `tiles` tiles, which is the
        // working set and no more than the buffer, and writes one word.
        unsafe { cuda::launch(stream, kernel, *blocks, THREADS, &mut arguments) }
    }
}

/// The sum of all words that `blocks` blocks read in `steps` steps round `tiles` tiles, modulo 2³².
fn expected_sum(numbers: Stream, blocks: u32, tiles: u32, steps: u32) -> u32 {
    const WORDS: u64 = (TILE / size_of::<f32>()) as u64;
    let mut extra = vec![0_u32; tiles as usize];
    for block in 0..u64::from(blocks) {
        let start = block * u64::from(tiles) / u64::from(blocks);
        for step in 0..u64::from(steps % tiles) {
            extra[((start + step) % u64::from(tiles)) as usize] += 1;
        }
    }
    let rounds = blocks.wrapping_mul(steps / tiles);
    let sums = extra.into_par_iter().enumerate().map(|(tile, extra)| {
        let first = tile as u64 * WORDS;
        let words = (first..first + WORDS).map(|i| numbers.uniform(i).to_bits());
        words.fold(0, u32::wrapping_add).wrapping_mul(rounds.wrapping_add(extra))
    });
    sums.reduce(|| 0, u32::wrapping_add)
}

impl Workload for Sweep<'_> {
    fn describe(&self) -> Description {
        let session = &*self.session;
        let mut parameters = parameters(self.size);
        parameters.insert("code".to_owned(), Value::from(session.code.as_str()));
        let traffic = session.blocks as usize * session.steps() as usize * TILE;
        Description {
            id: self.id.clone(),
            parameters,
            work: work(traffic),
            data: Some(data::described(session.seed)),
            weights: None,
            caveats: session.caveat.clone().into_iter().collect(),
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
        let (blocks, steps, tiles) = (self.session.blocks, self.session.steps(), self.tiles());
        let numbers = Stream::new(self.session.seed, 0);
        let expected =
            *self.expected.get_or_insert_with(|| expected_sum(numbers, blocks, tiles, steps));
        self.session.sum.check(&stream, expected, "the data")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_kernel_source_are_those_of_the_launch() {
        let source = include_str!("../../../../kernels/cache.cu");
        assert!(source.contains(&format!("#define THREADS {THREADS}\n")));
        assert!(source.contains("#define UNROLL 4\n"));
        assert_eq!(TILE, THREADS as usize * 4 * 16);
        assert_eq!(FIRST % TILE, 0);
    }

    #[test]
    fn the_expected_sum_is_that_of_reading_block_by_block() {
        let numbers = Stream::new(3, 0);
        for (blocks, tiles, steps) in [(3, 2, 5), (2, 4, 3), (5, 3, 1)] {
            let mut sum = 0_u32;
            for block in 0..blocks {
                for step in 0..steps {
                    let tile = u64::from((block * tiles / blocks + step) % tiles);
                    for word in tile * 4096..(tile + 1) * 4096 {
                        sum = sum.wrapping_add(numbers.uniform(word).to_bits());
                    }
                }
            }
            assert_eq!(expected_sum(numbers, blocks, tiles, steps), sum);
        }
    }
}
