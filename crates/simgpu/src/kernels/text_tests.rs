//! Every kernel's text against its model, at small random sizes, and mutants of the text.

use std::sync::Arc;

use super::text::BUDGET;
use super::*;
use crate::compiler::Unit;
use crate::contents::Bytes;
use crate::source::load;
use warpmark_ptx::Findings;

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

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// So many words: small floats, so that sums of them are exact or not as the case may be.
    fn floats(&mut self, count: u64) -> Vec<u8> {
        (0..count)
            .flat_map(|_| (self.below(1 << 20) as f32 / 1024.0 - 300.0).to_le_bytes())
            .collect()
    }

    fn words(&mut self, count: u64) -> Vec<u8> {
        (0..count).flat_map(|_| (self.next() as u32).to_le_bytes()).collect()
    }
}

/// A launch of a kernel: what it is given, and how.
pub(super) struct Case {
    pub(super) memory: AddressSpace,
    pub(super) arguments: Vec<Vec<u8>>,
    pub(super) geometry: Geometry,
}

impl Case {
    pub(super) fn new(blocks: u32, threads: u32) -> Self {
        let geometry = Geometry { grid: [blocks, 1, 1], block: [threads, 1, 1], shared: 0 };
        Self { memory: AddressSpace::new(1 << 30, None), arguments: Vec::new(), geometry }
    }

    /// With an array that holds these bytes, and nothing behind them.
    pub(super) fn array(mut self, bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        let at = self.memory.allocate(len, false).unwrap();
        let (contents, offset) = self.memory.contents(at, len).unwrap();
        contents.write(offset, len, Arc::new(Bytes(bytes)));
        self.arguments.push(at.to_le_bytes().to_vec());
        self
    }

    /// With an array that nobody has written.
    pub(super) fn room(mut self, len: u64) -> Self {
        let at = self.memory.allocate(len, false).unwrap();
        self.arguments.push(at.to_le_bytes().to_vec());
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.arguments.push(value.to_le_bytes().to_vec());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.arguments.push(value.to_le_bytes().to_vec());
        self
    }

    pub(super) fn f32(self, value: f32) -> Self {
        self.u32(value.to_bits())
    }
}

/// A small launch of one of the suite's kernels; `threads` is what its bounds allow.
fn case(kernel: &str, threads: u32, n: &mut Numbers) -> Case {
    let blocks = 1 + n.below(3) as u32;
    let mask = n.one_of(&[0, u32::MAX]);
    let count = u64::from(blocks) * CHUNK;
    let scale = n.below(64) as f32 / 8.0 - 3.0;
    let plain = Case::new(blocks, threads);
    match kernel {
        "memory_read" => plain.array(n.floats(count)).array(n.words(1)).u32(mask),
        "memory_write" => {
            let mut case = plain.room(4 * count);
            case.arguments.push(n.words(4));
            case
        }
        "memory_copy" => plain.array(n.floats(count)).room(4 * count),
        "memory_scale" => plain.array(n.floats(count)).room(4 * count).f32(scale),
        "memory_add" => plain.array(n.floats(count)).array(n.floats(count)).room(4 * count),
        "memory_triad" => {
            plain.array(n.floats(count)).array(n.floats(count)).room(4 * count).f32(scale)
        }
        "cache_read" => {
            let (tiles, steps) = (1 + n.below(4), n.below(7) as u32);
            plain
                .array(n.words(tiles * 4096))
                .u32(tiles as u32)
                .u32(steps)
                .array(n.words(1))
                .u32(mask)
        }
        "chase_walk" => {
            let len = 2 + n.below(300);
            let step = 1 + n.below(len - 1);
            let next: Vec<u8> =
                (0..len).flat_map(|at| (((at + step) % len) as u32).to_le_bytes()).collect();
            let state = [n.below(len), 0].into_iter().flat_map(u64::to_le_bytes).collect();
            Case::new(1, 1).array(next).u32(n.below(70) as u32).array(state)
        }
        "shared_read" => {
            let stride = n.one_of(&[0, 1, 255, 256, 257]);
            let case = plain.u32(n.next() as u32).u32(n.below(20) as u32).u32(stride);
            case.array(n.words(1)).u32(mask)
        }
        "atomics_add" => {
            let threads = 32 * (1 + n.below(8) as u32);
            let stride = n.one_of(&[0, 1, 8]);
            let len = u64::from(blocks * threads - 1) * stride + 1;
            let case = Case::new(blocks, threads).array(n.words(len));
            case.u32(stride as u32).u32(n.below(5) as u32)
        }
        "launch_empty" => Case::new(1, 1).array(n.words(1)).u32(n.one_of(&[0, 7])),
        _ => fill(kernel, blocks, n),
    }
}

fn fill(kernel: &str, blocks: u32, n: &mut Numbers) -> Case {
    let size = match kernel {
        "fill_f32" => 4,
        "fill_f16" | "fill_bf16" => 2,
        "fill_fp8" | "fill_int8" => 1,
        "fill_f64" => 8,
        other => panic!("no launch of {other} is known here"),
    };
    let count = 1 + n.below(1500);
    Case::new(blocks, 1 + n.below(256) as u32).room(count * size).u64(count).u64(n.next())
}

/// What is found in launches of every kernel of a text.
pub(crate) fn findings(ptx: &str, seed: u64, launches: usize) -> Findings {
    let profile = Profile::named("t4");
    let (mut all, mut n) = (Findings::default(), Numbers(seed));
    for entry in load(ptx, |_, _| 0).unwrap().entries {
        if waits_for_the_host(&entry.name) {
            all.merge(of_a_gate(&entry, &profile));
            continue;
        }
        let bound = entry.code.as_ref().and_then(|code| code.most_threads).unwrap_or(256);
        for _ in 0..launches {
            let Case { mut memory, arguments, geometry } = case(&entry.name, bound, &mut n);
            let (entry, memory) = (&*entry, &mut memory);
            let mut launch =
                Launch { entry, arguments, geometry, memory, profile: &profile, gate: None };
            let (_, ran) = launch.run(BUDGET);
            all.merge(ran.findings);
        }
    }
    all
}

/// What is found where the gate stands open, and where nobody opens it: the second word tells.
fn of_a_gate(entry: &Entry, profile: &Profile) -> Findings {
    let mut all = Findings::default();
    for (held, ticket, told) in [(5_u32, 5_u32, 0_u32), (4, 5, 5), (6, 5, 5), (0, 1, 1)] {
        let words = [held, 0].into_iter().flat_map(u32::to_le_bytes).collect();
        // A thousand nanoseconds: some looks at the gate.
        let case = Case::new(1, 1).array(words).u32(ticket).u64(1000);
        let (mut memory, arguments, geometry) = (case.memory, case.arguments, case.geometry);
        let at = u64::from_le_bytes(arguments[0][..].try_into().unwrap());
        let memory = &mut memory;
        let mut launch = Launch { entry, arguments, geometry, memory, profile, gate: None };
        let (result, ran) = launch.by_text(entry.code.as_ref().unwrap());
        all.merge(ran.findings);
        let mut bytes = [0; 8];
        memory.snapshot(at, 8).unwrap().read(0, &mut bytes);
        let left =
            [&bytes[..4], &bytes[4..]].map(|word| u32::from_le_bytes(word.try_into().unwrap()));
        if result.is_err() || left != [held, told] {
            all.differs_from_its_model(&entry.name, at);
        }
    }
    all
}

/// The suite's way to compile.
pub(crate) fn options() -> Vec<String> {
    vec!["--std=c++17".to_owned()]
}

#[test]
fn every_kernel_leaves_in_memory_what_its_model_says() {
    let mut seen = 0;
    for (stem, name, source) in crate::compiler::builds() {
        let unit = Unit { name: &name, source: &source, options: &options() };
        for architecture in [75, 90] {
            let ptx = unit.ptx(architecture).unwrap();
            let found = findings(&ptx, 1 + u64::from(architecture), 24);
            let lines: Vec<String> = found.lines().map(|(line, _)| line).collect();
            assert!(lines.is_empty(), "{stem}: {lines:#?}");
            seen += 1;
        }
    }
    assert!(seen >= 26, "{seen}");
}

#[test]
fn a_model_that_is_wrong_is_found_wherever_it_writes() {
    // The text of one kernel under the name of another, whose model does something else.
    let source =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../kernels/launch.cu"));
    let unit = Unit { name: "launch.cu", source: &source.unwrap(), options: &options() };
    let text = unit.ptx(75).unwrap();
    assert!(findings(&text, 5, 8).is_empty());
    // The sum is never stored, or stored where it was not asked for.
    for (from, to) in [("st.global.u32", "// st.global.u32"), ("add.s32", "sub.s32")] {
        let wrong = text.replace(from, to);
        assert_ne!(wrong, text);
        let found = findings(&wrong, 5, 8);
        let line = found.lines().next().unwrap().0;
        assert!(line.contains("model of it leaves something else"), "{line}");
    }
}

/// Seconds that this thread had a processor, whatever else the host did.
fn processor_seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    told.split(' ').next().and_then(|word| word.parse::<f64>().ok()).unwrap() * 1e-9
}

/// How fast the machine is, with all its checks: `cargo test -p warpmark-simgpu -- --ignored --nocapture fast`.
#[test]
#[ignore = "a figure to look at, and the host decides it"]
fn how_fast_kernels_are_executed() {
    let profile = Profile::named("t4");
    let mut n = Numbers(3);
    for (file, kernel) in [
        ("memory.cu", "memory_triad"),
        ("memory.cu", "memory_read"),
        ("fill.cu", "fill_f32"),
        ("shared.cu", "shared_read"),
        ("cache.cu", "cache_read"),
    ] {
        let build = crate::compiler::builds().into_iter().find(|(_, name, _)| name == file);
        let (_, name, source) = build.unwrap();
        let ptx = Unit { name: &name, source: &source, options: &options() }.ptx(80).unwrap();
        let entries = load(&ptx, |_, _| 0).unwrap().entries;
        let entry = entries.iter().find(|entry| entry.name == kernel).unwrap();
        let count = 64 * CHUNK;
        let arrays = || Case::new(64, 256).array(vec![0; 4 * count as usize]);
        let case = match kernel {
            "memory_triad" => arrays().array(n.floats(count)).room(4 * count).f32(2.0),
            "memory_read" => arrays().array(n.words(1)).u32(0),
            "fill_f32" => arrays().u64(count).u64(7),
            "shared_read" => Case::new(16, 256).u32(1).u32(512).u32(256).array(n.words(1)).u32(0),
            _ => {
                Case::new(16, 256).array(n.words(4 * 4096)).u32(4).u32(64).array(n.words(1)).u32(0)
            }
        };
        let Case { mut memory, arguments, geometry } = case;
        let memory = &mut memory;
        let mut launch =
            Launch { entry, arguments, geometry, memory, profile: &profile, gate: None };
        // The first launch pays for memory of the host, as the first of every process does.
        let (_, _) = launch.by_text(entry.code.as_ref().unwrap());
        let started = processor_seconds();
        let (_, ran) = launch.by_text(entry.code.as_ref().unwrap());
        let rate = ran.counts.lanes as f64 / (processor_seconds() - started) / 1e6;
        println!(
            "{kernel}: {rate:.0} M instructions of lanes a second ({} in all)",
            ran.counts.lanes
        );
    }
}
