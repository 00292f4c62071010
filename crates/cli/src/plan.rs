//! What a run is going to do, and what a budget cuts from it.

use std::fmt::Write;
use std::time::Duration;

use warpmark_measure::{Entry, Group, WarmUp};
use warpmark_record::{BenchmarkId, Bytes, BytesPerSecond, Field, Filter, Seconds};

/// Everything that a run is going to do, in order.
pub(crate) struct Plan {
    /// The groups with at least one entry.
    pub groups: Vec<Group>,
    /// What each group takes before its first benchmark: where groups have processes of their own, the
    /// start of one, its context, and the compiling of its kernels.
    start: Seconds,
}

/// The time that a process takes until it can launch its first kernel, as a guess.
pub(crate) const PROCESS_START: Seconds = Seconds(1.5);

impl Plan {
    /// The part of `groups` that belongs to a bench target (or to any) and that the filter selects.
    pub(crate) fn select(
        groups: Vec<Group>,
        target: Option<&str>,
        filter: Option<&Filter>,
        start: Seconds,
    ) -> Self {
        let wanted = |entry: &Entry| {
            target.is_none_or(|target| entry.id.group() == target)
                && filter.is_none_or(|filter| filter.selects(&entry.id))
        };
        let groups = groups.into_iter().filter_map(|mut group| {
            group.entries.retain(wanted);
            (!group.entries.is_empty()).then_some(group)
        });
        Self { groups: groups.collect(), start }
    }

    /// Leaves the entries of these ids.
    pub(crate) fn keep(&mut self, wanted: impl Fn(&BenchmarkId) -> bool) {
        for group in &mut self.groups {
            group.entries.retain(|entry| wanted(&entry.id));
        }
        self.groups.retain(|group| !group.entries.is_empty());
    }

    /// All entries in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.groups.iter().flat_map(|group| &group.entries)
    }

    /// The time that the whole plan should take.
    pub(crate) fn time(&self) -> Seconds {
        self.entries().map(cost).sum::<Seconds>() + self.starts()
    }

    /// The time that it takes where no row ends early.
    fn most(&self) -> Seconds {
        self.entries().map(most).sum::<Seconds>() + self.starts()
    }

    fn starts(&self) -> Seconds {
        let runs = |group: &&Group| group.entries.iter().any(|entry| entry.skip.is_none());
        let starts = self.groups.iter().filter(runs).count();
        self.start * starts as f64
    }

    /// Cuts the plan until it should fit into `budget`: what is cut gets a reason to be skipped.
    ///
    /// The first entry of every group comes before the second of any, and so on: a short budget gives
    /// a little of everything rather than all of the first group.
    pub(crate) fn cut_to(&mut self, budget: Duration) {
        let mut order: Vec<(usize, usize)> = Vec::new();
        for (g, group) in self.groups.iter().enumerate() {
            order.extend((0..group.entries.len()).map(|e| (e, g)));
        }
        order.sort_unstable();
        let mut left = Seconds(budget.as_secs_f64());
        let mut started = vec![false; self.groups.len()];
        for (e, g) in order {
            let entry = &mut self.groups[g].entries[e];
            if entry.skip.is_some() {
                continue;
            }
            let start = if started[g] { Seconds(0.0) } else { self.start };
            let cost = cost(entry) + start;
            if cost <= left {
                left = left - cost;
                started[g] = true;
            } else {
                entry.skip = Some(format!(
                    "cut by the budget of {}: it should take {cost}",
                    time(Seconds(budget.as_secs_f64()))
                ));
            }
        }
    }

    /// The plan in words, with the time and memory that each entry should take.
    pub(crate) fn describe(&self, capacity: &Field<Bytes>) -> String {
        let mut text = String::new();
        let width = self.entries().map(|entry| entry.id.to_string().len()).max().unwrap_or(0);
        for group in &self.groups {
            let _ = writeln!(text, "{}", group.name);
            for entry in &group.entries {
                let note = note(entry, capacity);
                let id = entry.id.to_string();
                let memory = entry.memory_estimate.binary();
                let cost = time(cost(entry));
                let _ = writeln!(text, "  {id:<width$}  {cost:>7}  {memory:>9}{note}");
            }
        }
        let skipped = self.entries().filter(|entry| entry.skip.is_some()).count();
        let all = self.entries().count();
        let _ = write!(text, "\n{} benchmarks, about {}", all - skipped, time(self.time()));
        if self.most() > self.time() {
            let _ = write!(
                text,
                ", and {} where noise keeps rows from ending early",
                time(self.most())
            );
        }
        if skipped > 0 {
            let _ = write!(text, "; {skipped} left out for the reasons given");
        }
        text.push('\n');
        text
    }
}

impl Plan {
    /// The same for a program: times in seconds, memory in bytes, and why an entry is skipped.
    pub(crate) fn for_programs(&self, capacity: &Field<Bytes>) -> serde_json::Value {
        let fits =
            |entry: &Entry| capacity.known().is_none_or(|most| entry.memory_estimate <= *most);
        let entries: Vec<serde_json::Value> = self
            .entries()
            .map(|entry| {
                serde_json::json!({
                    "id": entry.id.to_string(),
                    "time_s": cost(entry).get(),
                    "time_at_most_s": most(entry).get(),
                    "memory_byte": entry.memory_estimate.get(),
                    "fits": fits(entry),
                    "skip": entry.skip,
                })
            })
            .collect();
        serde_json::json!({
            "benchmarks": entries,
            "time_s": self.time().get(),
            "time_at_most_s": self.most().get(),
        })
    }
}

fn note(entry: &Entry, capacity: &Field<Bytes>) -> String {
    match (&entry.skip, capacity.known()) {
        (Some(reason), _) => format!("  skipped: {reason}"),
        (None, Some(capacity)) if entry.memory_estimate > *capacity => {
            format!("  does not fit into {}", capacity.binary())
        }
        _ => String::new(),
    }
}

/// How long nothing may be heard of a benchmark before it counts as hung. A guess of the plan is wrong
/// by much less than ten times; loading is not in it, so that its bytes are given the time that a slow
/// network disk takes.
pub(crate) fn hang_limit(entry: &Entry) -> Duration {
    const SLOW_DISK: BytesPerSecond = BytesPerSecond(50e6);
    let loading = entry.memory_estimate / SLOW_DISK;
    Duration::from_secs_f64((most(entry) * 10.0 + loading).get().clamp(120.0, 7200.0))
}

/// The time an entry should take: its preparation, warm-up, two checks of about an iteration each, and
/// samples until its median is known well enough, which takes the least that there are of most rows.
pub(crate) fn cost(entry: &Entry) -> Seconds {
    if entry.skip.is_some() {
        return Seconds(0.0);
    }
    let Entry { sampling, iteration_estimate: iteration, .. } = *entry;
    // What is meant to last warms up for as long as it was told, and the others until times are level.
    let warmed = if sampling.may_end_early {
        WarmUp::expected(sampling.warm_up, sampling.single, iteration)
    } else {
        longest_warm_up(entry)
    };
    sampling.expected(iteration).0 + warmed + beside(entry)
}

/// The time it takes where noise keeps it from ending early.
fn most(entry: &Entry) -> Seconds {
    if entry.skip.is_some() {
        return Seconds(0.0);
    }
    entry.sampling.expected(entry.iteration_estimate).1 + longest_warm_up(entry) + beside(entry)
}

/// A warm-up whose times never become level.
fn longest_warm_up(entry: &Entry) -> Seconds {
    let (sampling, iteration) = (entry.sampling, entry.iteration_estimate);
    if sampling.single { iteration * 2.0 } else { sampling.warm_up.max(iteration) }
}

/// Preparation and checks.
fn beside(entry: &Entry) -> Seconds {
    entry.preparation_estimate + entry.iteration_estimate * 2.0
}

/// A duration for a plan: `42 s`, `3 min 5 s`.
fn time(time: Seconds) -> String {
    let seconds = time.get().round();
    if seconds < 1.0 {
        "< 1 s".to_owned()
    } else if seconds < 120.0 {
        format!("{seconds} s")
    } else {
        format!("{} min {} s", (seconds / 60.0).floor(), seconds % 60.0)
    }
}

#[cfg(test)]
mod tests {
    use warpmark_measure::{Sampling, WorkloadError};

    use super::*;

    fn entry(id: &str, iteration: f64) -> Entry {
        Entry {
            id: id.parse().unwrap(),
            sampling: Sampling {
                samples: 10,
                target: Seconds(1.0),
                warm_up: Seconds(1.0),
                single: false,
                may_end_early: false,
            },
            iteration_estimate: Seconds(iteration),
            preparation_estimate: Seconds(0.0),
            memory_estimate: Bytes(1e9),
            sweep: None,
            skip: None,
        }
    }

    fn group(entries: Vec<Entry>) -> Group {
        Group {
            name: "group".to_owned(),
            entries,
            open: Box::new(|_| Err(WorkloadError::Unsupported("a test".to_owned()))),
        }
    }

    fn plan() -> Plan {
        let groups = vec![
            group(vec![entry("micro/a@x", 0.001), entry("micro/b@x", 0.001)]),
            group(vec![entry("text/c@x", 0.001), entry("text/d@x", 0.001)]),
        ];
        Plan::select(groups, None, None, Seconds(0.0))
    }

    fn kept(plan: &Plan) -> Vec<String> {
        let kept = plan.entries().filter(|entry| entry.skip.is_none());
        kept.map(|entry| entry.id.path()).collect()
    }

    #[test]
    fn a_target_and_a_filter_leave_whole_groups_out() {
        let filter = "c,a".parse().unwrap();
        let plan = Plan::select(plan().groups, Some("text"), Some(&filter), Seconds(0.0));
        assert_eq!(kept(&plan), ["text/c"]);
        assert_eq!(plan.groups.len(), 1);
    }

    #[test]
    fn a_short_budget_gives_a_little_of_everything() {
        let mut plan = plan();
        let each = cost(&entry("micro/a@x", 0.001)).get();
        plan.cut_to(Duration::from_secs_f64(each * 3.5));
        assert_eq!(kept(&plan), ["micro/a", "micro/b", "text/c"]);
        assert!(plan.time() <= Seconds(each * 3.5));
        let mut none = self::plan();
        none.cut_to(Duration::from_millis(1));
        assert!(kept(&none).is_empty());
        assert!(none.describe(&Field::Known(Bytes(1e8))).contains("cut by the budget"));
    }

    #[test]
    fn a_row_that_may_end_early_is_planned_for_the_least_and_hangs_by_the_most() {
        let mut long = entry("micro/a@x", 0.001);
        long.sampling = Sampling { samples: 50, target: Seconds(3.0), ..long.sampling };
        let whole = cost(&long);
        long.sampling.may_end_early = true;
        // 1.2 of 3 seconds, and a warm-up that ends when times are level; criterion's own of a twentieth stays.
        let warmed = WarmUp::expected(Seconds(1.0), false, Seconds(0.001));
        assert!((whole - cost(&long) - Seconds(1.8) - Seconds(1.0) + warmed).get().abs() < 1e-9);
        assert!((most(&long) - whole).get().abs() < 1e-9);
        // Of iterations that take half a second eleven are the least.
        long.iteration_estimate = Seconds(0.5);
        assert!((cost(&long).get() - (12.0 * 0.5 + 1.0 + 1.0)).abs() < 1e-9, "{}", cost(&long));
    }

    #[test]
    fn searches_and_the_start_of_processes_are_in_the_estimate() {
        let mut plan = plan();
        let without = plan.time();
        plan.start = Seconds(1.5);
        plan.groups[0].entries[1].preparation_estimate = Seconds(20.0);
        assert!((plan.time() - without - Seconds(23.0)).get().abs() < 1e-9);
        // A group that nothing is left of starts no process, and what is skipped searches nothing.
        plan.groups[0].entries[0].skip = Some("a test".to_owned());
        plan.groups[0].entries[1].skip = Some("a test".to_owned());
        assert!((plan.time() - without * 0.5 - Seconds(1.5)).get().abs() < 1e-9);
    }

    #[test]
    fn a_budget_pays_for_the_start_of_each_group_that_it_keeps() {
        let mut plan = plan();
        plan.start = Seconds(100.0);
        let each = cost(&entry("micro/a@x", 0.001)).get();
        plan.cut_to(Duration::from_secs_f64(100.0 + 2.5 * each));
        assert_eq!(kept(&plan), ["micro/a", "micro/b"]);
        assert!((plan.time() - Seconds(100.0 + 2.0 * each)).get().abs() < 1e-9);
    }

    #[test]
    fn a_hang_is_ten_times_the_plan_and_two_minutes_at_least() {
        assert_eq!(hang_limit(&entry("micro/a@x", 0.001)), Duration::from_mins(2));
        let slow = hang_limit(&entry("micro/a@x", 10.0)).as_secs_f64();
        // A warm-up of one iteration, 11 for samples and two checks; 1 GB at 50 MB/s.
        assert!((slow - (10.0 * 140.0 + 20.0)).abs() < 1.0, "{slow}");
    }

    #[test]
    fn what_does_not_fit_is_said_in_the_plan() {
        let text = plan().describe(&Field::Known(Bytes(1e8)));
        assert!(text.contains("does not fit into 95.4 MiB"), "{text}");
        assert!(text.contains("4 benchmarks, about 8 s"), "{text}");
    }
}
