//! Device memory while a kernel runs: bytes of the pages that it touches, and what is known of them.

use std::cell::RefCell;

use super::counts;
use super::sectors::{SECTOR, Shadow};
use super::shadow::Cell;

/// Device memory as a kernel finds it: allocations, by addresses.
pub trait DeviceMemory {
    /// Where the live allocation begins that has the byte at `address`, and its length in bytes.
    fn extent(&self, address: u64) -> Option<(u64, u64)>;

    /// Reads what a live allocation has at `address`, and returns the stretches of `out` that nobody wrote,
    /// from their first byte to behind their last.
    fn read(&self, address: u64, out: &mut [u8]) -> Vec<(usize, usize)>;

    /// Lets a live allocation have these bytes at `address`.
    fn write(&mut self, address: u64, bytes: Vec<u8>);
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Read,
    Write,
    Atomic,
}

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;

/// A page of an allocation.
pub(super) struct Page {
    pub(super) bytes: Box<[u8]>,
    pub(super) shadow: Shadow,
    /// Whether the kernel wrote to it.
    pub(super) dirty: bool,
    /// Which area it belongs to.
    area: usize,
    /// Atomic operations on each of its words, where there were any.
    atomics: Vec<u32>,
}

/// An allocation that was touched.
struct Area {
    start: u64,
    len: u64,
    traffic: counts::Area,
    /// One more than each page's place, and zero for those that nobody touched.
    pages: Vec<u32>,
}

/// Memory, of which what a kernel writes is kept apart until it has ended.
pub struct View<'m> {
    memory: &'m mut dyn DeviceMemory,
    areas: Vec<Area>,
    pages: Vec<Page>,
    /// The page that was found last: its first address, the bytes of it that belong to the allocation,
    /// and its place.
    last: (u64, u64, usize),
}

impl<'m> View<'m> {
    /// Of this memory, as it is.
    pub fn new(memory: &'m mut dyn DeviceMemory) -> Self {
        Self { memory, areas: Vec::new(), pages: Vec::new(), last: (0, 0, 0) }
    }

    /// The page that holds `len` bytes at an aligned address, and where they lie in it; `None` unless a
    /// live allocation has all of them, in one page.
    #[inline]
    pub(super) fn find(&mut self, address: u64, len: u64) -> Option<(usize, usize)> {
        let (first, room, page) = self.last;
        let at = address.wrapping_sub(first);
        if at < room && len <= room - at {
            return Some((page, at as usize));
        }
        self.look_up(address, len)
    }

    pub(super) fn page(&mut self, page: usize) -> &mut Page {
        &mut self.pages[page]
    }

    /// Counts the sectors of a request that begins in this page.
    #[inline]
    pub(super) fn count(&mut self, page: usize, way: Way, sectors: u64) {
        let traffic = &mut self.areas[self.pages[page].area].traffic;
        *match way {
            Way::Read => &mut traffic.read,
            Way::Write => &mut traffic.written,
            Way::Atomic => &mut traffic.atomic,
        } += sectors;
    }

    /// Counts an atomic operation on a word of a page, and gives how many it has had.
    pub(super) fn count_atomic(&mut self, page: usize, at: usize) -> u64 {
        let atomics = &mut self.pages[page].atomics;
        if atomics.is_empty() {
            atomics.resize(PAGE / 4, 0);
        }
        atomics[at / 4] += 1;
        u64::from(atomics[at / 4])
    }

    /// How many pages were touched.
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// The traffic with each allocation.
    pub(super) fn areas(&self) -> Vec<counts::Area> {
        self.areas.iter().map(|area| self.traffic(area)).collect()
    }

    fn traffic(&self, area: &Area) -> counts::Area {
        let (mut touched, mut first, mut end) = (0, None, 0);
        for (number, place) in area.pages.iter().enumerate().filter(|(_, place)| **place != 0) {
            let Some(found) = self.pages[*place as usize - 1].shadow.touched() else { continue };
            let at = number * PAGE;
            touched += found.count;
            first.get_or_insert(at + found.first * SECTOR);
            end = at + found.end * SECTOR;
        }
        let span = (end - first.unwrap_or(end)) as u64;
        counts::Area { touched, span, ..area.traffic }
    }

    fn look_up(&mut self, address: u64, len: u64) -> Option<(usize, usize)> {
        let found = self
            .areas
            .iter()
            .position(|area| (area.start..area.start + area.len).contains(&address));
        let index = if let Some(index) = found {
            index
        } else {
            let (start, len) = self.memory.extent(address)?;
            let pages = vec![0; (len as usize).div_ceil(PAGE)];
            let traffic = counts::Area { start, len, ..counts::Area::default() };
            self.areas.push(Area { start, len, traffic, pages });
            self.areas.len() - 1
        };
        let area = &mut self.areas[index];
        let at = address - area.start;
        if len > area.len - at {
            return None;
        }
        let (number, inside) = (at as usize / PAGE, at as usize % PAGE);
        let first = area.start + (number * PAGE) as u64;
        let room = (area.start + area.len - first).min(PAGE as u64);
        let page = match area.pages[number] {
            0 => {
                self.pages.push(Page { area: index, ..loaded(self.memory, first, room) });
                area.pages[number] = self.pages.len() as u32;
                self.pages.len() - 1
            }
            there => there as usize - 1,
        };
        self.last = (first, room, page);
        // Bytes of several pages are no access of one lane.
        (inside as u64 + len <= room).then_some((page, inside))
    }

    /// Lets memory hold what the kernel wrote.
    pub fn commit(self) {
        for (at, bytes) in self.written() {
            self.memory.write(at, bytes);
        }
    }

    /// What the kernel wrote, and what stands beside it, by addresses; memory holds what it held.
    pub fn written(&self) -> Vec<(u64, Vec<u8>)> {
        let mut written: Vec<(u64, Vec<u8>)> = Vec::new();
        for area in &self.areas {
            for (number, place) in area.pages.iter().enumerate().filter(|(_, place)| **place != 0) {
                let page = &self.pages[*place as usize - 1];
                if !page.dirty {
                    continue;
                }
                let first = area.start + (number * PAGE) as u64;
                let room = (area.start + area.len - first).min(PAGE as u64) as usize;
                for (from, to) in page.written(room) {
                    let (at, part) = (first + from as u64, &page.bytes[from..to]);
                    match written.last_mut() {
                        Some((start, bytes)) if *start + bytes.len() as u64 == at => {
                            bytes.extend_from_slice(part);
                        }
                        _ => written.push((at, part.to_vec())),
                    }
                }
            }
        }
        written
    }
}

thread_local! {
    /// Pages of launches before: fresh memory of the host costs more than what a kernel does with it.
    static SPARE: RefCell<Vec<Page>> = const { RefCell::new(Vec::new()) };
}

/// The most pages that are kept.
const SPARES: usize = 4096;

impl Drop for View<'_> {
    fn drop(&mut self) {
        // A thread that ends has no spare pages any more.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            let room = SPARES.saturating_sub(spare.len());
            spare.extend(self.pages.drain(..).take(room));
        });
    }
}

/// A page of what memory holds.
fn loaded(memory: &dyn DeviceMemory, first: u64, room: u64) -> Page {
    let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
    let mut page = spare.unwrap_or_else(|| Page {
        bytes: vec![0; PAGE].into_boxed_slice(),
        shadow: Shadow::default(),
        dirty: false,
        area: 0,
        atomics: Vec::new(),
    });
    page.dirty = false;
    page.atomics.clear();
    page.shadow.reset(PAGE, Cell::holding(15));
    for (from, to) in memory.read(first, &mut page.bytes[..room as usize]) {
        page.shadow.forget(from..to);
    }
    page
}

impl Page {
    /// The stretches of its first `room` bytes that anybody wrote, now or before.
    fn written(&self, room: usize) -> Vec<(usize, usize)> {
        let mut stretches: Vec<(usize, usize)> = Vec::new();
        self.shadow.initials(|initial, first, end| {
            let mut written = |from: usize, to: usize| {
                let to = to.min(room);
                match stretches.last_mut() {
                    _ if from >= to => {}
                    Some((_, end)) if *end == from => *end = to,
                    _ => stretches.push((from, to)),
                }
            };
            match initial {
                15 => written(4 * first, 4 * end),
                0 => {}
                _ => {
                    let parts = (4 * first..4 * end).filter(|at| initial >> (at % 4) & 1 == 1);
                    parts.for_each(|at| written(at, at + 1));
                }
            }
        });
        stretches
    }
}
