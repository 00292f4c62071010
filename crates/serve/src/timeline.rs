//! The time by which requests come and are answered.

use std::time::Duration;

use warpmark_measure::Stopwatch;

/// A clock that can be waited for.
pub trait Timeline {
    /// Time since the load began.
    fn now(&self) -> Duration;

    /// Returns at `moment`, or at once where it has passed.
    fn wait_until(&self, moment: Duration);
}

/// The host's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Wall(Stopwatch);

impl Wall {
    /// Begins now.
    pub fn start() -> Self {
        Self(Stopwatch::start())
    }
}

/// The last part of a wait is spent awake: a sleeping thread comes back tens of microseconds late.
const AWAKE: Duration = Duration::from_micros(200);

impl Timeline for Wall {
    fn now(&self) -> Duration {
        Duration::from_secs_f64(self.0.elapsed().0)
    }

    fn wait_until(&self, moment: Duration) {
        let left = moment.saturating_sub(self.now());
        if let Some(sleep) = left.checked_sub(AWAKE) {
            std::thread::sleep(sleep);
        }
        while self.now() < moment {
            std::hint::spin_loop();
        }
    }
}
