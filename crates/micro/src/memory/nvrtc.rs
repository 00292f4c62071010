//! Memory bandwidth of a GPU: the kernels of `kernels/memory.cu`, compiled for the card at run time.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::{CudaFunction, CudaStream};
use warpmark_device::Device;
use warpmark_measure::workload::checked;
use warpmark_measure::{Description, Entry, Group, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Check, DeviceSpec, Seconds, Value};

use super::variants::{Build, Variant};
use super::{Contents, FACTOR, Operation, cache_caveat, groups, last_cache, parameters, work};
use crate::cases::Cases;
use crate::cuda::Compiler;
use crate::cuda::contest::{Contestants, LOAD, Rules, compare};
use crate::cuda::timer::Timer;
use crate::cuda::{self, Buffer, Filler, Library, argument};
use crate::data::{self, Dtype, Stream};
use crate::{Micro, Processor, RunOptions, sustained};

pub(crate) const MICRO: Micro = Micro { runs_on: Processor::Gpu, plan };

const ENGINE: &str = "nvrtc";

/// The smallest array, however small the cache and slow the memory.
const FLOOR: usize = 256 << 20;

/// Reading an array takes so long at least, that a launch's start and end do not count: they take some
/// microseconds.
const SHORTEST: Seconds = Seconds(0.5e-3);

/// An array is so many times the last cache at least: of what a sweep finds there from the one before,
/// a build whose accesses are marked as not wanted again may get a larger part than others, and must
/// not be chosen for it.
const CACHES: f64 = 16.0;

/// The bytes that an array has at least.
pub(crate) fn least(spec: &DeviceSpec) -> usize {
    let by_time = spec.memory_bandwidth.known().map_or(0.0, |bandwidth| bandwidth.0 * SHORTEST.0);
    FLOOR.max(by_time as usize).max((CACHES * last_cache(spec)) as usize)
}

/// `CHUNK` of `kernels/memory.cu`.
const CHUNK: usize = 4096;

/// How builds are compared.
const CHOICE: Rules = Rules { limit: Seconds(1.0), load: LOAD, rounds: 2, finals: 4 };

/// Slices of `c` that are checked, and the elements of each.
const SLICES: u64 = 64;
const SLICE: usize = 1024;

fn plan(spec: &DeviceSpec, options: &RunOptions) -> Vec<Group> {
    let mut groups = groups((spec, options), ("GPU", ENGINE), least(spec), GpuSession::open);
    for entry in groups.iter_mut().flat_map(|group| &mut group.entries) {
        let trials = CHOICE.estimate(Variant::all().count(), entry.iteration_estimate);
        entry.preparation_estimate = entry.preparation_estimate + trials;
    }
    groups
}

/// The arrays and the kernels.
struct GpuSession {
    stream: Arc<CudaStream>,
    builds: Vec<Build>,
    a: Buffer,
    b: Buffer,
    c: Buffer,
    /// Where `memory_read` puts its fold.
    fold: Buffer,
    /// The fold of what `a` is filled with, computed when the first check asks for it.
    expected_fold: Option<u32>,
    cache_caveat: Option<String>,
    cases: Cases<Operation>,
    contents: Contents,
}

impl GpuSession {
    fn open(
        device: &Device,
        cases: Cases<Operation>,
        size: usize,
        contents: Contents,
    ) -> Result<Self, WorkloadError> {
        let device = cuda::required(device, &[Library::Nvrtc])?;
        let stream = device.stream.clone();
        let compiler = Compiler::new(device)?;
        let builds = Variant::all()
            .map(|variant| Build::new(&compiler, variant))
            .collect::<Result<_, _>>()?;
        let filler = Filler::new(&compiler)?;
        let mut arrays = [
            Buffer::new(&stream, size, "array a")?,
            Buffer::new(&stream, size, "array b")?,
            Buffer::new(&stream, size, "array c")?,
        ];
        filler.fill(&stream, &mut arrays[0], Dtype::F32, contents.a)?;
        filler.fill(&stream, &mut arrays[1], Dtype::F32, contents.b)?;
        let fold = Buffer::new(&stream, size_of::<u32>(), "the fold")?;
        cuda::wait(&stream)?;
        let [a, b, c] = arrays;
        let (cache_caveat, expected_fold) = (cache_caveat(&device.spec), None);
        Ok(Self { stream, builds, a, b, c, fold, expected_fold, cache_caveat, cases, contents })
    }

    fn size(&self) -> usize {
        self.a.bytes()
    }

    /// The fold of the whole of `a` by the generator that filled it.
    fn expected_fold(&mut self) -> u32 {
        let elements = (self.size() / size_of::<f32>()) as u64;
        *self.expected_fold.get_or_insert_with(|| fold_of(self.contents.a, elements))
    }
}

/// The exclusive or of the first `elements` numbers of a stream.
fn fold_of(numbers: Stream, elements: u64) -> u32 {
    use rayon::prelude::*;
    (0..elements).into_par_iter().map(|i| numbers.uniform(i).to_bits()).reduce(|| 0, |a, b| a ^ b)
}

impl Session for GpuSession {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let (id, operation) = self.cases.find(entry)?;
        let (variant, kernel, code) = self.fastest(operation)?;
        self.c.set(&self.stream, 0xFF)?;
        cuda::wait(&self.stream)?;
        let launched = false;
        Ok(Box::new(Pass { id, operation, variant, kernel, code, session: self, launched }))
    }
}

impl GpuSession {
    /// The variant that takes the least time for an operation, with its kernel and what that was compiled to.
    fn fastest(
        &self,
        operation: Operation,
    ) -> Result<(Variant, CudaFunction, String), WorkloadError> {
        let kernels = self.builds.iter().map(|build| Ok((build, build.kernel(operation)?)));
        let kernels = kernels.collect::<Result<Vec<_>, WorkloadError>>()?;
        let timer = Timer::new(&self.stream, None)?;
        let mut trial = Trial { session: self, operation, kernels: &kernels, timer };
        let none = WorkloadError::failed("memory.cu was built in no variant");
        let standing = compare(CHOICE, kernels.len(), &mut trial, none)?;
        let (build, kernel) = kernels[standing.best];
        Ok((build.variant, kernel.clone(), build.code.clone()))
    }

    /// Enqueues one pass; `mask` decides whether `read` stores its fold.
    fn enqueue(
        &self,
        operation: Operation,
        variant: Variant,
        kernel: &CudaFunction,
        mask: u32,
    ) -> Result<(), WorkloadError> {
        let Self { stream, a, b, c, fold, contents, .. } = self;
        let blocks = (self.size() / size_of::<f32>() / CHUNK) as u32;
        let (a, b, c) = (argument(&a.address), argument(&b.address), argument(&c.address));
        let factor = argument(&FACTOR);
        let mut arguments: [*mut c_void; 4] = match operation {
            Operation::Read => [a, argument(&fold.address), argument(&mask), a],
            Operation::Write => [c, argument(&contents.pattern), c, c],
            Operation::Copy => [a, c, c, c],
            Operation::Scale => [a, c, factor, c],
            Operation::Add => [a, b, c, c],
            Operation::Triad => [a, b, c, factor],
        };
        // SAFETY: the arguments are those of the kernel in memory.cu, in order; the driver reads as many
        // as the kernel has and leaves the rest of the four. Arrays are a multiple of CHUNK elements
        // (powers of two of at least FLOOR bytes), which the blocks cover exactly; the kernel was built for
        // as many threads.
        unsafe { cuda::launch(stream, kernel, blocks, variant.threads, &mut arguments) }
    }
}

/// The builds of one operation, to find the fastest.
struct Trial<'a> {
    session: &'a GpuSession,
    operation: Operation,
    kernels: &'a [(&'a Build, &'a CudaFunction)],
    timer: Timer<'a>,
}

impl Contestants for Trial<'_> {
    /// A kernel that was compiled for the card is refused by nothing but a broken device.
    fn enter(&mut self, variant: usize) -> Result<Result<(), WorkloadError>, WorkloadError> {
        let (build, kernel) = self.kernels[variant];
        self.session.enqueue(self.operation, build.variant, kernel, 0)?;
        cuda::wait(&self.session.stream)?;
        Ok(Ok(()))
    }

    fn time(&mut self, variant: usize, launches: usize) -> Result<f64, WorkloadError> {
        let (build, kernel) = self.kernels[variant];
        self.timer.time(launches, || self.session.enqueue(self.operation, build.variant, kernel, 0))
    }
}

struct Pass<'a> {
    id: BenchmarkId,
    operation: Operation,
    variant: Variant,
    kernel: CudaFunction,
    /// What it was compiled to.
    code: String,
    session: &'a mut GpuSession,
    /// Whether `c` holds the answer of a launch since it was last checked.
    launched: bool,
}

impl Pass<'_> {
    fn enqueue(&self, mask: u32) -> Result<(), WorkloadError> {
        self.session.enqueue(self.operation, self.variant, &self.kernel, mask)
    }

    /// Reads the whole of `a` once more, this time keeping the fold. 1 if it is wrong.
    fn wrong_fold(&mut self) -> Result<u64, WorkloadError> {
        let stream = self.session.stream.clone();
        self.session.fold.set(&stream, 0)?;
        self.enqueue(u32::MAX)?;
        let mut bytes = [0; 4];
        self.session.fold.read(&stream, 0, &mut bytes)?;
        Ok(u64::from(u32::from_le_bytes(bytes) != self.session.expected_fold()))
    }

    /// Wrong elements in sampled slices of `c`.
    fn wrong_elements(&self) -> Result<u64, WorkloadError> {
        let session = &*self.session;
        let elements = session.size() / size_of::<f32>();
        let mut bytes = vec![0; SLICE * size_of::<f32>()];
        let mut wrong = 0;
        for first in slices(session.contents.seed, elements) {
            session.c.read(&session.stream, first * size_of::<f32>(), &mut bytes)?;
            wrong += wrong_in(&bytes, first as u64, self.operation, &session.contents);
        }
        Ok(wrong)
    }
}

/// Where the checked slices begin: the first and the last of the array, and others anywhere.
fn slices(seed: u64, elements: usize) -> Vec<usize> {
    let last = elements - SLICE;
    let stream = Stream::new(seed, 3);
    let anywhere = (0..SLICES - 2).map(|i| (stream.bits(i) % (last as u64 + 1)) as usize);
    [0, last].into_iter().chain(anywhere).collect()
}

/// How many of the numbers in `bytes`, which begin at element `first`, are not what belongs there.
fn wrong_in(bytes: &[u8], first: u64, operation: Operation, contents: &Contents) -> u64 {
    let got = bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
    let wrong = got.zip(first..).filter(|(got, i)| {
        let (a, b) = (contents.a.uniform(*i), contents.b.uniform(*i));
        *got != operation.value(a, b, contents.pattern_at(*i)).to_bits()
    });
    wrong.count() as u64
}

impl Workload for Pass<'_> {
    fn describe(&self) -> Description {
        let session = &*self.session;
        let mut parameters = parameters(self.operation, session.size());
        parameters.insert("code".to_owned(), Value::from(self.code.as_str()));
        parameters.insert("kernel".to_owned(), Value::from(self.variant.name().as_str()));
        parameters.insert("kernels_tried".to_owned(), Value::from(session.builds.len()));
        Description {
            id: self.id.clone(),
            parameters,
            work: work(self.operation, session.size()),
            data: Some(data::described(session.contents.seed)),
            weights: None,
            caveats: session.cache_caveat.clone().into_iter().collect(),
        }
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.launched = true;
        self.enqueue(0)
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        cuda::wait(&self.session.stream)
    }

    fn rest(&self) -> Option<Seconds> {
        sustained::rest_before(&self.id)
    }

    /// Checks what the last launch left in `c`, then spoils it, so that the next check sees only what
    /// later launches write. `read` leaves nothing; it is run once more with its fold kept.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        if !self.launched {
            self.launch()?;
        }
        self.wait()?;
        let (what, wrong) = if self.operation.writes() {
            let what = format!("count of wrong elements in {SLICES} slices of {SLICE}, to the bit");
            (what, self.wrong_elements()?)
        } else {
            let what = "whether the fold of all bits read is that of the data (0 if so)".to_owned();
            (what, self.wrong_fold()?)
        };
        // Each answer has one right value to the bit, so nothing is tolerated.
        let check = checked(what, wrong as f64, 0.0)?;
        let session = &mut *self.session;
        session.c.set(&session.stream, 0xFF)?;
        self.launched = false;
        Ok(check)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sizes;
    use super::*;
    use crate::tests::{h200, t4};

    fn planned_sizes(spec: &DeviceSpec, full: bool) -> Vec<usize> {
        sizes(&RunOptions { full, ..RunOptions::default() }, least(spec))
    }

    #[test]
    fn arrays_take_half_a_millisecond_to_read_and_are_sixteen_times_the_l2() {
        assert_eq!(planned_sizes(&t4(), false), [256 << 20]);
        assert_eq!(planned_sizes(&t4(), true), [256 << 20, 512 << 20, 1 << 30]);
        // 4.8 TB/s for half a millisecond are 2.4 GB.
        assert_eq!(planned_sizes(&h200(), true), [4 << 30, 8 << 30, 16 << 30]);
        let mut large_cache = t4();
        large_cache.last_level_cache = warpmark_record::Field::Known(warpmark_record::Bytes(72e6));
        assert_eq!(planned_sizes(&large_cache, false), [2 << 30]);
        let mut silent = t4();
        silent.memory_bandwidth = warpmark_record::Field::absent("the driver reports 0");
        assert_eq!(planned_sizes(&silent, false), [256 << 20]);
    }

    #[test]
    fn the_numbers_of_the_kernel_source_are_those_of_the_launch() {
        let source = include_str!("../../../../kernels/memory.cu");
        assert!(source.contains(&format!("#define CHUNK {CHUNK}\n")));
        assert!(source.contains("#define UNROLL (CHUNK / 4 / THREADS)\n"));
        for variant in Variant::all() {
            assert_eq!(CHUNK % (4 * variant.threads as usize), 0, "{variant:?}");
            assert!(
                variant.source().starts_with(&format!("#define THREADS {}\n", variant.threads))
            );
            assert_eq!(variant.source().contains("#define STREAMING\n"), variant.streaming);
        }
        assert_eq!(FLOOR % (CHUNK * size_of::<f32>()), 0);
    }

    #[test]
    fn every_operation_has_its_kernel() {
        let source = include_str!("../../../../kernels/memory.cu");
        for operation in Operation::ALL {
            assert!(source.contains(&format!("memory_{}(", operation.name())), "{operation:?}");
        }
    }

    #[test]
    fn one_wrong_element_of_a_slice_is_counted() {
        let contents = Contents::new(6);
        for operation in Operation::ALL.into_iter().filter(|operation| operation.writes()) {
            let mut bytes: Vec<u8> = (5..5 + SLICE as u64)
                .flat_map(|i| {
                    let (a, b) = (contents.a.uniform(i), contents.b.uniform(i));
                    operation.value(a, b, contents.pattern_at(i)).to_le_bytes()
                })
                .collect();
            assert_eq!(wrong_in(&bytes, 5, operation, &contents), 0);
            assert_ne!(wrong_in(&bytes, 6, operation, &contents), 0);
            bytes[400] ^= 1;
            assert_eq!(wrong_in(&bytes, 5, operation, &contents), 1);
        }
    }

    #[test]
    fn checked_slices_lie_within_the_array_and_touch_both_ends() {
        let elements = 1 << 20;
        let slices = slices(1, elements);
        assert_eq!(slices.len() as u64, SLICES);
        assert!(slices.iter().all(|first| first + SLICE <= elements));
        assert!(slices.contains(&0) && slices.contains(&(elements - SLICE)));
    }

    #[test]
    fn a_fold_in_parallel_is_the_fold_in_order() {
        let numbers = Stream::new(1, 0);
        let in_order = (0..1000).fold(0, |fold, i| fold ^ numbers.uniform(i).to_bits());
        assert_eq!(fold_of(numbers, 1000), in_order);
    }
}
