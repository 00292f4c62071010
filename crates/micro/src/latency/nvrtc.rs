//! Latency of a GPU's caches and memory: `kernels/chase.cu`, one thread.

use std::sync::Arc;

use cudarc::driver::{CudaFunction, CudaStream};
use warpmark_device::Device;
use warpmark_measure::workload::checked;
use warpmark_measure::{Description, Entry, Group, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, Check, DeviceSpec, Seconds, Value};

use super::{Cycle, described, entry, parameters, work};
use crate::cases::{self, Cases};
use crate::cuda::Compiler;
use crate::cuda::{self, Buffer, Library, Split, argument};
use crate::levels::Levels;
use crate::memory::{ASSUMED_CACHE, cache_caveat};
use crate::{Micro, Processor, Request};

pub(crate) const MICRO: Micro = Micro { runs_on: Processor::Gpu, plan };

const ENGINE: &str = "nvrtc";

/// Inside the L1 cache of every card since 2017.
const FIRST: usize = 32 << 10;

/// A cache line: 128 bytes, 32 words.
const LINE: usize = 128;
const WORDS: usize = LINE / size_of::<u32>();

/// Bytes of the kernel's state: where the walk stands, and the cycles that it took.
const STATE: usize = 16;

fn plan(spec: &DeviceSpec, request: &Request) -> Vec<Group> {
    let levels = Levels::of(spec, FIRST, 1);
    let sizes = if request.full { levels.all() } else { vec![levels.first, levels.beyond] };
    let planned = sizes.into_iter().filter_map(|size| {
        // Guesses, for the plan.
        let latency = if size <= SMALL { Seconds(50e-9) } else { Seconds(500e-9) };
        let mut entry = entry((spec, request), ENGINE, size, loads(size), latency)?;
        entry.memory_estimate = entry.memory_estimate + Bytes::from_count(flushed(spec));
        Some((entry, size))
    });
    let seed = request.seed;
    vec![cases::group("latency of the GPU", planned.collect(), move |device, cases| {
        Walks::open(device, cases, seed)
    })]
}

/// Working sets that an L1 cache may hold. It is empty when a launch begins, so that a walk has to go
/// round many times.
const SMALL: usize = 256 << 10;

/// Loads of a launch.
fn loads(size: usize) -> u32 {
    if size <= SMALL { 1 << 18 } else { 1 << 14 }
}

/// What has to be written so that the last cache holds nothing else, also where it lets go at random.
fn flushed(spec: &DeviceSpec) -> usize {
    4 * spec.last_level_cache.known().map_or(ASSUMED_CACHE, |cache| cache.0) as usize
}

struct Walks {
    stream: Arc<CudaStream>,
    /// Written before a walk through more than the last cache: part of its table would else be there,
    /// from when it was copied to the device.
    flush: usize,
    kernel: CudaFunction,
    code: String,
    caveat: Option<String>,
    cases: Cases<usize>,
    seed: u64,
}

impl Walks {
    fn open(device: &Device, cases: Cases<usize>, seed: u64) -> Result<Self, WorkloadError> {
        let device = cuda::required(device, &[Library::Nvrtc])?;
        let compiler = Compiler::new(device)?;
        let kernels = compiler.compile("chase.cu", include_str!("../../../../kernels/chase.cu"))?;
        let kernel = cuda::function(&kernels.module, "chase_walk")?;
        cuda::prefer(&kernel, Split::Cache)?;
        Ok(Self {
            stream: device.stream.clone(),
            flush: flushed(&device.spec),
            kernel,
            code: kernels.code,
            caveat: cache_caveat(&device.spec),
            cases,
            seed,
        })
    }
}

impl Session for Walks {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let (id, size) = self.cases.find(entry)?;
        let stream = &self.stream;
        let cycle = Cycle::new(size / LINE, self.seed);
        let mut host = vec![0_u8; size];
        for (place, next) in cycle.steps() {
            let at = place as usize * LINE;
            let next = next * WORDS as u32;
            host[at..at + size_of::<u32>()].copy_from_slice(&next.to_le_bytes());
        }
        let mut table = Buffer::new(stream, size, "the table of the walk")?;
        table.write(stream, &host)?;
        let mut state = Buffer::new(stream, STATE, "the state of the walk")?;
        let first = u64::from(cycle.after(0)) * WORDS as u64;
        state.write(stream, &[first.to_le_bytes(), [0; 8]].concat())?;
        let beyond = 4 * size > self.flush;
        let mut chase =
            Chase { id, size, table, state, cycle, walked: 0, cycles: 0, session: self };
        if beyond {
            Buffer::new(stream, chase.session.flush, "what displaces the table")?.set(stream, 0)?;
        }
        // Once round what the cache can hold, and one more walk, which finds it there.
        let rounds = if beyond { 0 } else { size / LINE };
        for _ in 0..=rounds.div_ceil(loads(size) as usize) {
            chase.launch()?;
        }
        chase.launch()?;
        chase.cycles = chase.state()?.1;
        Ok(Box::new(chase))
    }
}

struct Chase<'a> {
    id: BenchmarkId,
    size: usize,
    table: Buffer,
    state: Buffer,
    cycle: Cycle,
    /// Steps since the beginning of the cycle.
    walked: u64,
    /// The SM's cycles of one walk.
    cycles: u64,
    session: &'a Walks,
}

impl Chase<'_> {
    /// Where the walk stands, and how many cycles the last launch took.
    fn state(&self) -> Result<(u64, u64), WorkloadError> {
        let mut bytes = [0; STATE];
        self.state.read(&self.session.stream, 0, &mut bytes)?;
        let number = |half: usize| {
            bytes[8 * half..8 * half + 8].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
        };
        Ok((number(0), number(1)))
    }
}

impl Workload for Chase<'_> {
    fn describe(&self) -> Description {
        let mut parameters = parameters(self.size, LINE);
        let cycles = self.cycles as f64 / f64::from(loads(self.size));
        parameters.insert("cycles_per_access".to_owned(), Value::Text(format!("{cycles:.1}")));
        parameters.insert("code".to_owned(), Value::from(self.session.code.as_str()));
        Description {
            id: self.id.clone(),
            parameters,
            work: work(loads(self.size)),
            data: Some(described(self.session.seed)),
            weights: None,
            caveats: self.session.caveat.clone().into_iter().collect(),
        }
    }

    /// Goes on where the last walk stopped.
    fn launch(&mut self) -> Result<(), WorkloadError> {
        let loads = loads(self.size);
        let mut arguments =
            [argument(&self.table.address), argument(&loads), argument(&self.state.address)];
        self.walked += u64::from(loads);
        // SAFETY: the arguments are those of the kernel, in order; every word that the walk meets is the
        // index of another one in the table, and the state is two words of eight bytes.
        unsafe { cuda::launch(&self.session.stream, &self.session.kernel, 1, 1, &mut arguments) }
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        cuda::wait(&self.session.stream)
    }

    /// Where every launch so far has led, against the cycle that the table was made from.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        let expected = u64::from(self.cycle.after(self.walked)) * WORDS as u64;
        let wrong = u32::from(self.state()?.0 != expected);
        // There is one right place, so nothing is tolerated.
        checked("whether the walk has come to the right place (0 if so)", wrong.into(), 0.0)
    }
}
