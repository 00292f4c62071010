//! `--budget`: what holds a run to the time it was given, whatever the plan believed.

use std::time::Duration;

use warpmark_measure::{Admission, Alarm, Stopwatch};
use warpmark_record::{BenchmarkId, Seconds};

use crate::plan::cost;

/// The time there is for a run, since its beginning.
#[derive(Clone, Copy)]
pub struct Budget {
    all: Option<Seconds>,
    watch: Stopwatch,
}

impl Budget {
    /// A budget that begins now; `None` is without end.
    pub fn starting(all: Option<Duration>) -> Self {
        let all = all.map(|all| Seconds(all.as_secs_f64()));
        Self { all, watch: Stopwatch::start() }
    }

    /// What is left of it.
    pub(crate) fn left(&self) -> Option<Duration> {
        let left = self.all?.get() - self.watch.elapsed().get();
        Some(Duration::try_from_secs_f64(left.max(0.0)).unwrap_or(Duration::MAX))
    }

    /// Holds benchmarks back that the budget has no time left for: where those before took longer than
    /// planned, as they do beside other work, those to come are expected to as well.
    pub(crate) fn admission(&self) -> Admission<'static> {
        let Some(all) = self.all else {
            return Box::new(|_| None);
        };
        let (mut purse, watch) = (Purse::new(all), self.watch);
        Box::new(move |entry| purse.refuses(&entry.id, cost(entry), watch.elapsed()))
    }

    /// Ends a benchmark that is at its samples when the budget has been over for a while: what it takes was
    /// not to be foreseen.
    pub(crate) fn alarm(&self) -> Option<Alarm<'static>> {
        let (all, watch) = (self.all?, self.watch);
        Some(Box::new(move || {
            let over = watch.elapsed() > all * (1.0 + GRACE);
            over.then(|| format!("the budget of {all} ran out while it was sampled"))
        }))
    }
}

/// The share of a budget for which a benchmark that is at its samples may go on beyond it.
const GRACE: f64 = 0.1;

/// What is left of a budget.
struct Purse {
    budget: Seconds,
    /// What the benchmarks that were let through should have taken, and did take, but for the last.
    planned: Seconds,
    taken: Seconds,
    /// The last that was let through, what it should take, and when that was.
    last: Option<(BenchmarkId, Seconds, Seconds)>,
}

impl Purse {
    fn new(budget: Seconds) -> Self {
        let none = Seconds(0.0);
        Self { budget, planned: none, taken: none, last: None }
    }

    /// Why a benchmark must not begin at this time, if so. It may be asked of one more than once.
    fn refuses(&mut self, id: &BenchmarkId, cost: Seconds, now: Seconds) -> Option<String> {
        if self.last.as_ref().is_some_and(|(last, ..)| last == id) {
            return None;
        }
        if let Some((_, planned, began)) = self.last.take() {
            self.planned = self.planned + planned;
            self.taken = self.taken + (now - began);
        }
        if now >= self.budget {
            return Some("the budget was used up by the benchmarks before it".to_owned());
        }
        // A second of planned time is a fair guess where the plan has not been tried yet.
        let grace = Seconds(1.0);
        let slower = (self.taken + grace).ratio(self.planned + grace).max(1.0);
        let expected = cost * slower;
        if now + expected > self.budget && self.last_counts() {
            let left = self.budget - now;
            return Some(format!(
                "the budget has {left} left, and it should take {expected}, by what those before it took"
            ));
        }
        self.last = Some((id.clone(), cost, now));
        None
    }

    /// Whether anything has been measured, by which the rest can be judged.
    fn last_counts(&self) -> bool {
        self.planned > Seconds(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a run takes whose benchmarks of `planned` seconds each take `slower` times as long, and how
    /// many of them it measures.
    fn ran(budget: f64, count: usize, planned: f64, slower: f64) -> (f64, usize) {
        let mut purse = Purse::new(Seconds(budget));
        let (mut now, mut measured) = (0.5, 0);
        for at in 0..count {
            let id = format!("micro/row/{at}@x").parse().unwrap();
            // Asked twice, as the supervisor and its worker do.
            let refused = purse.refuses(&id, Seconds(planned), Seconds(now)).is_some();
            assert_eq!(refused, purse.refuses(&id, Seconds(planned), Seconds(now)).is_some());
            if !refused {
                now += planned * slower;
                measured += 1;
            }
        }
        (now, measured)
    }

    #[test]
    fn a_budget_holds_in_real_time_where_all_takes_longer_than_planned() {
        let (took, measured) = ran(20.0, 10, 1.9, 1.0);
        assert!(took <= 20.0 && measured == 10, "{took} {measured}");
        for slower in [1.5, 2.0, 3.0] {
            let (took, measured) = ran(20.0, 10, 1.9, slower);
            assert!(took <= 20.5 && measured >= 3, "{slower}: {took} {measured}");
        }
    }

    #[test]
    fn a_shorter_benchmark_still_fits_where_a_longer_one_does_not() {
        let mut purse = Purse::new(Seconds(10.0));
        let mut refuses = |id: &str, cost: f64, now: f64| {
            purse.refuses(&id.parse().unwrap(), Seconds(cost), Seconds(now))
        };
        assert_eq!(refuses("micro/a@x", 4.0, 0.0), None);
        let reason = refuses("micro/b@x", 4.0, 7.0).unwrap();
        assert!(reason.starts_with("the budget has 3.00 s left, and it should take "), "{reason}");
        assert_eq!(refuses("micro/c@x", 1.0, 7.0), None);
        assert!(refuses("micro/d@x", 1.0, 10.0).unwrap().contains("used up"));
    }
}
