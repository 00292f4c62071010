//! Matrix multiplication on a GPU by cuBLASLt, the library behind most frameworks' products.
//!
//! The library is asked for its best candidates and each of them is timed before sampling, so that the
//! row shows what the card can do and not how well the library's first guess went.

use std::sync::Arc;

use cudarc::cublaslt::sys::cublasLtMatmulAlgo_t;
use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaEvent, CudaStream};
use warpmark_device::Device;
use warpmark_measure::{Description, Entry, Group, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, Check, DeviceSpec, Seconds};

use super::lt::{Addresses, Handle, Operation};
use super::{Inputs, Problem};
use crate::cuda::compile::Compiler;
use crate::cuda::{self, Buffer, Filler, Library, refused};
use crate::data::{self, Dtype};
use crate::{Micro, Processor, Request};

pub(crate) const MICRO: Micro = Micro { runs_on: Processor::Gpu, plan };

const ENGINE: &str = "cublaslt";

const QUICK: &[usize] = &[4096, 8192];
const FULL: &[usize] = &[2048, 4096, 8192, 16384];

/// What NVIDIA recommends for Hopper; older cards need less and take no harm.
const WORKSPACE: usize = 32 << 20;

/// Device time to spend on trying candidates. Where it runs out, the rest stay untried.
const TRIAL: Seconds = Seconds(2.0);

/// Timed launches of a candidate, of which the fastest counts.
const TRIES: usize = 3;

fn plan(spec: &DeviceSpec, request: &Request) -> Vec<Group> {
    [Dtype::F16, Dtype::Bf16, Dtype::F32].map(|dtype| group(spec, request, dtype)).into()
}

fn group(spec: &DeviceSpec, request: &Request, dtype: Dtype) -> Group {
    let sides = if request.full { FULL } else { QUICK };
    let problems: Vec<(Entry, Problem)> = sides
        .iter()
        .map(|&side| Problem::square(dtype, Dtype::F32, side))
        .filter_map(|problem| Some((entry(&problem, spec, request)?, problem)))
        .collect();
    let entries = problems.iter().map(|(entry, _)| entry.clone()).collect();
    let known = problems.into_iter().map(|(entry, problem)| (entry.id, problem)).collect();
    let seed = request.seed;
    Group {
        name: format!("matmul {} on the GPU", dtype.name()),
        entries,
        open: Box::new(move |device| Ok(Box::new(LtSession::open(device, known, seed)?))),
    }
}

fn entry(problem: &Problem, spec: &DeviceSpec, request: &Request) -> Option<Entry> {
    let mut entry = problem.entry(ENGINE, spec, request, Bytes::from_count(WORKSPACE))?;
    let capability = spec.gpu.as_ref().map(|gpu| gpu.compute_capability);
    if let (Dtype::Bf16, Some((major @ ..8, minor))) = (problem.dtype, capability) {
        entry.skip =
            Some(format!("bf16 needs compute capability 8.0; this card has {major}.{minor}"));
    }
    Some(entry)
}

/// What all multiplications of a group share.
struct LtSession {
    stream: Arc<CudaStream>,
    handle: Handle,
    filler: Filler,
    workspace: Buffer,
    problems: Vec<(BenchmarkId, Problem)>,
    seed: u64,
}

impl LtSession {
    fn open(
        device: &Device,
        problems: Vec<(BenchmarkId, Problem)>,
        seed: u64,
    ) -> Result<Self, WorkloadError> {
        let device = cuda::required(device, &[Library::Nvrtc, Library::Cublaslt])?;
        let stream = device.stream.clone();
        let compiler = Compiler::new(device)?;
        Ok(Self {
            handle: Handle::new()?,
            filler: Filler::new(&compiler)?,
            workspace: Buffer::new(&stream, WORKSPACE, "the workspace of cuBLASLt")?,
            stream,
            problems,
            seed,
        })
    }
}

impl Session for LtSession {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let known = self.problems.iter().find(|(id, _)| *id == entry.id);
        let (id, problem) = known
            .ok_or_else(|| WorkloadError::Failed(format!("{} is not of this group", entry.id)))?;
        Ok(Box::new(Multiply::new(self, id.clone(), *problem)?))
    }
}

struct Multiply<'a> {
    id: BenchmarkId,
    problem: Problem,
    inputs: Inputs,
    session: &'a LtSession,
    operation: Operation,
    chosen: Chosen,
    addresses: Addresses,
    /// Held for their memory; `addresses` points into them.
    _operands: [Buffer; 2],
    c: Buffer,
    /// Whether `c` holds the product of a launch since it was last checked.
    launched: bool,
}

/// The algorithm that a workload runs.
struct Chosen {
    algorithm: cublasLtMatmulAlgo_t,
    /// Its place in the library's own order, from 0.
    rank: usize,
    tried: usize,
    proposed: usize,
    /// How much longer the library's favourite takes, as a ratio.
    favourite: f64,
}

impl<'a> Multiply<'a> {
    fn new(
        session: &'a LtSession,
        id: BenchmarkId,
        problem: Problem,
    ) -> Result<Self, WorkloadError> {
        let Problem { dtype, m, n, k, .. } = problem;
        let inputs = Inputs::new(session.seed);
        let stream = &session.stream;
        let matrix = |rows: usize, columns: usize, name: &str| {
            let what = format!("matrix {name} of {rows} x {columns} {}", dtype.name());
            Buffer::new(stream, rows * columns * dtype.size(), &what)
        };
        let (mut a, mut b, mut c) = (matrix(m, k, "A")?, matrix(k, n, "B")?, matrix(m, n, "C")?);
        session.filler.fill(stream, &mut a, dtype, inputs.a)?;
        session.filler.fill(stream, &mut b, dtype, inputs.b)?;
        let addresses = Addresses {
            a: a.address,
            b: b.address,
            c: c.address,
            workspace: session.workspace.address,
            workspace_bytes: session.workspace.bytes(),
        };
        let operation = Operation::new(&problem)?;
        let chosen = choose(session, &operation, addresses)?;
        c.set(stream, 0xFF)?;
        cuda::wait(stream)?;
        let operands = [a, b];
        let launched = false;
        Ok(Self {
            id,
            problem,
            inputs,
            session,
            operation,
            chosen,
            addresses,
            _operands: operands,
            c,
            launched,
        })
    }
}

/// Times the library's candidates and keeps the fastest.
fn choose(
    session: &LtSession,
    operation: &Operation,
    addresses: Addresses,
) -> Result<Chosen, WorkloadError> {
    let candidates = operation.candidates(&session.handle, addresses.workspace_bytes)?;
    let context = session.stream.context();
    let event = || {
        context.new_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(refused("making an event"))
    };
    let (start, end) = (event()?, event()?);
    let stream = session.stream.cu_stream().cast();
    let launch = |algorithm: &cublasLtMatmulAlgo_t| {
        operation.launch(&session.handle, algorithm, addresses, stream)
    };
    let mut spent = 0.0;
    let mut times: Vec<(usize, f64)> = Vec::new();
    let mut refusal = WorkloadError::Unsupported(
        "cuBLASLt proposes no algorithm for this multiplication on this card".to_owned(),
    );
    for (rank, algorithm) in candidates.iter().enumerate() {
        if spent > TRIAL.0 {
            break;
        }
        // A candidate that is proposed and then refused is passed over; the row says how many ran.
        if let Err(error) = launch(algorithm) {
            refusal = error;
            continue;
        }
        let mut best = f64::INFINITY;
        for _ in 0..TRIES {
            let time = timed(&session.stream, &start, &end, || launch(algorithm))?;
            best = best.min(time);
            spent += time;
        }
        times.push((rank, best));
    }
    let (rank, favourite) = fastest(&times).ok_or(refusal)?;
    let (tried, proposed) = (times.len(), candidates.len());
    Ok(Chosen { algorithm: candidates[rank], rank, tried, proposed, favourite })
}

/// Seconds that `launch` takes on the device.
fn timed(
    stream: &CudaStream,
    start: &CudaEvent,
    end: &CudaEvent,
    launch: impl FnOnce() -> Result<(), WorkloadError>,
) -> Result<f64, WorkloadError> {
    start.record(stream).map_err(refused("recording an event"))?;
    launch()?;
    end.record(stream).map_err(refused("recording an event"))?;
    end.synchronize().map_err(refused("waiting for an event"))?;
    // Not cudarc's: it calls a function that drivers before 12.8 lack.
    Ok(warpmark_device::elapsed(start, end).map_err(WorkloadError::failed)?.0)
}

/// The rank of the shortest time, and how much longer the first one is.
fn fastest(times: &[(usize, f64)]) -> Option<(usize, f64)> {
    let (_, first) = times.first()?;
    let (rank, best) = times.iter().min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    Some((*rank, first / best))
}

impl Workload for Multiply<'_> {
    fn describe(&self) -> Description {
        let Chosen { rank, tried, proposed, favourite, .. } = self.chosen;
        let against = if rank == 0 {
            "the library's first choice".to_owned()
        } else {
            format!("its number {}; its first choice took {favourite:.2} times as long", rank + 1)
        };
        Description {
            id: self.id.clone(),
            parameters: self.problem.parameters(),
            work: self.problem.work(),
            data: Some(data::described(self.inputs.seed)),
            weights: None,
            caveats: vec![format!(
                "the fastest of {tried} algorithms tried, of {proposed} that cuBLASLt proposed: {against}"
            )],
        }
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.launched = true;
        self.operation.launch(
            &self.session.handle,
            &self.chosen.algorithm,
            self.addresses,
            self.session.stream.cu_stream().cast(),
        )
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        cuda::wait(&self.session.stream)
    }

    /// Checks the product that the last launch left, then spoils it, so that the next check sees only
    /// what later launches write.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        if !self.launched {
            self.launch()?;
        }
        self.wait()?;
        let (dtype, n) = (self.problem.dtype, self.problem.n);
        let check = self.problem.check(self.inputs, 1.0, |row, column| {
            let mut bytes = [0; 4];
            let element = &mut bytes[..dtype.size()];
            self.c.read(&self.session.stream, (row * n + column) * dtype.size(), element)?;
            Ok(dtype.decode(bytes))
        })?;
        self.c.set(&self.session.stream, 0xFF)?;
        self.launched = false;
        Ok(check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{h200, t4};

    #[test]
    fn a_t4_multiplies_f16_and_f32_and_says_why_not_bf16() {
        let groups = plan(&t4(), &Request { full: true, seed: 0 });
        for entry in groups.iter().flat_map(|group| &group.entries) {
            let bf16 = entry.id.segments()[2].starts_with("bf16");
            assert_eq!(entry.skip.is_some(), bf16, "{entry:?}");
            if bf16 {
                assert!(entry.skip.as_ref().unwrap().contains("this card has 7.5"));
            }
        }
    }

    #[test]
    fn an_h200_multiplies_everything() {
        let groups = plan(&h200(), &Request { full: true, seed: 0 });
        let mut entries = groups.iter().flat_map(|group| &group.entries);
        assert!(entries.clone().all(|entry| entry.skip.is_none()));
        assert!(entries.any(|entry| {
            entry.id.to_string() == "micro/matmul/bf16.f32/16384x16384x16384@cublaslt"
        }));
    }

    #[test]
    fn a_small_card_skips_what_does_not_fit_with_both_figures() {
        let mut card = t4();
        card.memory = warpmark_record::Field::Known(Bytes(2.0 * f64::powi(2.0, 30)));
        let groups = plan(&card, &Request { full: true, seed: 0 });
        let largest = groups[2].entries.last().unwrap();
        let reason = largest.skip.as_ref().unwrap();
        assert!(reason.contains("3.03 GiB") && reason.contains("2.00 GiB"), "{reason}");
    }

    #[test]
    fn the_fastest_candidate_wins_and_the_first_is_measured_against_it() {
        assert_eq!(fastest(&[(0, 2.0), (3, 1.0), (4, 1.5)]), Some((3, 2.0)));
        assert_eq!(fastest(&[(0, 1.0)]), Some((0, 1.0)));
        assert_eq!(fastest(&[]), None);
    }
}
