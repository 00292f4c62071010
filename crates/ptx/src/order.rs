//! The order between blocks: a fence and an atomic operation let go what was written, an atomic operation
//! on the same word takes it up ("the last block joins").

use std::collections::HashMap;

use super::shadow::{Conflict, When, Who};

/// Who had let go what, at an address.
#[derive(Debug, Clone, Copy)]
struct Release {
    who: Who,
    when: When,
}

/// A thread of this block has taken up the first so many releases of an address.
#[derive(Debug, Clone, Copy)]
struct Acquisition {
    address: u64,
    releases: usize,
    who: Who,
    when: When,
}

/// What is ordered between the blocks of a launch, which run one after the other.
#[derive(Debug, Default)]
pub(super) struct Order {
    releases: HashMap<u64, Vec<Release>>,
    acquired: Vec<Acquisition>,
}

impl Order {
    /// Another block begins.
    pub(super) fn begin_block(&mut self) {
        self.acquired.clear();
    }

    pub(super) fn release(&mut self, address: u64, who: Who, when: When) {
        self.releases.entry(address).or_default().push(Release { who, when });
    }

    pub(super) fn acquire(&mut self, address: u64, who: Who, when: When) {
        if let Some(releases) = self.releases.get(&address) {
            let releases = releases.len();
            self.acquired.push(Acquisition { address, releases, who, when });
        }
    }

    /// Whether what came before was let go by its block and taken up by this one.
    pub(super) fn holds(&self, before: &Conflict, who: Who, when: When) -> bool {
        let mine = self.acquired.iter().filter(|acquisition| {
            acquisition.who == who || acquisition.when.epoch() < when.epoch()
        });
        mine.into_iter().any(|acquisition| {
            let releases = &self.releases[&acquisition.address][..acquisition.releases];
            releases.iter().any(|release| {
                let covers =
                    release.who == before.who || before.when.epoch() < release.when.epoch();
                release.who.block() == before.who.block() && covers
            })
        })
    }
}
