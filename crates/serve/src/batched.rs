//! Dynamic batching: a pass begins when enough requests wait, or the first has waited long enough.

use std::time::Duration;

use warpmark_measure::{Batched, WorkloadError};
use warpmark_record::LoadTest;
use warpmark_record::load_test::Batching;

use crate::level::{Level, ServeError};
use crate::timeline::Timeline;
use crate::traffic::{End, Traffic};

/// When a pass begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dynamic {
    /// The most requests of a pass.
    pub max_batch: usize,
    /// The longest that the first waits for company.
    pub max_queue_delay: Duration,
}

/// After so many passes in a row that failed, the service counts as broken.
const PATIENCE: u32 = 8;

/// How often in a row the service failed.
#[derive(Default)]
pub(crate) struct Failures(u32);

impl Failures {
    /// The end of the requests of a pass.
    pub(crate) fn judge(&mut self, result: Result<(), WorkloadError>) -> Result<End, ServeError> {
        match result {
            Ok(()) => {
                self.0 = 0;
                Ok(End::Answered)
            }
            Err(_) if self.0 + 1 < PATIENCE => {
                self.0 += 1;
                Ok(End::Failed)
            }
            Err(error) => Err(ServeError::Broken { passes: self.0 + 1, error }),
        }
    }
}

/// Puts a level of load on a service that answers whole requests.
///
/// # Errors
/// An invalid level, and a service that fails many times in a row; single failures
/// are counted.
pub fn batched(
    service: &mut dyn Batched,
    level: &Level,
    batching: Dynamic,
    timeline: &dyn Timeline,
) -> Result<LoadTest, ServeError> {
    if batching.max_batch == 0 || batching.max_batch > service.max_batch() {
        let advice = "a pass takes at least one request, and no more than the service has room for";
        return Err(ServeError::Level {
            what: "batch",
            value: batching.max_batch.to_string(),
            advice,
        });
    }
    let mut traffic = Traffic::new(level)?;
    let mut failures = Failures::default();
    let mut now = timeline.now();
    loop {
        traffic.advance(now);
        if traffic.is_over(now) {
            break;
        }
        if let Some(moment) = idle_until(&traffic, level, batching, now) {
            timeline.wait_until(moment);
            let woken = timeline.now();
            traffic.tally.idled(now, woken);
            now = woken;
            continue;
        }
        let requests = traffic.take(batching.max_batch, now);
        let begin = timeline.now();
        let result = service.answer(requests.len());
        now = timeline.now();
        traffic.tally.passed(begin, now, requests.len());
        let end = failures.judge(result)?;
        for request in &requests {
            traffic.end(request, end, now);
        }
    }
    let max_batch = batching.max_batch as u64;
    let batching =
        Batching::Dynamic { max_batch, max_queue_delay_s: batching.max_queue_delay.as_secs_f64() };
    Ok(traffic.finish(batching, now))
}

/// The moment until which there is nothing to do; `None` where a pass should begin now.
fn idle_until(
    traffic: &Traffic<'_>,
    level: &Level,
    batching: Dynamic,
    now: Duration,
) -> Option<Duration> {
    let full = traffic.waiting() >= batching.max_batch;
    let ready = traffic.oldest().map(|due| due + batching.max_queue_delay);
    if full || ready.is_some_and(|ready| ready <= now) {
        return None;
    }
    // Nobody new comes after the end: what waits then goes at once.
    if ready.is_some() && now >= level.end() {
        return None;
    }
    let events = [ready, traffic.next_event(), Some(level.last_call())];
    let end = Some(level.end()).filter(|end| now < *end);
    events.into_iter().chain([end]).flatten().min()
}
