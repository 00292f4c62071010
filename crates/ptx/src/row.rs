//! The accesses that kernels are made of: all lanes of a warp, word beside word. They are found, checked
//! and moved together.

use super::access::{One, Where};
use super::instruction::{Access, Instruction, Space};
use super::launch::Run;
use super::shadow::{Cell, Conflict, Touch};
use super::value::ALL;
use super::warp::Warp;

/// What is wrong with an access: the lane, the conflict if there is one, and whether nobody wrote what it
/// reads.
type Wrong = Option<(u32, Option<Conflict>, bool)>;

/// Whether the lanes lie one beside the other, each aligned to its own bytes.
fn is_a_row(addresses: &[u64; 32], bytes: u64) -> bool {
    addresses[0].is_multiple_of(bytes)
        && addresses.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(bytes))
}

impl Run<'_, '_> {
    /// Loads or stores by all lanes at once, if they lie beside each other in one page or in shared
    /// memory; `false` if they do not, and nothing has happened.
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
        let plain = mask == ALL && access.bytes >= 4 && i.d != 1;
        let ordered = access.acquires || access.releases;
        if !plain || ordered || !is_a_row(addresses, bytes as u64) {
            return false;
        }
        let len = 32 * bytes as u64;
        let place = match space {
            Space::Shared => {
                let end = addresses[0].checked_add(len);
                let inside = end.is_some_and(|end| end <= self.shared.len() as u64);
                inside.then(|| Where::Shared(addresses[0] as usize))
            }
            Space::Global => {
                self.view.find(addresses[0], len).map(|(page, at)| Where::Device(page, at))
            }
            Space::Local | Space::Generic => None,
        };
        let Some(place) = place else { return false };
        let who = self.who(warp.first);
        let touch =
            Touch { who, when: self.when(warp), writes: stores, meets: access.meets, same: false };
        let (memory, cells, at): (&mut [u8], &mut [Cell], usize) = match place {
            Where::Device(page, at) => {
                let page = self.view.page(page);
                page.dirty |= stores;
                (&mut page.bytes, &mut page.cells, at)
            }
            Where::Shared(at) => (&mut self.shared, &mut self.shared_cells, at),
            Where::Local(_) => return false,
        };
        let (memory, cells) =
            (&mut memory[at..at + len as usize], &mut cells[at / 4..(at + len as usize) / 4]);
        let words = memory.as_chunks_mut::<4>().0;
        let wrong = if stores {
            store(warp, i, words, cells, touch)
        } else {
            load(warp, i, words, cells, touch)
        };
        if let Some((lane, conflict, unwritten)) = wrong {
            let one = One { lane, address: addresses[lane as usize], bytes };
            let touch = Touch { who: self.who(warp.first + lane), ..touch };
            self.wrong(i, (place, one), &touch, conflict, unwritten);
        }
        true
    }
}

/// The registers of each word of a lane: the halves of a double register lie one behind the other.
fn slots(i: &Instruction, words: usize) -> ([usize; 4], usize) {
    let halves = words / i.list.len();
    let mut slots = [0; 4];
    for (index, slot) in slots.iter_mut().enumerate().take(words) {
        *slot = i.list[index / halves] as usize + index % halves;
    }
    (slots, words)
}

fn load(
    warp: &mut Warp,
    i: &Instruction,
    words: &[[u8; 4]],
    cells: &mut [Cell],
    first: Touch,
) -> Wrong {
    let (slots, count) = slots(i, words.len() / 32);
    for (index, slot) in slots[..count].iter().enumerate() {
        let row = &mut warp.rows[*slot];
        for (lane, value) in row.iter_mut().enumerate() {
            *value = u32::from_le_bytes(words[lane * count + index]);
        }
    }
    let mut wrong = None;
    let mut touch = first;
    for (lane, cells) in (0..).zip(cells.chunks_exact_mut(count)) {
        touch.who = first.who.lane(lane);
        for cell in cells {
            let unwritten = cell.initial() != 15;
            let conflict = cell.touch(15, &touch);
            if unwritten || conflict.is_some() {
                wrong = wrong.or(Some((lane, conflict, unwritten)));
            }
        }
    }
    wrong
}

fn store(
    warp: &Warp,
    i: &Instruction,
    words: &mut [[u8; 4]],
    cells: &mut [Cell],
    first: Touch,
) -> Wrong {
    let (slots, count) = slots(i, words.len() / 32);
    let mut wrong = None;
    let mut touch = first;
    let lanes = words.chunks_exact_mut(count).zip(cells.chunks_exact_mut(count));
    for (lane, (words, cells)) in (0..).zip(lanes) {
        touch.who = first.who.lane(lane);
        for (index, (word, cell)) in words.iter_mut().zip(cells).enumerate() {
            let value = warp.rows[slots[index]][lane as usize].to_le_bytes();
            touch.same = *word == value;
            *word = value;
            if let Some(conflict) = cell.touch(15, &touch) {
                wrong = wrong.or(Some((lane, Some(conflict), false)));
            }
        }
    }
    wrong
}
