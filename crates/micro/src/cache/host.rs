//! Read bandwidth of a CPU's caches: every thread sweeps an array of its own.

use warpmark_device::Device;
use warpmark_measure::workload::checked;
use warpmark_measure::{Description, Entry, Group, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Check, DeviceSpec, Value};

use super::{entry, parameters, work};
use crate::cases::{self, Cases};
use crate::levels::Levels;
use crate::memory::sweep::Stores;
use crate::memory::thread_pool::ThreadPool;
use crate::memory::{Contents, Operation, cache_caveat, size_name};
use crate::{Micro, Processor, RunOptions, data};

pub(crate) const MICRO: Micro = Micro { runs_on: Processor::Cpu, plan };

const ENGINE: &str = "host";

/// Inside the first cache of every processor, and inside the second.
const FIRST: usize = 16 << 10;
const SECOND: usize = 256 << 10;

/// What a thread reads in an iteration at least: some milliseconds, so that waking the threads does not
/// count.
const TRAFFIC: usize = 1 << 30;

fn plan(spec: &DeviceSpec, options: &RunOptions) -> Vec<Group> {
    let threads = spec.cpu.as_ref().map_or(1, |cpu| cpu.cores as usize);
    let levels = Levels::of(spec, FIRST, threads);
    let mut sizes =
        if options.full { levels.all() } else { vec![levels.first, SECOND, levels.last] };
    sizes.dedup();
    sizes.into_iter().filter_map(|size| group(spec, options, size, threads)).collect()
}

fn group(spec: &DeviceSpec, options: &RunOptions, size: usize, threads: usize) -> Option<Group> {
    let traffic = size * passes(size) as usize * threads;
    let entry = entry((spec, options), ENGINE, size, traffic, 3 * size * threads)?;
    let contents = Contents::new(options.seed);
    let name = format!("caches of the CPU, {} a thread", size_name(size));
    Some(cases::group(name, vec![(entry, size)], move |device, cases| {
        Caches::open(device, cases, size, contents)
    }))
}

/// How often an iteration sweeps an array of this size. Odd: what is folded twice would cancel out, and
/// the fold of an odd number of sweeps is that of one.
fn passes(size: usize) -> u32 {
    (TRAFFIC / size).max(1) as u32 | 1
}

/// The arrays and their threads.
struct Caches {
    pool: ThreadPool,
    caveat: Option<String>,
    cases: Cases<usize>,
    seed: u64,
}

impl Caches {
    fn open(
        device: &Device,
        cases: Cases<usize>,
        size: usize,
        contents: Contents,
    ) -> Result<Self, WorkloadError> {
        let Device::Cpu(device) = device else {
            return Err(WorkloadError::Unsupported(
                "this benchmark measures the host's caches: choose the CPU".to_owned(),
            ));
        };
        let elements = size / size_of::<f32>() * device.threads;
        let pool = ThreadPool::new(device.threads, elements, contents, Stores::best())?;
        Ok(Self { pool, caveat: cache_caveat(&device.spec), cases, seed: contents.seed })
    }
}

impl Session for Caches {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let (id, size) = self.cases.find(entry)?;
        self.pool.spoil();
        Ok(Box::new(Sweep { id, size, session: self, launched: false }))
    }
}

struct Sweep<'a> {
    id: BenchmarkId,
    size: usize,
    session: &'a Caches,
    /// Whether the threads hold the fold of a launch since they were last checked.
    launched: bool,
}

impl Workload for Sweep<'_> {
    fn describe(&self) -> Description {
        let Caches { pool, caveat, seed, .. } = self.session;
        let mut parameters = parameters(self.size);
        parameters.insert("threads".to_owned(), Value::from(pool.threads()));
        Description {
            id: self.id.clone(),
            parameters,
            work: work(self.size * passes(self.size) as usize * pool.threads()),
            data: Some(data::described(*seed)),
            weights: None,
            caveats: caveat.clone().into_iter().collect(),
        }
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.session.pool.reread(passes(self.size));
        self.launched = true;
        Ok(())
    }

    /// Checks the folds of the last launch, then forgets them.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        if !self.launched {
            self.launch()?;
        }
        let wrong = self.session.pool.wrong(Operation::Read);
        let what = "count of threads whose fold of all bits read is not that of the data";
        // Each fold has one right value, so nothing is tolerated.
        let check = checked(what, wrong as f64, 0.0)?;
        self.session.pool.spoil();
        self.launched = false;
        Ok(check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{cpu, cpu_device};

    #[test]
    fn a_sweep_is_checked_and_one_that_did_not_run_is_wrong() {
        let group =
            group(&cpu(2, "avx2"), &RunOptions { seed: 1, ..RunOptions::default() }, FIRST, 2)
                .unwrap();
        let entry = group.entries[0].clone();
        let mut session = (group.open)(&cpu_device(2)).unwrap();
        let mut workload = session.workload(&entry).unwrap();
        let bytes = workload.describe().work.bytes.unwrap().0;
        assert_eq!(bytes as usize, 2 * FIRST * passes(FIRST) as usize);
        workload.verify().unwrap();
        let cases = Cases::default();
        let contents = Contents::new(1);
        let caches = Caches::open(&cpu_device(2), cases, FIRST, contents).unwrap();
        let id = "micro/cache@host".parse().unwrap();
        let mut idle = Sweep { id, size: FIRST, session: &caches, launched: true };
        assert!(matches!(idle.verify(), Err(WorkloadError::WrongAnswer { .. })));
    }

    #[test]
    fn sweeps_are_odd_in_number() {
        for size in [FIRST, SECOND, TRAFFIC, 4 * TRAFFIC] {
            assert_eq!(passes(size) % 2, 1, "{size}");
        }
    }
}
