//! A card's memory for unit tests: bytes, and which of them were written.

use std::collections::BTreeMap;

use super::DeviceMemory;

/// Bytes behind each allocation that belong to nobody.
const GUARD: u64 = 1 << 16;

#[derive(Default)]
pub(crate) struct TestMemory {
    /// What each allocation holds, by where it begins; `None` where nobody wrote.
    allocations: BTreeMap<u64, Vec<Option<u8>>>,
    end: u64,
}

impl TestMemory {
    /// Addresses of `len` bytes that nobody wrote.
    pub(crate) fn allocate(&mut self, len: usize) -> u64 {
        let start = self.end.max(GUARD);
        self.end = (start + len as u64 + GUARD).next_multiple_of(512);
        self.allocations.insert(start, vec![None; len]);
        start
    }

    /// Addresses of these bytes.
    pub(crate) fn holding(&mut self, bytes: Vec<u8>) -> u64 {
        let at = self.allocate(bytes.len());
        self.write(at, bytes);
        at
    }

    /// Gives an allocation back; its addresses are not used again.
    pub(crate) fn free(&mut self, address: u64) {
        self.allocations.remove(&address).unwrap();
    }

    /// What `len` bytes at `address` hold.
    pub(crate) fn bytes(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.read(address, &mut bytes);
        bytes
    }
}

impl DeviceMemory for TestMemory {
    fn extent(&self, address: u64) -> Option<(u64, u64)> {
        let (start, bytes) = self.allocations.range(..=address).next_back()?;
        (address - start < bytes.len() as u64).then_some((*start, bytes.len() as u64))
    }

    fn read(&self, address: u64, out: &mut [u8]) -> Vec<(usize, usize)> {
        let (start, bytes) = self.allocations.range(..=address).next_back().unwrap();
        let held = &bytes[(address - start) as usize..][..out.len()];
        let mut unwritten = Vec::new();
        for (at, (byte, out)) in held.iter().zip(out).enumerate() {
            match byte {
                Some(byte) => *out = *byte,
                None => unwritten.push((at, at + 1)),
            }
        }
        unwritten
    }

    fn write(&mut self, address: u64, bytes: Vec<u8>) {
        let (start, held) = self.allocations.range_mut(..=address).next_back().unwrap();
        let at = (address - start) as usize;
        for (held, byte) in held[at..at + bytes.len()].iter_mut().zip(bytes) {
            *held = Some(byte);
        }
    }
}
