//! Accesses to memory: where they lie, whether they may, and what they move.

use super::atomic;
use super::convert::{LOCAL_WINDOW, SHARED_WINDOW};
use super::finding::Fault;
use super::instruction::{Access, Atomic, Instruction, NONE, Space};
use super::launch::Run;
use super::shadow::{Conflict, Touch};
use super::value::{ALL, Type, Value, lanes_of};
use super::view::Way;
use super::warp::Warp;

/// Generic addresses of shared and local memory reach so far.
const WINDOW: u64 = 1 << 24;

/// Where an access lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// A page, and a byte of it.
    Device(usize, usize),
    Shared(usize),
    Local(usize),
}

/// One lane's access.
#[derive(Clone, Copy)]
pub(super) struct One {
    pub(super) lane: u32,
    pub(super) address: u64,
    pub(super) bytes: usize,
}

impl Run<'_, '_> {
    /// The addresses of all lanes, and the space that they lie in.
    pub(super) fn addresses(
        warp: &Warp,
        i: &Instruction,
        mask: u32,
        access: &Access,
    ) -> ([u64; 32], Space) {
        let mut addresses = u64::read(&warp.rows, i.a);
        for address in &mut addresses {
            *address = address.wrapping_add_signed(i.offset);
        }
        if access.space != Space::Generic {
            return (addresses, access.space);
        }
        // Compilers keep the lanes of one instruction in one space nearly always; where they do not,
        // those of shared memory are handled one by one below.
        let first = lanes_of(mask).next().map_or(0, |lane| addresses[lane]);
        let (space, window) = match first {
            SHARED_WINDOW..=0x5_00FF_FFFF => (Space::Shared, SHARED_WINDOW),
            LOCAL_WINDOW..=0x4_00FF_FFFF => (Space::Local, LOCAL_WINDOW),
            _ => return (addresses, Space::Global),
        };
        for address in &mut addresses {
            let inside = address.wrapping_sub(window);
            // What is not in the window is out of bounds in any space.
            *address = if inside < WINDOW { inside } else { !15 };
        }
        (addresses, space)
    }

    /// Finds one lane's bytes, and checks that it may have them.
    #[inline]
    pub(super) fn place(
        &mut self,
        warp: &Warp,
        i: &Instruction,
        space: Space,
        one: One,
    ) -> Option<Where> {
        let One { lane, address, bytes } = one;
        let thread = warp.first + lane;
        if address % bytes as u64 != 0 {
            self.fault(Fault::Misaligned, i.place, thread, || {
                format!("{bytes} bytes at {address:#x}")
            });
            return None;
        }
        let inside = |size: usize| {
            let at = usize::try_from(address).ok()?;
            at.checked_add(bytes).is_some_and(|end| end <= size).then_some(at)
        };
        match space {
            Space::Shared => {
                let size = self.shared.len();
                let at = inside(size);
                if at.is_none() {
                    self.fault(Fault::SharedOutOfBounds, i.place, thread, || {
                        format!("{bytes} bytes at {address:#x} of {size}")
                    });
                }
                at.map(Where::Shared)
            }
            Space::Local => {
                let size = self.kernel.local as usize;
                let at = inside(size);
                if at.is_none() {
                    self.fault(Fault::LocalOutOfBounds, i.place, thread, || {
                        format!("{bytes} bytes at {address:#x} of {size}")
                    });
                }
                at.map(|at| Where::Local(lane as usize * size + at))
            }
            Space::Global | Space::Generic => {
                let found = self.view.find(address, bytes as u64);
                if found.is_none() {
                    self.fault(Fault::OutOfBounds, i.place, thread, || {
                        format!("{bytes} bytes at {address:#x}")
                    });
                }
                found.map(|(page, at)| Where::Device(page, at))
            }
        }
    }

    /// Notes an access in the shadow of memory, and what is wrong with it.
    #[inline]
    pub(super) fn note(&mut self, i: &Instruction, place: Where, one: One, touch: &Touch) {
        self.note_all(i, place, one, [*touch]);
    }

    /// The same for what is done at once: an atomic operation reads and writes.
    #[inline]
    fn note_all<const N: usize>(
        &mut self,
        i: &Instruction,
        place: Where,
        one: One,
        touches: [Touch; N],
    ) {
        let bytes = one.bytes;
        let (shadow, at) = match place {
            Where::Device(page, at) => (&mut self.view.page(page).shadow, at),
            Where::Shared(at) => (&mut self.shadow, at),
            Where::Local(_) => return,
        };
        let mask = if bytes >= 4 { 15 } else { ((1 << bytes) - 1) << (at % 4) };
        let (mut conflict, mut unwritten) = (None, false);
        for cell in shadow.cells(at / 4, (at + bytes).div_ceil(4)) {
            for touch in &touches {
                unwritten |= !touch.writes && cell.initial() & mask != mask;
                if let Some(found) = cell.touch(mask, touch) {
                    conflict = Some(found);
                }
            }
        }
        if unwritten || conflict.is_some() {
            self.wrong(i, (place, one), &touches[0], conflict, unwritten);
        }
    }

    #[cold]
    pub(super) fn wrong(
        &mut self,
        i: &Instruction,
        (place, one): (Where, One),
        touch: &Touch,
        conflict: Option<Conflict>,
        unwritten: bool,
    ) {
        let thread = touch.who.thread();
        let shared = matches!(place, Where::Shared(_));
        let One { address, bytes, .. } = one;
        if unwritten {
            let fault = if shared { Fault::SharedUnwritten } else { Fault::Unwritten };
            self.fault(fault, i.place, thread, || format!("{bytes} bytes at {address:#x}"));
        }
        if let Some(conflict) = conflict
            && !self.order.holds(&conflict, touch.who, touch.when)
        {
            let race = conflict.race;
            let fault = if shared { Fault::SharedRace(race) } else { Fault::Race(race) };
            let (block, other) = (conflict.who.block(), conflict.who.thread());
            self.fault(fault, i.place, thread, || {
                format!("{bytes} bytes at {address:#x}, against block {block}, thread {other}")
            });
        }
    }

    pub(super) fn bytes(&mut self, warp: &mut Warp, place: Where, len: usize) -> [u8; 16] {
        let source = match place {
            Where::Device(page, at) => &self.view.page(page).bytes[at..at + len],
            Where::Shared(at) => &self.shared[at..at + len],
            Where::Local(at) => &warp.local[at..at + len],
        };
        let mut bytes = [0; 16];
        bytes[..len].copy_from_slice(source);
        bytes
    }

    pub(super) fn put(&mut self, warp: &mut Warp, place: Where, bytes: &[u8]) {
        self.memory(warp, place)[..bytes.len()].copy_from_slice(bytes);
    }

    /// Memory from a place on, to be written.
    #[inline]
    fn memory<'a>(&'a mut self, warp: &'a mut Warp, place: Where) -> &'a mut [u8] {
        match place {
            Where::Device(page, at) => {
                let page = self.view.page(page);
                page.dirty = true;
                &mut page.bytes[at..]
            }
            Where::Shared(at) => &mut self.shared[at..],
            Where::Local(at) => &mut warp.local[at..],
        }
    }

    /// Counts a request of a warp.
    pub(super) fn count(
        &mut self,
        space: Space,
        way: Way,
        mask: u32,
        addresses: &[u64; 32],
        bytes: usize,
    ) {
        let mut own = [0; 32];
        let asked = if mask == ALL {
            &addresses[..]
        } else {
            let mut count = 0;
            for lane in lanes_of(mask) {
                own[count] = addresses[lane];
                count += 1;
            }
            &own[..count]
        };
        match space {
            Space::Shared => self.counts.banks(asked, bytes as u64),
            Space::Local => {}
            _ => {
                let sectors = self.counts.device(way != Way::Read, asked, bytes as u64);
                if let Some((page, _)) = self.view.find(asked[0], bytes as u64) {
                    self.view.count(page, way, sectors);
                }
            }
        }
    }

    pub(super) fn load(&mut self, warp: &mut Warp, i: &Instruction, mask: u32, access: &Access) {
        let size = access.bytes as usize;
        let bytes = size * i.list.len();
        let (addresses, space) = Self::addresses(warp, i, mask, access);
        if self.row(warp, i, (mask, &addresses), access, space, false) {
            return;
        }
        self.count(space, Way::Read, mask, &addresses, bytes);
        let when = self.when(warp);
        if self.broadcast(warp, i, (mask, &addresses), access, space) {
            return;
        }
        for lane in lanes_of(mask) {
            let one = One { lane: lane as u32, address: addresses[lane], bytes };
            let Some(place) = self.place(warp, i, space, one) else { return };
            let who = self.who(warp.first + lane as u32);
            let touch = Touch { meets: access.meets, ..Touch::read(who, when) };
            self.note(i, place, one, &touch);
            if access.acquires {
                self.order.acquire(addresses[lane], who, when);
            }
            let found = self.bytes(warp, place, bytes);
            deliver(warp, i, lane, access, &found);
        }
    }

    /// Loads what all lanes take from one place; `false` if they do not, and nothing has happened.
    fn broadcast(
        &mut self,
        warp: &mut Warp,
        i: &Instruction,
        (mask, addresses): (u32, &[u64; 32]),
        access: &Access,
        space: Space,
    ) -> bool {
        let (first, last) = (mask.trailing_zeros(), mask.ilog2());
        let address = addresses[first as usize];
        let together = lanes_of(mask).all(|lane| addresses[lane] == address);
        // Local memory is each lane's own.
        if !together || first == last || access.acquires || space == Space::Local {
            return false;
        }
        let bytes = access.bytes as usize * i.list.len();
        let one = One { lane: first, address, bytes };
        let Some(place) = self.place(warp, i, space, one) else { return true };
        let when = self.when(warp);
        // Of readers between two of a warp a cell would keep no more than that there were several.
        for lane in [first, last] {
            let who = self.who(warp.first + lane);
            let touch = Touch { meets: access.meets, ..Touch::read(who, when) };
            self.note(i, place, One { lane, ..one }, &touch);
        }
        let found = self.bytes(warp, place, bytes);
        for lane in lanes_of(mask) {
            deliver(warp, i, lane, access, &found);
        }
        true
    }

    pub(super) fn parameter(
        &mut self,
        warp: &mut Warp,
        i: &Instruction,
        mask: u32,
        access: &Access,
    ) {
        let len = access.bytes as usize * i.list.len();
        let at = usize::try_from(i.offset).unwrap_or(usize::MAX);
        let found = at.checked_add(len).and_then(|end| self.arguments.get(at..end));
        let Some(found) = found else {
            return self.fault(Fault::WrongArguments, i.place, warp.first, || format!("byte {at}"));
        };
        let mut bytes = [0; 16];
        bytes[..len].copy_from_slice(found);
        for lane in lanes_of(mask) {
            deliver(warp, i, lane, access, &bytes);
        }
    }

    pub(super) fn store(&mut self, warp: &mut Warp, i: &Instruction, mask: u32, access: &Access) {
        let size = access.bytes as usize;
        let bytes = size * i.list.len();
        let (addresses, space) = Self::addresses(warp, i, mask, access);
        if space == Space::Global && !access.meets {
            // What is written behind a fence is not let go by it.
            warp.fenced &= !mask;
        }
        if self.row(warp, i, (mask, &addresses), access, space, true) {
            return;
        }
        self.count(space, Way::Write, mask, &addresses, bytes);
        let when = self.when(warp);
        for lane in lanes_of(mask) {
            let one = One { lane: lane as u32, address: addresses[lane], bytes };
            let Some(place) = self.place(warp, i, space, one) else { return };
            let mut values = [0; 16];
            for (index, slot) in i.list.iter().enumerate() {
                let low = warp.rows[*slot as usize][lane].to_le_bytes();
                let at = index * size;
                if size == 8 {
                    values[at..at + 4].copy_from_slice(&low);
                    let high = warp.rows[*slot as usize + 1][lane].to_le_bytes();
                    values[at + 4..at + 8].copy_from_slice(&high);
                } else {
                    values[at..at + size].copy_from_slice(&low[..size]);
                }
            }
            let same = self.bytes(warp, place, bytes)[..bytes] == values[..bytes];
            let who = self.who(warp.first + lane as u32);
            let touch = Touch { meets: access.meets, same, ..Touch::write(who, when) };
            self.note(i, place, one, &touch);
            if access.releases {
                self.order.release(addresses[lane], who, when);
            }
            self.put(warp, place, &values[..bytes]);
        }
    }

    pub(super) fn atomic(
        &mut self,
        warp: &mut Warp,
        i: &Instruction,
        mask: u32,
        access: &Access,
        operation: Atomic,
        kind: Type,
    ) {
        let bytes = access.bytes as usize;
        let (addresses, space) = Self::addresses(warp, i, mask, access);
        self.count(space, Way::Atomic, mask, &addresses, bytes);
        let (when, keep) = (self.when(warp), u64::MAX >> (64 - 8 * bytes));
        let value = |warp: &Warp, slot: u32, lane: usize| {
            if slot == NONE {
                return 0;
            }
            let low = u64::from(warp.rows[slot as usize][lane]);
            if bytes == 8 { low | u64::from(warp.rows[slot as usize + 1][lane]) << 32 } else { low }
        };
        for lane in lanes_of(mask) {
            let one = One { lane: lane as u32, address: addresses[lane], bytes };
            let Some(place) = self.place(warp, i, space, one) else { return };
            let who = self.who(warp.first + lane as u32);
            let read = Touch { meets: true, ..Touch::read(who, when) };
            self.note_all(i, place, one, [read, Touch { writes: true, ..read }]);
            let (b, c) = (value(warp, i.b, lane) & keep, value(warp, i.c, lane) & keep);
            if let Where::Device(page, at) = place {
                let on_one = self.view.count_atomic(page, at);
                let atomics = &mut self.counts.atomics;
                atomics.operations += 1;
                atomics.on_one = atomics.on_one.max(on_one);
            }
            let memory = &mut self.memory(warp, place)[..bytes];
            let mut old = [0; 8];
            old[..bytes].copy_from_slice(memory);
            let old = u64::from_le_bytes(old);
            let new = atomic::apply(operation, kind, old, b, c) & keep;
            memory.copy_from_slice(&new.to_le_bytes()[..bytes]);
            // An atomic operation takes up what was let go, and lets go what a fence has.
            self.order.acquire(addresses[lane], who, when);
            if access.releases || warp.fenced >> lane & 1 == 1 {
                self.order.release(addresses[lane], who, when);
            }
            warp.rows[i.d as usize][lane] = old as u32;
            if bytes == 8 {
                warp.rows[i.d as usize + 1][lane] = (old >> 32) as u32;
            }
        }
    }
}

/// Puts what was loaded into the registers of a lane.
#[inline]
fn deliver(warp: &mut Warp, i: &Instruction, lane: usize, access: &Access, bytes: &[u8; 16]) {
    let size = access.bytes as usize;
    for (index, slot) in i.list.iter().enumerate() {
        let at = index * size;
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let low = match (size, access.signed) {
            (1, false) => u32::from(bytes[at]),
            (1, true) => i32::from(bytes[at].cast_signed()).cast_unsigned(),
            (2, false) => u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]])),
            (2, true) => i32::from(i16::from_le_bytes([bytes[at], bytes[at + 1]])).cast_unsigned(),
            _ => word(at),
        };
        warp.rows[*slot as usize][lane] = low;
        if size == 8 {
            warp.rows[*slot as usize + 1][lane] = word(at + 4);
        } else if i.d == 1 {
            // A wider register takes zeros, or the sign.
            let fill = if access.signed && low.cast_signed() < 0 { u32::MAX } else { 0 };
            warp.rows[*slot as usize + 1][lane] = fill;
        }
    }
}
