//! A warp: groups of lanes that stand at the same instruction, the one furthest back first.

use super::value::{Row, lanes_of};

/// What a group of lanes does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Runs,
    /// At a barrier of the block.
    AtBarrier,
    /// For lanes that its mask names.
    Waits,
}

/// Lanes at the same instruction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) pc: u32,
    pub(super) mask: u32,
    pub(super) state: State,
}

/// A copy from device to shared memory that was begun.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    pub(super) lane: u32,
    pub(super) to: u64,
    /// What it brings: the first `len` of these.
    pub(super) bytes: [u8; 16],
    pub(super) len: usize,
    /// The group that it was committed with; 0 before.
    pub(super) group: u32,
    pub(super) pc: u32,
}

/// 32 threads.
pub(super) struct Warp {
    /// The index of its first thread in the block.
    pub(super) first: u32,
    /// The lanes that it has, and those that have not ended.
    pub(super) all: u32,
    pub(super) alive: u32,
    pub(super) rows: Vec<Row>,
    pub(super) groups: Vec<Group>,
    /// Its own barriers since the last of the block.
    pub(super) epoch: u32,
    /// Lanes whose writes a fence has let go.
    pub(super) fenced: u32,
    pub(super) local: Vec<u8>,
    pub(super) copies: Vec<Copy>,
    pub(super) committed: u32,
}

impl Warp {
    pub(super) fn new(first: u32, all: u32, rows: Vec<Row>, local: u32) -> Self {
        Self {
            first,
            all,
            alive: 0,
            rows,
            groups: Vec::new(),
            epoch: 0,
            fenced: 0,
            local: vec![0xFF; 32 * local as usize],
            copies: Vec::new(),
            committed: 0,
        }
    }

    pub(super) fn begin(&mut self) {
        (self.alive, self.epoch, self.fenced, self.committed) = (self.all, 0, 0, 0);
        self.copies.clear();
        self.groups.clear();
        self.groups.push(Group { pc: 0, mask: self.all, state: State::Runs });
    }

    /// Joins groups that stand at the same place.
    fn join(&mut self) {
        let mut first = 0;
        while first < self.groups.len() {
            let mut second = first + 1;
            while second < self.groups.len() {
                let (a, b) = (self.groups[first], self.groups[second]);
                let barrier = |group: Group| group.state == State::AtBarrier;
                if a.pc == b.pc && barrier(a) == barrier(b) {
                    let state = if barrier(a) { State::AtBarrier } else { State::Runs };
                    self.groups[first] = Group { pc: a.pc, mask: a.mask | b.mask, state };
                    self.groups.swap_remove(second);
                } else {
                    second += 1;
                }
            }
            first += 1;
        }
    }

    /// The group whose turn it is, and whether it only waits for others, which can never come.
    pub(super) fn turn(&mut self) -> Option<(usize, bool)> {
        if self.groups.len() > 1 {
            self.join();
        }
        let furthest_back = |state: State| {
            let groups =
                self.groups.iter().enumerate().filter(move |(_, group)| group.state == state);
            groups.min_by_key(|(_, group)| group.pc).map(|(index, _)| index)
        };
        let runs = furthest_back(State::Runs).map(|index| (index, false));
        runs.or_else(|| furthest_back(State::Waits).map(|index| (index, true)))
    }

    /// Where another group stands that this one must not run past: there they meet again.
    pub(super) fn limit(&self, of: usize) -> u32 {
        let others = self.groups.iter().enumerate().filter(|(index, _)| *index != of);
        let others = others.filter(|(_, group)| group.state != State::AtBarrier);
        others.map(|(_, group)| group.pc).min().unwrap_or(u32::MAX)
    }
}

/// The first thread of a mask.
pub(super) fn first_of(warp: &Warp, mask: u32) -> u32 {
    warp.first + lanes_of(mask).next().unwrap_or(0) as u32
}
