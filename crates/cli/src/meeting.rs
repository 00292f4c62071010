//! Cards that begin each benchmark together, so that what they share shows.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use warpmark_record::BenchmarkId;

/// So long a card waits while nothing happens on the others: what one of them loads is loaded by then, or it hangs.
const PATIENCE: Duration = Duration::from_mins(10);

/// Where several cards wait for each other before each benchmark.
pub(crate) struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    cards: Vec<Card>,
    /// Benchmarks that everybody may begin.
    open: HashSet<BenchmarkId>,
}

struct Card {
    /// What it has yet to come to.
    ahead: HashSet<BenchmarkId>,
    waits_for: Option<BenchmarkId>,
}

impl State {
    /// Opens what nobody is still to come to, and where all wait for different things, all of those.
    fn open_what_may(&mut self) {
        let waited: Vec<BenchmarkId> =
            self.cards.iter().filter_map(|card| card.waits_for.clone()).collect();
        let comes = |card: &Card, id: &BenchmarkId| {
            card.waits_for.as_ref() != Some(id) && card.ahead.contains(id)
        };
        let all_wait =
            self.cards.iter().all(|card| card.waits_for.is_some() || card.ahead.is_empty());
        let ready = waited.iter().filter(|id| !self.cards.iter().any(|card| comes(card, id)));
        let ready: Vec<BenchmarkId> = ready.cloned().collect();
        self.open.extend(ready);
        if all_wait && !waited.iter().any(|id| self.open.contains(id)) {
            self.open.extend(waited);
        }
    }
}

impl Meeting {
    /// A meeting of as many cards as there are plans.
    pub(crate) fn of(plans: impl IntoIterator<Item = HashSet<BenchmarkId>>) -> Self {
        let cards = plans.into_iter().map(|ahead| Card { ahead, waits_for: None });
        let state = State { cards: cards.collect(), open: HashSet::new() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until every card that has this benchmark ahead of it has come to it.
    pub(crate) fn wait(&self, card: usize, id: &BenchmarkId) {
        let mut state = self.state();
        state.cards[card].waits_for = Some(id.clone());
        loop {
            state.open_what_may();
            self.changed.notify_all();
            if state.open.contains(id) {
                break;
            }
            let waited = self.changed.wait_timeout(state, PATIENCE);
            let (woken, silence) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if silence.timed_out() {
                break;
            }
        }
        state.cards[card].waits_for = None;
        state.cards[card].ahead.remove(id);
    }

    /// Notes that a card has a row of a benchmark, begun or not.
    pub(crate) fn passed(&self, card: usize, id: &BenchmarkId) {
        let mut state = self.state();
        state.cards[card].ahead.remove(id);
        state.open_what_may();
        self.changed.notify_all();
    }

    /// Notes that a card comes to nothing any more.
    pub(crate) fn leave(&self, card: usize) {
        let mut state = self.state();
        state.cards[card].ahead.clear();
        state.open_what_may();
        self.changed.notify_all();
    }
}

/// One card's place at a meeting; it leaves when this goes.
pub(crate) struct Seat<'a> {
    pub meeting: &'a Meeting,
    pub card: usize,
}

impl Seat<'_> {
    pub(crate) fn wait(&self, id: &BenchmarkId) {
        self.meeting.wait(self.card, id);
    }

    pub(crate) fn passed(&self, id: &BenchmarkId) {
        self.meeting.passed(self.card, id);
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.meeting.leave(self.card);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn id(text: &str) -> BenchmarkId {
        format!("micro/{text}@x").parse().unwrap()
    }

    fn plan(ids: &[&str]) -> HashSet<BenchmarkId> {
        ids.iter().map(|text| id(text)).collect()
    }

    /// Runs cards that come to these benchmarks, one after the other, and says in which order they began.
    fn began(plans: &[&[&str]]) -> Vec<(usize, String)> {
        let meeting = Meeting::of(plans.iter().map(|ids| plan(ids)));
        let (say, heard) = mpsc::channel();
        std::thread::scope(|scope| {
            for (card, ids) in plans.iter().enumerate() {
                let (say, meeting) = (say.clone(), &meeting);
                scope.spawn(move || {
                    let seat = Seat { meeting, card };
                    for text in *ids {
                        seat.wait(&id(text));
                        say.send((card, (*text).to_owned())).unwrap();
                        seat.passed(&id(text));
                    }
                });
            }
        });
        drop(say);
        heard.into_iter().collect()
    }

    #[test]
    fn cards_begin_each_benchmark_together_and_go_on_without_those_that_lack_it() {
        let began = began(&[&["a", "b", "c"], &["a", "c"], &["b", "c"]]);
        assert_eq!(began.len(), 7);
        let first = |text: &str| began.iter().position(|(_, began)| began == text).unwrap();
        let last = |text: &str| began.iter().rposition(|(_, began)| began == text).unwrap();
        assert!(last("a") < first("c") && last("b") < first("c"), "{began:?}");
    }

    #[test]
    fn cards_that_come_in_another_order_or_leave_hold_nobody_up() {
        assert_eq!(began(&[&["a", "b"], &["b", "a"]]).len(), 4);
        let meeting = Meeting::of([plan(&["a"]), plan(&["a"])]);
        drop(Seat { meeting: &meeting, card: 1 });
        meeting.wait(0, &id("a"));
    }
}
