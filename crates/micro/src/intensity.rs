//! Operations a byte: one kernel under a GPU's roofline (`kernels/intensity.cu`), so that where the
//! slope ends and what the roof holds is measured and not read off two other benchmarks.

use std::sync::Arc;

use cudarc::driver::{CudaFunction, CudaStream};
use warpmark_device::Device;
use warpmark_measure::workload::checked;
use warpmark_measure::{Description, Entry, Group, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, Check, DeviceSpec, Flops, Value, Work};

use crate::cases::{self, Cases};
use crate::cuda::Compiler;
use crate::cuda::{self, Buffer, Filler, Library, argument};
use crate::data::{Dtype, Stream, described};
use crate::memory::nvrtc::least;
use crate::{Micro, Processor, RunOptions, guess};

pub(crate) const MICRO: Micro = Micro { runs_on: Processor::Gpu, plan };

const ENGINE: &str = "nvrtc";

/// `THREADS` and `UNROLL` of `kernels/intensity.cu`.
const THREADS: u32 = 256;
const UNROLL: u32 = 4;

/// Bytes that a block reads.
const CHUNK: usize = (THREADS * UNROLL) as usize * 16;

/// FLOPs a byte, in quarters: the quick suite's, one on each side of every card's ridge.
const QUICK: [u32; 2] = [1, 2048];
/// From 1/4 to 512, each twice the one before it.
const FULL: u32 = 12;

/// What timed launches multiply by and add: nothing is rounded, and nothing comes to rest.
const TIMED: (f32, f32) = (-1.0, 1.0);
/// What the checking launch does: every step changes all bits, and 1024 of them are still far from a limit.
const CHECKED: (f32, f32) = (1.000_976_6, 0.5);
/// Blocks of the checking launch, at the end of the array.
const CHECKED_BLOCKS: u32 = 3;

/// How many operations a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Intensity {
    /// FLOPs of four bytes, which are the kernel's steps.
    steps: u32,
}

impl Intensity {
    fn per_byte(self) -> f64 {
        f64::from(self.steps) / 4.0
    }

    fn name(self) -> String {
        self.per_byte().to_string()
    }

    fn work(self, bytes: usize) -> Work {
        let read = Bytes::from_count(bytes);
        let flops = Flops(self.per_byte() * read.0);
        Work { flops: Some(flops), bytes: Some(read), items: None }
    }
}

fn plan(spec: &DeviceSpec, options: &RunOptions) -> Vec<Group> {
    let size = least(spec).next_power_of_two();
    let all: Vec<u32> =
        if options.full { (0..FULL).map(|n| 1 << n).collect() } else { QUICK.to_vec() };
    let planned = all.into_iter().filter_map(|steps| {
        let intensity = Intensity { steps };
        let work = intensity.work(size);
        let reading = Bytes::from_count(size) / guess::bandwidth(spec);
        let computing = work.flops? / guess::flops(spec, Dtype::F32, Dtype::F32);
        let segments = ["intensity", "f32", &intensity.name()];
        let iteration = reading.max(computing);
        let memory = Bytes::from_count(size);
        let entry = cases::entry((spec, options), &segments, ENGINE, iteration, memory)?;
        Some((entry, intensity))
    });
    let seed = options.seed;
    vec![cases::group("operations a byte on the GPU", planned.collect(), move |device, cases| {
        Sweep::open(device, cases, (size, seed))
    })]
}

struct Sweep {
    stream: Arc<CudaStream>,
    kernel: CudaFunction,
    array: Buffer,
    fold: Buffer,
    code: String,
    cases: Cases<Intensity>,
    seed: u64,
}

/// The numbers of the array.
fn numbers(seed: u64) -> Stream {
    Stream::new(seed, 7)
}

impl Sweep {
    fn open(
        device: &Device,
        cases: Cases<Intensity>,
        (size, seed): (usize, u64),
    ) -> Result<Self, WorkloadError> {
        let device = cuda::required(device, &[Library::Nvrtc])?;
        let compiler = Compiler::new(device)?;
        let source = include_str!("../../../kernels/intensity.cu");
        let kernels = compiler.compile("intensity.cu", source)?;
        let stream = device.stream.clone();
        let mut array = Buffer::new(&stream, size, "the array")?;
        Filler::new(&compiler)?.fill(&stream, &mut array, Dtype::F32, numbers(seed))?;
        Ok(Self {
            kernel: cuda::function(&kernels.module, "intensity_sweep")?,
            fold: Buffer::new(&stream, size_of::<u32>(), "the fold")?,
            code: kernels.code,
            stream,
            array,
            cases,
            seed,
        })
    }
}

impl Session for Sweep {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let (id, intensity) = self.cases.find(entry)?;
        Ok(Box::new(Pass { id, intensity, session: self }))
    }
}

struct Pass<'a> {
    id: BenchmarkId,
    intensity: Intensity,
    session: &'a mut Sweep,
}

impl Pass<'_> {
    fn blocks(&self) -> u32 {
        (self.session.array.bytes() / CHUNK) as u32
    }

    /// Enqueues a launch on the blocks from `first` on; `mask` decides whether it keeps its fold.
    fn enqueue(
        &self,
        first: u32,
        (scale, shift): (f32, f32),
        mask: u32,
    ) -> Result<(), WorkloadError> {
        let Sweep { stream, kernel, array, fold, .. } = &*self.session;
        let from = array.address + u64::from(first) * CHUNK as u64;
        let mut arguments = [
            argument(&from),
            argument(&self.intensity.steps),
            argument(&scale),
            argument(&shift),
            argument(&fold.address),
            argument(&mask),
        ];
        // SAFETY: the arguments are those of the kernel, in order; the array has a chunk for each of its
        // blocks, and the fold is one word.
        unsafe { cuda::launch(stream, kernel, self.blocks() - first, THREADS, &mut arguments) }
    }
}

/// The fold of elements that went through `steps` steps of the checking launch.
fn expected_fold(numbers: Stream, elements: std::ops::Range<u64>, steps: u32) -> u32 {
    let (scale, shift) = CHECKED;
    elements.fold(0, |fold, index| {
        // The first two of each four have the step that is left over.
        let own = steps / 2 + u32::from(steps % 2 == 1 && index % 4 < 2);
        let value = (0..own).fold(numbers.uniform(index), |x, _| x.mul_add(scale, shift));
        fold ^ value.to_bits()
    })
}

impl Workload for Pass<'_> {
    fn describe(&self) -> Description {
        let Sweep { array, code, seed, .. } = &*self.session;
        let parameters = [
            ("dtype", Value::from("f32")),
            ("accumulate", Value::from("f32")),
            ("size_bytes", Value::from(array.bytes())),
            ("flop_per_byte", Value::Text(self.intensity.name())),
            ("code", Value::from(code.as_str())),
        ];
        Description {
            id: self.id.clone(),
            parameters: parameters.map(|(name, value)| (name.to_owned(), value)).into(),
            work: self.intensity.work(array.bytes()),
            data: Some(described(*seed)),
            weights: None,
            caveats: Vec::new(),
        }
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.enqueue(0, TIMED, 0)
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        cuda::wait(&self.session.stream)
    }

    /// Timed launches leave nothing; one more, at the end of the array, keeps the fold of results that count
    /// their steps.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        let stream = self.session.stream.clone();
        self.session.fold.set(&stream, 0)?;
        let first = self.blocks().saturating_sub(CHECKED_BLOCKS);
        self.enqueue(first, CHECKED, u32::MAX)?;
        let mut bytes = [0; 4];
        self.session.fold.read(&stream, 0, &mut bytes)?;
        let of_a_block = CHUNK as u64 / 4;
        let elements = u64::from(first) * of_a_block..u64::from(self.blocks()) * of_a_block;
        let expected = expected_fold(numbers(self.session.seed), elements, self.intensity.steps);
        let wrong = u32::from(u32::from_le_bytes(bytes) != expected);
        // Every step has one right result, a fused multiply-add rounded once.
        checked(
            "whether the fold of the last results is that of the host's (0 if so)",
            wrong.into(),
            0.0,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_kernel_source_are_those_of_the_launch() {
        let source = include_str!("../../../kernels/intensity.cu");
        assert!(source.contains(&format!("#define THREADS {THREADS}\n")));
        assert!(source.contains(&format!("#define UNROLL {UNROLL}\n")));
    }

    #[test]
    fn intensities_go_from_a_quarter_to_512_and_the_work_is_as_many_flops_a_byte() {
        let all: Vec<Intensity> = (0..FULL).map(|n| Intensity { steps: 1 << n }).collect();
        assert_eq!((all[0].name(), all[FULL as usize - 1].name()), ("0.25".into(), "512".into()));
        for intensity in all {
            let Work { flops, bytes, .. } = intensity.work(1 << 20);
            let share = flops.unwrap().0 / bytes.unwrap().0;
            assert!((share - intensity.per_byte()).abs() < 1e-12);
        }
        assert!(QUICK.iter().all(|steps| steps.is_power_of_two() && steps.ilog2() < FULL));
    }

    #[test]
    fn the_checked_fold_counts_every_step() {
        let fold = |steps| expected_fold(numbers(5), 0..4096, steps);
        let folds: std::collections::BTreeSet<u32> = (0..64).map(fold).collect();
        assert_eq!(folds.len(), 64);
        // Of one multiply-add product and sum are exact in f64, so that only the last rounding is left.
        let once = |n| f64::from(numbers(5).uniform(n)) * f64::from(CHECKED.0) + 0.5;
        let folded = (0..4096).fold(0, |fold, n| fold ^ (once(n) as f32).to_bits());
        assert_eq!(fold(2), folded);
        assert_eq!(CHECKED.0.to_bits(), (1.0 + 2.0_f32.powi(-10)).to_bits());
    }

    #[test]
    fn what_is_timed_rounds_nothing_and_never_comes_to_rest() {
        let (scale, shift) = TIMED;
        for index in 0..10_000 {
            let x = numbers(5).uniform(index);
            let y = x.mul_add(scale, shift);
            assert_eq!(y.mul_add(scale, shift).to_bits(), (x + 0.0).to_bits(), "{x}");
        }
    }
}
