//! Continuous batching: requests join between two tokens of the others, and leave after their last.

use std::time::Duration;

use warpmark_measure::Streaming;
use warpmark_record::LoadTest;
use warpmark_record::load_test::Batching;

use crate::batched::Failures;
use crate::level::{Level, ServeError};
use crate::timeline::Timeline;
use crate::traffic::{End, Request, Traffic};

/// A request in a slot.
#[derive(Debug, Clone, Copy)]
struct Active {
    request: Request,
    tokens: usize,
    last_token: Duration,
}

/// The slots of a service, and who is in them.
struct Slots {
    slots: Vec<Option<Active>>,
    tokens: usize,
}

/// Puts a level of load on a service that writes tokens. New requests are read before the others go on,
/// all that fit at once: their prompts hold the others up, which shows between tokens.
///
/// # Errors
/// An invalid level, and a service that fails many times in a row; single failures are
/// counted.
pub fn streaming(
    service: &mut dyn Streaming,
    level: &Level,
    timeline: &dyn Timeline,
) -> Result<LoadTest, ServeError> {
    let mut traffic = Traffic::new(level)?;
    let mut failures = Failures::default();
    let mut slots = Slots { slots: vec![None; service.slots()], tokens: service.tokens() };
    let mut now = timeline.now();
    loop {
        traffic.advance(now);
        slots.let_go(&mut traffic, now);
        if now >= level.last_call() || (slots.is_empty() && traffic.is_over(now)) {
            break;
        }
        let joining = slots.free(traffic.waiting());
        let requests = traffic.take(joining.len(), now);
        let active = slots.active();
        if requests.is_empty() && active.is_empty() {
            let end = Some(level.end()).filter(|end| now < *end);
            let moments = [traffic.next_event(), end, Some(level.last_call())];
            timeline.wait_until(moments.into_iter().flatten().min().unwrap_or(now));
            let woken = timeline.now();
            traffic.tally.idled(now, woken);
            now = woken;
            continue;
        }
        let begin = timeline.now();
        if requests.is_empty() {
            let result = service.step(&active);
            now = timeline.now();
            traffic.tally.passed(begin, now, active.len());
            slots.stepped(&active, failures.judge(result)?, &mut traffic, now);
        } else {
            let result = service.admit(&joining);
            now = timeline.now();
            traffic.tally.passed(begin, now, joining.len());
            slots.admitted(&joining, &requests, failures.judge(result)?, &mut traffic, now);
        }
    }
    for active in slots.slots.iter().flatten() {
        traffic.abandon(&active.request);
    }
    let mut load = traffic.finish(Batching::Continuous { slots: service.slots() as u64 }, now);
    load.tokens_per_request = Some(service.tokens() as u64);
    Ok(load)
}

impl Slots {
    /// The first free ones, at most so many.
    fn free(&self, most: usize) -> Vec<usize> {
        let free = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_none());
        free.map(|(index, _)| index).take(most).collect()
    }

    /// Those that hold a request.
    fn active(&self) -> Vec<usize> {
        let held = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_some());
        held.map(|(index, _)| index).collect()
    }

    fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }

    /// Frees the slots whose callers are gone.
    fn let_go(&mut self, traffic: &mut Traffic<'_>, now: Duration) {
        for slot in &mut self.slots {
            if slot.is_some_and(|active| traffic.gone(&active.request, now)) {
                *slot = None;
            }
        }
    }

    /// The prompts of these requests have been read.
    fn admitted(
        &mut self,
        slots: &[usize],
        requests: &[Request],
        end: End,
        traffic: &mut Traffic<'_>,
        now: Duration,
    ) {
        for (&slot, &request) in slots.iter().zip(requests) {
            if end == End::Failed {
                traffic.end(&request, end, now);
                continue;
            }
            traffic.tally.first_token(request.due, now);
            self.slots[slot] = Some(Active { request, tokens: 1, last_token: now });
            self.leave_if_complete(slot, traffic, now);
        }
    }

    /// Each of these slots has got one more token.
    fn stepped(&mut self, slots: &[usize], end: End, traffic: &mut Traffic<'_>, now: Duration) {
        for &slot in slots {
            let Some(active) = &mut self.slots[slot] else { continue };
            if end == End::Failed {
                traffic.end(&active.request, end, now);
                self.slots[slot] = None;
                continue;
            }
            traffic.tally.next_token(active.request.due, now.saturating_sub(active.last_token));
            active.last_token = now;
            active.tokens += 1;
            self.leave_if_complete(slot, traffic, now);
        }
    }

    fn leave_if_complete(&mut self, slot: usize, traffic: &mut Traffic<'_>, now: Duration) {
        if let Some(active) = self.slots[slot].filter(|active| active.tokens >= self.tokens) {
            traffic.end(&active.request, End::Answered, now);
            self.slots[slot] = None;
        }
    }
}
