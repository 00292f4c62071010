//! What runs, what is left and how long it will take, on standard error.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use warpmark_analyze::Rates;
use warpmark_measure::{Observer, Step};
use warpmark_record::{BenchmarkId, Outcome, Record};

use crate::bar::style;
use crate::budget::Budget;
use crate::output::{plain, remark, warn};
use crate::terminal;
use crate::threads;
use crate::transfers::Transfers;

/// Bars on a terminal that can draw them; a line for each finished benchmark elsewhere; nothing at all for
/// those who want it quiet. Text from outside is in all of it: ids, files, what libraries say.
#[derive(Clone)]
pub(crate) struct Bars {
    all: MultiProgress,
    overall: ProgressBar,
    current: ProgressBar,
    drawn: bool,
}

impl Bars {
    /// Bars for a plan that is still being made; nothing is drawn yet.
    pub(crate) fn new() -> Self {
        let may = io::stderr().is_terminal() && terminal::is_capable() && !terminal::quiet();
        let terminal = may.then(|| own_terminal().ok()).flatten();
        let drawn = terminal.is_some();
        let target = terminal
            .map_or_else(ProgressDrawTarget::hidden, |term| ProgressDrawTarget::term(term, 10));
        let all = MultiProgress::with_draw_target(target);
        let current = all.add(ProgressBar::new_spinner().with_style(style("{spinner} {msg}")));
        let overall = all.add(
            ProgressBar::no_length()
                .with_style(style("[{bar:24}] {pos} of {len}, {elapsed} gone, about {eta} left")),
        );
        Self { all, overall, current, drawn }
    }

    /// Bars that are never drawn, and lines that nobody reads.
    pub(crate) fn silent() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let [current, overall] = [(); 2].map(|()| all.add(ProgressBar::hidden()));
        // Lines go above the bars, and so nowhere.
        Self { all, overall, current, drawn: true }
    }

    /// Draws the bars of a plan of `total` benchmarks.
    pub(crate) fn begin(&self, total: usize) {
        self.overall.set_length(total as u64);
        self.overall.reset();
        // The ticker is a thread, which must not be missing for what is no more than pleasant.
        if self.drawn && threads::one_more() {
            self.current.enable_steady_tick(Duration::from_millis(200));
        }
    }

    /// Prints a line above the bars.
    pub(crate) fn line(&self, text: &str) {
        if self.drawn {
            // Fails only where the terminal is gone.
            let _ = self.all.println(plain(text));
        } else {
            remark(text);
        }
    }

    /// Prints what a user must hear of, above the bars.
    pub(crate) fn notice(&self, text: &str) {
        if self.drawn {
            self.line(text);
        } else {
            warn(text);
        }
    }

    /// Takes the bars away.
    pub(crate) fn clear(&self) {
        self.current.finish_and_clear();
        self.overall.finish_and_clear();
    }

    /// Something that hears of downloads and draws them above the bars; they may take what is left of
    /// the budget.
    pub(crate) fn transfers(&self, budget: Budget) -> Arc<dyn warpmark_models::weights::Progress> {
        Arc::new(Transfers::new(self.all.clone(), budget))
    }
}

impl Observer for Bars {
    fn step(&mut self, id: &BenchmarkId, step: Step) {
        let text = match step {
            Step::Opening => format!("{id}: loading"),
            Step::Verifying => format!("{id}: checking the answer"),
            Step::WarmingUp => format!("{id}: warming up"),
            Step::Sampling { done, total } => format!("{id}: sample {} of {total}", done + 1),
            Step::UnderLoad => format!("{id}: under load"),
        };
        self.current.set_message(plain(&text));
    }

    fn done(&mut self, record: &Record) {
        self.overall.inc(1);
        self.line(&summary(record));
    }
}

/// A terminal that the bars go on to draw on while criterion runs.
fn own_terminal() -> io::Result<Term> {
    Ok(Term::read_write_pair(own_stderr()?, own_stderr()?))
}

/// Standard error through a descriptor of our own: while criterion runs, the process's one leads to a
/// log file.
pub(crate) fn own_stderr() -> io::Result<File> {
    Ok(File::from(rustix::io::dup(rustix::stdio::stderr())?))
}

/// A finished benchmark in a line.
fn summary(record: &Record) -> String {
    let id = &record.id;
    match &record.outcome {
        // Checked and not timed, as `verify` asks for it.
        Outcome::Skipped { .. } if record.check.is_some() => format!("  {id}: its answer is right"),
        Outcome::Skipped { reason } => format!("- {id}: skipped, {reason}"),
        Outcome::Failed { reason } => format!("! {id}: FAILED, {reason}"),
        Outcome::Measured => format!("  {id}: {}", figures(record)),
    }
}

/// The rate that matters and the time of an iteration.
fn figures(record: &Record) -> String {
    if let Some(load) = &record.load_test {
        let mean = load.latency.mean().map_or("no answer".to_owned(), |time| time.to_string());
        return format!("{:.3} answers/s, {mean} each", load.rate());
    }
    let Some(rates) = Rates::of(record) else {
        return "no time that the clock resolves".to_owned();
    };
    let rate = rates.main(record).map_or(String::new(), |rate| format!("{rate}, "));
    let spread = rates.relative_half_width().map(|half| format!(" ± {:.1} %", half * 100.0));
    format!("{rate}{} an iteration{}", rates.time, spread.unwrap_or_default())
}
