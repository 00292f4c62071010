//! The simulated cards, and what an operation costs on them.

use std::collections::BTreeMap;

use serde::Deserialize;

const TEXT: &str = include_str!("profiles.toml");

/// What a name gets behind it, so that nobody takes the card for a real one.
pub const SUFFIX: &str = " (simulated)";

/// Bytes that a context takes of every card before anything is allocated.
pub const CONTEXT: u64 = 300 << 20;

/// Bytes that a loaded module takes for its code.
pub const CODE: u64 = 1 << 20;

/// A simulated card.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The real card's name, as its driver reports it; the simulator adds [`SUFFIX`].
    pub name: String,
    /// Major and minor.
    pub compute_capability: (u32, u32),
    /// Streaming multiprocessors.
    pub sm_count: u32,
    /// The highest SM clock.
    pub sm_clock_mhz: u32,
    /// The memory clock; two transfers a clock.
    pub memory_clock_mhz: u32,
    /// The width of the memory bus.
    pub memory_bus_bits: u32,
    /// The whole memory.
    pub memory_mib: u64,
    /// The last cache.
    pub l2_kib: u32,
    /// Shared memory of a multiprocessor.
    pub shared_per_sm_kib: u32,
    /// The most of it that a block may ask for.
    pub shared_per_block_kib: u32,
    /// Whether memory errors are corrected.
    pub ecc: bool,
    /// Generation and lanes.
    pub pcie: (u32, u32),
    /// The power limit; what the card draws when it works.
    pub power_limit_w: f64,
    /// What it draws when it does not.
    pub idle_w: f64,
    /// Datasheet bandwidth, in 10⁹ bytes a second.
    pub bandwidth_gb_s: f64,
    /// The share of it that every operation reaches.
    pub bandwidth_efficiency: f64,
    /// The share of a peak that a multiplication reaches.
    pub matmul_efficiency: f64,
    /// The least time that an operation takes.
    pub launch_us: f64,
    /// What the L1 caches deliver together, in 10⁹ bytes a second.
    pub l1_gb_s: f64,
    /// What the L2 cache delivers.
    pub l2_gb_s: f64,
    /// What shared memory delivers on all multiprocessors together.
    pub shared_gb_s: f64,
    /// From one load to the next that needs it: L1, L2, memory.
    pub latency_ns: (f64, f64, f64),
    /// 10⁹ atomic operations a second: on one address, on many.
    pub atomics_g_s: (f64, f64),
    /// 10⁹ bytes a second between the host and the card, each way: pinned memory, pageable memory.
    pub bus_gb_s: (f64, f64),
    /// 10⁹ bytes a second to another card that can be reached.
    pub peer_gb_s: f64,
    /// Links to other cards that are no PCIe; 0 where cards reach each other over PCIe alone.
    pub nvlinks: u32,
    /// The least time that a kernel takes inside a graph.
    pub graph_node_us: f64,
    /// What taking memory from the pool holds the stream up, and what giving it back does.
    pub alloc_us: f64,
    /// Datasheet peaks in 10¹² FLOP a second, by operand and accumulator, as `f16/f32`.
    pub peaks_tflops: BTreeMap<String, f64>,
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    /// Bytes that cross the memory bus.
    pub bytes: f64,
    /// Floating-point operations at the peak beside it, in FLOP and FLOP a second.
    pub flops: Option<(f64, f64)>,
}

impl Work {
    /// Work that takes this long by a limit of its own.
    pub(crate) fn lasting(seconds: f64) -> Self {
        Self { bytes: 0.0, flops: Some((seconds, 1.0)) }
    }
}

impl Profile {
    /// All of them, by name.
    ///
    /// # Panics
    /// When the file that is built in is wrong, which a test rules out.
    pub fn all() -> BTreeMap<String, Self> {
        toml::from_str(TEXT).expect("profiles.toml is a table of profiles")
    }

    /// The profile of this name.
    ///
    /// # Panics
    /// When there is none; the message lists those there are.
    pub fn named(name: &str) -> Self {
        let all = Self::all();
        let known: Vec<&String> = all.keys().collect();
        all.get(name)
            .unwrap_or_else(|| panic!("no profile \"{name}\"; there are {known:?}"))
            .clone()
    }

    /// Which level of the memory answers who reads `working_set` bytes again and again on every
    /// multiprocessor: 0 for L1, 1 for L2, 2 for memory.
    pub fn level(&self, working_set: u64) -> usize {
        let kib = working_set.div_ceil(1024);
        usize::from(kib > u64::from(self.shared_per_sm_kib))
            + usize::from(kib > u64::from(self.l2_kib))
    }

    /// Seconds from one load of such a working set to the next.
    pub fn latency(&self, working_set: u64) -> f64 {
        let (l1, l2, memory) = self.latency_ns;
        [l1, l2, memory][self.level(working_set)] * 1e-9
    }

    /// Bytes a second over the bus, one way.
    pub fn bus(&self, pinned: bool) -> f64 {
        if pinned { self.bus_gb_s.0 * 1e9 } else { self.bus_gb_s.1 * 1e9 }
    }

    /// The smallest slice that the card can be cut into, as multi-instance mode does it: a seventh of the
    /// SMs (some are left over) and an eighth of what belongs to memory.
    #[must_use]
    pub fn slice(mut self) -> Self {
        self.name += " MIG 1g.5gb";
        self.sm_count = (self.sm_count - 10) / 7;
        self.memory_mib /= 8;
        self.memory_bus_bits /= 8;
        self.bandwidth_gb_s /= 8.0;
        self.l2_kib /= 8;
        for peak in self.peaks_tflops.values_mut() {
            *peak /= 7.0;
        }
        self
    }

    /// Bytes a second that every operation reaches.
    pub fn bandwidth(&self) -> f64 {
        self.bandwidth_gb_s * 1e9 * self.bandwidth_efficiency
    }

    /// FLOP a second that multiplications of `arithmetic` reach; `None` if the card has none.
    pub fn matmul(&self, arithmetic: &str) -> Option<f64> {
        self.peaks_tflops.get(arithmetic).map(|peak| peak * 1e12 * self.matmul_efficiency)
    }

    /// The seconds that an operation takes: those of its bytes or of its arithmetic, whichever are
    /// more, and never less than a launch. A launch overlaps the work before it, so that it does not
    /// come on top.
    pub fn seconds(&self, work: Work) -> f64 {
        self.seconds_from(self.launch_us * 1e-6, work)
    }

    /// The same for an operation that never takes less than `least` seconds.
    pub fn seconds_from(&self, least: f64, work: Work) -> f64 {
        let arithmetic = work.flops.map_or(0.0, |(flops, rate)| flops / rate);
        (work.bytes / self.bandwidth()).max(arithmetic).max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_reads_and_stays_below_its_peaks() {
        let all = Profile::all();
        assert_eq!(all.len(), 7);
        for (name, card) in all {
            let by_clock =
                2.0 * f64::from(card.memory_clock_mhz) * 1e6 * f64::from(card.memory_bus_bits)
                    / 8.0;
            let datasheet = card.bandwidth_gb_s * 1e9;
            assert!(
                (by_clock / datasheet - 1.0).abs() < 0.01,
                "{name}: {by_clock} against {datasheet}"
            );
            assert!(card.bandwidth_efficiency < 1.0 && card.matmul_efficiency < 1.0, "{name}");
        }
    }

    #[test]
    fn the_scarcer_of_bandwidth_arithmetic_and_launches_decides() {
        let t4 = Profile::named("t4");
        let copy = Work { bytes: 240e9, flops: None };
        assert!((t4.seconds(copy) - 1.0).abs() < 1e-12);
        let product = Work { bytes: 1.0, flops: Some((65e12, t4.matmul("f16/f32").unwrap())) };
        assert!((t4.seconds(product) - 1.6).abs() < 1e-12);
        assert!((t4.seconds(Work::default()) - 3e-6).abs() < 1e-18);
        assert_eq!(t4.matmul("bf16/f32"), None);
    }
}
