//! Matrices that a warp loads together, and copies from device to shared memory that go on by themselves.

use super::access::One;
use super::convert::SHARED_WINDOW;
use super::finding::Fault;
use super::instruction::{Access, Instruction, NONE, Space};
use super::launch::Run;
use super::matrix;
use super::shadow::Touch;
use super::value::{ALL, Value, lanes_of};
use super::view::Way;
use super::warp::{Copy, Warp};

impl Run<'_, '_> {
    /// `ldmatrix`; a row outside shared memory is out of bounds there.
    pub(super) fn load_matrix(
        &mut self,
        warp: &mut Warp,
        i: &Instruction,
        (generic, transposed): (bool, bool),
    ) {
        let access = Access::plain(if generic { Space::Generic } else { Space::Shared }, 16);
        let (addresses, space) = Self::addresses(warp, i, ALL, &access);
        if space != Space::Shared {
            let of = || format!("16 bytes at {:#x}", addresses[0]);
            return self.fault(Fault::SharedOutOfBounds, i.place, warp.first, of);
        }
        let when = self.when(warp);
        for (index, slot) in i.list.iter().enumerate() {
            let mut lines = [[0; 16]; 8];
            self.counts.banks(&addresses[8 * index..8 * index + 8], 16);
            for (row, line) in lines.iter_mut().enumerate() {
                let lane = (8 * index + row) as u32;
                let one = One { lane, address: addresses[lane as usize], bytes: 16 };
                let Some(place) = self.place(warp, i, space, one) else { return };
                let who = self.who(warp.first + lane);
                self.note(i, place, one, &Touch::read(who, when));
                *line = self.bytes(warp, place, 16);
            }
            u32::write(&mut warp.rows, *slot, matrix::fragment(&lines, transposed), ALL);
        }
    }

    /// Reads what a copy takes along; it arrives when somebody waits for it.
    pub(super) fn begin_copy(
        &mut self,
        warp: &mut Warp,
        i: &Instruction,
        pc: u32,
        mask: u32,
        bytes: u32,
    ) {
        let access = Access::plain(Space::Global, bytes);
        let (addresses, space) = Self::addresses(warp, i, mask, &access);
        self.count(space, Way::Read, mask, &addresses, bytes as usize);
        let (targets, shift) = (u64::read(&warp.rows, i.d), u64::read(&warp.rows, i.list[0])[0]);
        let taken = if i.c == NONE { [bytes; 32] } else { u32::read(&warp.rows, i.c) };
        let when = self.when(warp);
        for lane in lanes_of(mask) {
            let mut copied = [0; 16];
            let take = taken[lane].min(bytes) as usize;
            if take > 0 {
                let one =
                    One { lane: lane as u32, address: addresses[lane], bytes: bytes as usize };
                let Some(place) = self.place(warp, i, space, one) else { return };
                let who = self.who(warp.first + lane as u32);
                self.note(i, place, One { bytes: take, ..one }, &Touch::read(who, when));
                copied[..take].copy_from_slice(&self.bytes(warp, place, take)[..take]);
            }
            let (to, len) = (targets[lane].wrapping_add(shift), bytes as usize);
            warp.copies.push(Copy { lane: lane as u32, to, bytes: copied, len, group: 0, pc });
        }
    }

    /// Lets copies arrive: of all groups but the last so many; of all where the offset says so.
    pub(super) fn await_copies(
        &mut self,
        warp: &mut Warp,
        i: &Instruction,
        mask: u32,
        groups: u32,
    ) {
        let all = i.offset == 1;
        let newest = warp.committed.saturating_sub(groups);
        let mine = |copy: &Copy| {
            mask >> copy.lane & 1 == 1 && (all || copy.group != 0 && copy.group <= newest)
        };
        let (done, left) = std::mem::take(&mut warp.copies).into_iter().partition(mine);
        warp.copies = left;
        let when = self.when(warp);
        let done: Vec<Copy> = done;
        for copy in done {
            let bytes = copy.len;
            let place = self.instruction(copy.pc);
            let address = if copy.to >= SHARED_WINDOW { copy.to - SHARED_WINDOW } else { copy.to };
            let one = One { lane: copy.lane, address, bytes };
            let Some(at) = self.place(warp, place, Space::Shared, one) else { return };
            let who = self.who(warp.first + copy.lane);
            self.note(place, at, one, &Touch::write(who, when));
            self.put(warp, at, &copy.bytes[..bytes]);
        }
    }
}
