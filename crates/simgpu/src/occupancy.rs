//! What a multiprocessor has room for and how fast its pipes are, by compute capability: NVIDIA's tables
//! "technical specifications" and "throughput of native arithmetic instructions" of the CUDA C++ programming
//! guide.

use warpmark_ptx::Kind;

/// What ptxas makes of a kernel for an architecture.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Assembled {
    /// Registers of a thread.
    pub(crate) registers: u32,
    /// Bytes of registers that a thread keeps in memory.
    pub(crate) spilled: u32,
    /// Bytes of shared memory that a block always has.
    pub(crate) shared: u32,
}

/// What a line of a PTX text begins with that tells what ptxas makes of it.
const NOTE: &str = "// ptxas: ";

impl Assembled {
    /// The line of a PTX text that tells it.
    #[cfg(test)]
    pub(crate) fn note(&self, architecture: u32, kernel: &str) -> String {
        let Self { registers, spilled, shared } = self;
        format!("{NOTE}sm_{architecture} {kernel} {registers} {spilled} {shared}\n")
    }

    /// What the lines of a text tell of a kernel, for each architecture.
    pub(crate) fn of(text: &str, kernel: &str) -> Vec<(u32, Self)> {
        // They stand before the text, among what else is said of it.
        let head = text.lines().take_while(|line| line.is_empty() || line.starts_with("//"));
        let notes = head.filter_map(|line| line.strip_prefix(NOTE));
        let of_kernel = notes.filter_map(|note| {
            let words: Vec<&str> = note.split(' ').collect();
            let [target, name, registers, spilled, shared] = words[..] else { return None };
            let [registers, spilled, shared] =
                [registers, spilled, shared].map(|number| number.parse().ok());
            let architecture = target.strip_prefix("sm_")?.parse().ok()?;
            let found = Self { registers: registers?, spilled: spilled?, shared: shared? };
            (name == kernel).then_some((architecture, found))
        });
        of_kernel.collect()
    }
}

/// 32-bit registers of a multiprocessor, on all of these architectures.
const REGISTERS: u32 = 65_536;

/// Warps that a multiprocessor begins an instruction of in a clock.
pub(crate) const SCHEDULERS: f64 = 4.0;

/// A multiprocessor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Multiprocessor {
    /// The most threads and blocks that it holds at once.
    pub(crate) threads: u32,
    pub(crate) blocks: u32,
    /// KiB of shared memory that blocks can have, and KiB that each takes besides its own.
    pub(crate) shared_kib: u32,
    pub(crate) reserved_kib: u32,
    /// Lanes of arithmetic in f32 and in f64 that it does in a clock.
    float: f64,
    double: f64,
}

impl Multiprocessor {
    pub(crate) fn of(compute_capability: (u32, u32)) -> Self {
        let (threads, blocks, shared_kib, reserved_kib, float, double) = match compute_capability {
            (7, 0) => (2048, 32, 96, 0, 64.0, 32.0),
            (7, _) => (1024, 16, 64, 0, 64.0, 2.0),
            (8, 0) => (2048, 32, 164, 1, 64.0, 32.0),
            (8, 9) => (1536, 24, 100, 1, 128.0, 2.0),
            (8, _) => (1536, 16, 100, 1, 128.0, 2.0),
            _ => (2048, 32, 228, 1, 128.0, 64.0),
        };
        Self { threads, blocks, shared_kib, reserved_kib, float, double }
    }

    /// Lanes of an instruction that it does in a clock; `None` where another term tells how long it takes, or
    /// where machine code has none for it.
    pub(crate) fn lanes(&self, kind: Kind) -> Option<f64> {
        Some(match kind {
            Kind::Integer | Kind::Convert => 64.0,
            Kind::Float => self.float,
            Kind::Double => self.double,
            Kind::Special => 16.0,
            Kind::Exchange => 32.0,
            _ => return None,
        })
    }

    /// Blocks that it holds at once. Registers are given to a warp by 256; what ptxas says of them is not
    /// known of every kernel.
    pub(crate) fn resident(&self, threads: u32, shared: u32, assembled: Option<Assembled>) -> u32 {
        let warps = threads.div_ceil(32).max(1);
        let registers = assembled.map_or(0, |found| found.registers);
        let of_a_warp = (registers * 32).next_multiple_of(256).max(256);
        let by_registers = REGISTERS / of_a_warp / warps;
        let own = shared + (self.reserved_kib << 10);
        let by_shared = (self.shared_kib << 10).checked_div(own).unwrap_or(self.blocks);
        self.blocks.min(self.threads / (32 * warps)).min(by_registers).min(by_shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_blocks_are_resident_as_threads_registers_and_memory_leave_room_for() {
        let resident = |capability, threads, registers, shared| {
            let assembled = Some(Assembled { registers, ..Assembled::default() });
            Multiprocessor::of(capability).resident(threads, shared, assembled)
        };
        assert_eq!(resident((8, 0), 256, 32, 0), 8);
        assert_eq!(resident((8, 0), 256, 33, 0), 6);
        assert_eq!(resident((7, 5), 256, 16, 16 << 10), 4);
        assert_eq!(resident((8, 6), 256, 16, 16 << 10), 5);
        assert_eq!(resident((9, 0), 32, 16, 0), 32);
        assert_eq!(Multiprocessor::of((9, 0)).resident(256, 0, None), 8);
    }

    #[test]
    fn a_note_of_ptxas_is_read_as_it_was_written_and_for_its_kernel_alone() {
        let found = Assembled { registers: 26, spilled: 0, shared: 16 };
        let text = format!("{}{}.version 9.0\n", found.note(75, "a"), found.note(80, "b"));
        assert_eq!(Assembled::of(&text, "a"), [(75, found)]);
        assert_eq!(Assembled::of("// ptxas: sm_75 a 26 0\n", "a"), []);
    }
}
