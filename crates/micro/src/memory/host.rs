//! Memory bandwidth of a CPU: our own threads on our own arrays, made and touched before the clock runs.

use warpmark_device::Device;
use warpmark_measure::workload::checked;
use warpmark_measure::{Description, Entry, Group, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Check, DeviceSpec, Value};

use super::sweep::Stores;
use super::thread_pool::ThreadPool;
use super::{Contents, Operation, cache_caveat, groups, last_cache, parameters, work};
use crate::cases::Cases;
use crate::{Micro, Processor, RunOptions, data};

pub(crate) const MICRO: Micro = Micro { runs_on: Processor::Cpu, plan };

const ENGINE: &str = "host";

/// The smallest array, however small the cache.
const FLOOR: usize = 64 << 20;

/// The bytes that an array has at least: four times the last cache.
fn least(spec: &DeviceSpec) -> usize {
    FLOOR.max((4.0 * last_cache(spec)) as usize)
}

fn plan(spec: &DeviceSpec, options: &RunOptions) -> Vec<Group> {
    groups((spec, options), ("CPU", ENGINE), least(spec), HostSession::open)
}

/// The arrays and their threads.
struct HostSession {
    pool: ThreadPool,
    stores: Stores,
    huge_pages: bool,
    cache_caveat: Option<String>,
    cases: Cases<Operation>,
    size: usize,
    contents: Contents,
}

impl HostSession {
    fn open(
        device: &Device,
        cases: Cases<Operation>,
        size: usize,
        contents: Contents,
    ) -> Result<Self, WorkloadError> {
        let Device::Cpu(device) = device else {
            return Err(WorkloadError::Unsupported(
                "this benchmark measures the host's memory: choose the CPU".to_owned(),
            ));
        };
        let stores = Stores::best();
        let pool = ThreadPool::new(device.threads, size / size_of::<f32>(), contents, stores)?;
        let huge_pages = pool.huge_pages();
        let cache_caveat = cache_caveat(&device.spec);
        Ok(Self { pool, stores, huge_pages, cache_caveat, cases, size, contents })
    }
}

impl Session for HostSession {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let (id, operation) = self.cases.find(entry)?;
        self.pool.spoil();
        Ok(Box::new(Pass { id, operation, session: self, launched: false }))
    }
}

struct Pass<'a> {
    id: BenchmarkId,
    operation: Operation,
    session: &'a HostSession,
    /// Whether the arrays hold the answer of a launch since they were last checked.
    launched: bool,
}

impl Workload for Pass<'_> {
    fn describe(&self) -> Description {
        let HostSession { pool, stores, huge_pages, size, contents, .. } = self.session;
        let mut parameters = parameters(self.operation, *size);
        parameters.insert("threads".to_owned(), Value::from(pool.threads()));
        let pages = if *huge_pages { "huge pages asked for" } else { "the system's default" };
        parameters.insert("pages".to_owned(), Value::from(pages));
        if self.operation.writes() {
            parameters.insert("stores".to_owned(), Value::from(stores.name()));
        }
        let store_caveat = stores.caveat().filter(|_| self.operation.writes()).map(str::to_owned);
        let caveats = self.session.cache_caveat.clone().into_iter().chain(store_caveat).collect();
        Description {
            id: self.id.clone(),
            parameters,
            work: work(self.operation, *size),
            data: Some(data::described(contents.seed)),
            weights: None,
            caveats,
        }
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.session.pool.run(self.operation);
        self.launched = true;
        Ok(())
    }

    /// Checks every element that the last launch left (the fold, for `read`), then spoils them, so that
    /// the next check sees only what later launches write.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        if !self.launched {
            self.launch()?;
        }
        let wrong = self.session.pool.wrong(self.operation);
        let what = if self.operation.writes() {
            "count of wrong elements of the whole array, compared to the bit"
        } else {
            "count of threads whose fold of all bits read is not that of the data"
        };
        // Each answer has one right value to the bit, so nothing is tolerated.
        let check = checked(what, wrong as f64, 0.0)?;
        self.session.pool.spoil();
        self.launched = false;
        Ok(check)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{entry, sizes};
    use super::*;
    use crate::tests::{cpu, cpu_device};

    fn session(size: usize) -> (HostSession, Vec<Entry>) {
        let options = RunOptions { full: false, seed: 1, ..RunOptions::default() };
        let device = cpu_device(2);
        let planned: Vec<_> = Operation::ALL
            .into_iter()
            .filter_map(|operation| entry(operation, size, ENGINE, device.spec(), &options, &[]))
            .collect();
        let entries = planned.iter().map(|(entry, _)| entry.clone()).collect();
        let cases = Cases::of(planned);
        let session = HostSession::open(&device, cases, size, Contents::new(1)).unwrap();
        (session, entries)
    }

    #[test]
    fn every_entry_of_a_group_runs_and_is_checked_before_and_after() {
        let (mut session, entries) = session(64 << 10);
        assert_eq!(entries.len(), 6);
        for entry in &entries {
            let mut workload = session.workload(entry).unwrap();
            workload.verify().unwrap();
            workload.prepare(3).unwrap();
            for _ in 0..3 {
                workload.launch().unwrap();
            }
            workload.wait().unwrap();
            workload.verify().unwrap();
        }
    }

    #[test]
    fn launches_that_do_nothing_are_a_wrong_answer() {
        let (session, _) = session(64 << 10);
        for operation in Operation::ALL {
            session.pool.spoil();
            let id = "micro/memory@host".parse().unwrap();
            let mut pass = Pass { id, operation, session: &session, launched: true };
            assert!(matches!(pass.verify(), Err(WorkloadError::WrongAnswer { .. })));
        }
    }

    #[test]
    fn a_copy_counts_what_it_reads_and_what_it_writes() {
        let (mut session, entries) = session(1 << 20);
        let copy = entries.iter().find(|entry| entry.id.segments()[2] == "copy").unwrap();
        let description = session.workload(copy).unwrap().describe();
        assert_eq!(description.work.bytes, Some(warpmark_record::Bytes(f64::from(2 << 20))));
        assert_eq!(description.parameters["traffic"], Value::from("reads + writes"));
    }

    #[test]
    fn arrays_are_several_times_the_last_cache() {
        let mut spec = cpu(2, "avx512");
        let least = |spec: &DeviceSpec| {
            sizes(&RunOptions { full: false, ..RunOptions::default() }, least(spec))[0]
        };
        assert_eq!(least(&spec), 128 << 20);
        spec.last_level_cache = warpmark_record::Field::absent("not told");
        assert_eq!(least(&spec), 256 << 20);
        assert!(cache_caveat(&spec).unwrap().contains("not told"));
    }
}
