//! Finding the library's fastest algorithm for a problem, and the fastest problem of a grid.

use cudarc::cublaslt::sys::cublasLtMatmulAlgo_t;
use warpmark_measure::WorkloadError;
use warpmark_record::Seconds;

use super::Problem;
use super::lt::{Operation, none_proposed};
use super::operands::Operands;
use super::session::LtSession;
use crate::cuda::timer::Timer;

/// How long to look for the fastest algorithm of one problem.
#[derive(Clone, Copy)]
pub(super) struct Effort {
    /// Device time after which the other candidates stay untried.
    limit: Seconds,
    /// The most candidates to try.
    candidates: usize,
    /// Timed rounds of a candidate, of which the fastest counts.
    rounds: usize,
}

impl Effort {
    /// For a problem whose row is wanted: everything that the library proposes.
    pub(super) const THOROUGH: Self =
        Self { limit: Seconds(2.0), candidates: usize::MAX, rounds: 3 };

    /// For one of many in a grid, of which one survives.
    pub(super) const BRIEF: Self = Self { limit: Seconds(0.5), candidates: 3, rounds: 2 };

    /// The device time that it should take where a launch takes `iteration`: for the plan.
    pub(super) fn estimate(self, iteration: Seconds) -> Seconds {
        // A launch and a first time, and rounds of one launch or of as many as fill them.
        let candidate = iteration * 2.0 + iteration.max(ROUND) * self.rounds as f64;
        // The limit is looked at between candidates.
        (candidate * self.candidates.min(PROPOSED) as f64).min(self.limit + candidate)
    }
}

/// The most candidates that the library is asked for.
const PROPOSED: usize = super::lt::CANDIDATES as usize;

/// A round of launches lasts at least about this long, so that what an event adds does not decide
/// between algorithms that take microseconds.
const ROUND: Seconds = Seconds(100e-6);

/// The most launches of a round.
const LAUNCHES: f64 = 50.0;

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
        format!(
            "the fastest of {tried} algorithms tried, of {proposed} that cuBLASLt proposed: {against}"
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
    let watch = Timer::new(&session.stream, Some(&session.gate))?;
    let mut spent = 0.0;
    let mut times: Vec<(usize, f64)> = Vec::new();
    let mut refusal = none_proposed();
    for (rank, algorithm) in candidates.iter().take(effort.candidates).enumerate() {
        if spent > effort.limit.0 {
            break;
        }
        let mut launch = || session.launch(operation, algorithm, operands);
        // A candidate that is proposed and then refused is passed over; the row says how many ran.
        if let Err(error) = launch() {
            refusal = error;
            continue;
        }
        let first = watch.time(1, &mut launch)?;
        // This one, and the untimed one before it.
        spent += 2.0 * first;
        let launches = (ROUND.0 / first.max(1e-9)).clamp(1.0, LAUNCHES) as usize;
        let mut best = f64::INFINITY;
        for _ in 0..effort.rounds {
            let time = watch.time(launches, &mut launch)?;
            best = best.min(time / launches as f64);
            spent += time;
        }
        times.push((rank, best));
    }
    let (rank, best, favourite) = fastest(&times).ok_or(refusal)?;
    Ok(Chosen {
        algorithm: candidates[rank],
        rank,
        tried: times.len(),
        proposed: candidates.len(),
        favourite,
        time: Seconds(best),
        spent: Seconds(spent),
    })
}

/// The rank of the shortest time, that time, and how much longer the first one is.
fn fastest(times: &[(usize, f64)]) -> Option<(usize, f64, f64)> {
    let (_, first) = times.first()?;
    let (rank, best) = times.iter().min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    Some((*rank, *best, first / best))
}

/// The fastest problem of a grid.
pub(super) struct Found {
    pub(super) problem: Problem,
    /// What a reader of the row should know of the search.
    pub(super) caveat: String,
}

/// Tries one problem of the grid after the other, in order, until `limit` of device time is spent.
pub(super) fn search(
    session: &LtSession,
    grid: &[Problem],
    operands: &mut Operands,
    limit: Seconds,
) -> Result<Found, WorkloadError> {
    let mut spent = 0.0;
    let mut rates: Vec<(Problem, f64)> = Vec::new();
    for problem in grid {
        if spent > limit.0 {
            break;
        }
        let operation = Operation::new(problem)?;
        match choose(session, &operation, operands, Effort::BRIEF) {
            Ok(chosen) => {
                spent += chosen.spent.0;
                rates.push((*problem, (problem.flops() / chosen.time).0));
            }
            // No algorithm for this shape: the next one may have some.
            Err(WorkloadError::Unsupported(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let best = rates.iter().max_by(|(_, a), (_, b)| a.total_cmp(b));
    let (problem, best) = best.copied().ok_or_else(|| {
        WorkloadError::Unsupported("cuBLASLt multiplies none of the shapes on this card".to_owned())
    })?;
    let first = rates.first().map_or(String::new(), |(first, rate)| {
        let share = 100.0 * rate / best;
        format!("; {} reached {share:.1} % of its rate when both were tried", first.size())
    });
    let (tried, all, size) = (rates.len(), grid.len(), problem.size());
    let caveat = format!("{size} is the fastest of {tried} shapes tried, of {all}{first}");
    Ok(Found { problem, caveat })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_candidate_wins_and_the_first_is_measured_against_it() {
        assert_eq!(fastest(&[(0, 2.0), (3, 1.0), (4, 1.5)]), Some((3, 1.0, 2.0)));
        assert_eq!(fastest(&[(0, 1.0)]), Some((0, 1.0, 1.0)));
        assert_eq!(fastest(&[]), None);
    }
}
