//! The callers: who asks when, who waits, who gives up.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use warpmark_record::load_test::{Arrivals, Batching, LoadTest, Requests};

use crate::level::{Level, ServeError};
use crate::tally::Tally;

/// A request on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    /// Rises with every request.
    number: u64,
    /// When its caller asked, whenever the generator looked.
    pub(crate) due: Duration,
    /// When its caller gives up.
    gives_up: Duration,
    /// When its caller takes it back.
    cancelled: Option<Duration>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The service did its part.
    Answered,
    /// The service failed.
    Failed,
}

/// The callers of one level, and the queue of what they asked.
pub(crate) struct Traffic<'a> {
    level: &'a Level,
    pub(crate) tally: Tally,
    queue: VecDeque<Request>,
    /// The moments at which waiting requests are taken back.
    cancellations: BinaryHeap<Reverse<(Duration, u64)>>,
    asked: u64,
    /// The next arrival of an open loop.
    next: Option<Duration>,
    arrivals: StdRng,
    cancelling: StdRng,
}

impl<'a> Traffic<'a> {
    pub(crate) fn new(level: &'a Level) -> Result<Self, ServeError> {
        level.check()?;
        let seed = match level.arrivals {
            Arrivals::Open { seed, .. } => seed,
            Arrivals::Closed { .. } => 0,
        };
        let cancelling = level.cancellation.map_or(0, |cancellation| cancellation.seed);
        let mut traffic = Self {
            level,
            tally: Tally::new(level)?,
            queue: VecDeque::new(),
            cancellations: BinaryHeap::new(),
            asked: 0,
            next: None,
            arrivals: StdRng::seed_from_u64(seed),
            cancelling: StdRng::seed_from_u64(cancelling),
        };
        match level.arrivals {
            Arrivals::Closed { users } => (0..users).for_each(|_| traffic.ask(Duration::ZERO)),
            Arrivals::Open { rate, .. } => traffic.next = Some(traffic.gap(rate)),
        }
        Ok(traffic)
    }

    /// The time to the next arrival of a Poisson process.
    fn gap(&mut self, rate: f64) -> Duration {
        let uniform: f64 = self.arrivals.random();
        Duration::try_from_secs_f64(-(1.0 - uniform).ln() / rate).unwrap_or(Duration::MAX)
    }

    /// Somebody asks at `due`.
    fn ask(&mut self, due: Duration) {
        let counted = self.tally.counts(due);
        self.tally.requests.asked += u64::from(counted);
        if self.queue.len() >= self.level.queue_limit {
            self.tally.requests.rejected += u64::from(counted);
            return;
        }
        let cancellation = self.level.cancellation;
        let cancelled = cancellation
            .filter(|cancellation| self.cancelling.random_bool(cancellation.share))
            .map(|cancellation| due + cancellation.after);
        let gives_up = due + self.level.timeout;
        let request = Request { number: self.asked, due, gives_up, cancelled };
        if let Some(moment) = cancelled {
            self.cancellations.push(Reverse((moment, request.number)));
        }
        self.asked += 1;
        self.queue.push_back(request);
        self.tally.queued(self.queue.len(), due);
    }

    /// The user of a closed loop who has just been answered, or left alone, asks again.
    fn ask_again(&mut self, moment: Duration) {
        if matches!(self.level.arrivals, Arrivals::Closed { .. }) && moment < self.level.end() {
            self.ask(moment);
        }
    }

    /// Brings the queue up to `now`: everybody whose moment has come asks, and everybody whose patience
    /// has ended is gone, in the order of their moments.
    pub(crate) fn advance(&mut self, now: Duration) {
        loop {
            let arrival = self.next.map(|moment| (moment, 0));
            let timeout = self.queue.front().map(|request| (request.gives_up, 1));
            let cancelled = self.cancellations.peek().map(|Reverse((moment, _))| (*moment, 2));
            let event = [arrival, timeout, cancelled].into_iter().flatten().min();
            match event.filter(|(moment, _)| *moment <= now) {
                Some((moment, 0)) => self.arrive(moment),
                Some((moment, 1)) => {
                    if let Some(request) = self.queue.pop_front() {
                        self.tally.queued(self.queue.len(), moment);
                        self.leave(&request, moment, |requests| &mut requests.timed_out);
                    }
                }
                Some((moment, _)) => self.take_back(moment),
                None => return,
            }
        }
    }

    fn arrive(&mut self, moment: Duration) {
        self.next = None;
        if let Arrivals::Open { rate, .. } = self.level.arrivals
            && moment < self.level.end()
        {
            self.ask(moment);
            self.next = Some(moment.saturating_add(self.gap(rate)));
        }
    }

    /// The next of the cancellations; a request that no longer waits ends elsewhere.
    fn take_back(&mut self, moment: Duration) {
        let Some(Reverse((_, number))) = self.cancellations.pop() else { return };
        if let Ok(place) = self.queue.binary_search_by_key(&number, |request| request.number)
            && let Some(request) = self.queue.remove(place)
        {
            self.tally.queued(self.queue.len(), moment);
            self.leave(&request, moment, |requests| &mut requests.cancelled);
        }
    }

    /// A request ends without an answer.
    fn leave(
        &mut self,
        request: &Request,
        moment: Duration,
        counter: impl FnOnce(&mut Requests) -> &mut u64,
    ) {
        *counter(&mut self.tally.requests) += u64::from(self.tally.counts(request.due));
        self.ask_again(moment);
    }

    /// Takes up to `most` of the waiting requests into a pass that begins now.
    pub(crate) fn take(&mut self, most: usize, now: Duration) -> Vec<Request> {
        let taken: Vec<Request> = self.queue.drain(..most.min(self.queue.len())).collect();
        if !taken.is_empty() {
            self.tally.queued(self.queue.len(), now);
        }
        for request in &taken {
            self.tally.taken(request.due, now);
        }
        taken
    }

    /// A request that was taken has come to its end.
    pub(crate) fn end(&mut self, request: &Request, end: End, now: Duration) {
        match (end, self.gone(request, now)) {
            (_, true) => {}
            (End::Answered, false) => {
                self.tally.completed(request.due, now);
                self.ask_again(now);
            }
            (End::Failed, false) => self.leave(request, now, |requests| &mut requests.failed),
        }
    }

    /// Whether the caller of a request that was taken has given up or taken it back by `now`; it is
    /// counted then.
    pub(crate) fn gone(&mut self, request: &Request, now: Duration) -> bool {
        match request.cancelled.filter(|moment| *moment <= now.min(request.gives_up)) {
            Some(moment) => self.leave(request, moment, |requests| &mut requests.cancelled),
            None if request.gives_up <= now => {
                self.leave(request, request.gives_up, |requests| &mut requests.timed_out);
            }
            None => return false,
        }
        true
    }

    /// A request was under way when the test ended.
    pub(crate) fn abandon(&mut self, request: &Request) {
        self.tally.requests.unfinished += u64::from(self.tally.counts(request.due));
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// When the first that waits asked.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.queue.front().map(|request| request.due)
    }

    /// The next moment at which the queue changes by itself.
    pub(crate) fn next_event(&self) -> Option<Duration> {
        let timeout = self.queue.front().map(|request| request.gives_up);
        let cancelled = self.cancellations.peek().map(|Reverse((moment, _))| *moment);
        [self.next, timeout, cancelled].into_iter().flatten().min()
    }

    /// Whether nobody will ask or wait any more.
    pub(crate) fn is_over(&self, now: Duration) -> bool {
        let more = self.next.is_some_and(|moment| moment < self.level.end());
        now >= self.level.last_call() || (now >= self.level.end() && self.queue.is_empty() && !more)
    }

    /// The level as a record has it.
    pub(crate) fn finish(mut self, batching: Batching, ended: Duration) -> LoadTest {
        while let Some(request) = self.queue.pop_front() {
            self.abandon(&request);
        }
        let tallied = self.tally.finish();
        LoadTest {
            arrivals: self.level.arrivals,
            batching,
            warm_up_s: self.level.warm_up.as_secs_f64(),
            window_s: self.level.window.as_secs_f64(),
            drain_s: ended.saturating_sub(self.level.end()).as_secs_f64(),
            timeout_s: Some(self.level.timeout.as_secs_f64()),
            queue_limit: self.level.queue_limit as u64,
            requests: tallied.requests,
            answered_in_window: tallied.answered,
            good_in_window: tallied.good,
            target_s: self.level.target.map(|target| target.as_secs_f64()),
            tokens_per_request: None,
            passes: tallied.passes,
            queue: tallied.queue,
            latency: tallied.latency,
            waiting: tallied.waiting,
            first_token: Some(tallied.first_token).filter(|times| !times.buckets.is_empty()),
            between_tokens: Some(tallied.between_tokens).filter(|times| !times.buckets.is_empty()),
        }
    }
}
