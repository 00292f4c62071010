//! Finding the library's fastest algorithm for a problem, and the fastest problem of a grid.

use cudarc::cublaslt::sys::cublasLtMatmulAlgo_t;
use warpmark_cuda::cublaslt::{Operation, none_proposed};
use warpmark_measure::WorkloadError;
use warpmark_record::Seconds;

use super::Problem;
use super::lt::operation;
use super::operands::Operands;
use super::session::LtSession;
use crate::cuda;
use crate::cuda::contest::{Contestants, LOAD, Rules, compare};
use crate::cuda::timer::Timer;

/// How long to look for the fastest algorithm of one problem.
#[derive(Clone, Copy)]
pub(super) struct Effort {
    rules: Rules,
    /// The most candidates to try.
    candidates: usize,
}

impl Effort {
    /// For a problem whose row is wanted: everything that the library proposes.
    pub(super) const THOROUGH: Self = Self {
        rules: Rules { limit: Seconds(2.0), load: LOAD, rounds: 2, finals: 4 },
        candidates: usize::MAX,
    };

    /// For one of many in a grid, of which one survives: the search has loaded the card.
    pub(super) const BRIEF: Self = Self {
        rules: Rules { limit: Seconds(0.5), load: Seconds(0.0), rounds: 2, finals: 0 },
        candidates: 3,
    };

    /// The device time that it should take where a launch takes `iteration`: for the plan.
    pub(super) fn estimate(self, iteration: Seconds) -> Seconds {
        self.rules.estimate(self.candidates.min(PROPOSED), iteration)
    }
}

/// The most candidates that the library is asked for.
const PROPOSED: usize = warpmark_cuda::cublaslt::CANDIDATES as usize;

/// The algorithm that a workload runs.
pub(super) struct Chosen {
    pub(super) algorithm: cublasLtMatmulAlgo_t,
    /// Its place in the library's own order, from 0.
    rank: usize,
    tried: usize,
    proposed: usize,
    /// How much longer the library's favourite takes, as a ratio.
    favourite: f64,
    /// What one launch took.
    time: Seconds,
    /// Device time that all trials took.
    spent: Seconds,
    /// Whether the host's pace is in the times of the trials.
    not_blocked: bool,
}

impl Chosen {
    /// What a reader of the row should know of the choice.
    pub(super) fn caveat(&self) -> String {
        let Self { rank, tried, proposed, favourite, .. } = self;
        let against = if *rank == 0 {
            "the library's first choice".to_owned()
        } else {
            format!("its number {}; its first choice took {favourite:.2} times as long", rank + 1)
        };
        let pace = if self.not_blocked {
            "; the device could not be held back meanwhile, so that the host's pace is in these times"
        } else {
            ""
        };
        format!(
            "the fastest of {tried} algorithms tried, of {proposed} that cuBLASLt proposed: {against}{pace}"
        )
    }
}

/// Times the library's candidates and keeps the fastest.
pub(super) fn choose(
    session: &LtSession,
    operation: &Operation,
    operands: &mut Operands,
    effort: Effort,
) -> Result<Chosen, WorkloadError> {
    let candidates = operation.candidates(&session.handle, session.workspace.bytes())?;
    let timer = Timer::new(&session.stream, Some(&session.blocking))?;
    let count = candidates.len().min(effort.candidates);
    let mut trial = Trial { session, operation, candidates: &candidates, operands, timer: &timer };
    let standing = compare(effort.rules, count, &mut trial, none_proposed())?;
    let favourite = standing.slowness.first().copied().unwrap_or(1.0);
    Ok(Chosen {
        algorithm: candidates[standing.best],
        rank: standing.best,
        tried: standing.entered.len(),
        proposed: candidates.len(),
        favourite,
        time: standing.time,
        spent: standing.spent,
        not_blocked: timer.was_not_blocked(),
    })
}

/// The candidates of one problem.
struct Trial<'a> {
    session: &'a LtSession,
    operation: &'a Operation,
    candidates: &'a [cublasLtMatmulAlgo_t],
    operands: &'a mut Operands,
    timer: &'a Timer<'a>,
}

impl Contestants for Trial<'_> {
    /// A candidate that is proposed and then refused is passed over; the row says how many ran.
    fn enter(&mut self, variant: usize) -> Result<Result<(), WorkloadError>, WorkloadError> {
        let launched =
            self.session.launch(self.operation, &self.candidates[variant], self.operands);
        // A device that is broken answers so here, whatever the library made of it.
        cuda::wait(&self.session.stream)?;
        Ok(launched.map_err(|refusal| match refusal {
            WorkloadError::Unsupported(refusal) => {
                let count = self.candidates.len();
                WorkloadError::Unsupported(format!(
                    "cuBLASLt proposes {count} algorithms for this multiplication and refuses each that \
                     was tried: {refusal}"
                ))
            }
            fault => fault,
        }))
    }

    fn time(&mut self, variant: usize, launches: usize) -> Result<f64, WorkloadError> {
        let Self { session, operation, candidates, operands, timer } = self;
        timer.time(launches, || session.launch(operation, &candidates[variant], operands))
    }
}

/// The fastest problem of a grid.
pub(super) struct Found {
    pub(super) problem: Problem,
    /// What a reader of the row should know of the search.
    pub(super) caveat: String,
}

/// A shape, the fastest algorithm that was found for it, and its rate against that of the reference.
struct Shape {
    problem: Problem,
    operation: Operation,
    chosen: Chosen,
    rate: f64,
}

/// Tries one problem of the grid after the other, in order, until `limit` of device time is spent, each
/// against the first one at that moment; then the best few against each other.
///
/// A search lasts long enough to heat the card up: rates in FLOP a second would favour what was tried
/// while it was cool.
pub(super) fn search(
    session: &LtSession,
    grid: &[Problem],
    operands: &mut Operands,
    limit: Seconds,
) -> Result<Found, WorkloadError> {
    let timer = Timer::new(&session.stream, Some(&session.blocking))?;
    let mut spent = 0.0;
    let mut shapes: Vec<Shape> = Vec::new();
    for problem in grid {
        if spent > limit.0 {
            break;
        }
        let operation = operation(problem)?;
        let effort = if shapes.is_empty() { Effort::THOROUGH } else { Effort::BRIEF };
        let chosen = match choose(session, &operation, operands, effort) {
            Ok(chosen) => chosen,
            // No algorithm for this shape, or none that runs: the next one may have some.
            Err(WorkloadError::Unsupported(_)) => continue,
            Err(error) => return Err(error),
        };
        spent += chosen.spent.0;
        let mut shape = Shape { problem: *problem, operation, chosen, rate: 1.0 };
        if let Some(reference) = shapes.first() {
            let (before, seconds) = (reference.time(session, &timer, operands)?, shape.chosen.time);
            spent += before;
            shape.rate = (problem.flops() / seconds).0 / (reference.problem.flops().0 / before);
        }
        shapes.push(shape);
    }
    let order = best_first(session, &timer, operands, &mut shapes)?;
    let Some(best) = order.first().map(|place| &shapes[*place]) else {
        return Err(WorkloadError::Unsupported(
            "cuBLASLt multiplies none of the shapes on this card".to_owned(),
        ));
    };
    let share = 100.0 * shapes[0].rate / best.rate;
    let (tried, all, size) = (shapes.len(), grid.len(), best.problem.size());
    let first = shapes[0].problem.size();
    let caveat = format!(
        "{size} is the fastest of {tried} shapes tried, of {all}; {first} reached {share:.1} % of its \
         rate when both were tried"
    );
    Ok(Found { problem: best.problem, caveat })
}

impl Shape {
    /// Seconds that one product takes.
    fn time(
        &self,
        session: &LtSession,
        timer: &Timer<'_>,
        operands: &mut Operands,
    ) -> Result<f64, WorkloadError> {
        timer.time(1, || session.launch(&self.operation, &self.chosen.algorithm, operands))
    }
}

/// How many of the best shapes are held against each other once more, and how often; with the first shape
/// of all beside them.
const FINALISTS: usize = 3;
const FINALS: usize = 4;

/// The places of the shapes, the fastest first. The rates of the best few are taken anew, in rounds of
/// alternating direction.
fn best_first(
    session: &LtSession,
    timer: &Timer<'_>,
    operands: &mut Operands,
    shapes: &mut [Shape],
) -> Result<Vec<usize>, WorkloadError> {
    let sorted = |shapes: &[Shape]| {
        let mut places: Vec<usize> = (0..shapes.len()).collect();
        places.sort_by(|a, b| shapes[*b].rate.total_cmp(&shapes[*a].rate));
        places
    };
    let mut finalists: Vec<usize> = sorted(shapes).into_iter().take(FINALISTS).collect();
    if finalists.len() < 2 {
        return Ok(finalists);
    }
    if !finalists.contains(&0) {
        finalists.push(0);
    }
    let mut seconds = vec![0.0; shapes.len()];
    for _ in 0..FINALS {
        for &place in &finalists {
            seconds[place] += shapes[place].time(session, timer, operands)?;
        }
        finalists.reverse();
    }
    for shape in &mut *shapes {
        shape.rate = 0.0;
    }
    for place in finalists {
        shapes[place].rate = shapes[place].problem.flops().0 * FINALS as f64 / seconds[place];
    }
    Ok(sorted(shapes))
}
