//! Matrix multiplication on a CPU by the two libraries that the nets multiply with: the `gemm` crate, as
//! candle does, and the `faer` crate, which products of many rows in f32 go to.

use std::sync::Arc;

use half::f16;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use warpmark_device::Device;
use warpmark_measure::{Description, Entry, Group, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, Check, DeviceSpec, Value};

use super::kernels::{Element, Kernel, by_faer, by_gemm};
use super::{Inputs, Problem};
use crate::data::{self, Dtype, Stream};
use crate::{Micro, Processor, RunOptions};

pub(crate) const MICRO: Micro = Micro { runs_on: Processor::Cpu, plan };

/// Whose kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Gemm,
    Faer,
}

impl Engine {
    fn name(self) -> &'static str {
        match self {
            Self::Gemm => "gemm",
            Self::Faer => "faer",
        }
    }
}

const QUICK: &[(Engine, Dtype, &[usize])] = &[
    (Engine::Gemm, Dtype::F32, &[1024, 2048]),
    (Engine::Faer, Dtype::F32, &[2048]),
    (Engine::Gemm, Dtype::F16, &[1024]),
    (Engine::Gemm, Dtype::Bf16, &[1024]),
];
const FULL: &[(Engine, Dtype, &[usize])] = &[
    (Engine::Gemm, Dtype::F32, &[512, 1024, 2048, 4096, 8192]),
    (Engine::Faer, Dtype::F32, &[512, 1024, 2048, 4096, 8192]),
    (Engine::Gemm, Dtype::F16, &[512, 1024, 2048, 4096, 8192]),
    (Engine::Gemm, Dtype::Bf16, &[1024]),
];

/// The largest number of products after which a library writes a running sum back: both cut k into blocks
/// that fit the cache, and a block is never shorter than this unless k is.
const SHORTEST_BLOCK: usize = 256;

fn plan(spec: &DeviceSpec, options: &RunOptions) -> Vec<Group> {
    let chosen = if options.full { FULL } else { QUICK };
    chosen
        .iter()
        .map(|(engine, dtype, sides)| group(spec, options, (*engine, *dtype), sides))
        .collect()
}

fn group(
    spec: &DeviceSpec,
    options: &RunOptions,
    (engine, dtype): (Engine, Dtype),
    sides: &[usize],
) -> Group {
    let problems: Vec<(Entry, Problem)> = sides
        .iter()
        .map(|&side| Problem::square(dtype, accumulated_in(dtype), side))
        .filter_map(|problem| Some((entry(&problem, engine, spec, options)?, problem)))
        .collect();
    let entries = problems.iter().map(|(entry, _)| entry.clone()).collect();
    let known = problems.into_iter().map(|(entry, problem)| (entry.id, problem)).collect();
    let seed = options.seed;
    Group {
        name: format!("matmul {} on the CPU, {}", dtype.name(), engine.name()),
        entries,
        open: Box::new(move |device| Ok(Box::new(HostSession::open(device, engine, known, seed)?))),
    }
}

fn entry(
    problem: &Problem,
    engine: Engine,
    spec: &DeviceSpec,
    options: &RunOptions,
) -> Option<Entry> {
    // Packed panels of both operands come on top, no larger than the operands.
    let memory = problem.bytes() * 2.0;
    let mut entry = problem.entry(&[&problem.size()], engine.name(), spec, options, memory)?;
    if problem.dtype == Dtype::Bf16 {
        entry.skip = Some("the gemm crate multiplies no bf16 matrices".to_owned());
    }
    Some(entry)
}

/// The type in which `gemm` adds up. Its f16 kernels widen to f32, apart from those for ARM's own half
/// precision arithmetic.
fn accumulated_in(dtype: Dtype) -> Dtype {
    #[cfg(target_arch = "aarch64")]
    if dtype == Dtype::F16 && std::arch::is_aarch64_feature_detected!("fp16") {
        return Dtype::F16;
    }
    let _ = dtype;
    Dtype::F32
}

/// What matrices are filled with.
trait Operand: Element + Send + Sync {
    const NAN: Self;
    fn at(stream: Stream, index: u64) -> Self;
    fn wide(self) -> f64;
}

impl Operand for f32 {
    const NAN: Self = Self::NAN;

    fn at(stream: Stream, index: u64) -> Self {
        stream.uniform(index)
    }

    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Operand for f16 {
    const NAN: Self = Self::NAN;

    fn at(stream: Stream, index: u64) -> Self {
        data::leading_f16(stream.uniform(index))
    }

    fn wide(self) -> f64 {
        self.to_f64()
    }
}

/// The thread pool that all multiplications of a group share.
struct HostSession {
    pool: Arc<ThreadPool>,
    engine: Engine,
    problems: Vec<(BenchmarkId, Problem)>,
    seed: u64,
}

impl HostSession {
    fn open(
        device: &Device,
        engine: Engine,
        problems: Vec<(BenchmarkId, Problem)>,
        seed: u64,
    ) -> Result<Self, WorkloadError> {
        let Device::Cpu(device) = device else {
            return Err(WorkloadError::Unsupported("this multiplies on a CPU only".to_owned()));
        };
        // An own pool: the global one has as many threads as the machine has cores, whatever the run
        // was told to use.
        let pool = ThreadPoolBuilder::new()
            .num_threads(device.threads)
            .thread_name(|index| format!("matmul-{index}"))
            .build()
            .map_err(WorkloadError::failed)?;
        Ok(Self { pool: Arc::new(pool), engine, problems, seed })
    }
}

impl Session for HostSession {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let known = self.problems.iter().find(|(id, _)| *id == entry.id);
        let (id, problem) = known
            .ok_or_else(|| WorkloadError::Failed(format!("{} is not of this group", entry.id)))?;
        let (pool, inputs) = (self.pool.clone(), Inputs::new(self.seed));
        let (id, problem) = (id.clone(), *problem);
        match (problem.dtype, self.engine) {
            (Dtype::F32, Engine::Gemm) => {
                Ok(Box::new(Multiply::new(id, problem, pool, inputs, by_gemm::<f32>)?))
            }
            (Dtype::F32, Engine::Faer) => {
                Ok(Box::new(Multiply::new(id, problem, pool, inputs, by_faer)?))
            }
            (Dtype::F16, Engine::Gemm) => {
                Ok(Box::new(Multiply::new(id, problem, pool, inputs, by_gemm::<f16>)?))
            }
            (other, engine) => Err(WorkloadError::Unsupported(format!(
                "the {} crate multiplies no {}",
                engine.name(),
                other.name()
            ))),
        }
    }
}

struct Multiply<T> {
    id: BenchmarkId,
    problem: Problem,
    pool: Arc<ThreadPool>,
    inputs: Inputs,
    kernel: Kernel<T>,
    a: Vec<T>,
    b: Vec<T>,
    c: Vec<T>,
    /// Whether `c` holds the product of a launch since it was last checked.
    launched: bool,
}

impl<T: Operand> Multiply<T> {
    fn new(
        id: BenchmarkId,
        problem: Problem,
        pool: Arc<ThreadPool>,
        inputs: Inputs,
        kernel: Kernel<T>,
    ) -> Result<Self, WorkloadError> {
        let Problem { m, n, k, .. } = problem;
        let mut matrices = [reserved(m * k)?, reserved(k * n)?, reserved(m * n)?];
        let [a, b, c] = &mut matrices;
        pool.install(|| {
            (0..m * k).into_par_iter().map(|i| T::at(inputs.a, i as u64)).collect_into_vec(a);
            (0..k * n).into_par_iter().map(|i| T::at(inputs.b, i as u64)).collect_into_vec(b);
            (0..m * n).into_par_iter().map(|_| T::NAN).collect_into_vec(c);
        });
        let [a, b, c] = matrices;
        Ok(Self { id, problem, pool, inputs, kernel, a, b, c, launched: false })
    }
}

/// An empty vector with room for `elements`, or the error that a sweep ends with.
fn reserved<T>(elements: usize) -> Result<Vec<T>, WorkloadError> {
    let mut matrix = Vec::new();
    matrix.try_reserve_exact(elements).map_err(|_| WorkloadError::OutOfMemory {
        what: "a matrix".to_owned(),
        needed: Some(Bytes::from_count(elements * size_of::<T>())),
    })?;
    Ok(matrix)
}

impl<T: Operand> Workload for Multiply<T> {
    fn describe(&self) -> Description {
        let mut parameters = self.problem.parameters();
        parameters.insert("threads".to_owned(), Value::from(self.pool.current_num_threads()));
        let mut caveats = Vec::new();
        if self.problem.dtype != Dtype::F32 {
            caveats.push(
                "gemm widens half precision to f32 and rounds running sums back after every block of k"
                    .to_owned(),
            );
        }
        Description {
            id: self.id.clone(),
            parameters,
            work: self.problem.work(),
            data: Some(self.inputs.described(self.problem.dtype)),
            weights: None,
            caveats,
        }
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        let threads = self.pool.current_num_threads();
        let (operands, c) = ([self.a.as_slice(), self.b.as_slice()], self.c.as_mut_slice());
        self.pool.install(|| (self.kernel)(&self.problem, operands, c, threads));
        self.launched = true;
        Ok(())
    }

    /// Checks the product that the last launch left, then spoils it, so that the next check sees only
    /// what later launches write.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        if !self.launched {
            self.launch()?;
        }
        let stores = self.problem.k.div_ceil(SHORTEST_BLOCK) as f64;
        let (c, n) = (&self.c, self.problem.n);
        let check = self
            .problem
            .check(self.inputs, stores, |row, column| Ok(c[row * n + column].wide()))?;
        self.c.fill(T::NAN);
        self.launched = false;
        Ok(check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Arc<ThreadPool> {
        Arc::new(ThreadPoolBuilder::new().num_threads(2).build().unwrap())
    }

    fn multiply<T: Operand>(dtype: Dtype, m: usize, n: usize, k: usize) -> Multiply<T> {
        let problem = Problem { dtype, accumulate: accumulated_in(dtype), m, n, k };
        let id = "micro/matmul@gemm".parse().unwrap();
        Multiply::new(id, problem, pool(), Inputs::new(3), by_gemm::<T>).unwrap()
    }

    /// The same by either library.
    fn by_each(m: usize, n: usize, k: usize) -> [Multiply<f32>; 2] {
        let mut faer = multiply(Dtype::F32, m, n, k);
        faer.kernel = by_faer;
        [multiply(Dtype::F32, m, n, k), faer]
    }

    #[test]
    fn products_that_are_not_square_are_right_in_every_entry() {
        for mut small in by_each(17, 29, 53) {
            small.launch().unwrap();
            for row in 0..17 {
                for column in 0..29 {
                    let want =
                        small.problem.dot(small.inputs, row, column, [std::convert::identity; 2]);
                    let got = small.c[row * 29 + column].wide();
                    assert!((got - want).abs() < 1e-5, "{row},{column}: {got} is not {want}");
                }
            }
        }
    }

    #[test]
    fn f32_and_f16_products_pass_their_check_with_room() {
        for mut f32 in by_each(64, 64, 256) {
            let f32 = f32.verify().unwrap();
            assert!(f32.worst_error < f32.tolerance / 2.0, "{f32:?}");
        }
        let f16 = multiply::<f16>(Dtype::F16, 64, 64, 512).verify().unwrap();
        assert!(f16.worst_error < f16.tolerance / 2.0, "{f16:?}");
    }

    #[test]
    fn a_single_wrong_entry_among_the_sampled_ones_fails() {
        let mut workload = multiply::<f32>(Dtype::F32, 64, 64, 128);
        for (row, column) in workload.problem.positions(3) {
            workload.launch().unwrap();
            workload.c[row * 64 + column] += 0.001;
            let failure = workload.verify().unwrap_err();
            assert!(matches!(failure, WorkloadError::WrongAnswer { .. }), "{failure}");
        }
    }

    #[test]
    fn launches_that_write_nothing_fail_the_check_after_sampling() {
        let mut workload = multiply::<f32>(Dtype::F32, 32, 32, 32);
        workload.verify().unwrap();
        workload.launched = true;
        assert!(matches!(workload.verify(), Err(WorkloadError::WrongAnswer { .. })));
    }

    #[test]
    fn long_multiplications_are_left_out_with_the_reason() {
        let cpu = crate::tests::cpu(2, "avx2");
        let groups = plan(&cpu, &RunOptions { full: true, ..RunOptions::default() });
        for (group, engine) in groups.iter().zip(["gemm", "faer"]) {
            let largest = group.entries.last().unwrap();
            assert_eq!(largest.id.engine(), engine);
            assert!(largest.skip.as_ref().unwrap().contains("would take about"), "{largest:?}");
            assert!(group.entries[1].skip.is_none());
        }
    }

    #[test]
    fn bf16_is_skipped_because_gemm_has_none() {
        let cpu = crate::tests::cpu(2, "avx512");
        let groups = plan(&cpu, &RunOptions { full: false, ..RunOptions::default() });
        let bf16 = groups
            .iter()
            .flat_map(|group| &group.entries)
            .find(|entry| entry.id.segments()[2].starts_with("bf16"));
        assert!(bf16.unwrap().skip.as_ref().unwrap().contains("no bf16"));
    }

    #[test]
    fn guesses_follow_the_number_of_operations() {
        let cpu = crate::tests::cpu(2, "avx512");
        let small = Problem::square(Dtype::F32, Dtype::F32, 1024).estimate(&cpu);
        let large = Problem::square(Dtype::F32, Dtype::F32, 2048).estimate(&cpu);
        assert!((large.ratio(small) - 8.0).abs() < 1e-9);
        assert!(
            crate::guess::sampling(&RunOptions { full: true, ..RunOptions::default() }, large)
                .samples
                == 50
        );
    }
}
