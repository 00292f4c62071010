//! Throughput of a GPU's atomic additions: `kernels/atomics.cu`. On a CPU the same code would measure how
//! cores hand a cache line around, which is another question.

use std::sync::Arc;

use cudarc::driver::{CudaFunction, CudaStream};
use warpmark_device::Device;
use warpmark_measure::workload::checked;
use warpmark_measure::{Description, Entry, Group, Session, Workload, WorkloadError};
use warpmark_record::{
    BenchmarkId, Bytes, Check, DeviceSpec, ItemUnit, Items, Seconds, Value, Work,
};

use crate::cases::{self, Cases};
use crate::cuda::Compiler;
use crate::cuda::{self, Buffer, Library, argument};
use crate::{Micro, Processor, RunOptions};

pub(crate) const MICRO: Micro = Micro { runs_on: Processor::Gpu, plan };

const ENGINE: &str = "nvrtc";

/// Threads of a block, and blocks for each multiprocessor.
const THREADS: u32 = 256;
const BLOCKS: u32 = 4;

/// Additions of each thread in a launch.
const ROUNDS: u32 = 256;

/// Where the threads' counters lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spread {
    /// All on one address.
    Same,
    /// Each in a sector of 32 bytes of its own.
    Spread,
}

impl Spread {
    const ALL: [Self; 2] = [Self::Same, Self::Spread];

    fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Spread => "spread",
        }
    }

    /// Counters from one thread's to the next one's.
    fn stride(self) -> u32 {
        match self {
            Self::Same => 0,
            Self::Spread => 8,
        }
    }
}

fn plan(spec: &DeviceSpec, options: &RunOptions) -> Vec<Group> {
    let multiprocessors =
        spec.gpu.as_ref().and_then(|gpu| gpu.sm_count.known().copied()).unwrap_or(40);
    let threads = f64::from(BLOCKS * THREADS * multiprocessors);
    let planned = Spread::ALL.into_iter().filter_map(|spread| {
        // Operations a second, guessed for the plan.
        let rate = if spread == Spread::Same { 2e9 } else { 5e10 };
        let iteration = Seconds(threads * f64::from(ROUNDS) / rate);
        let segments = ["atomics", spread.name()];
        let entry =
            cases::entry((spec, options), &segments, ENGINE, iteration, Bytes(32.0 * threads));
        Some((entry?, spread))
    });
    vec![cases::group("atomics of the GPU", planned.collect(), Atomics::open)]
}

struct Atomics {
    stream: Arc<CudaStream>,
    kernel: CudaFunction,
    counters: Buffer,
    blocks: u32,
    code: String,
    cases: Cases<Spread>,
}

impl Atomics {
    fn open(device: &Device, cases: Cases<Spread>) -> Result<Self, WorkloadError> {
        let device = cuda::required(device, &[Library::Nvrtc])?;
        let compiler = Compiler::new(device)?;
        let kernels =
            compiler.compile("atomics.cu", include_str!("../../../kernels/atomics.cu"))?;
        let stream = device.stream.clone();
        let blocks = BLOCKS * cuda::multiprocessors(device)?;
        let bytes = (blocks * THREADS * Spread::Spread.stride()) as usize * size_of::<u32>();
        Ok(Self {
            kernel: cuda::function(&kernels.module, "atomics_add")?,
            counters: Buffer::new(&stream, bytes, "the counters")?,
            blocks,
            code: kernels.code,
            stream,
            cases,
        })
    }

    fn threads(&self) -> u32 {
        self.blocks * THREADS
    }
}

impl Session for Atomics {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let (id, spread) = self.cases.find(entry)?;
        let stream = self.stream.clone();
        self.counters.set(&stream, 0)?;
        cuda::wait(&stream)?;
        Ok(Box::new(Add { id, spread, launches: 0, session: self }))
    }
}

struct Add<'a> {
    id: BenchmarkId,
    spread: Spread,
    /// Launches since the counters were zero.
    launches: u32,
    session: &'a mut Atomics,
}

impl Add<'_> {
    /// Counters that are not what all launches since zero make of them, modulo 2³²; the rest of the
    /// memory has to be zero still.
    fn wrong(&self) -> Result<u64, WorkloadError> {
        let Atomics { stream, counters, .. } = &*self.session;
        let mut bytes = vec![0; counters.bytes()];
        counters.read(stream, 0, &mut bytes)?;
        let each = self.launches.wrapping_mul(ROUNDS);
        let threads = self.session.threads();
        let words = bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
        let wrong = (0_u32..).zip(words).filter(|(index, word)| {
            let expected = match self.spread {
                Spread::Same if *index == 0 => each.wrapping_mul(threads),
                Spread::Spread if index % Spread::Spread.stride() == 0 => each,
                _ => 0,
            };
            *word != expected
        });
        Ok(wrong.count() as u64)
    }
}

impl Workload for Add<'_> {
    fn describe(&self) -> Description {
        let parameters = [
            ("threads", Value::from(self.session.threads() as usize)),
            ("stride_bytes", Value::from(self.spread.stride() as usize * size_of::<u32>())),
            ("code", Value::from(self.session.code.as_str())),
        ];
        let count = f64::from(self.session.threads()) * f64::from(ROUNDS);
        let items = Some(Items { count, unit: ItemUnit::Access });
        Description {
            id: self.id.clone(),
            parameters: parameters.map(|(name, value)| (name.to_owned(), value)).into(),
            work: Work { flops: None, bytes: None, items },
            data: None,
            weights: None,
            caveats: Vec::new(),
        }
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        let Atomics { stream, kernel, counters, blocks, .. } = &*self.session;
        let stride = self.spread.stride();
        let mut arguments = [argument(&counters.address), argument(&stride), argument(&ROUNDS)];
        self.launches = self.launches.wrapping_add(1);
        // SAFETY: the arguments are those of the kernel, in order; there are as many counters as the
        // threads and the larger stride ask for.
        unsafe { cuda::launch(stream, kernel, *blocks, THREADS, &mut arguments) }
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        cuda::wait(&self.session.stream)
    }

    /// Every counter against the number of launches since the last check, all timed ones included; then
    /// they start from zero again.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        if self.launches == 0 {
            self.launch()?;
        }
        // Counters are exact in any order, so nothing is tolerated.
        let check =
            checked("count of counters that are not what was added", self.wrong()? as f64, 0.0)?;
        let stream = self.session.stream.clone();
        self.session.counters.set(&stream, 0)?;
        self.launches = 0;
        Ok(check)
    }
}
