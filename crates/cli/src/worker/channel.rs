//! How a worker speaks to its supervisor.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use warpmark_measure::{Observer, Step, Stopwatch};
use warpmark_models::weights::Progress;
use warpmark_record::{BenchmarkId, Bytes, Record, Seconds};

use crate::budget::Budget;
use crate::exit;
use crate::protocol::Message;

/// How often a step within the same activity is told. Each message wakes the supervisor, which should
/// sleep while samples are taken; and nobody reads faster.
const PERIOD: Seconds = Seconds(0.2);

/// The worker's end of the pipe.
#[derive(Clone)]
pub(super) struct WorkerChannel {
    pipe: Arc<Mutex<Pipe>>,
    budget: Budget,
}

struct Pipe {
    to: File,
    /// Since something was said last.
    quiet: Stopwatch,
}

impl WorkerChannel {
    /// Takes standard output for messages; what others print there goes to standard error from now on.
    pub(super) fn of_stdout() -> io::Result<Self> {
        let to = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?);
        rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
        Ok(Self {
            pipe: Arc::new(Mutex::new(Pipe { to, quiet: Stopwatch::start() })),
            budget: Budget::starting(None),
        })
    }

    /// Sets the time that weights may take on their way, from here on.
    pub(super) fn allow(&mut self, budget: Option<Duration>) {
        self.budget = Budget::starting(budget);
    }

    /// Says something. If nobody listens any more, the process ends: there is nobody to measure for.
    pub(super) fn say(&self, message: &Message) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        let said = serde_json::to_vec(message).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            pipe.to.write_all(&line)
        });
        if said.is_err() {
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
        pipe.quiet = Stopwatch::start();
    }

    /// Says something that will be said again soon, if nothing was said lately.
    fn mention(&self, message: &Message) {
        let lately = {
            let pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
            pipe.quiet.elapsed() < PERIOD
        };
        if !lately {
            self.say(message);
        }
    }
}

impl Observer for WorkerChannel {
    fn step(&mut self, id: &BenchmarkId, step: Step) {
        let message = Message::Step { id: id.clone(), step };
        match step {
            Step::Sampling { done, .. } if done > 0 => self.mention(&message),
            _ => self.say(&message),
        }
    }

    /// The row itself is told by whoever has it to give.
    fn done(&mut self, _: &Record) {}
}

impl Progress for WorkerChannel {
    fn begin(&self, file: &str, total: Option<Bytes>) {
        self.say(&Message::Begin { file: file.to_owned(), total });
    }

    fn advance(&self, file: &str, done: Bytes) {
        self.mention(&Message::Advance { file: file.to_owned(), done });
    }

    fn finish(&self, file: &str) {
        self.say(&Message::Finish { file: file.to_owned() });
    }

    fn time_left(&self) -> Option<Duration> {
        self.budget.left()
    }
}
