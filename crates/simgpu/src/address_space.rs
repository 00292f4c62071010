//! A device's memory: who has which addresses, and how much is left.

use std::collections::BTreeMap;
use std::sync::Arc;

use warpmark_ptx::DeviceMemory;

use crate::contents::{Bytes, Contents, Snapshot, Source};
use crate::profile::{CODE, CONTEXT};

const MIB: u64 = 1 << 20;

/// A pool asks the device for memory in pieces of this size.
const PIECE: u64 = 32 * MIB;

/// Graphs ask it in pieces of this size.
const GRAPH_PIECE: u64 = 2 * MIB;

/// Free addresses behind each allocation, so that running over its end is always found.
const GUARD: u64 = 2 * MIB;

const OUT_OF_MEMORY: u32 = 2;
const ILLEGAL_ADDRESS: u32 = 700;

struct Allocation {
    len: u64,
    owner: Owner,
    contents: Contents,
}

/// Where an allocation's memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Direct,
    Pool,
    Graphs,
}

/// The counters of a memory pool, as `cuMemPoolGetAttribute` tells them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) used: u64,
    pub(crate) used_high: u64,
    pub(crate) reserved: u64,
    pub(crate) reserved_high: u64,
    /// What is kept when freed, across synchronisations.
    pub(crate) threshold: u64,
}

/// All memory of one device.
pub(crate) struct AddressSpace {
    limit: u64,
    next: u64,
    /// Allocated past the pool.
    direct: u64,
    /// Loaded modules.
    pub(crate) modules: u64,
    live: BTreeMap<u64, Allocation>,
    pub(crate) pool: Pool,
    /// The memory of graphs, which keep what they have had.
    pub(crate) graphs: Pool,
    /// Where contents were taken to be written, while somebody wants to know.
    pub(crate) written: Option<Vec<(u64, u64)>>,
}

impl AddressSpace {
    /// Of a device with `total` bytes, of which allocations may have `limit` if that is stated.
    pub(crate) fn new(total: u64, limit: Option<u64>) -> Self {
        Self {
            limit: limit.unwrap_or(total - CONTEXT),
            next: 0x7_0000_0000,
            direct: 0,
            modules: 0,
            live: BTreeMap::new(),
            pool: Pool::default(),
            graphs: Pool::default(),
            written: None,
        }
    }

    /// New addresses. From the pool, memory that it holds already is taken first.
    pub(crate) fn allocate(&mut self, len: u64, pooled: bool) -> Result<u64, u32> {
        let room = self.limit.saturating_sub(self.beside_the_pool());
        if pooled {
            let used = self.pool.used + len;
            if used > room {
                return Err(OUT_OF_MEMORY);
            }
            let pieces = used.next_multiple_of(PIECE).min(room);
            self.pool.used = used;
            self.pool.used_high = self.pool.used_high.max(used);
            self.pool.reserved = self.pool.reserved.max(pieces);
            self.pool.reserved_high = self.pool.reserved_high.max(self.pool.reserved);
        } else {
            if len > room - self.pool.reserved.min(room) {
                return Err(OUT_OF_MEMORY);
            }
            self.direct += len;
        }
        let address = self.new_addresses(len);
        let owner = if pooled { Owner::Pool } else { Owner::Direct };
        self.live.insert(address, Allocation { len, owner, contents: Contents::poisoned(len) });
        Ok(address)
    }

    fn new_addresses(&mut self, len: u64) -> u64 {
        let address = self.next;
        self.next += (len + GUARD).next_multiple_of(512);
        address
    }

    /// The addresses that an allocation of a graph has whenever it is launched; there is no memory behind them.
    pub(crate) fn address_for_graph(&mut self, len: u64) -> u64 {
        self.new_addresses(len)
    }

    /// Puts memory behind such addresses. Refused where there is some: the last launch did not free it.
    pub(crate) fn allocate_for_graph(&mut self, address: u64, len: u64) -> Result<(), u32> {
        if self.live.contains_key(&address) {
            return Err(1);
        }
        let used = self.graphs.used + len;
        let reserved = used.next_multiple_of(GRAPH_PIECE).max(self.graphs.reserved);
        if reserved - self.graphs.reserved > self.free_bytes() {
            return Err(OUT_OF_MEMORY);
        }
        self.graphs.used = used;
        self.graphs.used_high = self.graphs.used_high.max(used);
        self.graphs.reserved = reserved;
        self.graphs.reserved_high = self.graphs.reserved_high.max(reserved);
        let contents = Contents::poisoned(len);
        self.live.insert(address, Allocation { len, owner: Owner::Graphs, contents });
        Ok(())
    }

    /// Gives an allocation back; the addresses are never used again.
    pub(crate) fn free(&mut self, address: u64) -> Result<(), u32> {
        let allocation = self.live.remove(&address).ok_or(1_u32)?;
        match allocation.owner {
            Owner::Pool => self.pool.used -= allocation.len,
            Owner::Graphs => self.graphs.used -= allocation.len,
            Owner::Direct => self.direct -= allocation.len,
        }
        Ok(())
    }

    /// A synchronisation: the pool gives back what it need not keep.
    pub(crate) fn synchronised(&mut self) {
        self.trim(self.pool.threshold);
    }

    /// The pool gives back what is free above `keep` bytes.
    pub(crate) fn trim(&mut self, keep: u64) {
        let needed = self.pool.used.next_multiple_of(PIECE).max(keep);
        self.pool.reserved = self.pool.reserved.min(needed);
    }

    /// Bytes that the device could still give.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.limit.saturating_sub(self.beside_the_pool() + self.pool.reserved)
    }

    fn beside_the_pool(&self) -> u64 {
        self.direct + self.modules * CODE + self.graphs.reserved
    }

    /// What `len` bytes at `address` hold; refused unless one live allocation has all of them.
    pub(crate) fn snapshot(&self, address: u64, len: u64) -> Result<Snapshot, u32> {
        let (start, allocation) = self.find(address, len)?;
        Ok(allocation.contents.snapshot(address - start, len))
    }

    /// The contents of the allocation that has `len` bytes at `address`, and where they begin in it.
    pub(crate) fn contents(&mut self, address: u64, len: u64) -> Result<(&mut Contents, u64), u32> {
        let (start, _) = self.find(address, len)?;
        if let Some(written) = &mut self.written {
            written.push((address, len));
        }
        let allocation = self.live.get_mut(&start).unwrap();
        Ok((&mut allocation.contents, address - start))
    }

    /// Whether a pointer points into a live allocation.
    pub(crate) fn is_live(&self, address: u64) -> bool {
        self.find(address, 1).is_ok()
    }

    /// The number of live allocations, and their bytes.
    pub(crate) fn left(&self) -> (usize, u64) {
        (self.live.len(), self.live.values().map(|allocation| allocation.len).sum())
    }

    fn find(&self, address: u64, len: u64) -> Result<(u64, &Allocation), u32> {
        let below = self.live.range(..=address).next_back();
        let (start, allocation) = below.ok_or(ILLEGAL_ADDRESS)?;
        let inside = address - start + len <= allocation.len;
        inside.then_some((*start, allocation)).ok_or(ILLEGAL_ADDRESS)
    }
}

impl DeviceMemory for AddressSpace {
    fn extent(&self, address: u64) -> Option<(u64, u64)> {
        self.find(address, 1).ok().map(|(start, allocation)| (start, allocation.len))
    }

    fn read(&self, address: u64, out: &mut [u8]) -> Vec<(usize, usize)> {
        let Ok(snapshot) = self.snapshot(address, out.len() as u64) else {
            return vec![(0, out.len())];
        };
        snapshot.read(0, out);
        snapshot.unwritten().map(|(from, to)| (from as usize, to as usize)).collect()
    }

    fn write(&mut self, address: u64, bytes: Vec<u8>) {
        let len = bytes.len() as u64;
        if let Ok((contents, offset)) = self.contents(address, len) {
            contents.write(offset, len, Arc::new(Bytes(bytes)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_to_the_byte_and_never_given_again() {
        let mut space = AddressSpace::new(1 << 30, None);
        let address = space.allocate(100, true).unwrap();
        assert!(space.snapshot(address, 100).is_ok());
        assert_eq!(space.snapshot(address, 101).err(), Some(ILLEGAL_ADDRESS));
        assert_eq!(space.snapshot(address - 1, 1).err(), Some(ILLEGAL_ADDRESS));
        space.free(address).unwrap();
        assert!(!space.is_live(address));
        assert_ne!(space.allocate(100, true).unwrap(), address);
        assert_eq!(space.free(address), Err(1));
    }

    #[test]
    fn the_limit_holds_for_pool_and_direct_memory_together() {
        let mut space = AddressSpace::new(1 << 30, Some(100 * MIB));
        let pooled = space.allocate(60 * MIB, true).unwrap();
        assert_eq!(space.allocate(60 * MIB, true), Err(OUT_OF_MEMORY));
        assert_eq!(space.allocate(60 * MIB, false), Err(OUT_OF_MEMORY));
        space.free(pooled).unwrap();
        assert_eq!(space.free_bytes(), 36 * MIB, "the pool keeps its two pieces");
        space.synchronised();
        assert_eq!(space.free_bytes(), 100 * MIB);
        space.allocate(100 * MIB, false).unwrap();
    }

    #[test]
    fn memory_of_graphs_comes_and_goes_at_one_address_and_holds_nothing_at_first() {
        let mut space = AddressSpace::new(1 << 30, Some(4 * MIB));
        let address = space.address_for_graph(MIB);
        assert!(!space.is_live(address));
        for _ in 0..2 {
            space.allocate_for_graph(address, MIB).unwrap();
            assert_eq!(space.allocate_for_graph(address, MIB), Err(1), "it is there already");
            assert_eq!(space.snapshot(address, 4).unwrap().unwritten().count(), 1);
            space.contents(address, 4).unwrap().0.write(0, 4, Arc::new(Bytes(vec![1; 4])));
            space.free(address).unwrap();
        }
        let expected =
            Pool { used_high: MIB, reserved: 2 * MIB, reserved_high: 2 * MIB, ..Pool::default() };
        assert_eq!((space.graphs, space.pool), (expected, Pool::default()));
        assert_eq!(space.free_bytes(), 2 * MIB);
        assert_eq!(space.allocate_for_graph(address, 5 * MIB), Err(OUT_OF_MEMORY));
    }

    #[test]
    fn the_pool_keeps_its_high_water_marks() {
        let mut space = AddressSpace::new(1 << 40, None);
        space.pool.threshold = u64::MAX;
        let first = space.allocate(40 * MIB, true).unwrap();
        space.free(first).unwrap();
        space.synchronised();
        let expected = Pool {
            used: 0,
            used_high: 40 * MIB,
            reserved: 64 * MIB,
            reserved_high: 64 * MIB,
            threshold: u64::MAX,
        };
        assert_eq!(space.pool, expected);
    }
}
