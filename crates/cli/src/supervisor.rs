//! `warpmark run`, `verify` and `serve` on a GPU: each group, and each service, in a process of its
//! own, every row kept by this one.
//!
//! A fault that poisons a context, a crash in a library, the kernel's out-of-memory killer or a hang
//! then cost the benchmark that ran, and nothing else: its row says what happened, and a fresh process
//! goes on after it. This process never opens the device, so that it holds none of its memory.
//!
//! `cargo bench` does without: there each bench target is a process already. So does a run on the CPU,
//! which has no context to lose, and where a second process would take a core from what is measured.

mod exit_status;
mod process;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use warpmark_measure::{Admission, Entry, Mode, Observer, Offer, Step, timestamp};
use warpmark_models::weights::Progress;
use warpmark_record::{BenchmarkId, Outcome, Record, Run};

use crate::arguments;
use crate::budget::Budget;
use crate::campaign::{self, Campaign};
use crate::environment::Identity;
use crate::lock::lock_device;
use crate::meeting::Seat;
use crate::plan::hang_limit;
use crate::progress::Bars;
use crate::protocol::{Answer, Message, Setup};
use crate::recorder::{Recorder, Results};
use crate::serving::{self, Serving};
use crate::{environment, sources};
use process::{End, Process, Received};

/// How long opening the device may take: a driver that has to start first, on eight cards, takes half a
/// minute.
const TO_OPEN: Duration = Duration::from_mins(2);

/// How long a worker that measures nothing may be silent.
const BETWEEN: Duration = Duration::from_secs(30);

/// After so many hangs the rest of a group is left out: each costs minutes of a rented card.
const HANGS: usize = 2;

/// Measures a campaign on a GPU.
///
/// # Errors
/// The device cannot be opened, another run is measuring on it, or the disk refuses a row.
pub(crate) fn measure(
    campaign: Campaign,
    selection: &arguments::Selection,
    options: &arguments::Run,
    identity: Identity,
    seat: Option<&Seat<'_>>,
) -> anyhow::Result<Results> {
    let output = &options.output;
    let spec = &campaign.described.spec;
    let cache = sources::cache()?;
    let _lock = lock_device(&cache, spec)?;
    campaign::clear_log(&cache, spec)?;
    campaign::clear_criterion(&cache, spec)?;
    let setup = Setup {
        spec: spec.clone(),
        run: identity.id.clone(),
        selection: selection.clone(),
        mode: Mode::Measure,
        verbose: output.verbose,
        serve: None,
    };
    let limits = Limits { hang: options.hang_limit, by_plan: Duration::ZERO };
    let results = Some((output.results.as_path(), identity));
    let bars = campaign.bars.clone();
    let mut supervisor = Supervisor::start(setup, limits, results, bars, campaign.budget)?;
    supervisor.seat = seat;
    campaign.begin();
    for group in campaign.plan.groups {
        supervisor.entries(group.entries)?;
    }
    supervisor.finish()
}

/// Checks every answer of a campaign on a GPU; nothing is timed or recorded.
///
/// # Errors
/// The device cannot be opened, or a run is measuring on it.
pub(crate) fn verify(
    campaign: Campaign,
    options: &arguments::Verify,
) -> anyhow::Result<Vec<Record>> {
    let spec = &campaign.described.spec;
    let cache = sources::cache()?;
    let _lock = lock_device(&cache, spec)?;
    let setup = Setup {
        spec: spec.clone(),
        run: environment::new_run_id(),
        selection: options.selection.clone(),
        mode: Mode::Verify,
        verbose: false,
        serve: None,
    };
    let limits = Limits { hang: options.hang_limit, by_plan: Duration::ZERO };
    let bars = campaign.bars.clone();
    let mut supervisor = Supervisor::start(setup, limits, None, bars, campaign.budget)?;
    campaign.begin();
    for group in campaign.plan.groups {
        supervisor.entries(group.entries)?;
    }
    Ok(supervisor.into_rows())
}

/// Measures a campaign on a GPU and keeps nothing: the run's line and its rows.
///
/// # Errors
/// The device cannot be opened, or another run is measuring on it.
pub(crate) fn check(
    campaign: Campaign,
    selection: &arguments::Selection,
    hang_limit: Option<Duration>,
) -> anyhow::Result<(Run, Vec<Record>)> {
    let spec = &campaign.described.spec;
    let _lock = lock_device(&sources::cache()?, spec)?;
    let setup = Setup {
        spec: spec.clone(),
        run: environment::new_run_id(),
        selection: selection.clone(),
        mode: Mode::Measure,
        verbose: false,
        serve: None,
    };
    let limits = Limits { hang: hang_limit, by_plan: Duration::ZERO };
    let bars = campaign.bars.clone();
    let mut supervisor = Supervisor::start(setup, limits, None, bars, campaign.budget)?;
    for group in campaign.plan.groups {
        supervisor.entries(group.entries)?;
    }
    let run = supervisor.run.clone();
    Ok((run, supervisor.into_rows()))
}

/// Puts load on services on a GPU.
///
/// # Errors
/// Those of [`measure`].
pub(crate) fn serve(
    serving: &Serving<'_>,
    offers: &[Offer],
    identity: Identity,
) -> anyhow::Result<Results> {
    let options = serving.options;
    let spec = &serving.described.spec;
    let _lock = lock_device(&sources::cache()?, spec)?;
    let setup = Setup {
        spec: spec.clone(),
        run: identity.id.clone(),
        selection: serving.selection.clone(),
        mode: Mode::Measure,
        verbose: false,
        serve: Some(Box::new(options.clone())),
    };
    let limits = Limits { hang: options.hang_limit, by_plan: serving::longest(&options.traffic) };
    let (bars, results) = (serving.bars.clone(), Some((options.results.as_path(), identity)));
    let mut supervisor = Supervisor::start(setup, limits, results, bars, Budget::starting(None))?;
    serving.begin(offers);
    for offer in offers {
        supervisor.entries(serving::entries(offer, serving.levels))?;
    }
    supervisor.finish()
}

/// A worker that has opened the device, and how it set it up; or why none has.
type Opened = Result<(Process, BTreeMap<String, String>), String>;

/// Starts a worker and waits until it has opened the device.
fn open(setup: &Setup, hang_limit: Option<Duration>, bars: &Bars) -> anyhow::Result<Opened> {
    let limit = hang_limit.unwrap_or(TO_OPEN);
    let mut process = Process::start()?;
    process.tell(setup)?;
    loop {
        match process.listen(limit) {
            Ok(Received::Message(Message::Ready { settings })) => {
                return Ok(Ok((process, settings)));
            }
            Ok(Received::Message(Message::Refused { reason })) => return Ok(Err(reason)),
            Ok(Received::Line(line)) => bars.line(&line),
            Ok(Received::Message(_)) => {}
            Err(silence) => {
                let end = process.end(&silence);
                let doing = format!("opening {}", setup.spec.name);
                return Ok(Err(exit_status::describe(&end, &doing, limit, process.last_words())));
            }
        }
    }
}

/// How long a worker may be silent.
#[derive(Clone, Copy)]
struct Limits {
    /// What the user set.
    hang: Option<Duration>,
    /// The time for which one that works says nothing, beside that.
    by_plan: Duration,
}

struct Supervisor<'a> {
    setup: Setup,
    bars: Bars,
    transfers: Arc<dyn Progress>,
    admission: Admission<'static>,
    limits: Limits,
    /// What a worker may still take for weights on their way.
    budget: Budget,
    /// The run's own line.
    run: Run,
    /// Where rows go; nowhere where nothing is recorded.
    recorder: Option<Recorder>,
    /// Every row so far, where there is no recorder.
    rows: Vec<Record>,
    /// A worker that has opened the device and has no group yet.
    waiting: Option<Process>,
    /// Where it waits for other cards before each benchmark.
    seat: Option<&'a Seat<'a>>,
}

/// The benchmarks of a group that have no row yet.
struct Queue {
    left: VecDeque<Entry>,
    hangs: usize,
}

/// The benchmark that a worker was allowed to begin.
struct Doing {
    id: BenchmarkId,
    step: Step,
    began: String,
}

impl Supervisor<'_> {
    /// Asks a first worker how it set the device up, and opens the results.
    fn start(
        setup: Setup,
        limits: Limits,
        results: Option<(&Path, Identity)>,
        bars: Bars,
        budget: Budget,
    ) -> anyhow::Result<Self> {
        let (first, settings) = match open(&setup, limits.hang, &bars)? {
            Ok(opened) => opened,
            Err(reason) => bail!("{reason}"),
        };
        let (results, identity) = match results {
            Some((folder, identity)) => (Some(folder), identity),
            None => (None, Identity::named(setup.run.clone())),
        };
        let mut run = environment::run(&setup.selection, &setup.spec, settings, identity);
        if setup.serve.is_some() {
            serving::SUITE.clone_into(&mut run.suite);
        }
        Ok(Self {
            transfers: bars.transfers(budget),
            bars,
            admission: budget.admission(),
            budget,
            setup,
            limits,
            recorder: results.map(|results| Recorder::open(results, run.clone())).transpose()?,
            run,
            rows: Vec::new(),
            waiting: Some(first),
            seat: None,
        })
    }

    fn finish(self) -> anyhow::Result<Results> {
        self.bars.clear();
        self.recorder.map(Recorder::finish).context("no results were opened for this run")
    }

    fn into_rows(self) -> Vec<Record> {
        self.bars.clear();
        self.rows
    }

    /// Measures the benchmarks of a group, with as many workers as it takes.
    fn entries(&mut self, entries: Vec<Entry>) -> anyhow::Result<()> {
        let mut queue = Queue { left: entries.into(), hangs: 0 };
        loop {
            self.hold_back(&mut queue)?;
            if queue.left.is_empty() {
                return Ok(());
            }
            let opened = if let Some(process) = self.waiting.take() {
                Ok(process)
            } else {
                let mut setup = self.setup.clone();
                setup.selection.budget = self.budget.left();
                open(&setup, self.limits.hang, &self.bars)?.map(|(process, _)| process)
            };
            match opened {
                Ok(process) => self.attend(process, &mut queue)?,
                Err(reason) => {
                    for entry in queue.left.drain(..) {
                        let reason = format!("no process could go on with it: {reason}");
                        self.keep(entry.id, timestamp(), Outcome::Failed { reason })?;
                    }
                }
            }
        }
    }

    /// Keeps the rows of the next benchmarks that must not begin, whether by plan, for want of time or
    /// after too many hangs.
    fn hold_back(&mut self, queue: &mut Queue) -> anyhow::Result<()> {
        loop {
            self.skip_planned(queue)?;
            let Some(entry) = queue.left.front() else { return Ok(()) };
            let reason = if queue.hangs >= HANGS {
                Some(format!("left out: {HANGS} benchmarks of its group hung before it"))
            } else {
                (self.admission)(entry)
            };
            let (Some(reason), id) = (reason, entry.id.clone()) else { return Ok(()) };
            queue.left.pop_front();
            self.keep(id, timestamp(), Outcome::Skipped { reason })?;
        }
    }

    /// Keeps the rows of those at the front that the plan leaves out.
    fn skip_planned(&mut self, queue: &mut Queue) -> anyhow::Result<()> {
        while let Some(entry) = queue.left.pop_front_if(|entry| entry.skip.is_some()) {
            let reason = entry.skip.unwrap_or_default();
            self.keep(entry.id, timestamp(), Outcome::Skipped { reason })?;
        }
        Ok(())
    }

    /// Hands the rest of a group to a worker and keeps its rows, until it has ended for whatever reason.
    fn attend(&mut self, mut process: Process, queue: &mut Queue) -> anyhow::Result<()> {
        let wanted = queue.left.iter().filter(|entry| entry.skip.is_none());
        process.tell(&wanted.map(|entry| &entry.id).collect::<Vec<_>>())?;
        let mut doing: Option<Doing> = None;
        // After a failure a worker may end of its own accord, and the next one goes on.
        let mut may_end = false;
        loop {
            let limit = self.patience(queue, doing.as_ref());
            match process.listen(limit) {
                Ok(Received::Message(Message::Ask { id })) => {
                    process.tell(&self.answer(queue, &id))?;
                    may_end = false;
                    self.bars.step(&id, Step::Opening);
                    doing = Some(Doing { id, step: Step::Opening, began: timestamp() });
                }
                Ok(Received::Message(Message::Row { row })) => {
                    doing = None;
                    may_end = matches!(row.outcome, Outcome::Failed { .. });
                    queue.left.retain(|entry| entry.id != row.id);
                    self.keep_row(*row)?;
                    self.skip_planned(queue)?;
                    if queue.left.is_empty() {
                        process.dismiss();
                        may_end = true;
                    }
                }
                Ok(heard) => self.hear(heard, doing.as_mut()),
                Err(silence) => {
                    let end = process.end(&silence);
                    let words = process.last_words();
                    if !may_end {
                        queue.hangs += usize::from(matches!(end, End::Hung { .. }));
                        return self.blame(queue, doing, |doing| {
                            exit_status::describe(&end, doing, limit, words)
                        });
                    }
                    if !end.is_well() {
                        let words = exit_status::describe(&end, "cleaning up", limit, words);
                        self.bars.line(&format!("after the row before: {words}"));
                    }
                    return Ok(());
                }
            }
        }
    }

    /// How long the worker may be silent now.
    fn patience(&self, queue: &Queue, doing: Option<&Doing>) -> Duration {
        let Some(doing) = doing else {
            return self.limits.hang.unwrap_or(BETWEEN);
        };
        let entry = queue.left.iter().find(|entry| entry.id == doing.id);
        let limit = self.limits.hang.unwrap_or_else(|| entry.map_or(TO_OPEN, hang_limit));
        limit + self.limits.by_plan
    }

    /// Whether a benchmark may begin.
    fn answer(&mut self, queue: &Queue, id: &BenchmarkId) -> Answer {
        let entry = queue.left.iter().find(|entry| entry.id == *id);
        if let Some(reason) = entry.and_then(|entry| (self.admission)(entry)) {
            return Answer::Skip { reason };
        }
        if let Some(seat) = self.seat {
            seat.wait(id);
        }
        Answer::Go
    }

    /// Shows what is no row.
    fn hear(&mut self, heard: Received, doing: Option<&mut Doing>) {
        match heard {
            Received::Message(Message::Step { id, step }) => {
                self.bars.step(&id, step);
                if let Some(doing) = doing {
                    doing.step = step;
                }
            }
            Received::Message(Message::Begin { file, total }) => self.transfers.begin(&file, total),
            Received::Message(Message::Advance { file, done }) => {
                self.transfers.advance(&file, done);
            }
            Received::Message(Message::Finish { file }) => self.transfers.finish(&file),
            Received::Message(_) => {}
            Received::Line(line) => self.bars.line(&line),
        }
    }

    /// Records the loss of a worker as the failure of the benchmark that it was at.
    fn blame(
        &mut self,
        queue: &mut Queue,
        doing: Option<Doing>,
        words: impl FnOnce(&str) -> String,
    ) -> anyhow::Result<()> {
        let (id, began, what) = match doing {
            Some(doing) => (Some(doing.id), doing.began, activity(doing.step)),
            None => (queue.left.front().map(|entry| entry.id.clone()), timestamp(), "preparing"),
        };
        let Some(id) = id else { return Ok(()) };
        queue.left.retain(|entry| entry.id != id);
        self.keep(id, began, Outcome::Failed { reason: words(what) })
    }

    fn keep(&mut self, id: BenchmarkId, began: String, outcome: Outcome) -> anyhow::Result<()> {
        self.keep_row(Record::without_samples(self.setup.run.clone(), id, began, outcome))
    }

    fn keep_row(&mut self, row: Record) -> anyhow::Result<()> {
        // Shown only once it is on the disk.
        let kept = match &mut self.recorder {
            Some(recorder) => recorder.keep(row)?,
            None => self.rows.push_mut(row),
        };
        if let Some(seat) = self.seat {
            seat.passed(&kept.id);
        }
        self.bars.done(kept);
        Ok(())
    }
}

fn activity(step: Step) -> &'static str {
    match step {
        Step::Opening => "loading",
        Step::Verifying => "checking the answer",
        Step::WarmingUp => "warming up",
        Step::Sampling { .. } => "taking samples",
        Step::UnderLoad => "answering requests",
    }
}
