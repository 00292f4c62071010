//! What is known of each four bytes of memory: who touched them last, and whether they were written.

use super::finding::Race;

/// Bits of a stamp that count the barriers of a warp inside an epoch of its block.
const WARP_BITS: u32 = 12;

/// Who accesses: the block's index and the thread's inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Who(u32);

/// The most blocks of a launch whose accesses can be told apart.
pub(super) const MOST_BLOCKS: u64 = 1 << 22;

impl Who {
    pub(super) fn new(block: u32, thread: u32) -> Self {
        Self(block << 10 | thread)
    }

    pub(super) fn block(self) -> u32 {
        self.0 >> 10
    }

    pub(super) fn thread(self) -> u32 {
        self.0 & 1023
    }

    /// The thread so many behind this one, of the same block.
    pub(super) fn lane(self, lane: u32) -> Self {
        Self(self.0 + lane)
    }

    fn warp(self) -> u32 {
        self.0 >> 5
    }
}

/// When, in terms of what orders the threads of a block: its barriers, and those of the warp since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct When(u32);

impl When {
    pub(super) fn new(epoch: u32, warp: u32) -> Self {
        Self(epoch << WARP_BITS | warp.min((1 << WARP_BITS) - 1))
    }

    pub(super) fn epoch(self) -> u32 {
        self.0 >> WARP_BITS
    }
}

/// One access, as the shadow sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Touch {
    pub(super) who: Who,
    pub(super) when: When,
    pub(super) writes: bool,
    /// Atomic and volatile accesses may meet each other.
    pub(super) meets: bool,
    /// Whether what is written stands there already.
    pub(super) same: bool,
}

impl Touch {
    /// A plain load.
    pub(super) fn read(who: Who, when: When) -> Self {
        Self { who, when, writes: false, meets: false, same: false }
    }

    /// Whether another thread is of the same warp, and no barrier of the block lies between.
    #[inline]
    pub(super) fn is_beside(&self, who: Who, when: When) -> bool {
        self.who.warp() == who.warp() && self.when.epoch() == when.epoch()
    }

    /// A plain store, of something else than stands there.
    pub(super) fn write(who: Who, when: When) -> Self {
        Self { writes: true, ..Self::read(who, when) }
    }
}

/// An access that came before and that nothing inside a block orders against the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) race: Race,
    pub(super) who: Who,
    pub(super) when: When,
    /// Whether other blocks accessed it too, so that `who` is only one of them.
    pub(super) many: bool,
}

const WRITTEN_BY: u32 = 0;
const READ_BY: u32 = 4;
const INITIAL: u32 = 8;
const WRITE_MEETS: u32 = 1 << 12;
const READ_MEETS: u32 = 1 << 13;
const READERS: u32 = 1 << 14;
const READING_WARPS: u32 = 1 << 15;
const READING_BLOCKS: u32 = 1 << 16;
/// The bytes that another thread than the last reader read.
const BESIDE: u32 = 17;
const TOUCHED: u32 = 15 << WRITTEN_BY | 15 << READ_BY;
const OF_READS: u32 =
    READ_MEETS | READERS | READING_WARPS | READING_BLOCKS | 15 << READ_BY | 15 << BESIDE;

/// Four bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cell {
    writer: Who,
    written: When,
    reader: Who,
    read: When,
    /// Who read other bytes of the four than the last reader did: two threads read halves of a cell.
    beside: Who,
    beside_read: When,
    state: u32,
}

impl Cell {
    /// Four bytes that were written before the launch, by this mask.
    pub(super) fn holding(bytes: u32) -> Self {
        Self { state: bytes << INITIAL, ..Self::default() }
    }

    /// Whether anybody touched it since the launch began.
    pub(super) fn is_touched(&self) -> bool {
        self.state & TOUCHED != 0
    }

    /// Who wrote it last, and when, if anybody did since the launch began.
    #[inline]
    pub(super) fn writer(&self) -> Option<(Who, When)> {
        (self.state >> WRITTEN_BY & 15 != 0).then_some((self.writer, self.written))
    }

    /// Who read it last, and when.
    #[inline]
    pub(super) fn reader(&self) -> Option<(Who, When)> {
        (self.state >> READ_BY & 15 != 0).then_some((self.reader, self.read))
    }

    /// Who read other bytes than the last reader did, and when.
    #[inline]
    pub(super) fn beside(&self) -> Option<(Who, When)> {
        (self.state >> BESIDE & 15 != 0).then_some((self.beside, self.beside_read))
    }

    /// The same, touched by threads so far behind.
    pub(super) fn behind(&self, reads: u32, writes: u32) -> Self {
        Self {
            writer: self.writer.lane(writes),
            reader: self.reader.lane(reads),
            beside: self.beside.lane(reads),
            ..*self
        }
    }

    /// Which of the four bytes were written.
    pub(super) fn initial(&self) -> u32 {
        self.state >> INITIAL & 15
    }

    /// Notes an access to the bytes of the mask, and gives what it is in conflict with.
    #[inline]
    pub(super) fn touch(&mut self, bytes: u32, touch: &Touch) -> Option<Conflict> {
        if touch.writes { self.write(bytes, touch) } else { self.read(bytes, touch) }
    }

    #[inline]
    fn read(&mut self, bytes: u32, touch: &Touch) -> Option<Conflict> {
        let Touch { who, when, meets, .. } = *touch;
        // Nobody has touched it since the launch began.
        if self.state & TOUCHED == 0 {
            self.state |= bytes << READ_BY | if meets { READ_MEETS } else { 0 };
            (self.reader, self.read) = (who, when);
            return None;
        }
        let mut found = None;
        if self.state >> WRITTEN_BY & bytes != 0
            && apart(self.writer, self.written, who, when)
            && !(meets && self.state & WRITE_MEETS != 0)
        {
            let race = Race::ReadAfterWrite;
            found = Some(Conflict { race, who: self.writer, when: self.written, many: false });
        }
        let before = self.state >> READ_BY & 15;
        if before == 0 || self.reader.block() == who.block() && self.read.epoch() != when.epoch() {
            self.state = self.state & !OF_READS | bytes << READ_BY;
            self.state |= if meets { READ_MEETS } else { 0 };
        } else if before & bytes == 0 && self.reader != who {
            self.read_beside(bytes, touch, before);
        } else {
            self.state |= bytes << READ_BY;
            if self.reader != who {
                self.state |= READERS;
            }
            if self.reader.warp() != who.warp() {
                self.state |= READING_WARPS;
            }
            if self.reader.block() != who.block() {
                self.state |= READING_BLOCKS;
            }
            if !meets {
                self.state &= !READ_MEETS;
            }
        }
        (self.reader, self.read) = (who, when);
        found
    }

    /// Notes a read of bytes that the last reader did not read: each of the two is kept with its own. What
    /// more than two read of them is forgotten.
    fn read_beside(&mut self, bytes: u32, touch: &Touch, before: u32) {
        let Touch { who, meets, .. } = *touch;
        let again = self.state >> BESIDE & bytes != 0 && self.beside != who;
        let mut several = if again { READERS } else { 0 };
        if again && self.beside.warp() != who.warp() {
            several |= READING_WARPS;
        }
        if again && self.beside.block() != who.block() {
            several |= READING_BLOCKS;
        }
        (self.beside, self.beside_read) = (self.reader, self.read);
        self.state = self.state & !OF_READS | bytes << READ_BY | before << BESIDE | several;
        self.state |= if meets { READ_MEETS } else { 0 };
    }

    #[inline]
    fn write(&mut self, bytes: u32, touch: &Touch) -> Option<Conflict> {
        let Touch { who, when, meets, same, .. } = *touch;
        if self.state & TOUCHED == 0 {
            self.state |= bytes | bytes << INITIAL | if meets { WRITE_MEETS } else { 0 };
            (self.writer, self.written) = (who, when);
            return None;
        }
        let mut found = None;
        if self.state >> READ_BY & bytes != 0 && !(meets && self.state & READ_MEETS != 0) && !same {
            let many = self.state & READING_BLOCKS != 0;
            let several = self.state & READERS != 0
                && self.reader.block() == who.block()
                && self.read.epoch() == when.epoch()
                && (self.state & READING_WARPS != 0 || self.read == when);
            if many || several || apart(self.reader, self.read, who, when) {
                let race = Race::WriteAfterRead;
                found = Some(Conflict { race, who: self.reader, when: self.read, many });
            }
        }
        if self.state >> BESIDE & bytes != 0
            && apart(self.beside, self.beside_read, who, when)
            && !meets
            && !same
        {
            let (race, who, when) = (Race::WriteAfterRead, self.beside, self.beside_read);
            found = Some(Conflict { race, who, when, many: false });
        }
        if self.state >> WRITTEN_BY & bytes != 0
            && apart(self.writer, self.written, who, when)
            && !(meets && self.state & WRITE_MEETS != 0)
            && !same
        {
            let race = Race::WriteAfterWrite;
            found = Some(Conflict { race, who: self.writer, when: self.written, many: false });
        }
        let own = self.writer == who && self.written == when;
        let kept = if own { self.state >> WRITTEN_BY & 15 } else { 0 };
        self.state =
            self.state & !(15 << WRITTEN_BY | WRITE_MEETS) | kept | bytes | bytes << INITIAL;
        self.state |= if meets { WRITE_MEETS } else { 0 };
        (self.writer, self.written) = (who, when);
        found
    }
}

/// Whether nothing inside a block orders two accesses.
#[inline]
fn apart(before: Who, then: When, who: Who, when: When) -> bool {
    before != who
        && (before.block() != who.block()
            || then.epoch() == when.epoch() && (before.warp() != who.warp() || then == when))
}

#[cfg(test)]
impl Cell {
    /// Whether two cells say the same of what was done: who did nothing does not matter.
    pub(super) fn means_the_same(&self, other: &Self) -> bool {
        self.state == other.state
            && self.writer() == other.writer()
            && self.reader() == other.reader()
            && self.beside() == other.beside()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(thread: u32, epoch: u32, writes: bool) -> Touch {
        let who = Who::new(thread / 1024, thread % 1024);
        Touch { who, when: When::new(epoch, 0), writes, meets: false, same: false }
    }

    /// What the last of these accesses is in conflict with; the first number is 1024 * block + thread.
    fn last(accesses: &[(u32, u32, bool)]) -> Option<Race> {
        let mut cell = Cell::holding(15);
        let found = accesses.iter().map(|(thread, epoch, writes)| {
            cell.touch(15, &touch(*thread, *epoch, *writes)).map(|conflict| conflict.race)
        });
        found.last().flatten()
    }

    #[test]
    fn threads_of_a_block_are_ordered_by_barriers_and_blocks_by_nothing() {
        assert_eq!(last(&[(0, 0, true), (40, 0, false)]), Some(Race::ReadAfterWrite));
        assert_eq!(last(&[(0, 0, true), (40, 1, false)]), None);
        assert_eq!(last(&[(0, 0, true), (0, 0, false)]), None);
        assert_eq!(last(&[(0, 0, true), (1024, 3, false)]), Some(Race::ReadAfterWrite));
        assert_eq!(last(&[(0, 0, false), (40, 0, true)]), Some(Race::WriteAfterRead));
        assert_eq!(last(&[(0, 0, true), (1, 0, true)]), Some(Race::WriteAfterWrite));
    }

    #[test]
    fn of_several_readers_none_is_forgotten() {
        // The writer read last itself.
        assert_eq!(
            last(&[(40, 0, false), (0, 0, false), (0, 0, true)]),
            Some(Race::WriteAfterRead)
        );
        assert_eq!(
            last(&[(1024, 0, false), (0, 0, false), (0, 0, true)]),
            Some(Race::WriteAfterRead)
        );
        assert_eq!(last(&[(40, 0, false), (0, 1, false), (0, 1, true)]), None);
    }

    #[test]
    fn bytes_beside_each_other_and_equal_values_do_not_conflict() {
        let mut cell = Cell::holding(0);
        assert_eq!(cell.touch(0b0011, &touch(0, 0, true)), None);
        assert_eq!(cell.touch(0b1100, &touch(1, 0, true)), None);
        assert_eq!(cell.initial(), 15);
        let same = Touch { same: true, ..touch(2, 0, true) };
        assert_eq!(cell.touch(0b1100, &same), None);
    }

    #[test]
    fn halves_that_two_threads_read_are_theirs_to_write_and_nobody_elses() {
        let read = |halves: &[(u32, u32)]| {
            let mut cell = Cell::holding(15);
            for (thread, bytes) in halves {
                assert_eq!(cell.touch(*bytes, &touch(*thread, 0, false)), None);
            }
            cell
        };
        let both = [(6, 0b0011), (7, 0b1100)];
        for order in [both, [both[1], both[0]]] {
            for (thread, bytes) in both {
                assert_eq!(read(&order).touch(bytes, &touch(thread, 0, true)), None);
                let found = read(&order).touch(bytes, &touch(40, 0, true)).unwrap();
                assert_eq!((found.race, found.who.thread()), (Race::WriteAfterRead, thread));
            }
            // Each reads its own again, and a third thread the lower half too.
            let again = [order[0], order[1], order[0], order[1]];
            assert_eq!(read(&again).touch(0b0011, &touch(6, 0, true)), None);
            let third = [order[0], order[1], (70, 0b0011)];
            assert!(read(&third).touch(0b0011, &touch(6, 0, true)).is_some());
        }
        // A barrier orders all of it.
        assert_eq!(read(&both).touch(15, &touch(40, 1, true)), None);
    }

    #[test]
    fn atomic_accesses_meet_each_other_and_no_plain_one() {
        let mut cell = Cell::holding(15);
        let atomic = |thread| Touch { meets: true, ..touch(thread, 0, true) };
        assert_eq!(cell.touch(15, &atomic(0)), None);
        assert_eq!(cell.touch(15, &atomic(1024)), None);
        let read = cell.touch(15, &touch(2048, 0, false)).unwrap();
        assert_eq!((read.race, read.who.block()), (Race::ReadAfterWrite, 1));
    }

    #[test]
    fn lanes_of_a_warp_are_ordered_by_its_own_barrier() {
        let mut cell = Cell::holding(15);
        let at =
            |thread, warp, writes| Touch { when: When::new(0, warp), ..touch(thread, 0, writes) };
        assert_eq!(cell.touch(15, &at(0, 0, true)), None);
        assert_eq!(cell.touch(15, &at(1, 1, false)), None);
        assert!(cell.touch(15, &at(40, 1, false)).is_some());
    }
}
