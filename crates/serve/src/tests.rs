//! The load against services of known speed, in a time that is made of numbers.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use warpmark_measure::{Batched, Description, Streaming, WorkloadError};
use warpmark_record::load_test::Arrivals;
use warpmark_record::{Check, LoadTest, Work};

use crate::{Cancellation, Dynamic, Level, ServeError, Timeline, batched, streaming};

const MS: Duration = Duration::from_millis(1);

/// A time that passes only when somebody works or waits.
#[derive(Default)]
struct Numbers(Cell<Duration>);

impl Numbers {
    fn pass(&self, time: Duration) {
        self.0.set(self.0.get() + time);
    }
}

impl Timeline for Numbers {
    fn now(&self) -> Duration {
        self.0.get()
    }

    fn wait_until(&self, moment: Duration) {
        self.0.set(self.0.get().max(moment));
    }
}

/// Takes `base + each * requests` for a pass, and fails where it is told to.
struct Fixed<'a> {
    time: &'a Numbers,
    base: Duration,
    each: Duration,
    fails: fn(u32) -> bool,
    passes: u32,
    sizes: BTreeMap<usize, u32>,
}

impl<'a> Fixed<'a> {
    fn new(time: &'a Numbers, base: Duration, each: Duration) -> Self {
        Self { time, base, each, fails: |_| false, passes: 0, sizes: BTreeMap::new() }
    }

    fn pass(&mut self, requests: usize) -> Result<(), WorkloadError> {
        self.time.pass(self.base + self.each * requests as u32);
        self.passes += 1;
        *self.sizes.entry(requests).or_default() += 1;
        if (self.fails)(self.passes) { Err(WorkloadError::failed("no")) } else { Ok(()) }
    }
}

fn description() -> Description {
    Description {
        id: "serve/fixed@fake".parse().unwrap(),
        parameters: BTreeMap::new(),
        work: Work::default(),
        data: None,
        weights: None,
        caveats: Vec::new(),
    }
}

impl Batched for Fixed<'_> {
    fn describe(&self) -> Description {
        description()
    }

    fn max_batch(&self) -> usize {
        64
    }

    fn answer(&mut self, requests: usize) -> Result<(), WorkloadError> {
        self.pass(requests)
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        unreachable!("a load checks nothing")
    }
}

impl Streaming for Fixed<'_> {
    fn describe(&self) -> Description {
        description()
    }

    fn slots(&self) -> usize {
        4
    }

    fn tokens(&self) -> usize {
        5
    }

    fn admit(&mut self, slots: &[usize]) -> Result<(), WorkloadError> {
        assert!(!slots.is_empty() && slots.iter().all(|slot| *slot < 4));
        self.pass(slots.len())
    }

    fn step(&mut self, slots: &[usize]) -> Result<(), WorkloadError> {
        assert!(!slots.is_empty());
        self.pass(slots.len())
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        unreachable!("a load checks nothing")
    }
}

fn closed(users: u64) -> Level {
    Level {
        arrivals: Arrivals::Closed { users },
        warm_up: Duration::from_secs(1),
        window: Duration::from_secs(100),
        timeout: Duration::from_secs(30),
        queue_limit: 1000,
        target: None,
        cancellation: None,
    }
}

fn open(rate: f64) -> Level {
    Level { arrivals: Arrivals::Open { rate, seed: 3 }, ..closed(1) }
}

const ONE_BY_ONE: Dynamic = Dynamic { max_batch: 1, max_queue_delay: Duration::ZERO };

fn run(level: &Level, batching: Dynamic, each: Duration) -> LoadTest {
    let time = Numbers::default();
    let load =
        batched(&mut Fixed::new(&time, Duration::ZERO, each), level, batching, &time).unwrap();
    assert_balanced(&load);
    load
}

/// Everything that was asked has come to one end.
fn assert_balanced(load: &LoadTest) {
    let requests = load.requests;
    let ended = requests.completed + requests.failed + requests.timed_out + requests.cancelled;
    assert_eq!(requests.asked, ended + requests.rejected + requests.unfinished, "{requests:?}");
    assert_eq!(load.latency.count(), requests.completed);
}

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found / expected - 1.0).abs() <= tolerance, "{found} is not {expected}");
}

#[test]
fn users_of_a_closed_loop_wait_for_each_other_and_no_longer() {
    // One at a time at 10 ms: the device is always busy, and 8 users take turns.
    let load = run(&closed(8), ONE_BY_ONE, 10 * MS);
    close(load.rate(), 100.0, 1e-6);
    close(load.latency.mean().unwrap().0, 0.080, 1e-6);
    close(load.latency.percentile(0.99).unwrap().0, 0.080, 1e-3);
    close(load.waiting.mean().unwrap().0, 0.070, 1e-6);
    close(load.queue.mean, 7.0, 1e-3);
    assert!(load.passes.idle_s.abs() < 1e-9 && load.passes.generator_s.abs() < 1e-9);
}

#[test]
fn one_user_sees_the_service_alone() {
    let load = run(&closed(1), ONE_BY_ONE, 10 * MS);
    close(load.latency.mean().unwrap().0, 0.010, 1e-6);
    assert_eq!(load.requests.error_rate(), Some(0.0));
}

#[test]
fn an_open_loop_waits_as_long_as_queueing_theory_says() {
    // M/D/1 at 80 %: the mean wait is rho / (2 mu (1 - rho)) = 20 ms (Pollaczek and Khinchine).
    let mut level = open(80.0);
    level.window = Duration::from_hours(2);
    let load = run(&level, ONE_BY_ONE, 10 * MS);
    close(load.rate(), 80.0, 0.01);
    close(load.waiting.mean().unwrap().0, 0.020, 0.03);
    // Little's law.
    close(load.queue.mean, 80.0 * 0.020, 0.03);
    close(load.passes.busy_s / load.window_s, 0.8, 0.01);
}

/// A pass after 50 s takes 10 s longer.
struct Stalls<'a, 'b>(&'b mut Fixed<'a>, &'b Cell<bool>);

impl Batched for Stalls<'_, '_> {
    fn describe(&self) -> Description {
        description()
    }

    fn max_batch(&self) -> usize {
        1
    }

    fn answer(&mut self, requests: usize) -> Result<(), WorkloadError> {
        if self.0.time.now() > Duration::from_secs(50) && !self.1.replace(true) {
            self.0.time.pass(Duration::from_secs(10));
        }
        self.0.pass(requests)
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        unreachable!("a load checks nothing")
    }
}

#[test]
fn a_stall_is_seen_by_everybody_who_would_have_asked_meanwhile() {
    // One pass of 10 s among many of 1 ms, at 100 requests a second: about a thousand callers waited
    // 5 s on average. A generator that asked after each answer would have seen one slow answer.
    let time = Numbers::default();
    let mut service = Fixed::new(&time, Duration::ZERO, MS);
    let stall = Cell::new(false);
    let load = batched(&mut Stalls(&mut service, &stall), &open(100.0), ONE_BY_ONE, &time).unwrap();
    close(load.latency.percentile(0.95).unwrap().0, 5.5, 0.15);
    assert_eq!(load.requests.error_rate(), Some(0.0));
}

#[test]
fn a_batch_goes_when_it_is_full_or_its_first_has_waited_long_enough() {
    let time = Numbers::default();
    let mut service = Fixed::new(&time, 10 * MS, Duration::ZERO);
    let full = Dynamic { max_batch: 8, max_queue_delay: Duration::from_secs(5) };
    let load = batched(&mut service, &closed(16), full, &time).unwrap();
    assert!(service.sizes.keys().all(|size| *size == 8), "{:?}", service.sizes);
    assert_eq!(load.batch_efficiency(), Some(1.0));
    close(load.rate(), 800.0, 1e-6);

    // Three users never fill it: each pass waits for its delay.
    let time = Numbers::default();
    let mut service = Fixed::new(&time, 10 * MS, Duration::ZERO);
    let slow = Dynamic { max_batch: 8, max_queue_delay: 20 * MS };
    let load = batched(&mut service, &closed(3), slow, &time).unwrap();
    close(load.latency.mean().unwrap().0, 0.030, 1e-6);
    assert_eq!(load.batch_efficiency(), Some(3.0 / 8.0));
    close(load.passes.idle_s / load.window_s, 20.0 / 30.0, 1e-3);
}

#[test]
fn above_capacity_an_open_loop_is_turned_away_or_gives_up_and_stays_small() {
    let mut level = open(200.0);
    level.queue_limit = 50;
    let load = run(&level, ONE_BY_ONE, 10 * MS);
    close(load.requests.error_rate().unwrap(), 0.5, 0.03);
    assert!(load.requests.rejected > 0 && load.queue.most <= 50);

    let mut level = open(200.0);
    (level.queue_limit, level.timeout) = (1_000_000, Duration::from_secs(1));
    let load = run(&level, ONE_BY_ONE, 10 * MS);
    assert!(load.requests.timed_out > 0 && load.requests.rejected == 0);
    assert!(load.latency.max_s <= 1.0, "an answer after its caller gave up is none");
    assert!(load.queue.most <= 300, "{}", load.queue.most);
}

#[test]
fn failures_are_counted_and_many_in_a_row_end_it() {
    let time = Numbers::default();
    let mut service = Fixed::new(&time, Duration::ZERO, 10 * MS);
    service.fails = |pass| pass % 4 == 0;
    let load = batched(&mut service, &closed(2), ONE_BY_ONE, &time).unwrap();
    assert_balanced(&load);
    close(load.requests.error_rate().unwrap(), 0.25, 0.01);
    close(load.rate(), 75.0, 0.01);

    service.fails = |_| true;
    let error = batched(&mut service, &closed(2), ONE_BY_ONE, &Numbers::default()).unwrap_err();
    assert!(error.to_string().contains("8 times in a row"), "{error}");
}

#[test]
fn callers_take_back_what_they_asked_and_that_is_no_error() {
    let mut level = closed(8);
    level.cancellation = Some(Cancellation { share: 0.5, after: 40 * MS, seed: 1 });
    let load = run(&level, ONE_BY_ONE, 10 * MS);
    let share = load.requests.cancelled as f64 / load.requests.asked as f64;
    assert!(share > 0.2 && share <= 0.5, "{share}");
    assert_eq!(load.requests.error_rate(), Some(0.0));
}

#[test]
fn goodput_counts_the_answers_that_kept_to_the_target() {
    let mut level = open(80.0);
    level.target = Some(15 * MS);
    let load = run(&level, ONE_BY_ONE, 10 * MS);
    let good = load.goodput().unwrap();
    assert!(good > 1.0 && good < load.rate() * 0.8, "{good} of {}", load.rate());
}

fn stream(level: &Level, time: &Numbers, fails: fn(u32) -> bool) -> LoadTest {
    let mut service = Fixed::new(time, 10 * MS, Duration::ZERO);
    service.fails = fails;
    let load = streaming(&mut service, level, time).unwrap();
    assert_balanced(&load);
    load
}

#[test]
fn a_lone_stream_has_its_first_token_after_the_prompt_and_the_others_a_step_apart() {
    let load = stream(&closed(1), &Numbers::default(), |_| false);
    close(load.latency.mean().unwrap().0, 0.050, 1e-6);
    close(load.first_token.as_ref().unwrap().mean().unwrap().0, 0.010, 1e-6);
    let between = load.between_tokens.as_ref().unwrap();
    close(between.mean().unwrap().0, 0.010, 1e-6);
    assert_eq!(between.count(), 4 * load.requests.completed);
    close(load.tokens_per_second().unwrap(), 100.0, 1e-3);
}

#[test]
fn streams_share_the_steps_and_more_than_the_slots_wait() {
    // Four slots: 8 users in two shifts of one read and four steps, 50 ms each.
    let load = stream(&closed(8), &Numbers::default(), |_| false);
    close(load.tokens_per_second().unwrap(), 400.0, 1e-3);
    close(load.latency.mean().unwrap().0, 0.100, 1e-3);
    close(load.first_token.unwrap().mean().unwrap().0, 0.060, 1e-3);
}

#[test]
fn a_new_prompt_holds_the_other_streams_up_and_that_shows_between_tokens() {
    let load = stream(&open(20.0), &Numbers::default(), |_| false);
    let between = load.between_tokens.unwrap();
    close(between.percentile(0.5).unwrap().0, 0.010, 1e-3);
    assert!(between.max_s > 0.0199, "{}", between.max_s);
}

#[test]
fn a_stream_that_fails_or_is_given_up_frees_its_slot() {
    let load = stream(&closed(4), &Numbers::default(), |pass| pass % 10 == 0);
    assert!(load.requests.failed > 0 && load.requests.completed > 0);
    let mut level = closed(4);
    level.timeout = 35 * MS;
    let load = stream(&level, &Numbers::default(), |_| false);
    assert_eq!(load.requests.completed, 0, "five tokens take 50 ms");
    assert!(load.requests.timed_out > 1000);
    assert!(load.between_tokens.unwrap().count() > 1000, "tokens that were written are kept");
}

#[test]
fn the_same_seed_asks_at_the_same_moments() {
    let times = || run(&open(80.0), ONE_BY_ONE, 10 * MS).latency;
    assert_eq!(times(), times());
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_value() {
    let time = Numbers::default();
    let mut service = Fixed::new(&time, Duration::ZERO, MS);
    let mut refused = |level: Level, max_batch: usize| {
        let batching = Dynamic { max_batch, max_queue_delay: Duration::ZERO };
        let error = batched(&mut service, &level, batching, &time).unwrap_err();
        assert!(matches!(error, ServeError::Level { .. }), "{error}");
        error.to_string()
    };
    assert!(refused(closed(0), 1).contains("users = 0"));
    assert!(refused(closed(1001), 1).contains("room for every user"));
    assert!(refused(open(f64::NAN), 1).contains("rate = NaN"));
    assert!(refused(open(-1.0), 1).contains("rate = -1"));
    assert!(refused(Level { window: Duration::ZERO, ..closed(1) }, 1).contains("window"));
    assert!(refused(Level { timeout: Duration::ZERO, ..closed(1) }, 1).contains("timeout"));
    assert!(refused(closed(1), 0).contains("batch = 0"));
    assert!(refused(closed(1), 65).contains("batch = 65"));
    let mut cancelled = |share, after| {
        let cancellation = Some(Cancellation { share, after, seed: 1 });
        refused(Level { cancellation, ..closed(1) }, 1)
    };
    assert!(cancelled(1.5, MS).contains("1.5"));
    // Each would ask again 10⁹ times a second.
    assert!(cancelled(1.0, Duration::from_nanos(1)).contains("cancelled after = 1ns"));
}
