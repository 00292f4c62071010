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
use crate::{Micro, Processor, RunOptions};

pub(crate) const MICRO: Micro = Micro { runs_on: Processor::Gpu, plan };

const ENGINE: &str = "nvrtc";

/// Inside the L1 cache of every card since 2017.
const FIRST: usize = 32 << 10;

/// A cache line.
const LINE: usize = 128;

/// Bytes of the kernel's state: where the walk stands, and the cycles and nanoseconds that the last
/// launch took.
const STATE: usize = 24;

fn plan(spec: &DeviceSpec, options: &RunOptions) -> Vec<Group> {
    let levels = Levels::of(spec, FIRST, 1);
    let sizes = if options.full { levels.all() } else { vec![levels.first, levels.beyond] };
    let planned = sizes.into_iter().filter_map(|size| {
        // Guesses, for the plan.
        let latency = if size <= SMALL { Seconds(50e-9) } else { Seconds(500e-9) };
        let mut entry = entry((spec, options), ENGINE, size, loads(size), latency)?;
        entry.memory_estimate = entry.memory_estimate + Bytes::from_count(flushed(spec));
        Some((entry, size))
    });
    let seed = options.seed;
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
        let mut table = Buffer::new(stream, size, "the table of the walk")?;
        for (place, next) in cycle.steps() {
            let at = place as usize * LINE;
            let next = line(&table, next);
            host[at..at + size_of::<u64>()].copy_from_slice(&next.to_le_bytes());
        }
        table.write(stream, &host)?;
        let mut state = Buffer::new(stream, STATE, "the state of the walk")?;
        let first = line(&table, cycle.after(0));
        state.write(stream, &[first.to_le_bytes(), [0; 8], [0; 8]].concat())?;
        let beyond = 4 * size > self.flush;
        let mut chase =
            Chase { id, size, table, state, cycle, walked: 0, last: None, session: self };
        if beyond {
            Buffer::new(stream, chase.session.flush, "what displaces the table")?.set(stream, 0)?;
        }
        // Once round what the cache can hold, and one more walk, which finds it there.
        let rounds = if beyond { 0 } else { size / LINE };
        for _ in 0..=rounds.div_ceil(loads(size) as usize) {
            chase.launch()?;
        }
        Ok(Box::new(chase))
    }
}

/// The address of a line of the table.
fn line(table: &Buffer, place: u32) -> u64 {
    table.address + u64::from(place) * LINE as u64
}

/// What the last walk took by the SM's own counters.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Walked {
    cycles: u64,
    nanoseconds: u64,
}

impl Walked {
    /// Cycles of a load, and the clock in MHz at which it took them; `None` where a counter stood still.
    fn told(self, loads: u32) -> Option<[(&'static str, String); 2]> {
        if self.cycles == 0 || self.nanoseconds == 0 {
            return None;
        }
        let cycles = self.cycles as f64 / f64::from(loads);
        let clock = 1e3 * self.cycles as f64 / self.nanoseconds as f64;
        Some([
            ("cycles_per_access", format!("{cycles:.1}")),
            ("cycles_at_mhz", format!("{clock:.0}")),
        ])
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
    /// What the last walk before the last check took: once they are taken, the last of the samples.
    last: Option<Walked>,
    session: &'a Walks,
}

impl Chase<'_> {
    /// The address where the walk stands, and what the last launch took.
    fn state(&self) -> Result<(u64, Walked), WorkloadError> {
        let mut bytes = [0; STATE];
        self.state.read(&self.session.stream, 0, &mut bytes)?;
        let number = |word: usize| {
            bytes[8 * word..8 * word + 8].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
        };
        Ok((number(0), Walked { cycles: number(1), nanoseconds: number(2) }))
    }
}

impl Workload for Chase<'_> {
    fn describe(&self) -> Description {
        let mut parameters = parameters(self.size, LINE);
        let told = self.last.and_then(|last| last.told(loads(self.size)));
        for (name, text) in told.into_iter().flatten() {
            parameters.insert(name.to_owned(), Value::Text(text));
        }
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
        let mut arguments = [argument(&loads), argument(&self.state.address)];
        self.walked += u64::from(loads);
        // SAFETY: the arguments are those of the kernel, in order; every word that the walk meets is the
        // address of another one in the table, and the state is three words of eight bytes.
        unsafe { cuda::launch(&self.session.stream, &self.session.kernel, 1, 1, &mut arguments) }
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        cuda::wait(&self.session.stream)
    }

    /// Where every launch so far has led, against the cycle that the table was made from.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        let expected = line(&self.table, self.cycle.after(self.walked));
        let (place, last) = self.state()?;
        self.last = Some(last);
        let wrong = u32::from(place != expected);
        // There is one right place, so nothing is tolerated.
        checked("whether the walk has come to the right place (0 if so)", wrong.into(), 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_told_with_the_clock_of_the_same_walk() {
        // 1000 loads of 400 cycles in 250 µs: 1600 MHz.
        let told = Walked { cycles: 400_000, nanoseconds: 250_000 }.told(1000).unwrap();
        assert_eq!(
            told,
            [("cycles_per_access", "400.0".to_owned()), ("cycles_at_mhz", "1600".to_owned())]
        );
        assert_eq!(Walked { cycles: 400_000, nanoseconds: 0 }.told(1000), None);
    }
}
