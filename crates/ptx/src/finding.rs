//! What is wrong with a kernel, found while it runs.

use std::collections::BTreeMap;
use std::fmt;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An access to device memory outside every live allocation.
    OutOfBounds,
    /// An access behind the block's shared memory.
    SharedOutOfBounds,
    /// An access behind the thread's local memory.
    LocalOutOfBounds,
    /// An address that is no multiple of the access's size.
    Misaligned,
    /// Device memory is read before anybody wrote it.
    Unwritten,
    /// Shared memory is read before anybody wrote it.
    SharedUnwritten,
    /// Two accesses to device memory that nothing orders.
    Race(Race),
    /// Two accesses to shared memory that nothing orders.
    SharedRace(Race),
    /// A part of a warp comes to a barrier.
    BarrierUnderCondition,
    /// Threads of a block wait at different barriers.
    DifferentBarriers,
    /// A barrier that threads of the block have ended before.
    BarrierAfterEnd,
    /// A lane runs an operation whose mask leaves it out.
    OutsideOwnMask,
    /// A mask names lanes that never come.
    MaskNamesAbsent,
    /// A shuffle from a lane that takes no part.
    ReadsAbsentLane,
    /// An operation of a whole warp, run by a part of it.
    PartOfAWarp,
    /// An `assert` of the kernel failed.
    Assertion,
    /// The kernel ended itself.
    Trap,
    /// More instructions than [`Limits`](crate::Limits) allow.
    Endless,
    /// A block of more threads than `__launch_bounds__` allows.
    TooManyThreads,
    /// A grid or block that no card takes.
    Geometry,
    /// More shared memory than the kernel may have.
    TooMuchShared,
    /// Arguments that are not of the parameters' sizes.
    WrongArguments,
    /// A model of the kernel leaves something else in memory.
    DiffersFromModel,
}

/// Two accesses that nothing orders, by what the second did to what the first had done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Race {
    /// One thread reads what another wrote.
    ReadAfterWrite,
    /// One thread overwrites what another read.
    WriteAfterRead,
    /// Two threads write to the same place.
    WriteAfterWrite,
}

const ILLEGAL_ADDRESS: u32 = 700;
const LAUNCH_TIMEOUT: u32 = 702;
const ASSERT: u32 = 710;
const MISALIGNED_ADDRESS: u32 = 716;
const LAUNCH_FAILED: u32 = 719;

impl Fault {
    /// The driver's error that a kernel ends with; `None` where a card goes on, with results that may
    /// be wrong.
    pub fn error(self) -> Option<u32> {
        match self {
            Self::OutOfBounds | Self::SharedOutOfBounds | Self::LocalOutOfBounds => {
                Some(ILLEGAL_ADDRESS)
            }
            Self::Misaligned => Some(MISALIGNED_ADDRESS),
            Self::Assertion => Some(ASSERT),
            Self::Trap => Some(LAUNCH_FAILED),
            Self::Endless => Some(LAUNCH_TIMEOUT),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfBounds => "device memory out of bounds",
            Self::SharedOutOfBounds => "shared memory out of bounds",
            Self::LocalOutOfBounds => "local memory out of bounds",
            Self::Misaligned => "misaligned access",
            Self::Unwritten => "device memory is read that nobody wrote",
            Self::SharedUnwritten => "shared memory is read that nobody wrote",
            Self::Race(Race::ReadAfterWrite) => "race in device memory: read after write",
            Self::Race(Race::WriteAfterRead) => "race in device memory: write after read",
            Self::Race(Race::WriteAfterWrite) => "race in device memory: write after write",
            Self::SharedRace(Race::ReadAfterWrite) => "race in shared memory: read after write",
            Self::SharedRace(Race::WriteAfterRead) => "race in shared memory: write after read",
            Self::SharedRace(Race::WriteAfterWrite) => "race in shared memory: write after write",
            Self::BarrierUnderCondition => "a barrier that some threads of a warp pass by",
            Self::DifferentBarriers => "threads of a block wait at different barriers",
            Self::BarrierAfterEnd => "a barrier that threads of the block have ended before",
            Self::OutsideOwnMask => "a lane that its own mask leaves out",
            Self::MaskNamesAbsent => "a mask that names lanes which never come",
            Self::ReadsAbsentLane => "a shuffle from a lane that is not there",
            Self::PartOfAWarp => "an operation of a whole warp by a part of it",
            Self::Assertion => "an assertion failed",
            Self::Trap => "a trap",
            Self::Endless => "the kernel does not end",
            Self::TooManyThreads => "more threads than __launch_bounds__ allows",
            Self::Geometry => "a grid or block that no card takes",
            Self::TooMuchShared => "more shared memory than the kernel may have",
            Self::WrongArguments => "arguments that are not the kernel's parameters",
            Self::DiffersFromModel => "the simulator's model of it leaves something else in memory",
        })
    }
}

/// Where it was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Site {
    pub(crate) kernel: String,
    /// The `.cu` file's name and line, or the line of the PTX.
    pub(crate) source: String,
}

/// What was found, how often, and the first time in detail.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Findings(BTreeMap<(Fault, Site), (u64, String)>);

impl Findings {
    /// Notes a finding; the detail is asked for the first time only.
    pub(crate) fn add(&mut self, fault: Fault, site: Site, detail: impl FnOnce() -> String) {
        self.0.entry((fault, site)).or_insert_with(|| (0, detail())).0 += 1;
    }

    /// Notes that a model does not do what the kernel does.
    pub fn differs_from_its_model(&mut self, kernel: &str, address: u64) {
        let site = Site { kernel: kernel.to_owned(), source: "its end".to_owned() };
        self.add(Fault::DiffersFromModel, site, || format!("the first byte is at {address:#x}"));
    }

    /// Adds what another launch found.
    pub fn merge(&mut self, other: Self) {
        for (key, (count, detail)) in other.0 {
            self.0.entry(key).or_insert((0, detail)).0 += count;
        }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All faults, each once.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = self.0.keys().map(|(fault, _)| *fault).collect();
        faults.dedup();
        faults
    }

    /// Each as a line, and how often it was found.
    pub fn lines(&self) -> impl Iterator<Item = (String, u64)> {
        self.0.iter().map(|((fault, Site { kernel, source }), (count, detail))| {
            (format!("{kernel}: {fault} at {source} ({detail})"), *count)
        })
    }
}
