//! Threads that live as long as the arrays, each with a fixed part of its own.
//!
//! Not rayon: work that is dealt out anew at each launch would move parts between threads, and with
//! that between memory controllers. A launch wakes the threads and waits for the last one, some tens
//! of microseconds in passes of milliseconds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread::JoinHandle;

use warpmark_measure::WorkloadError;
use warpmark_record::Bytes;

use super::array::Array;
use super::sweep::{LINE, Stores, reread, sweep};
use super::{Contents, Operation};

/// What the threads are told to do.
#[derive(Debug, Clone, Copy)]
enum Task {
    /// Makes the arrays; 1 if there was no memory.
    Make,
    /// One pass; 0.
    Run(Operation),
    /// So many sweeps of `a`, an odd number, folded together; 0.
    Reread(u32),
    /// Counts the elements of `c` that are wrong, or 1 for a fold that is.
    Check(Operation),
    /// Makes every element of `c` a NaN.
    Spoil,
    /// Whether huge pages were asked for in vain; 1 if so.
    Pages,
    /// Ends the thread.
    Stop,
    /// Panics.
    #[cfg(test)]
    Panic,
}

/// The answer of a thread that panicked.
const FAILED: u64 = u64::MAX;

/// What the threads share.
struct Shared {
    task: Mutex<Task>,
    /// Passed together by all threads and the caller, once to begin a task and once to end it.
    barrier: Barrier,
    /// What each thread has to say about the last task.
    answers: Vec<AtomicU64>,
}

/// The threads.
pub(crate) struct ThreadPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// One thread's part of the three arrays.
struct Part {
    a: Array,
    b: Array,
    c: Array,
    /// The index of its first element in the whole array.
    first: u64,
    /// The fold of what `a` was filled with, taken from the generator and not from memory.
    fold: u32,
    /// What the last `read` got.
    last: Option<u32>,
}

impl Part {
    fn new(first: u64, length: usize, contents: &Contents) -> Option<Self> {
        let mut fold = 0;
        let a = Array::new(length, |i| {
            let value = contents.a.uniform(first + i as u64);
            fold ^= value.to_bits();
            value
        })?;
        let b = Array::new(length, |i| contents.b.uniform(first + i as u64))?;
        let c = Array::new(length, |_| f32::NAN)?;
        Some(Self { a, b, c, first, fold, last: None })
    }

    fn wrong(&self, operation: Operation, contents: &Contents) -> u64 {
        if operation == Operation::Read {
            return u64::from(self.last != Some(self.fold));
        }
        let inputs = self.a.iter().zip(self.b.iter());
        let elements = self.c.iter().zip(inputs).enumerate();
        let wrong = elements.filter(|(i, (c, (a, b)))| {
            let pattern = contents.pattern_at(self.first + *i as u64);
            c.to_bits() != operation.value(**a, **b, pattern).to_bits()
        });
        wrong.count() as u64
    }

    fn perform(&mut self, task: Task, contents: &Contents, stores: Stores) -> u64 {
        match task {
            Task::Run(operation) => {
                let Self { a, b, c, .. } = self;
                let fold = sweep(operation, stores, a, b, c, contents.pattern);
                if operation == Operation::Read {
                    self.last = Some(fold);
                }
                0
            }
            Task::Reread(passes) => {
                self.last = Some(reread(&self.a, passes));
                0
            }
            Task::Check(operation) => self.wrong(operation, contents),
            Task::Spoil => {
                self.c.fill(f32::NAN);
                self.last = None;
                0
            }
            Task::Pages => {
                let asked = [&self.a, &self.b, &self.c].map(|array| array.huge_pages);
                u64::from(asked.contains(&false))
            }
            Task::Make | Task::Stop => 0,
            #[cfg(test)]
            Task::Panic => panic!("as the test asked"),
        }
    }
}

impl ThreadPool {
    /// `threads` threads that share arrays of `elements`, a multiple of a cache line.
    pub(crate) fn new(
        threads: usize,
        elements: usize,
        contents: Contents,
        stores: Stores,
    ) -> Result<Self, WorkloadError> {
        let threads = threads.clamp(1, (elements / LINE).max(1));
        let shared = Arc::new(Shared {
            task: Mutex::new(Task::Make),
            barrier: Barrier::new(threads + 1),
            answers: (0..threads).map(|_| AtomicU64::new(0)).collect(),
        });
        let lines = elements / LINE;
        let mut spawned = Vec::with_capacity(threads);
        // Nobody goes to the barrier before all are there to pass it: where a thread cannot be started,
        // the ones before it see their sender dropped, and end.
        let mut senders = Vec::with_capacity(threads);
        for index in 0..threads {
            let (sender, ready) = channel::<()>();
            senders.push(sender);
            let bounds = [index, index + 1].map(|i| i * lines / threads * LINE);
            let shared = shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("memory-{index}"))
                .spawn(move || {
                    if ready.recv().is_ok() {
                        work(index, bounds, &shared, &contents, stores);
                    }
                })
                .map_err(|error| {
                    WorkloadError::Failed(format!("could not start thread {index}: {error}"))
                })?;
            spawned.push(thread);
        }
        for sender in senders {
            // Fails only where the thread is gone already, which nothing makes it do.
            let _ = sender.send(());
        }
        let pool = Self { shared, threads: spawned };
        if pool.tell(Task::Make).any(|answer| answer != 0) {
            return Err(WorkloadError::OutOfMemory {
                what: "three arrays".to_owned(),
                needed: Some(Bytes::from_count(3 * elements * size_of::<f32>())),
            });
        }
        Ok(pool)
    }

    /// Lets every thread do `task` and waits for the last. Allocates nothing.
    fn tell(&self, task: Task) -> impl Iterator<Item = u64> + '_ {
        *self.shared.task.lock().unwrap_or_else(PoisonError::into_inner) = task;
        self.shared.barrier.wait();
        self.shared.barrier.wait();
        self.shared.answers.iter().map(|answer| answer.load(Ordering::Relaxed))
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads.len()
    }

    /// One pass over the arrays.
    pub(crate) fn run(&self, operation: Operation) {
        // The answers do not matter yet: results stay with the threads until they are checked.
        let _ = self.tell(Task::Run(operation));
    }

    /// So many sweeps of `a`, to be checked as a `read`: an odd number, so that their folds do not cancel.
    pub(crate) fn reread(&self, passes: u32) {
        let _ = self.tell(Task::Reread(passes));
    }

    /// How many elements of `c` (or folds of `a`) the last pass got wrong.
    pub(crate) fn wrong(&self, operation: Operation) -> u64 {
        self.tell(Task::Check(operation)).fold(0, u64::saturating_add)
    }

    /// Makes `c` wrong everywhere.
    pub(crate) fn spoil(&self) {
        let _ = self.tell(Task::Spoil);
    }

    /// Whether the kernel took the request for huge pages everywhere.
    pub(crate) fn huge_pages(&self) -> bool {
        self.tell(Task::Pages).all(|refused| refused == 0)
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        *self.shared.task.lock().unwrap_or_else(PoisonError::into_inner) = Task::Stop;
        self.shared.barrier.wait();
        for thread in self.threads.drain(..) {
            // A thread that panicked has already said so on stderr.
            let _ = thread.join();
        }
    }
}

/// A thread's life: its part of the arrays, and one task after the other.
fn work(
    index: usize,
    [first, end]: [usize; 2],
    shared: &Shared,
    contents: &Contents,
    stores: Stores,
) {
    let mut part = None;
    loop {
        shared.barrier.wait();
        let task = *shared.task.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(task, Task::Stop) {
            return;
        }
        // A thread that unwound past the barrier would leave the others waiting at it for ever. What a
        // panic interrupted is seen by the next check, which finds the spoiled elements.
        let performed = catch_unwind(AssertUnwindSafe(|| match (task, &mut part) {
            (Task::Make, part) => {
                *part = Part::new(first as u64, end - first, contents);
                u64::from(part.is_none())
            }
            (task, Some(part)) => part.perform(task, contents, stores),
            // The caller gives up when memory is short, and has no other task then.
            (_, None) => 1,
        }));
        let answer = performed.unwrap_or(FAILED);
        shared.answers[index].store(answer, Ordering::Relaxed);
        shared.barrier.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize, elements: usize) -> ThreadPool {
        ThreadPool::new(threads, elements, Contents::new(4), Stores::best()).unwrap()
    }

    #[test]
    fn every_operation_is_right_however_the_arrays_are_shared_out() {
        for threads in [1, 2, 3, 7] {
            let pool = pool(threads, 23 * LINE);
            assert_eq!(pool.threads(), threads);
            for operation in Operation::ALL {
                pool.spoil();
                assert_ne!(pool.wrong(operation), 0, "{operation:?} is right before it ran");
                pool.run(operation);
                assert_eq!(pool.wrong(operation), 0, "{operation:?} on {threads} threads");
            }
        }
    }

    #[test]
    fn an_answer_of_one_operation_is_wrong_for_every_other() {
        let pool = pool(2, 8 * LINE);
        for ran in Operation::ALL {
            for asked in Operation::ALL.into_iter().filter(|asked| *asked != ran) {
                pool.spoil();
                pool.run(ran);
                assert_ne!(pool.wrong(asked), 0, "{ran:?} passes for {asked:?}");
            }
        }
    }

    #[test]
    fn one_corrupt_element_is_counted() {
        let contents = Contents::new(4);
        let mut part = Part::new(0, 4 * LINE, &contents).unwrap();
        part.perform(Task::Run(Operation::Triad), &contents, Stores::best());
        assert_eq!(part.wrong(Operation::Triad, &contents), 0);
        part.c[37] = f32::from_bits(part.c[37].to_bits() ^ 1);
        assert_eq!(part.wrong(Operation::Triad, &contents), 1);
    }

    #[test]
    fn a_thread_that_panics_answers_and_goes_on() {
        let pool = pool(2, 8 * LINE);
        assert!(pool.tell(Task::Panic).all(|answer| answer == FAILED));
        pool.run(Operation::Copy);
        assert_eq!(pool.wrong(Operation::Copy), 0);
    }

    #[test]
    fn many_sweeps_are_checked_as_one_and_an_even_number_is_wrong() {
        let pool = pool(2, 8 * LINE);
        for (passes, wrong) in [(1, 0), (7, 0), (6, 2)] {
            pool.spoil();
            pool.reread(passes);
            assert_eq!(pool.wrong(Operation::Read), wrong, "{passes} passes");
        }
    }

    #[test]
    fn there_are_never_more_threads_than_cache_lines() {
        assert_eq!(pool(64, 2 * LINE).threads(), 2);
    }
}
