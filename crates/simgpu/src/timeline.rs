//! Time on the device: what a stream has done, and until when it is busy.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The rest of a wait that is spun, as sleeping ends late.
const SPIN: Duration = Duration::from_micros(200);

/// This moment on the host's clock.
#[allow(clippy::disallowed_methods, reason = "the simulated device's own clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Lets the host's time pass until `moment`.
pub(crate) fn wait_until(moment: Instant) {
    let left = moment.saturating_duration_since(now());
    if left > SPIN {
        std::thread::sleep(left.checked_sub(SPIN).unwrap_or_default());
    }
    while now() < moment {
        std::hint::spin_loop();
    }
}

/// A moment in a stream: after how much work, and when that will be done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moment {
    /// Seconds of work before it.
    pub(crate) busy: f64,
    /// Cycles of the SM clock before it.
    pub(crate) cycles: f64,
    /// When it is reached.
    pub(crate) at: Instant,
    /// Which stream it belongs to.
    pub(crate) stream: u64,
}

impl Moment {
    /// Seconds from `earlier` to here. In one stream, those that the device worked; between streams,
    /// which have no common work, those that passed.
    pub(crate) fn since(&self, earlier: &Self) -> f64 {
        if self.stream == earlier.stream {
            return self.busy - earlier.busy;
        }
        let ahead = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        let behind = earlier.at.saturating_duration_since(self.at).as_secs_f64();
        ahead - behind
    }
}

/// A queue of work. Its operations are done in order, each as soon as the one before it is, and not
/// before the host has launched it.
pub(crate) struct Timeline {
    head: Moment,
    /// How far the host has come, in the queue's own seconds: a queue that runs dry waits for it.
    host: f64,
    flag: Option<BlockingFlag>,
    /// Launches behind the blocking kernel.
    queued: u64,
    /// The SM clock of the last work, at which it goes on where there is none.
    hertz: f64,
}

/// What a blocking kernel waits for: two words of the host. The first lets the queue go when the ticket stands
/// there, and the second gets the ticket where the queue went by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockingFlag {
    pub(crate) words: u64,
    pub(crate) ticket: u32,
    /// After how many seconds the queue goes by itself.
    pub(crate) limit: f64,
}

impl BlockingFlag {
    fn word(&self, index: usize) -> &AtomicU32 {
        // SAFETY: the launch has checked that both words lie in pinned memory, which nobody frees under
        // a kernel.
        unsafe { &*(self.words as *const AtomicU32).add(index) }
    }

    fn is_set(&self) -> bool {
        self.word(0).load(Ordering::SeqCst) == self.ticket
    }
}

impl Timeline {
    pub(crate) fn new(stream: u64) -> Self {
        let head = Moment { busy: 0.0, cycles: 0.0, at: now(), stream };
        Self { head, host: 0.0, flag: None, queued: 0, hertz: 0.0 }
    }

    /// Queues work of this many seconds and cycles.
    pub(crate) fn work(&mut self, seconds: f64, cycles: f64) {
        if seconds > 0.0 {
            self.hertz = cycles / seconds;
        }
        self.rest(seconds);
        self.head.at = self.head.at.max(now()) + Duration::from_secs_f64(seconds);
    }

    /// Lets seconds pass for the device, at the clock that it has.
    fn rest(&mut self, seconds: f64) {
        self.head.busy += seconds;
        self.head.cycles += seconds * self.hertz;
    }

    /// Blocks the queue until the flag is set.
    pub(crate) fn block(&mut self, flag: BlockingFlag) {
        self.flag = Some(flag);
        self.queued = 0;
    }

    /// A launch, for which the host takes `gap` seconds; a queue holds `room` of them.
    pub(crate) fn launched(&mut self, gap: f64, room: Option<u64>) {
        self.host += gap;
        self.queued += 1;
        if self.flag.is_some_and(|flag| flag.is_set()) {
            self.flag = None;
        }
        if room.is_some_and(|room| self.queued > room) {
            // The host waits for room, and a blocked queue has none until it goes by itself.
            self.give_up();
        }
        if self.flag.is_none() {
            self.rest((self.host - self.head.busy).max(0.0));
        }
    }

    /// The host waits for the queue: it has come as far.
    pub(crate) fn waited(&mut self) {
        if self.flag.is_some_and(|flag| !flag.is_set()) {
            self.give_up();
        }
        self.flag = None;
        self.host = self.host.max(self.head.busy);
    }

    /// The queue goes by itself, and says so in the flag's second word.
    pub(crate) fn give_up(&mut self) {
        if let Some(flag) = self.flag.take() {
            flag.word(1).store(flag.ticket, Ordering::SeqCst);
            self.rest(flag.limit);
            self.host = self.host.max(self.head.busy);
        }
    }

    /// Lets the queue wait for a moment of another one.
    pub(crate) fn wait_for(&mut self, other: &Moment) {
        self.head.at = self.head.at.max(other.at);
    }

    /// The end of what is queued now.
    pub(crate) fn end(&self) -> Moment {
        self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_stream_tell_its_work_and_nothing_of_the_host() {
        let mut stream = Timeline::new(1);
        let start = stream.end();
        stream.work(0.25e-3, 1.0);
        wait_until(now() + Duration::from_millis(2));
        stream.work(0.5e-3, 1.0);
        assert!((stream.end().since(&start) - 0.75e-3).abs() < 1e-15);
    }

    fn busy(stream: &mut Timeline, launches: usize, gap: f64, room: Option<u64>) -> f64 {
        let start = stream.end();
        for _ in 0..launches {
            stream.launched(gap, room);
            stream.work(1e-6, 1.0);
        }
        stream.end().since(&start)
    }

    #[test]
    fn a_queue_that_runs_dry_waits_for_the_host_and_a_blocked_one_does_not() {
        let words = [AtomicU32::new(0), AtomicU32::new(0)];
        let flag = BlockingFlag { words: words.as_ptr() as u64, ticket: 1, limit: 5.0 };
        let mut stream = Timeline::new(1);
        assert!((busy(&mut stream, 10, 20e-6, None) - 201e-6).abs() < 1e-12);
        stream.waited();
        stream.block(flag);
        assert!((busy(&mut stream, 10, 20e-6, None) - 10e-6).abs() < 1e-12);
        words[0].store(1, Ordering::SeqCst);
        stream.waited();
        assert_eq!(words[1].load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_blocking_kernel_gives_up_where_the_queue_is_full_or_nobody_sets_its_flag() {
        let words = [AtomicU32::new(0), AtomicU32::new(0)];
        let flag = |ticket| BlockingFlag { words: words.as_ptr() as u64, ticket, limit: 5.0 };
        let mut stream = Timeline::new(1);
        stream.block(flag(1));
        assert!(busy(&mut stream, 10, 20e-6, Some(8)) > 5.0);
        assert_eq!(words[1].load(Ordering::SeqCst), 1);
        stream.block(flag(2));
        stream.waited();
        assert_eq!(words[1].load(Ordering::SeqCst), 2);
    }

    #[test]
    fn waiting_takes_as_long_as_the_work() {
        let mut stream = Timeline::new(1);
        let before = now();
        stream.work(3e-3, 1.0);
        wait_until(stream.end().at);
        assert!(now() - before >= Duration::from_millis(3));
    }
}
