//! Finding the fastest of several variants of one thing, on a card whose clock moves meanwhile.
//!
//! An idle card runs at a few hundred megahertz and rises under load; at its power limit it falls again.
//! Ways that are timed one after the other are therefore timed at different clocks, and the later ones win
//! before the clock has risen, the earlier ones once heat or power hold it down. So the card is loaded
//! first, the variants take turns in rounds of alternating direction, and the best few are timed once more
//! against each other.

use warpmark_measure::WorkloadError;
use warpmark_record::{Seconds, stats};

/// A round of launches lasts at least about this long, so that what an event adds does not decide
/// between variants that take microseconds.
const ROUND: Seconds = Seconds(100e-6);

/// The most launches of a round.
const LAUNCHES: f64 = 50.0;

/// How many of the best are timed once more.
const FINALISTS: usize = 3;

/// How thoroughly variants are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Device time after which no further variant is tried and no further round begun.
    pub(crate) limit: Seconds,
    /// Device time under load before the first round.
    pub(crate) load: Seconds,
    /// Rounds of all variants.
    pub(crate) rounds: usize,
    /// Rounds of the best few after them; an even number, so that each is as often early as late.
    pub(crate) finals: usize,
}

/// The card's clock rises within this time under load.
pub(crate) const LOAD: Seconds = Seconds(0.3);

impl Rules {
    /// The device time that comparing `variants` takes where a launch takes `iteration`, for a plan.
    pub(crate) fn estimate(&self, variants: usize, iteration: Seconds) -> Seconds {
        let round = iteration.max(ROUND);
        let entering = iteration * 2.0;
        let load = if variants > 1 { self.load + round } else { Seconds(0.0) };
        let finals = round * (self.finals * variants.min(FINALISTS)) as f64;
        let all = (entering + round * self.rounds as f64) * variants as f64 + finals;
        // The limit is looked at between variants and between rounds.
        load + all.min(self.limit + entering + round * (variants + FINALISTS) as f64)
    }
}

/// What is compared: launches of numbered variants, and a clock on the device.
pub(crate) trait Contestants {
    /// Launches a variant once, untimed, and waits for it; `Ok(Err)` where the variant is refused and
    /// the device still works.
    fn enter(&mut self, variant: usize) -> Result<Result<(), WorkloadError>, WorkloadError>;

    /// Seconds of the device that so many launches of a variant take.
    fn time(&mut self, variant: usize, launches: usize) -> Result<f64, WorkloadError>;
}

/// How variants have done.
#[derive(Debug)]
pub(crate) struct Standing {
    /// The variants that were tried and not refused, in their order.
    pub(crate) entered: Vec<usize>,
    /// The fastest of them.
    pub(crate) best: usize,
    /// What one launch of it took.
    pub(crate) time: Seconds,
    /// How many times as long each of `entered` took as the best, in the same rounds.
    pub(crate) slowness: Vec<f64>,
    /// Device time of all trials.
    pub(crate) spent: Seconds,
}

/// Compares `count` variants; the error is the last refusal, or `none` where there is no variant at all.
pub(crate) fn compare(
    rules: Rules,
    count: usize,
    contestants: &mut dyn Contestants,
    none: WorkloadError,
) -> Result<Standing, WorkloadError> {
    let mut contest = Contest { contestants, tries: Vec::new(), spent: 0.0 };
    let mut refusal = none;
    for variant in 0..count {
        if contest.spent > rules.limit.0 {
            break;
        }
        if let Err(error) = contest.enter(variant)? {
            refusal = error;
        }
    }
    if contest.tries.is_empty() {
        return Err(refusal);
    }
    if contest.tries.len() > 1 {
        contest.load(rules.load)?;
        contest.take_turns(rules)?;
    }
    Ok(contest.standing())
}

/// A variant that runs.
struct Try {
    variant: usize,
    /// What a launch took at least, by all that was seen.
    least: f64,
    /// What a launch took in each round, and in each round of the finals.
    rounds: Vec<f64>,
    finals: Vec<f64>,
}

impl Try {
    /// The middle of the last rounds that it was in.
    fn middle(&self) -> f64 {
        let last = if self.finals.is_empty() { &self.rounds } else { &self.finals };
        stats::median(last).unwrap_or(self.least)
    }
}

struct Contest<'a> {
    contestants: &'a mut dyn Contestants,
    tries: Vec<Try>,
    spent: f64,
}

impl Contest<'_> {
    fn enter(&mut self, variant: usize) -> Result<Result<(), WorkloadError>, WorkloadError> {
        if let Err(refusal) = self.contestants.enter(variant)? {
            return Ok(Err(refusal));
        }
        let least = self.contestants.time(variant, 1)?;
        // This one, and the untimed one before it.
        self.spent += 2.0 * least;
        self.tries.push(Try { variant, least, rounds: Vec::new(), finals: Vec::new() });
        Ok(Ok(()))
    }

    /// Keeps the card busy, so that what follows finds it at the clock that it has under load.
    fn load(&mut self, load: Seconds) -> Result<(), WorkloadError> {
        let mut loaded = 0.0;
        while loaded < load.0 {
            loaded += self.time(0)?.0;
        }
        self.spent += loaded;
        Ok(())
    }

    /// Times one round of the try at `place`: the device's seconds, and those of a launch.
    fn time(&mut self, place: usize) -> Result<(f64, f64), WorkloadError> {
        let each = &mut self.tries[place];
        let launches = (ROUND.0 / each.least.max(1e-9)).clamp(1.0, LAUNCHES) as usize;
        let seconds = self.contestants.time(each.variant, launches)?;
        let launch = seconds / launches as f64;
        each.least = each.least.min(launch);
        Ok((seconds, launch))
    }

    fn take_turns(&mut self, rules: Rules) -> Result<(), WorkloadError> {
        let all: Vec<usize> = (0..self.tries.len()).collect();
        for round in 0..rules.rounds {
            // The first one tells of every variant, whatever it costs.
            if round > 0 && self.spent > rules.limit.0 {
                break;
            }
            self.round(&all, round, |each| &mut each.rounds)?;
        }
        let mut best = all;
        best.sort_by(|a, b| self.tries[*a].middle().total_cmp(&self.tries[*b].middle()));
        best.truncate(FINALISTS);
        for round in 0..rules.finals {
            if round > 0 && self.spent > rules.limit.0 {
                break;
            }
            self.round(&best, round, |each| &mut each.finals)?;
        }
        Ok(())
    }

    /// One round of some tries, forwards or backwards, so that a clock that drifts favours nobody.
    fn round(
        &mut self,
        places: &[usize],
        number: usize,
        kept: fn(&mut Try) -> &mut Vec<f64>,
    ) -> Result<(), WorkloadError> {
        let mut order = places.to_vec();
        if number % 2 == 1 {
            order.reverse();
        }
        for place in order {
            let (seconds, launch) = self.time(place)?;
            self.spent += seconds;
            kept(&mut self.tries[place]).push(launch);
        }
        Ok(())
    }

    fn standing(self) -> Standing {
        let finals = self.tries.iter().any(|each| !each.finals.is_empty());
        let running = self.tries.iter().filter(|each| !finals || !each.finals.is_empty());
        let best = running.min_by(|a, b| a.middle().total_cmp(&b.middle()));
        let (variant, time) = best.map_or((0, 0.0), |best| (best.variant, best.middle()));
        let earlier = best.and_then(|best| stats::median(&best.rounds)).unwrap_or(time);
        let slowness = |each: &Try| {
            if each.variant == variant {
                1.0
            } else if each.finals.is_empty() {
                each.middle() / earlier
            } else {
                each.middle() / time
            }
        };
        Standing {
            entered: self.tries.iter().map(|each| each.variant).collect(),
            best: variant,
            time: Seconds(time),
            slowness: self.tries.iter().map(slowness).collect(),
            spent: Seconds(self.spent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A card whose speed follows from the seconds that it has worked.
    struct Card {
        times: Vec<Option<f64>>,
        speed: fn(f64) -> f64,
        worked: f64,
    }

    impl Contestants for Card {
        fn enter(&mut self, variant: usize) -> Result<Result<(), WorkloadError>, WorkloadError> {
            if self.times[variant].is_none() {
                return Ok(Err(WorkloadError::failed(format!("variant {variant} is refused"))));
            }
            self.time(variant, 1).map(|_| Ok(()))
        }

        fn time(&mut self, variant: usize, launches: usize) -> Result<f64, WorkloadError> {
            let seconds =
                self.times[variant].unwrap() * launches as f64 / (self.speed)(self.worked);
            self.worked += seconds;
            Ok(seconds)
        }
    }

    const RULES: Rules = Rules { limit: Seconds(2.0), load: LOAD, rounds: 2, finals: 4 };

    fn found(times: Vec<Option<f64>>, speed: fn(f64) -> f64) -> Result<Standing, WorkloadError> {
        let count = times.len();
        let mut card = Card { times, speed, worked: 0.0 };
        compare(RULES, count, &mut card, WorkloadError::failed("there is none"))
    }

    /// From idle to the full clock in a quarter of a second.
    fn rising(worked: f64) -> f64 {
        (0.15 + 0.85 * worked / 0.25).min(1.0)
    }

    /// Down at the power limit, steadily.
    fn falling(worked: f64) -> f64 {
        (1.1 - 0.3 * worked).max(0.5)
    }

    #[test]
    fn the_fastest_is_found_wherever_it_stands_and_whichever_way_the_clock_moves() {
        for speed in [rising, falling] {
            for count in [2, 3, 8, 16] {
                for fastest in 0..count {
                    let times =
                        (0..count).map(|variant| if variant == fastest { 1e-4 } else { 1.03e-4 });
                    let standing = found(times.map(Some).collect(), speed).unwrap();
                    assert_eq!(standing.best, fastest, "of {count}: {standing:?}");
                    let others = standing.slowness.iter().enumerate();
                    for (variant, slowness) in others.filter(|(variant, _)| *variant != fastest) {
                        assert!((slowness - 1.03).abs() < 0.02, "{variant}: {standing:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn ways_that_are_refused_are_passed_over_and_the_last_refusal_is_told_where_none_is_left() {
        let standing = found(vec![None, Some(2e-4), None, Some(1e-4)], rising).unwrap();
        assert_eq!((standing.best, standing.entered), (3, vec![1, 3]));
        let error = found(vec![None, None], rising).unwrap_err();
        assert_eq!(error.to_string(), "variant 1 is refused");
        assert_eq!(found(vec![], rising).unwrap_err().to_string(), "there is none");
    }

    #[test]
    fn one_way_alone_is_taken_without_a_contest() {
        let standing = found(vec![Some(1e-3)], rising).unwrap();
        assert_eq!((standing.best, standing.slowness), (0, vec![1.0]));
        assert!(standing.spent < Seconds(0.05));
    }

    #[test]
    fn long_launches_leave_ways_untried_and_the_plan_knows() {
        let standing = found(vec![Some(0.7); 16], |_| 1.0).unwrap();
        assert!(standing.entered.len() < 4, "{standing:?}");
        assert!(standing.spent <= RULES.estimate(16, Seconds(0.7)), "{standing:?}");
        let quick = found(vec![Some(1e-5); 16], |_| 1.0).unwrap();
        assert!(quick.spent <= RULES.estimate(16, Seconds(1e-5)), "{quick:?}");
    }
}
