//! A worker's process: starting it, talking to it, ending it.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use warpmark_measure::Stopwatch;
use warpmark_record::Seconds;

use crate::protocol::Message;
use crate::{libraries, worker};

/// How long a killed process may take to be gone. One that the driver holds never is.
const TO_DIE: Duration = Duration::from_secs(10);

/// How long reading what lies in the pipe may take.
const TO_READ: Duration = Duration::from_millis(500);

/// How many of a worker's last lines are kept for its failed row.
const LAST_WORDS: usize = 3;

/// What was heard from a worker.
pub(super) enum Received {
    /// A message.
    Message(Message),
    /// A line on its standard error, or one on the pipe that is no message.
    Line(String),
}

/// Why nothing is heard.
pub(super) enum Silence {
    /// Nothing was said for as long as one is willing to wait.
    TooLong,
    /// It will never say anything again.
    Ended,
}

/// How a worker ended.
pub(super) enum End {
    /// By itself, or by a signal that was none of ours.
    Exited(ExitStatus),
    /// It was silent for too long and was killed.
    Hung {
        /// Whether that helped.
        gone: bool,
    },
}

impl End {
    /// Whether it ended as it should.
    pub(super) fn is_well(&self) -> bool {
        matches!(self, Self::Exited(status) if status.success())
    }
}

/// A worker that was started.
pub(super) struct Process {
    child: Child,
    orders: Option<ChildStdin>,
    heard: Receiver<Received>,
    last_words: VecDeque<String>,
}

impl Process {
    /// Starts a worker. It has its own process group: Ctrl-C is for the run, which takes it along.
    pub(super) fn start() -> anyhow::Result<Self> {
        let program = program().context("the program's own file was not found")?;
        let mut command = Command::new(&program);
        command.arg0("warpmark").arg(worker::ARGUMENT).process_group(0);
        if let Some(path) = libraries::search_path()? {
            command.env(libraries::VARIABLE, path);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("{} could not be started again", program.display()))?;
        let (sender, heard) = mpsc::channel();
        let orders = child.stdin.take();
        if let (Some(messages), Some(errors)) = (child.stdout.take(), child.stderr.take()) {
            listen(messages, sender.clone(), |line| match serde_json::from_str(&line) {
                Ok(message) => Received::Message(message),
                Err(_) => Received::Line(line),
            });
            listen(errors, sender, Received::Line);
        }
        Ok(Self { child, orders, heard, last_words: VecDeque::new() })
    }

    /// Tells the worker something. One that has ended already hears nothing, and its silence tells that.
    pub(super) fn tell(&mut self, order: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        if let Some(pipe) = &mut self.orders
            && pipe.write_all(&line).is_err()
        {
            self.orders = None;
        }
        Ok(())
    }

    /// Waits for the worker to say something.
    pub(super) fn listen(&mut self, limit: Duration) -> Result<Received, Silence> {
        let heard = match self.heard.recv_timeout(limit) {
            // A run that was stopped and goes on (Ctrl-Z, fg) is past every limit, while the pipe is full.
            Err(RecvTimeoutError::Timeout) => self.heard.recv_timeout(TO_READ),
            heard => heard,
        };
        match heard {
            Ok(heard) => {
                if let Received::Line(line) = &heard
                    && !line.trim().is_empty()
                {
                    self.last_words.push_back(line.trim().to_owned());
                    let more = self.last_words.len().saturating_sub(LAST_WORDS);
                    self.last_words.drain(..more);
                }
                Ok(heard)
            }
            Err(RecvTimeoutError::Timeout) => Err(Silence::TooLong),
            Err(RecvTimeoutError::Disconnected) => Err(Silence::Ended),
        }
    }

    /// What it said last on its standard error, for the words on its end.
    pub(super) fn last_words(&self) -> Option<String> {
        let words: Vec<&str> = self.last_words.iter().map(String::as_str).collect();
        (!words.is_empty()).then(|| words.join(" / "))
    }

    /// Says that there is nothing more to do.
    pub(super) fn dismiss(&mut self) {
        self.orders = None;
    }

    /// Ends it, if it has not ended by itself, and says how it ended.
    pub(super) fn end(&mut self, silence: &Silence) -> End {
        if matches!(silence, Silence::Ended)
            && let Ok(Some(status)) = self.wait(TO_DIE)
        {
            return End::Exited(status);
        }
        End::Hung { gone: self.kill() }
    }

    /// Kills it and waits until it is gone. `false` where it does not go: the driver holds it.
    fn kill(&mut self) -> bool {
        // It fails only where the process is gone.
        let _ = self.child.kill();
        matches!(self.wait(TO_DIE), Ok(Some(_)))
    }

    fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let watch = Stopwatch::start();
        loop {
            let status = self.child.try_wait()?;
            if status.is_some() || watch.elapsed() > Seconds(limit.as_secs_f64()) {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// This program. On Linux by a name that leads to the very file that is running, even where a newer
/// build has taken its place.
fn program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    std::env::current_exe()
}

/// Hands every line of a pipe on, until the pipe is closed.
fn listen(
    pipe: impl Read + Send + 'static,
    to: Sender<Received>,
    read: impl Fn(String) -> Received + Send + 'static,
) {
    thread::spawn(move || {
        let mut lines = BufReader::new(pipe).split(b'\n');
        while let Some(Ok(line)) = lines.next() {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if to.send(read(line)).is_err() {
                return;
            }
        }
    });
}
