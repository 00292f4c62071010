//! Time on the device: what a stream has done, and until when it is busy.

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

/// A queue of work. Its operations are done in order, each as soon as the one before it is.
pub(crate) struct Timeline {
    head: Moment,
}

impl Timeline {
    pub(crate) fn new(stream: u64) -> Self {
        Self { head: Moment { busy: 0.0, at: now(), stream } }
    }

    /// Queues work of this many seconds.
    pub(crate) fn work(&mut self, seconds: f64) {
        self.head.busy += seconds;
        self.head.at = self.head.at.max(now()) + Duration::from_secs_f64(seconds);
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
        stream.work(0.25e-3);
        wait_until(now() + Duration::from_millis(2));
        stream.work(0.5e-3);
        assert!((stream.end().since(&start) - 0.75e-3).abs() < 1e-15);
    }

    #[test]
    fn waiting_takes_as_long_as_the_work() {
        let mut stream = Timeline::new(1);
        let before = now();
        stream.work(3e-3);
        wait_until(stream.end().at);
        assert!(now() - before >= Duration::from_millis(3));
    }
}
