//! What it costs to ask a GPU for something: a launch, a graph of launches, a wait, an allocation.
//!
//! On a CPU there is no driver to ask.

use std::sync::Arc;

use cudarc::driver::{CudaFunction, CudaStream, result};
use warpmark_device::Device;
use warpmark_measure::workload::checked;
use warpmark_measure::{Blocking, Description, Entry, Group, Session, Workload, WorkloadError};
use warpmark_record::{
    BenchmarkId, Bytes, Check, DeviceSpec, ItemUnit, Items, Seconds, Value, Work,
};

use crate::cases::{self, Cases};
use crate::cuda::Compiler;
use crate::cuda::blocking::BlockingKernel;
use crate::cuda::{self, Buffer, Graph, Library, argument, refused};
use crate::{Micro, Processor, RunOptions};

pub(crate) const MICRO: Micro = Micro { runs_on: Processor::Gpu, plan };

const ENGINE: &str = "driver";

/// Kernels of a graph, about those of one token of a small language model.
const NODES: u32 = 100;

/// What is allocated: less than a pool keeps, so that the system is never asked.
const ALLOCATION: usize = 1 << 20;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// One empty kernel, as fast as the host launches them.
    Empty,
    /// One empty kernel, as fast as the device runs them.
    Queued,
    /// A graph of [`NODES`] empty kernels.
    Graph,
    /// One empty kernel, and a wait for it.
    Synchronise,
    /// Memory from the pool, and back.
    Alloc,
}

impl Call {
    const ALL: [Self; 5] = [Self::Empty, Self::Queued, Self::Graph, Self::Synchronise, Self::Alloc];

    fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Queued => "queued",
            Self::Graph => "graph",
            Self::Synchronise => "synchronise",
            Self::Alloc => "alloc",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Empty => "one empty kernel, launched one after the other",
            Self::Queued => "one empty kernel, all of a part launched before the first one runs",
            Self::Graph => "one launch of a graph of empty kernels",
            Self::Synchronise => "one empty kernel and a wait for it",
            Self::Alloc => "one cuMemAllocAsync and its cuMemFreeAsync",
        }
    }

    /// Microseconds, guessed for the plan.
    fn guess(self) -> f64 {
        match self {
            Self::Empty | Self::Queued => 3.0,
            Self::Graph => 150.0,
            Self::Synchronise => 10.0,
            Self::Alloc => 2.0,
        }
    }
}

fn plan(spec: &DeviceSpec, options: &RunOptions) -> Vec<Group> {
    let planned = Call::ALL.into_iter().filter_map(|call| {
        let iteration = Seconds(call.guess() * 1e-6);
        let memory = Bytes::from_count(ALLOCATION);
        let segments = ["launch", call.name()];
        Some((cases::entry((spec, options), &segments, ENGINE, iteration, memory)?, call))
    });
    vec![cases::group("launches of the GPU", planned.collect(), Launches::open)]
}

struct Launches {
    stream: Arc<CudaStream>,
    pools: bool,
    kernel: CudaFunction,
    /// What checking launches add to.
    sum: Buffer,
    blocking: BlockingKernel,
    cases: Cases<Call>,
}

impl Launches {
    fn open(device: &Device, cases: Cases<Call>) -> Result<Self, WorkloadError> {
        let device = cuda::required(device, &[Library::Nvrtc])?;
        let compiler = Compiler::new(device)?;
        let kernels = compiler.compile("launch.cu", include_str!("../../../kernels/launch.cu"))?;
        let stream = device.stream.clone();
        let mut sum = Buffer::new(&stream, size_of::<u32>(), "the sum")?;
        sum.set(&stream, 0)?;
        cuda::wait(&stream)?;
        Ok(Self {
            kernel: cuda::function(&kernels.module, "launch_empty")?,
            blocking: BlockingKernel::new(&compiler, &stream)?,
            pools: device.context.has_async_alloc(),
            stream,
            sum,
            cases,
        })
    }

    /// Enqueues one kernel that adds `amount`, which for 0 is nothing.
    fn enqueue(&self, amount: u32) -> Result<(), WorkloadError> {
        let mut arguments = [argument(&self.sum.address), argument(&amount)];
        // SAFETY: the arguments are those of the kernel, in order; the sum is one word.
        unsafe { cuda::launch(&self.stream, &self.kernel, 1, 1, &mut arguments) }
    }

    /// A graph of [`NODES`] such kernels, one after the other.
    fn graph(&self, amount: u32) -> Result<Graph, WorkloadError> {
        Graph::capture(&self.stream, || (0..NODES).try_for_each(|_| self.enqueue(amount)))
    }

    /// The sum, which begins from zero again.
    fn take_sum(&mut self) -> Result<u32, WorkloadError> {
        let stream = self.stream.clone();
        let mut bytes = [0; 4];
        self.sum.read(&stream, 0, &mut bytes)?;
        self.sum.set(&stream, 0)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Takes memory from the pool, and gives it back if nothing is done with it.
    fn allocate(&self) -> Result<Pooled<'_>, WorkloadError> {
        // SAFETY: the stream is this thread's own; the memory goes back when the value is dropped.
        let address = unsafe { result::malloc_async(self.stream.cu_stream(), ALLOCATION) };
        let address = address.map_err(refused("allocating"))?;
        Ok(Pooled { address, stream: &self.stream })
    }
}

/// Memory of the pool.
struct Pooled<'a> {
    address: u64,
    stream: &'a CudaStream,
}

impl Pooled<'_> {
    /// Gives it back, and says whether that went well.
    fn free(self) -> Result<(), WorkloadError> {
        let (address, stream) = (self.address, self.stream);
        std::mem::forget(self);
        // SAFETY: allocated on this stream, and given back only here or in `drop`.
        unsafe { result::free_async(address, stream.cu_stream()) }.map_err(refused("freeing"))
    }
}

impl Drop for Pooled<'_> {
    fn drop(&mut self) {
        // SAFETY: as in `free`. It is dropped only after an error, which is what is told.
        let _ = unsafe { result::free_async(self.address, self.stream.cu_stream()) };
    }
}

impl Session for Launches {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let (id, call) = self.cases.find(entry)?;
        if call == Call::Alloc && !self.pools {
            return Err(WorkloadError::Unsupported("the device has no memory pools".to_owned()));
        }
        let graph = if call == Call::Graph { Some(self.graph(0)?) } else { None };
        Ok(Box::new(Ask { id, call, graph, session: self }))
    }
}

struct Ask<'a> {
    id: BenchmarkId,
    call: Call,
    /// For [`Call::Graph`].
    graph: Option<Graph>,
    session: &'a mut Launches,
}

impl Ask<'_> {
    /// Does it once with kernels that leave something. How many of them did not, or how many bytes of an
    /// allocation are not what was written.
    fn wrong(&mut self) -> Result<u64, WorkloadError> {
        let expected = match self.call {
            Call::Empty | Call::Queued | Call::Synchronise => {
                self.session.enqueue(1)?;
                1
            }
            Call::Graph => {
                let graph = self.session.graph(1)?;
                graph.launch()?;
                // It may not be destroyed while it runs.
                cuda::wait(&self.session.stream)?;
                NODES
            }
            Call::Alloc => return self.wrong_bytes(),
        };
        Ok(u64::from(self.session.take_sum()?.abs_diff(expected)))
    }

    fn wrong_bytes(&self) -> Result<u64, WorkloadError> {
        const BYTE: u8 = 0x5A;
        let stream = &self.session.stream;
        let memory = self.session.allocate()?;
        let mut bytes = vec![0_u8; ALLOCATION];
        // SAFETY: the range is the allocation, and `bytes` outlives the wait.
        unsafe {
            result::memset_d8_async(memory.address, BYTE, ALLOCATION, stream.cu_stream())
                .and_then(|()| {
                    result::memcpy_dtoh_async(&mut bytes, memory.address, stream.cu_stream())
                })
                .map_err(refused("using an allocation"))?;
        }
        cuda::wait(stream)?;
        memory.free()?;
        Ok(bytes.iter().filter(|byte| **byte != BYTE).count() as u64)
    }
}

impl Workload for Ask<'_> {
    fn describe(&self) -> Description {
        let mut parameters = vec![("call", Value::from(self.call.words()))];
        match self.call {
            Call::Graph => parameters.push(("kernels", Value::from(NODES as usize))),
            Call::Alloc => parameters.push(("allocation_bytes", Value::from(ALLOCATION))),
            Call::Empty | Call::Queued | Call::Synchronise => {}
        }
        let items = Some(Items { count: 1.0, unit: ItemUnit::Call });
        let named = parameters.into_iter().map(|(name, value)| (name.to_owned(), value));
        Description {
            id: self.id.clone(),
            parameters: named.collect(),
            work: Work { flops: None, bytes: None, items },
            data: None,
            weights: None,
            caveats: Vec::new(),
        }
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        match (self.call, &self.graph) {
            (Call::Empty | Call::Queued, _) => self.session.enqueue(0),
            (Call::Graph, Some(graph)) => graph.launch(),
            (Call::Graph, None) => Err(WorkloadError::Failed("there is no graph".to_owned())),
            (Call::Synchronise, _) => {
                self.session.enqueue(0)?;
                cuda::wait(&self.session.stream)
            }
            (Call::Alloc, _) => self.session.allocate()?.free(),
        }
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        cuda::wait(&self.session.stream)
    }

    fn blocking(&self) -> Option<&dyn Blocking> {
        (self.call == Call::Queued).then_some(&self.session.blocking)
    }

    /// Timed calls leave nothing; one more of the same kind is made that does.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        self.wait()?;
        let what = match self.call {
            Call::Alloc => "bytes of an allocation that are not what was written",
            _ => "kernels launched that did not run, or ran twice",
        };
        checked(what, self.wrong()? as f64, 0.0)
    }
}
