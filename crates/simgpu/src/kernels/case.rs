//! A launch of a kernel in a test: what it is given, and how.

use std::sync::Arc;

use super::Launch;
use crate::address_space::AddressSpace;
use crate::contents::{Bytes, Source};
use crate::profile::Profile;
use crate::source::Entry;
use warpmark_ptx::{Clocks, Geometry};

/// Numbers that look random and are the same in every run.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB) >> 16
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// So many words: small floats, so that sums of them are exact or not as the case may be.
    pub(crate) fn floats(&mut self, count: u64) -> Vec<u8> {
        (0..count)
            .flat_map(|_| (self.below(1 << 20) as f32 / 1024.0 - 300.0).to_le_bytes())
            .collect()
    }

    pub(crate) fn words(&mut self, count: u64) -> Vec<u8> {
        (0..count).flat_map(|_| (self.next() as u32).to_le_bytes()).collect()
    }
}

/// The first address at which memory holds something else than the kernel should leave there.
type Check = Box<dyn Fn(&AddressSpace) -> Option<u64>>;

/// A launch of a kernel: what it is given, and how.
pub(super) struct Case {
    pub(super) memory: AddressSpace,
    pub(super) arguments: Vec<Vec<u8>>,
    pub(super) geometry: Geometry,
    /// For a kernel that has no model beside it.
    pub(super) check: Option<Check>,
}

impl Case {
    pub(super) fn new(blocks: u32, threads: u32) -> Self {
        let geometry = Geometry { grid: [blocks, 1, 1], block: [threads, 1, 1], shared: 0 };
        let memory = AddressSpace::new(1 << 32, None);
        Self { memory, arguments: Vec::new(), geometry, check: None }
    }

    /// With an array that holds these bytes, and nothing behind them.
    pub(super) fn array(mut self, bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        let at = self.memory.allocate(len, false).unwrap();
        let (contents, offset) = self.memory.contents(at, len).unwrap();
        contents.write(offset, len, Arc::new(Bytes(bytes)));
        self.bytes(at.to_le_bytes().to_vec())
    }

    /// With an array that nobody has written.
    pub(super) fn room(mut self, len: u64) -> Self {
        let at = self.memory.allocate(len, false).unwrap();
        self.bytes(at.to_le_bytes().to_vec())
    }

    /// With an argument of these bytes.
    pub(super) fn bytes(mut self, bytes: Vec<u8>) -> Self {
        self.arguments.push(bytes);
        self
    }

    pub(super) fn u32(self, value: u32) -> Self {
        self.bytes(value.to_le_bytes().to_vec())
    }

    pub(super) fn u64(self, value: u64) -> Self {
        self.bytes(value.to_le_bytes().to_vec())
    }

    pub(super) fn f32(self, value: f32) -> Self {
        self.u32(value.to_bits())
    }

    /// With a check of what the kernel leaves in memory: `check` gives the first address that is wrong.
    pub(super) fn checked(
        mut self,
        check: impl Fn(&AddressSpace) -> Option<u64> + 'static,
    ) -> Self {
        self.check = Some(Box::new(check));
        self
    }

    /// The launch, on a card of this profile.
    pub(super) fn launch<'a>(&'a mut self, entry: &'a Entry, profile: &'a Profile) -> Launch<'a> {
        entry.grant(entry.most_dynamic().max(self.geometry.shared));
        Launch {
            entry,
            arguments: self.arguments.clone(),
            geometry: self.geometry,
            memory: &mut self.memory,
            profile,
            clocks: Clocks::default(),
            flag: None,
        }
    }

    /// An argument that is an address.
    pub(super) fn address(&self, argument: usize) -> u64 {
        u64::from_le_bytes(self.arguments[argument][..].try_into().unwrap())
    }
}

/// What memory holds at an address.
pub(super) fn held(memory: &AddressSpace, at: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    memory.snapshot(at, len).unwrap().read(0, &mut bytes);
    bytes
}

/// A launch as it is timed, and the fewest bytes that it could move.
pub(super) struct Timed {
    pub(super) case: Case,
    /// Of device memory.
    pub(super) read: u64,
    pub(super) written: u64,
    /// Of shared memory, either way.
    pub(super) shared: u64,
}

impl Timed {
    pub(super) fn of(case: Case, read: u64, written: u64) -> Self {
        Self { case, read, written, shared: 0 }
    }

    pub(super) fn sharing(self, shared: u64) -> Self {
        Self { shared, ..self }
    }
}
