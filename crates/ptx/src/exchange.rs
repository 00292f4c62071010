//! What the lanes of a warp give each other.

use super::atomic;
use super::finding::Fault;
use super::instruction::{Instruction, Shuffle, Vote};
use super::launch::Run;
use super::value::{Value, lanes_of};
use super::warp::{Warp, first_of};

impl Run<'_, '_> {
    /// Whether all lanes that a mask names have come; if they never will, that is noted.
    pub(super) fn is_complete(
        &mut self,
        warp: &Warp,
        i: &Instruction,
        mask: u32,
        forced: bool,
    ) -> bool {
        let Some(slot) = i.list.last() else { return true };
        let named = u32::read(&warp.rows, *slot);
        let mut wanted = 0;
        for lane in lanes_of(mask) {
            wanted |= named[lane];
            if named[lane] >> lane & 1 == 0 {
                let thread = warp.first + lane as u32;
                let mask = named[lane];
                self.fault(Fault::OutsideOwnMask, i.place, thread, || format!("mask {mask:08x}"));
            }
        }
        let absent = wanted & warp.alive & !mask;
        if absent != 0 && !forced {
            return false;
        }
        // Lanes that have ended never come either; those that a warp does not have are not asked.
        if wanted & warp.all & !mask != 0 {
            self.fault(Fault::MaskNamesAbsent, i.place, first_of(warp, mask), || {
                format!("mask {wanted:08x}, there are {mask:08x}")
            });
        }
        true
    }

    pub(super) fn shuffle(&mut self, warp: &mut Warp, i: &Instruction, mask: u32, how: Shuffle) {
        let [a, b, c] = [i.a, i.b, i.c].map(|slot| u32::read(&warp.rows, slot));
        let (mut out, mut inside) = ([0; 32], [false; 32]);
        for at in lanes_of(mask) {
            let (lane, by, segment) = (at as u32, b[at] & 31, c[at] >> 8 & 31);
            let clamp = c[at] & 31;
            let (first, last) = (lane & segment, lane & segment | clamp & !segment);
            let (source, ok) = match how {
                // The clamp of this one is the first lane, not the last.
                Shuffle::Up => (lane.wrapping_sub(by), lane >= by && lane - by >= last),
                Shuffle::Down => (lane + by, lane + by <= last),
                Shuffle::Butterfly => (lane ^ by, lane ^ by <= last),
                Shuffle::Index => {
                    let source = first | by & !segment;
                    (source, source <= last)
                }
            };
            let source = if ok { source } else { lane };
            if mask >> source & 1 == 0 {
                let thread = warp.first + lane;
                self.fault(Fault::ReadsAbsentLane, i.place, thread, || format!("lane {source}"));
            }
            (out[at], inside[at]) = (a[source as usize], ok);
        }
        u32::write(&mut warp.rows, i.d, out, mask);
        if let [predicate, _] = i.list[..] {
            bool::write(&mut warp.rows, predicate, inside, mask);
        }
    }

    pub(super) fn vote(warp: &mut Warp, i: &Instruction, mask: u32, vote: Vote) {
        let holds = warp.rows[i.a as usize][0] & mask;
        let rows = &mut warp.rows;
        match vote {
            Vote::Ballot => u32::write(rows, i.d, [holds; 32], mask),
            Vote::Any => bool::write(rows, i.d, [holds != 0; 32], mask),
            Vote::All => bool::write(rows, i.d, [holds == mask; 32], mask),
            Vote::Uniform => bool::write(rows, i.d, [holds == mask || holds == 0; 32], mask),
            Vote::Match => {
                let values = u32::read(rows, i.a);
                let mut out = [0; 32];
                for lane in lanes_of(mask) {
                    let same = lanes_of(mask).filter(|other| values[*other] == values[lane]);
                    out[lane] = same.fold(0, |bits, other| bits | 1 << other);
                }
                u32::write(rows, i.d, out, mask);
            }
            Vote::Reduce(operation, kind) => {
                let values = u32::read(rows, i.a);
                let mut all = lanes_of(mask).map(|lane| u64::from(values[lane]));
                let first = all.next().unwrap_or(0);
                let value =
                    all.fold(first, |old, b| atomic::apply(operation, kind, old, b, 0)) as u32;
                u32::write(rows, i.d, [value; 32], mask);
            }
        }
    }
}
