//! Latency of a CPU's caches and memory, on one thread.

use warpmark_device::Device;
use warpmark_measure::workload::checked;
use warpmark_measure::{Description, Entry, Group, Session, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Bytes, Check, DeviceSpec, Seconds, Value};

use super::{Cycle, described, entry, parameters, work};
use crate::cases::{self, Cases};
use crate::levels::Levels;
use crate::memory::array::Array;
use crate::memory::{cache_caveat, size_name};
use crate::{Micro, Processor, RunOptions};

pub(crate) const MICRO: Micro = Micro { runs_on: Processor::Cpu, plan };

const ENGINE: &str = "host";

/// Inside the first cache of every processor.
const FIRST: usize = 16 << 10;

/// The largest working set: making a cycle through more takes longer than walking it.
const LARGEST: usize = 1 << 30;

/// A cache line: 64 bytes, 16 words.
const LINE: usize = 64;
const WORDS: usize = LINE / size_of::<u32>();

fn plan(spec: &DeviceSpec, options: &RunOptions) -> Vec<Group> {
    let levels = Levels::of(spec, FIRST, 1);
    let wanted = if options.full { levels.all() } else { vec![levels.first, levels.beyond] };
    let mut sizes: Vec<usize> = wanted.into_iter().map(|size| size.min(LARGEST)).collect();
    sizes.dedup();
    sizes.into_iter().filter_map(|size| group(spec, options, size)).collect()
}

fn group(spec: &DeviceSpec, options: &RunOptions, size: usize) -> Option<Group> {
    // Guesses, for the plan.
    let latency = if size <= SMALL { Seconds(5e-9) } else { Seconds(100e-9) };
    let entry = entry((spec, options), ENGINE, size, loads(size), latency)?;
    let seed = options.seed;
    let caveat = truncated(spec, size);
    let name = format!("latency of the CPU, {}", size_name(size));
    Some(cases::group(name, vec![(entry, size)], move |device, cases| {
        Walk::open(device, cases, size, seed, caveat)
    }))
}

/// What to know of a row whose working set would have been larger.
fn truncated(spec: &DeviceSpec, size: usize) -> Option<String> {
    let cache = spec.last_level_cache.known()?;
    let partly = size == LARGEST && size as f64 <= 4.0 * cache.0;
    partly.then(|| format!("the last cache of {} holds a part of the working set", cache.binary()))
}

/// Working sets whose loads take nanoseconds.
const SMALL: usize = 1 << 20;

/// Loads of an iteration: a millisecond or more.
fn loads(size: usize) -> u32 {
    if size <= SMALL { 1 << 20 } else { 1 << 17 }
}

/// The table that is walked, and where the walk stands.
struct Walk {
    /// At each place, the index of the next one, as bits: numbers of this type lie on huge pages.
    table: Array,
    cycle: Cycle,
    at: u32,
    /// Steps since the beginning of the cycle.
    walked: u64,
    caveats: Vec<String>,
    cases: Cases<usize>,
    seed: u64,
}

impl Walk {
    fn open(
        device: &Device,
        cases: Cases<usize>,
        size: usize,
        seed: u64,
        caveat: Option<String>,
    ) -> Result<Self, WorkloadError> {
        let Device::Cpu(device) = device else {
            return Err(WorkloadError::Unsupported(
                "this benchmark measures the host's memory: choose the CPU".to_owned(),
            ));
        };
        let table = Array::new(size / size_of::<u32>(), |_| 0.0);
        let mut table = table.ok_or_else(|| WorkloadError::OutOfMemory {
            what: "the table of the walk".to_owned(),
            needed: Some(Bytes::from_count(size)),
        })?;
        let cycle = Cycle::new(size / LINE, seed);
        for (place, next) in cycle.steps() {
            table[place as usize * WORDS] = f32::from_bits(next * WORDS as u32);
        }
        let at = cycle.after(0) * WORDS as u32;
        let caveats = cache_caveat(&device.spec).into_iter().chain(caveat).collect();
        Ok(Self { table, cycle, at, walked: 0, caveats, cases, seed })
    }
}

impl Session for Walk {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        let (id, size) = self.cases.find(entry)?;
        Ok(Box::new(Chase { id, size, session: self }))
    }
}

struct Chase<'a> {
    id: BenchmarkId,
    size: usize,
    session: &'a mut Walk,
}

impl Workload for Chase<'_> {
    fn describe(&self) -> Description {
        let mut parameters = parameters(self.size, LINE);
        let pages = if self.session.table.huge_pages {
            "huge pages asked for"
        } else {
            "the system's default"
        };
        parameters.insert("pages".to_owned(), Value::from(pages));
        Description {
            id: self.id.clone(),
            parameters,
            work: work(loads(self.size)),
            data: Some(described(self.session.seed)),
            weights: None,
            caveats: self.session.caveats.clone(),
        }
    }

    /// Goes on where the last walk stopped.
    fn launch(&mut self) -> Result<(), WorkloadError> {
        let loads = loads(self.size);
        let table = &*self.session.table;
        let mut at = self.session.at;
        for _ in 0..loads {
            at = table[at as usize].to_bits();
        }
        self.session.at = at;
        self.session.walked += u64::from(loads);
        Ok(())
    }

    /// Where every launch so far has led, against the cycle that the table was made from.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        if self.session.walked == 0 {
            self.launch()?;
        }
        let expected = self.session.cycle.after(self.session.walked) * WORDS as u32;
        let wrong = u32::from(self.session.at != expected);
        // There is one right place, so nothing is tolerated.
        checked("whether the walk has come to the right place (0 if so)", wrong.into(), 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{cpu, cpu_device};

    #[test]
    fn a_walk_goes_on_and_is_checked_and_a_wrong_place_is_found() {
        let group = group(&cpu(2, "avx2"), &RunOptions::default(), FIRST).unwrap();
        let entry = group.entries[0].clone();
        let mut session = (group.open)(&cpu_device(2)).unwrap();
        let mut workload = session.workload(&entry).unwrap();
        for _ in 0..3 {
            workload.launch().unwrap();
            workload.verify().unwrap();
        }
        let mut walk = Walk::open(&cpu_device(2), Cases::default(), FIRST, 1, None).unwrap();
        let id = "micro/latency@host".parse().unwrap();
        let mut chase = Chase { id, size: FIRST, session: &mut walk };
        chase.launch().unwrap();
        chase.session.at = chase.session.cycle.after(chase.session.walked + 1) * WORDS as u32;
        assert!(matches!(chase.verify(), Err(WorkloadError::WrongAnswer { .. })));
    }

    #[test]
    fn a_working_set_that_the_cache_partly_holds_is_said_to_be_one() {
        let mut spec = cpu(2, "avx2");
        assert_eq!(truncated(&spec, LARGEST), None);
        spec.last_level_cache = warpmark_record::Field::Known(Bytes(512e6));
        assert!(truncated(&spec, LARGEST).unwrap().contains("488 MiB"));
    }
}
