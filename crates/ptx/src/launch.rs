//! A launch: its geometry, its blocks one after the other, the warps of each between barriers.

use super::clocks::Clocks;
use super::counts::Counts;
use super::finding::{Fault, Findings, Site};
use super::instruction::{Action, Instruction, Place};
use super::module::Kernel;
use super::order::Order;
use super::sectors::Shadow;
use super::shadow::{Cell, MOST_BLOCKS, When, Who};
use super::special::Special;
use super::value::{ALL, Row};
use super::view::View;
use super::waits;
use super::warp::{State, Warp};

/// How a kernel is launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y and z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
}

impl Geometry {
    /// Blocks of the grid.
    pub fn blocks(&self) -> u64 {
        self.grid.iter().map(|side| u64::from(*side)).fold(1, u64::saturating_mul)
    }

    /// Threads of a block.
    pub fn threads(&self) -> u64 {
        self.block.iter().map(|side| u64::from(*side)).fold(1, u64::saturating_mul)
    }

    /// What no card takes, whatever the kernel.
    fn fits(&self) -> bool {
        let [_, y, z] = self.grid;
        let [bx, by, bz] = self.block;
        self.grid.iter().chain(&self.block).all(|side| *side > 0)
            && self.grid[0] <= i32::MAX.cast_unsigned()
            && y <= 65_535
            && z <= 65_535
            && bx <= 1024
            && by <= 1024
            && bz <= 64
            && self.threads() <= 1024
    }
}

/// What the card adds to a launch.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// What `%nsmid` gives.
    pub multiprocessors: u32,
    /// The most shared memory that the kernel may have, with its own.
    pub shared: u32,
    /// Instructions of lanes after which a kernel is taken not to end.
    pub instructions: u64,
    /// What its clocks show.
    pub clocks: Clocks,
}

/// What came of a launch.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What it did.
    pub counts: Counts,
    /// What is wrong with it.
    pub findings: Findings,
    /// What ended the kernel, if it did not end by itself.
    pub stopped: Option<Fault>,
}

impl Kernel {
    /// What is wrong with a launch before it begins.
    pub fn refuses(&self, geometry: &Geometry, limits: &Limits) -> Option<Fault> {
        if !geometry.fits() || geometry.blocks() >= MOST_BLOCKS {
            return Some(Fault::Geometry);
        }
        if self.most_threads.is_some_and(|most| geometry.threads() > u64::from(most)) {
            return Some(Fault::TooManyThreads);
        }
        let shared = self.shared.checked_add(geometry.shared);
        let too_much = shared.is_none_or(|shared| shared > limits.shared);
        too_much.then_some(Fault::TooMuchShared)
    }

    /// Instructions of a thread that comes through the text once, from its beginning to its end, without
    /// a loop and past nothing.
    pub fn straight(&self) -> u64 {
        // A thread that has nothing to do ends early, so that branches may leave most of the text out.
        let first_branch =
            self.code.iter().position(|i| matches!(i.action, Action::Branch(_) | Action::Return));
        first_branch.unwrap_or(self.code.len()) as u64
    }

    /// Bytes of device memory that a thread asks for before it needs any of them: the most that it has
    /// under way at once, in the order of the text.
    pub fn in_flight(&self) -> u32 {
        waits::most_under_way(&self.code)
    }

    /// Runs the kernel. `arguments` are the bytes of all parameters, each where it belongs.
    pub fn run(
        &self,
        view: &mut View<'_>,
        geometry: Geometry,
        limits: Limits,
        arguments: &[u8],
    ) -> Outcome {
        self.run_some(view, geometry, limits, arguments, None)
    }

    /// Runs some blocks of a launch, to count what they do.
    pub fn sample(
        &self,
        view: &mut View<'_>,
        geometry: Geometry,
        limits: Limits,
        arguments: &[u8],
        blocks: &[u32],
    ) -> Outcome {
        self.run_some(view, geometry, limits, arguments, Some(blocks))
    }

    fn run_some(
        &self,
        view: &mut View<'_>,
        geometry: Geometry,
        limits: Limits,
        arguments: &[u8],
        blocks: Option<&[u32]>,
    ) -> Outcome {
        let end = self.parameters.last().map_or(0, |last| last.at + last.bytes);
        let refused = if arguments.len() == end {
            self.refuses(&geometry, &limits)
        } else {
            Some(Fault::WrongArguments)
        };
        let mut run = Run::new(self, view, geometry, limits, arguments);
        if let Some(fault) = refused {
            run.fault(fault, Place::default(), 0, || format!("{geometry:?}"));
            run.stopped = Some(fault);
        } else {
            run.blocks(blocks);
        }
        let areas = run.view.areas();
        let counts = Counts { areas, ..run.counts };
        Outcome { counts, findings: run.findings, stopped: run.stopped }
    }

    /// The `.cu` file and line of an instruction; of the PTX where that is not known.
    fn source(&self, place: Place) -> String {
        match self.files.get(&place.file) {
            Some(file) if place.line > 0 => {
                let name = file.rsplit('/').next().unwrap_or(file);
                format!("{name}:{}", place.line)
            }
            _ if place.ptx > 0 => format!("PTX line {}", place.ptx),
            _ => "its launch".to_owned(),
        }
    }
}

/// A launch under way.
pub(super) struct Run<'r, 'm> {
    pub(super) kernel: &'r Kernel,
    pub(super) view: &'r mut View<'m>,
    pub(super) geometry: Geometry,
    pub(super) limits: Limits,
    pub(super) arguments: &'r [u8],
    pub(super) shared: Vec<u8>,
    /// What is known of shared memory.
    pub(super) shadow: Shadow,
    /// The block that runs.
    pub(super) block: u32,
    /// Barriers that it has come to.
    pub(super) epoch: u32,
    pub(super) order: Order,
    pub(super) counts: Counts,
    pub(super) findings: Findings,
    pub(super) stopped: Option<Fault>,
    /// Cycles since the kernel began, as far as anybody looked.
    pub(super) cycles: u64,
    random: u64,
}

impl<'r, 'm> Run<'r, 'm> {
    fn new(
        kernel: &'r Kernel,
        view: &'r mut View<'m>,
        geometry: Geometry,
        limits: Limits,
        arguments: &'r [u8],
    ) -> Self {
        Self {
            kernel,
            view,
            geometry,
            limits,
            arguments,
            shared: Vec::new(),
            shadow: Shadow::default(),
            block: 0,
            epoch: 0,
            order: Order::default(),
            counts: Counts::default(),
            findings: Findings::default(),
            stopped: None,
            cycles: 0,
            random: 0x2545_F491_4F6C_DD1D,
        }
    }

    pub(super) fn who(&self, thread: u32) -> Who {
        Who::new(self.block, thread)
    }

    pub(super) fn when(&self, warp: &Warp) -> When {
        When::new(self.epoch, warp.epoch)
    }

    /// Notes what is wrong, and ends the kernel if that is what a card would do.
    #[cold]
    pub(super) fn fault(
        &mut self,
        fault: Fault,
        place: Place,
        thread: u32,
        detail: impl FnOnce() -> String,
    ) {
        let (grid, block) = (self.geometry.grid, u64::from(self.block));
        let (x, y) = (u64::from(grid[0]).max(1), u64::from(grid[1]).max(1));
        let at = [block % x, block / x % y, block / x / y];
        let site = Site { kernel: self.kernel.name.clone(), source: self.kernel.source(place) };
        self.findings.add(fault, site, || format!("block {at:?}, thread {thread}: {}", detail()));
        if fault.error().is_some() {
            self.stopped = Some(fault);
        }
    }

    /// All of 0..count, in a random order that is the same in every run.
    fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            order.swap(last, self.random as usize % (last + 1));
        }
        order
    }

    /// Runs these blocks, or all.
    fn blocks(&mut self, some: Option<&[u32]>) {
        let mut rows = vec![[0_u32; 32]; self.kernel.rows as usize];
        for (slot, value) in &self.kernel.constants {
            rows[*slot as usize] = [*value as u32; 32];
            rows[*slot as usize + 1] = [(*value >> 32) as u32; 32];
        }
        let threads = self.geometry.threads() as u32;
        let count = threads.div_ceil(32);
        let mut warps: Vec<Warp> = (0..count)
            .map(|index| {
                let own = (threads - 32 * index).min(32);
                let mask = if own == 32 { ALL } else { (1 << own) - 1 };
                Warp::new(32 * index, mask, rows.clone(), self.kernel.local)
            })
            .collect();
        let count = some.map_or(self.geometry.blocks() as usize, <[u32]>::len);
        for index in self.shuffled(count) {
            let block = some.map_or(index as u32, |some| some[index]);
            self.begin(block, &mut warps);
            self.block(&mut warps);
            if self.stopped.is_some() {
                return;
            }
        }
    }

    fn begin(&mut self, block: u32, warps: &mut [Warp]) {
        (self.block, self.epoch) = (block, 0);
        self.order.begin_block();
        let bytes = (self.kernel.shared + self.geometry.shared) as usize;
        // What shared memory holds is nobody's business; a pattern shows it where it is used.
        self.shared.clear();
        self.shared.resize(bytes, 0xFF);
        self.shadow.reset(bytes, Cell::default());
        for warp in warps {
            warp.begin();
            for (slot, special) in &self.kernel.specials {
                warp.rows[*slot as usize] = self.special(*special, warp.first);
            }
        }
    }

    /// What a special register holds in the lanes of a warp.
    fn special(&self, special: Special, first: u32) -> Row {
        let Geometry { grid, block, shared } = self.geometry;
        let place = |index: u32, sides: [u32; 3], axis: usize| match axis {
            0 => index % sides[0],
            1 => index / sides[0] % sides[1],
            _ => index / sides[0] / sides[1],
        };
        let all = |value: u32| [value; 32];
        let lanes = |of: &dyn Fn(u32) -> u32| std::array::from_fn(|lane| of(lane as u32));
        match special {
            Special::Thread(axis) => lanes(&|lane| place(first + lane, block, axis)),
            Special::Threads(axis) => all(block[axis]),
            Special::Block(axis) => all(place(self.block, grid, axis)),
            Special::Blocks(axis) => all(grid[axis]),
            Special::Lane => lanes(&|lane| lane),
            Special::Warp => all(first / 32),
            Special::Warps => all((self.geometry.threads() as u32).div_ceil(32)),
            Special::Multiprocessor => all(self.multiprocessor()),
            Special::Multiprocessors => all(self.limits.multiprocessors),
            Special::LanesEqual => lanes(&|lane| 1 << lane),
            Special::LanesBelow => lanes(&|lane| (1 << lane) - 1),
            Special::LanesUpTo => lanes(&|lane| u32::MAX >> (31 - lane)),
            Special::LanesAbove => lanes(&|lane| (u32::MAX << lane) << 1),
            Special::LanesFrom => lanes(&|lane| u32::MAX << lane),
            Special::DynamicShared => all(shared),
            Special::TotalShared => all(self.kernel.shared + shared),
        }
    }

    /// Runs a block: each warp to its next barrier, in any order, until all have ended.
    fn block(&mut self, warps: &mut [Warp]) {
        loop {
            for index in self.shuffled(warps.len()) {
                self.warp(&mut warps[index]);
                if self.stopped.is_some() {
                    return;
                }
            }
            if warps.iter().all(|warp| warp.alive == 0) {
                return;
            }
            self.barrier(warps);
        }
    }

    /// All that live are at a barrier; lets them go on.
    fn barrier(&mut self, warps: &mut [Warp]) {
        let mut waiting =
            warps.iter().flat_map(|warp| warp.groups.iter().map(|group| (warp.first, group.pc)));
        let (thread, first) = waiting.next().unwrap_or_default();
        let other = waiting.find(|(_, pc)| *pc != first);
        let place = self.instruction(first).place;
        if let Some((thread, pc)) = other {
            let there = self.kernel.source(self.instruction(pc).place);
            self.fault(Fault::DifferentBarriers, place, thread, || format!("others at {there}"));
        }
        if let Some(ended) = warps.iter().find(|warp| warp.alive != warp.all) {
            let lane = (ended.all & !ended.alive).trailing_zeros();
            let gone = ended.first + lane;
            self.fault(Fault::BarrierAfterEnd, place, thread, || {
                format!("thread {gone} has ended")
            });
        }
        self.counts.barriers += 1;
        self.epoch += 1;
        for warp in warps {
            warp.epoch = 0;
            for group in &mut warp.groups {
                group.state = State::Runs;
                group.pc += 1;
            }
        }
    }

    pub(super) fn instruction(&self, pc: u32) -> &'r Instruction {
        let kernel: &'r Kernel = self.kernel;
        &kernel.code[pc as usize]
    }
}
