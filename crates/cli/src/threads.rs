//! How many threads work on a CPU is shared out to: what was asked for, what makes sense, and what can be had.

use std::sync::{Arc, OnceLock, RwLock};

use warpmark_record::{DeviceKind, DeviceSpec};

/// rayon's own variable, which candle's products read, too.
const VARIABLE: &str = "RAYON_NUM_THREADS";

/// More threads than this for a core only wait for each other.
const MOST_A_CORE: usize = 4;

/// What was decided, once for the whole process.
static DECIDED: OnceLock<Decided> = OnceLock::new();

#[derive(Debug, Clone, PartialEq, Eq)]
struct Decided {
    threads: usize,
    /// Why there are not as many as were asked for.
    note: Option<String>,
}

/// Bounds what the environment asks for, before anything reads it. To be called first of all in a process.
pub fn bound_the_environment() {
    let told = told();
    let decided = decide(told, warpmark_device::cpu::cores() as usize);
    if told.is_some_and(|told| told > decided.threads) {
        // SAFETY: called before this process has a second thread, so that nobody reads the environment.
        unsafe { std::env::set_var(VARIABLE, decided.threads.to_string()) };
    }
    let _ = DECIDED.set(decided);
}

fn told() -> Option<usize> {
    std::env::var(VARIABLE).ok().and_then(|text| text.trim().parse().ok()).filter(|told| *told > 0)
}

fn decide(told: Option<usize>, cores: usize) -> Decided {
    let most = cores.max(1) * MOST_A_CORE;
    match told {
        Some(told) if told > most => Decided {
            threads: most,
            note: Some(format!(
                "{VARIABLE} asks for {told} threads on {cores} cores; {most} are used, {MOST_A_CORE} a core"
            )),
        },
        Some(told) => Decided { threads: told, note: None },
        None => Decided { threads: cores.max(1), note: None },
    }
}

/// Threads for work on the CPU: every core this process may use, or what rayon was told; fewer where the
/// system lets this process have no more.
pub(crate) fn count() -> usize {
    decided().threads
}

/// Why there are not as many threads as were asked for, or as there are cores.
pub(crate) fn note() -> Option<String> {
    decided().note.clone()
}

fn decided() -> Decided {
    static REACHABLE: OnceLock<Decided> = OnceLock::new();
    REACHABLE
        .get_or_init(|| {
            let cores = || decide(told(), warpmark_device::cpu::cores() as usize);
            let wanted = DECIDED.get_or_init(cores);
            if is_worth_trying() { reachable(wanted, startable) } else { wanted.clone() }
        })
        .clone()
}

/// What can be had of what was decided. A benchmark may have a second set of as many threads beside the
/// first, and both must be had.
fn reachable(wanted: &Decided, startable: impl Fn(usize) -> usize) -> Decided {
    let both = 2 * wanted.threads;
    let can = startable(both);
    if can >= both {
        return wanted.clone();
    }
    let threads = (can / 2).max(1);
    let note = format!(
        "the system lets this process start {can} more threads and no others (`ulimit -u`, `pids.max`): \
         {threads} of {} are used",
        wanted.threads
    );
    Decided { threads, note: Some(note) }
}

/// Whether threads are started to see how many there can be. Each takes tens of MiB of addresses for its
/// allocations, and keeps them: where those are limited, and threads are not, they are not wasted on that.
fn is_worth_trying() -> bool {
    use rustix::process::{Resource, getrlimit};
    const PLENTY: u64 = 4096;
    getrlimit(Resource::As).current.is_none()
        || getrlimit(Resource::Nproc).current.is_some_and(|most| most < PLENTY)
}

/// How many of `wanted` threads can be started at once.
fn startable(wanted: usize) -> usize {
    let gate = Arc::new(RwLock::new(()));
    let held = gate.write();
    let started: Vec<_> = (0..wanted)
        .map_while(|_| {
            let gate = Arc::clone(&gate);
            let wait = move || drop(gate.read());
            std::thread::Builder::new().spawn(wait).ok()
        })
        .collect();
    drop(held);
    let count = started.len();
    for thread in started {
        // It does nothing that could panic.
        let _ = thread.join();
    }
    count
}

/// Whether one more thread can be started, for what is pleasant and no more.
pub(crate) fn one_more() -> bool {
    startable(1) == 1
}

/// Makes this thread one of those that share work out, where that is done on a CPU. From any other thread,
/// each operation would put it to sleep and wake it again, beside the sharing itself.
pub(crate) fn join(spec: &DeviceSpec) {
    if spec.kind == DeviceKind::Cpu {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(count()).use_current_thread();
        // Threads that are there already stay as they are, which costs time and nothing else.
        drop(pool.build_global());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_bounded_by_the_cores_with_a_word() {
        assert_eq!(decide(None, 2), Decided { threads: 2, note: None });
        assert_eq!(decide(Some(8), 2), Decided { threads: 8, note: None });
        let bounded = decide(Some(100_000), 2);
        assert_eq!(bounded.threads, 8);
        assert!(bounded.note.unwrap().contains("100000 threads on 2 cores; 8 are used"));
    }

    #[test]
    fn where_threads_are_refused_fewer_are_used_and_one_is_always_there() {
        let wanted = Decided { threads: 8, note: None };
        assert_eq!(reachable(&wanted, |wanted| wanted), wanted);
        for (can, threads) in [(15, 7), (2, 1), (0, 1)] {
            let found = reachable(&wanted, |_| can);
            assert_eq!(found.threads, threads);
            assert!(found.note.unwrap().contains(&format!("{threads} of 8 are used")));
        }
    }

    #[test]
    fn threads_that_were_tried_are_gone_again() {
        assert_eq!(startable(3), 3);
        assert!(one_more());
    }
}
