//! The accesses that kernels are made of: all lanes of a warp, side by side, or all at one place. They are
//! found, checked and moved together.

use std::ops::Range;

use super::access::{One, Where};
use super::instruction::{Access, Instruction, Space};
use super::launch::Run;
use super::sectors::{Pattern, SECTOR, Shadow};
use super::shadow::{Conflict, Touch};
use super::value::ALL;
use super::view::Way;
use super::warp::Warp;

/// What is wrong with an access: the lane, the conflict if there is one, and whether nobody wrote what it
/// reads.
type Wrong = Option<(u32, Option<Conflict>, bool)>;

/// Whether the lanes lie side by side, each aligned to its own bytes.
#[inline]
fn is_a_row(addresses: &[u64; 32], bytes: u64) -> bool {
    let mut differs = addresses[0] % bytes;
    // Without a way out in the middle this is a few instructions for all lanes.
    for (lane, address) in (0..).zip(addresses) {
        differs |= address.wrapping_sub(addresses[0]) ^ (lane * bytes);
    }
    differs == 0
}

impl Run<'_, '_> {
    /// Loads or stores by all lanes at once, if they lie side by side in one page or in shared memory;
    /// `false` if they do not, and nothing has happened.
    pub(super) fn row(
        &mut self,
        warp: &mut Warp,
        i: &Instruction,
        (mask, addresses): (u32, &[u64; 32]),
        access: &Access,
        space: Space,
        stores: bool,
    ) -> bool {
        let bytes = access.bytes as usize * i.list.len();
        let plain = mask == ALL && i.d != 1 && (access.bytes >= 4 || i.list.len() == 1);
        let ordered = access.acquires || access.releases;
        let Some(pattern) = Pattern::of(bytes).filter(|_| plain && !ordered) else { return false };
        if !is_a_row(addresses, bytes as u64) {
            return false;
        }
        let len = 32 * bytes;
        let place = match space {
            Space::Shared => {
                let end = addresses[0].checked_add(len as u64);
                let inside = end.is_some_and(|end| end <= self.shared.len() as u64);
                inside.then(|| Where::Shared(addresses[0] as usize))
            }
            Space::Global => {
                self.view.find(addresses[0], len as u64).map(|(page, at)| Where::Device(page, at))
            }
            Space::Local | Space::Generic => None,
        };
        let Some(place) = place else { return false };
        let who = self.who(warp.first);
        let touch =
            Touch { who, when: self.when(warp), writes: stores, meets: access.meets, same: false };
        let (memory, shadow, at): (&mut [u8], &mut Shadow, usize) = match place {
            Where::Device(page, at) => {
                let sectors = self.counts.row(stores, addresses[0], bytes as u64);
                self.view.count(page, if stores { Way::Write } else { Way::Read }, sectors);
                let page = self.view.page(page);
                page.dirty |= stores;
                (&mut page.bytes, &mut page.shadow, at)
            }
            Where::Shared(at) => {
                self.counts.row_of_banks(bytes as u64);
                (&mut self.shared, &mut self.shadow, at)
            }
            Where::Local(_) => return false,
        };
        let memory = &mut memory[at..at + len];
        let row = Row { i, touch, pattern, bytes, part: access.bytes as usize };
        let wrong = if stores {
            let mut values = [0; 512];
            row.gather(warp, &mut values[..len]);
            let wrong = row.note(shadow, at, |part| memory[part.clone()] == values[part]);
            memory.copy_from_slice(&values[..len]);
            wrong
        } else {
            row.scatter(warp, memory, access.signed);
            row.note(shadow, at, |_| false)
        };
        if let Some((lane, conflict, unwritten)) = wrong {
            let one = One { lane, address: addresses[lane as usize], bytes };
            let touch = Touch { who: self.who(warp.first + lane), ..touch };
            self.wrong(i, (place, one), &touch, conflict, unwritten);
        }
        true
    }
}

/// An access of all lanes side by side.
struct Row<'a> {
    i: &'a Instruction,
    /// That of the first lane.
    touch: Touch,
    pattern: Pattern,
    /// Bytes of a lane, and of each of its elements.
    bytes: usize,
    part: usize,
}

impl Row<'_> {
    /// The registers of each word of a lane: the halves of a double register lie one behind the other.
    fn slots(&self) -> ([usize; 4], usize) {
        let words = self.bytes / 4;
        let halves = words / self.i.list.len();
        let mut slots = [0; 4];
        for (index, slot) in slots.iter_mut().enumerate().take(words) {
            *slot = self.i.list[index / halves] as usize + index % halves;
        }
        (slots, words)
    }

    /// Puts what was loaded into the registers.
    #[inline]
    fn scatter(&self, warp: &mut Warp, memory: &[u8], signed: bool) {
        if self.part < 4 {
            let row = &mut warp.rows[self.i.list[0] as usize];
            for (lane, value) in row.iter_mut().enumerate() {
                *value = match (self.part, signed) {
                    (1, false) => u32::from(memory[lane]),
                    (1, true) => i32::from(memory[lane].cast_signed()).cast_unsigned(),
                    (_, signs) => {
                        let half = u16::from_le_bytes([memory[2 * lane], memory[2 * lane + 1]]);
                        let extended = i32::from(half.cast_signed()).cast_unsigned();
                        if signs { extended } else { u32::from(half) }
                    }
                };
            }
            return;
        }
        let (slots, count) = self.slots();
        let words = memory.as_chunks::<4>().0;
        for (index, slot) in slots[..count].iter().enumerate() {
            let row = &mut warp.rows[*slot];
            for (value, words) in row.iter_mut().zip(words.chunks_exact(count)) {
                *value = u32::from_le_bytes(words[index]);
            }
        }
    }

    /// Takes what is stored out of the registers.
    #[inline]
    fn gather(&self, warp: &Warp, memory: &mut [u8]) {
        if self.part < 4 {
            let row = &warp.rows[self.i.list[0] as usize];
            for (bytes, value) in memory.chunks_exact_mut(self.part).zip(row) {
                bytes.copy_from_slice(&value.to_le_bytes()[..self.part]);
            }
            return;
        }
        let (slots, count) = self.slots();
        let words = memory.as_chunks_mut::<4>().0;
        for (index, slot) in slots[..count].iter().enumerate() {
            let row = &warp.rows[*slot];
            for (words, value) in words.chunks_exact_mut(count).zip(row) {
                words[index] = value.to_le_bytes();
            }
        }
    }

    /// Notes the access in the shadow of what begins at byte `at`. `same` says whether bytes of the row are
    /// written with what they hold.
    #[inline]
    fn note(&self, shadow: &mut Shadow, at: usize, same: impl Fn(Range<usize>) -> bool) -> Wrong {
        let sectors = 32 * self.bytes / SECTOR;
        let lanes = SECTOR / self.bytes;
        let whole = at.is_multiple_of(SECTOR);
        let mut wrong = None;
        for sector in 0..sectors {
            let first = (sector * lanes) as u32;
            let touch = Touch { who: self.touch.who.lane(first), ..self.touch };
            if !whole || !shadow.touch(at / SECTOR + sector, self.pattern, &touch) {
                let found = self.note_each(shadow, (at, sector * SECTOR), (first, lanes), &same);
                wrong = wrong.or(found);
            }
        }
        wrong
    }

    /// The same for some lanes, cell by cell; the memory of theirs begins `from` bytes into the row.
    #[cold]
    fn note_each(
        &self,
        shadow: &mut Shadow,
        (at, from): (usize, usize),
        (first, lanes): (u32, usize),
        same: impl Fn(Range<usize>) -> bool,
    ) -> Wrong {
        let mut wrong = None;
        for lane in 0..lanes {
            let begin = from + lane * self.bytes;
            let end = begin + self.bytes;
            let mask =
                if self.bytes >= 4 { 15 } else { ((1 << self.bytes) - 1) << ((at + begin) % 4) };
            let lane = first + lane as u32;
            let who = self.touch.who.lane(lane);
            let cells = shadow.cells((at + begin) / 4, (at + end).div_ceil(4));
            for (cell, index) in cells.iter_mut().zip(begin / 4..) {
                let part = if self.bytes >= 4 { 4 * index..4 * index + 4 } else { begin..end };
                let same = self.touch.writes && same(part);
                let unwritten = !self.touch.writes && cell.initial() & mask != mask;
                let conflict = cell.touch(mask, &Touch { who, same, ..self.touch });
                if unwritten || conflict.is_some() {
                    wrong = wrong.or(Some((lane, conflict, unwritten)));
                }
            }
        }
        wrong
    }
}
