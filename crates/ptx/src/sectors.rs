//! The shadow of a stretch of memory, sector by sector.
//!
//! Kernels nearly always touch whole sectors, the lanes of a warp side by side: one cell then stands for
//! the eight of a sector. Where lanes do something else, the cells of that sector are kept apart.

use std::ops::Range;

use super::shadow::{Cell, Touch};

/// Bytes of a sector, the least that device memory gives at once.
pub(super) const SECTOR: usize = 32;

/// Cells of a sector.
const CELLS: usize = SECTOR / 4;

/// Which lane touched a cell last, where lanes lie side by side with so many bytes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pattern {
    /// The logarithm of a lane's bytes: 0 to 4.
    log: u8,
}

impl Pattern {
    /// Lanes of 1, 2, 4, 8 or 16 bytes.
    pub(super) fn of(bytes: usize) -> Option<Self> {
        let log = bytes.trailing_zeros() as u8;
        (bytes.is_power_of_two() && log <= 4).then_some(Self { log })
    }

    /// How many lanes lie between the last one of the first cell and that of the cell `k`.
    fn lane(self, k: u32) -> u32 {
        if self.log >= 2 { k >> (self.log - 2) } else { k << (2 - self.log) }
    }

    /// The lanes that share a cell, and the bytes of each as a mask.
    fn parts(self) -> impl Iterator<Item = (u32, u32)> {
        let (count, mask) = match self.log {
            0 => (4, 0b1),
            1 => (2, 0b11),
            _ => (1, 0b1111),
        };
        (0..count).map(move |lane| (lane, mask << (lane * (4 / count))))
    }
}

/// A sector whose cells are alike, but for the lanes that touched them, or are kept apart.
#[derive(Debug, Clone, Copy, Default)]
struct Sector {
    /// Its first cell.
    cell: Cell,
    reads: Pattern,
    writes: Pattern,
    apart: bool,
}

/// What is known of a stretch of memory.
#[derive(Debug, Default)]
pub(super) struct Shadow {
    sectors: Vec<Sector>,
    /// The cells of sectors that are kept apart; the others' mean nothing.
    cells: Vec<Cell>,
}

impl Shadow {
    /// Begins anew with so many bytes, each cell like this one.
    pub(super) fn reset(&mut self, bytes: usize, cell: Cell) {
        self.sectors.clear();
        self.sectors.resize(bytes.div_ceil(SECTOR), Sector { cell, ..Sector::default() });
    }

    /// Takes these bytes for such as nobody wrote.
    pub(super) fn forget(&mut self, bytes: Range<usize>) {
        let Range { start, end } = bytes;
        let whole = start.div_ceil(SECTOR)..end / SECTOR;
        if whole.start >= whole.end {
            return self.forget_each(bytes);
        }
        self.sectors[whole.clone()].fill(Sector::default());
        self.forget_each(start..SECTOR * whole.start);
        self.forget_each(SECTOR * whole.end..end);
    }

    fn forget_each(&mut self, bytes: Range<usize>) {
        for at in bytes {
            let cell = &mut self.cells(at / 4, at / 4 + 1)[0];
            *cell = Cell::holding(cell.initial() & !(1 << (at % 4)));
        }
    }

    /// Notes an access of lanes side by side that covers a whole sector, by the first of them; `false` if
    /// its cells have to be looked at one by one, and nothing has happened.
    #[inline]
    pub(super) fn touch(&mut self, sector: usize, pattern: Pattern, touch: &Touch) -> bool {
        let sector = &mut self.sectors[sector];
        if sector.apart || !sector.is_alike_for(pattern, touch) {
            return false;
        }
        let mut cell = sector.cell;
        for (lane, bytes) in pattern.parts() {
            if !touch.writes && cell.initial() & bytes != bytes {
                return false;
            }
            if cell.touch(bytes, &Touch { who: touch.who.lane(lane), ..*touch }).is_some() {
                return false;
            }
        }
        // Both readers of a cell have to be where the pattern says.
        if !touch.writes && sector.reads != pattern && cell.beside().is_some() {
            return false;
        }
        sector.cell = cell;
        *(if touch.writes { &mut sector.writes } else { &mut sector.reads }) = pattern;
        true
    }

    /// Cells, each kept apart from now on.
    #[inline]
    pub(super) fn cells(&mut self, first: usize, end: usize) -> &mut [Cell] {
        // Nearly always those of one sector, which is apart already.
        if first / CELLS + 1 == end.div_ceil(CELLS) && self.sectors[first / CELLS].apart {
            return &mut self.cells[first..end];
        }
        self.spread(first, end)
    }

    fn spread(&mut self, first: usize, end: usize) -> &mut [Cell] {
        if self.cells.len() < CELLS * self.sectors.len() {
            self.cells.resize(CELLS * self.sectors.len(), Cell::default());
        }
        let sectors = first / CELLS..end.div_ceil(CELLS);
        let cells = self.cells[CELLS * sectors.start..].as_chunks_mut::<CELLS>().0;
        for (sector, cells) in self.sectors[sectors].iter_mut().zip(cells) {
            if !sector.apart {
                sector.apart = true;
                *cells = sector.spread();
            }
        }
        &mut self.cells[first..end]
    }

    /// Calls for each stretch of cells that are alike in which of their bytes were written: the mask, the
    /// first cell and the one behind the last.
    pub(super) fn initials(&self, mut tell: impl FnMut(u32, usize, usize)) {
        for (index, sector) in self.sectors.iter().enumerate() {
            let first = CELLS * index;
            if sector.apart {
                for (at, cell) in self.cells[first..first + CELLS].iter().enumerate() {
                    tell(cell.initial(), first + at, first + at + 1);
                }
            } else {
                tell(sector.cell.initial(), first, first + CELLS);
            }
        }
    }

    /// The sectors of which anything was touched since the last [`Self::reset`]; `None` if nothing was.
    pub(super) fn touched(&self) -> Option<Touched> {
        let mut all: Option<Touched> = None;
        for (index, sector) in self.sectors.iter().enumerate() {
            let first = CELLS * index;
            let touched = if sector.apart {
                self.cells[first..first + CELLS].iter().any(Cell::is_touched)
            } else {
                sector.cell.is_touched()
            };
            if touched {
                let found = all.get_or_insert(Touched { count: 0, first: index, end: 0 });
                (found.count, found.end) = (found.count + 1, index + 1);
            }
        }
        all
    }
}

/// Sectors that were touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Touched {
    pub(super) count: u64,
    /// The first, and the one behind the last.
    pub(super) first: usize,
    pub(super) end: usize,
}

impl Sector {
    /// Whether what an access means for one cell it means for all of them. That depends on who touched a
    /// cell before only inside a warp and between two barriers of its block.
    #[inline]
    fn is_alike_for(&self, pattern: Pattern, touch: &Touch) -> bool {
        let Some((writer, written)) = self.cell.writer() else {
            return self.is_read_alike(pattern, touch);
        };
        (self.writes == pattern || !touch.is_beside(writer, written))
            && self.is_read_alike(pattern, touch)
    }

    #[inline]
    fn is_read_alike(&self, pattern: Pattern, touch: &Touch) -> bool {
        let far = |(reader, read)| !touch.is_beside(reader, read);
        self.reads == pattern
            || self.cell.reader().is_none_or(far) && self.cell.beside().is_none_or(far)
    }

    /// Its cells.
    fn spread(&self) -> [Cell; CELLS] {
        std::array::from_fn(|k| {
            let k = k as u32;
            self.cell.behind(self.reads.lane(k), self.writes.lane(k))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::shadow::{When, Who};
    use super::*;

    /// Cells that are always kept apart, touched lane by lane.
    struct OneByOne(Vec<Cell>);

    impl OneByOne {
        fn touch(&mut self, sector: usize, bytes: usize, touch: &Touch) -> bool {
            let mut sound = true;
            for lane in 0..SECTOR / bytes {
                let at = SECTOR * sector + lane * bytes;
                let mask = if bytes >= 4 { 15 } else { ((1 << bytes) - 1) << (at % 4) };
                let touch = Touch { who: touch.who.lane(lane as u32), ..*touch };
                for cell in &mut self.0[at / 4..(at + bytes).div_ceil(4)] {
                    sound &= touch.writes || cell.initial() & mask == mask;
                    sound &= cell.touch(mask, &touch).is_none();
                }
            }
            sound
        }
    }

    #[test]
    fn a_sector_tells_what_its_cells_would_tell_one_by_one() {
        let mut state = 7_u64;
        let mut below = |end: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % end
        };
        let (mut together, mut wrong) = (0, 0);
        for _ in 0..20_000 {
            let cell = Cell::holding(if below(3) == 0 { 0 } else { 15 });
            let mut shadow = Shadow::default();
            shadow.reset(SECTOR, cell);
            let mut plain = OneByOne(vec![cell; CELLS]);
            let (mut epoch, mut block) = (0, 0);
            for _ in 0..6 {
                if below(4) == 0 {
                    (epoch, block) = (0, block + 1);
                }
                epoch += u32::from(below(3) == 0);
                let bytes = 1 << below(5);
                let (warp, lanes) = (32 * below(3) as u32, (SECTOR / bytes) as u64);
                let first = warp + (lanes * below(32 / lanes)) as u32;
                let touch = Touch {
                    writes: below(2) == 0,
                    meets: below(8) == 0,
                    ..Touch::read(Who::new(block, first), When::new(epoch, below(2) as u32))
                };
                let pattern = Pattern::of(bytes).unwrap();
                let expected = plain.touch(0, bytes, &touch);
                if shadow.touch(0, pattern, &touch) {
                    assert!(expected, "{touch:?} {bytes}");
                    together += 1;
                    // What stands in the cells is the same, too, however it came there.
                    let sector = shadow.sectors[0];
                    for (k, cell) in sector.spread().iter().enumerate() {
                        assert!(cell.means_the_same(&plain.0[k]), "{cell:?} {:?}", plain.0[k]);
                    }
                } else {
                    let cells = shadow.cells(0, CELLS);
                    cells.copy_from_slice(&plain.0);
                    wrong += u32::from(!expected);
                    break;
                }
            }
        }
        assert!(together > 20_000 && wrong > 5_000, "{together} {wrong}");
    }

    #[test]
    fn stretches_and_touched_sectors_are_those_of_the_cells() {
        let mut shadow = Shadow::default();
        shadow.reset(3 * SECTOR, Cell::default());
        let touch = Touch::write(Who::new(0, 0), When::default());
        assert!(shadow.touch(0, Pattern::of(16).unwrap(), &touch));
        shadow.cells(20, 21)[0].touch(0b0110, &touch);
        let mut told = Vec::new();
        shadow.initials(|mask, first, end| {
            if mask != 0 {
                told.push((mask, first, end));
            }
        });
        assert_eq!(told, [(15, 0, 8), (0b0110, 20, 21)]);
        assert_eq!(shadow.touched(), Some(Touched { count: 2, first: 0, end: 3 }));
    }
}
