//! What the kernels cost by their text: held against the least that their headers name, and written down
//! in `docs/KERNELS.md`, with what ptxas makes of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use super::case::Timed;
use super::table::{Row, row};
use super::text_tests::{built, options};
use super::*;
use crate::compiler::{Unit, builds};
use crate::source::load;
use warpmark_ptx::{Clocks, Counts, Kind, Traffic};

/// Where it is written down.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/KERNELS.md");

/// By how much the bytes counted may exceed the least.
const TOLERANCE: f64 = 1.05;

/// A kernel's text and what a timed launch of it does.
struct Cost {
    row: &'static Row,
    code: Arc<warpmark_ptx::Kernel>,
    timed: Timed,
    counts: Counts,
}

/// Every kernel that is timed, by the build and its name.
fn costs() -> BTreeMap<(String, String), Cost> {
    let (profile, options, mut all) = (Profile::named("t4"), options(), BTreeMap::new());
    for (stem, name, source) in builds() {
        let ptx = Unit { name: &name, source: &source, options: &options }.ptx(80).unwrap();
        for entry in load(&ptx, |_, _| 0).unwrap().entries() {
            let code = Arc::clone(&entry.code);
            let row = row(&entry.name);
            let Some(mut timed) = row.timed.map(|timed| timed(built(&entry), 1)) else { continue };
            let (arguments, geometry) = (timed.case.arguments.clone(), timed.case.geometry);
            let (memory, entry) = (&mut timed.case.memory, &*entry);
            entry.grant(entry.most_dynamic().max(geometry.shared));
            let mut launch = Launch {
                entry,
                arguments,
                geometry,
                memory,
                profile: &profile,
                clocks: Clocks::default(),
                gate: None,
            };
            let (result, ran) = launch.by_text(&code);
            assert!(
                result.is_ok() && ran.findings.is_empty(),
                "{}: {:?}",
                entry.name,
                ran.findings
            );
            let cost = Cost { row, code, timed, counts: ran.counts };
            all.insert((stem.clone(), entry.name.clone()), cost);
        }
    }
    all
}

fn near(counted: u64, least: u64) -> bool {
    counted as f64 <= TOLERANCE * least as f64
}

#[test]
fn no_kernel_moves_more_bytes_than_its_header_counts_and_none_of_them_twice() {
    let costs = costs();
    assert!(costs.len() >= 46, "{}", costs.len());
    for ((stem, kernel), Cost { row, timed, counts, .. }) in &costs {
        let Counts { read, written, shared, .. } = counts;
        let pairs = [(read, timed.read), (written, timed.written), (shared, timed.shared)];
        for (traffic, least) in pairs {
            assert!(near(traffic.bytes, least), "{stem} {kernel}: {traffic:?}, least {least}");
            assert!(traffic.bytes >= least, "{stem} {kernel}: {traffic:?} is less than {least}");
            let ideal = traffic.taken == traffic.least;
            assert!(ideal || row.apart.is_some(), "{stem} {kernel}: {traffic:?}");
        }
        assert_eq!(shared.taken, shared.least, "{stem} {kernel}: banks conflict");
    }
}

/// What ptxas says of a kernel.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Compiled {
    registers: u32,
    spilled: u32,
    shared: u32,
}

/// Asks ptxas about every kernel of a text.
fn ptxas(program: &Path, ptx: &str, architecture: u32) -> BTreeMap<String, Compiled> {
    let file =
        std::env::temp_dir().join(format!("simgpu-{}-{architecture}.ptx", std::process::id()));
    std::fs::write(&file, ptx).unwrap();
    let target = format!("--gpu-name=sm_{architecture}");
    let ran =
        Command::new(program).args(["-v", &target, "-o", "/dev/null"]).arg(&file).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{told}");
    let (mut all, mut kernel) = (BTreeMap::new(), String::new());
    let number_before = |line: &str, what: &str| {
        let before = line.split(what).next().unwrap_or_default();
        let found = line.contains(what).then(|| before.rsplit(' ').find(|word| !word.is_empty()));
        found.flatten().and_then(|word| word.parse::<u32>().ok()).unwrap_or(0)
    };
    for line in told.lines() {
        if let Some((_, rest)) = line.split_once("entry function '") {
            kernel = rest.split('\'').next().unwrap_or_default().to_owned();
        }
        let compiled: &mut Compiled = all.entry(kernel.clone()).or_default();
        compiled.spilled += number_before(line, "bytes spill stores");
        compiled.registers = compiled.registers.max(number_before(line, "registers"));
        compiled.shared = compiled.shared.max(number_before(line, "bytes smem"));
    }
    all.remove("");
    all
}

/// What a multiprocessor of an architecture has, as NVIDIA's table of compute capabilities says: threads,
/// blocks, and KiB of shared memory of which each block takes one more on newer ones.
fn room(architecture: u32) -> (u32, u32, u32, u32) {
    match architecture {
        75 => (1024, 16, 64, 0),
        80 => (2048, 32, 164, 1),
        86 => (1536, 16, 100, 1),
        89 => (1536, 24, 100, 1),
        _ => (2048, 32, 228, 1),
    }
}

/// Blocks that a multiprocessor holds at once; registers are given to a warp by 256.
fn resident(architecture: u32, threads: u32, compiled: Compiled) -> u32 {
    let (most_threads, most_blocks, shared_kib, own_kib) = room(architecture);
    let warps = threads.div_ceil(32);
    let of_a_warp = (compiled.registers * 32).next_multiple_of(256).max(256);
    let by_registers = 65_536 / of_a_warp / warps;
    let shared = compiled.shared + (own_kib << 10);
    let by_shared = if compiled.shared == 0 { most_blocks } else { (shared_kib << 10) / shared };
    most_blocks.min(most_threads / (32 * warps)).min(by_registers).min(by_shared)
}

/// The simulated card of each architecture.
pub(super) const CARDS: [(u32, &str); 5] =
    [(75, "t4"), (80, "a100-40"), (86, "a10g"), (89, "l4"), (90, "h100")];

/// The document.
fn document(costs: &BTreeMap<(String, String), Cost>, program: &Path) -> String {
    let mut text = "# What our kernels cost\n\nMade by `scripts/kernel-ptx --write`; CI fails where it is not true. \
        The text of each kernel is executed on a simulated\ncard and counted; registers are ptxas 13.0's. No card was measured.\n\n\
        ## By the text\n\nBytes of a small timed launch: the least that could be moved, and what was asked for. \
        Sectors: of 32 bytes, a request\nof a warp, and the fewest that those bytes lie in. Passes: over the banks of shared memory, \
        where one more than the\nfewest is a conflict. Instructions: of a warp, per 128 bytes moved.\n\n\
        | build | kernel | read, least | counted | written, least | counted | sectors | fewest | shared passes | fewest | instructions |\n\
        |---|---|---|---|---|---|---|---|---|---|---|\n".to_owned();
    for ((stem, kernel), Cost { timed, counts, .. }) in costs {
        let requests = (counts.read.requests + counts.written.requests).max(1) as f64;
        let each =
            |f: fn(&Traffic) -> u64| (f(&counts.read) + f(&counts.written)) as f64 / requests;
        let moved = (counts.read.bytes + counts.written.bytes + counts.shared.bytes).max(128);
        let instructions: u64 = Kind::ALL.iter().map(|kind| counts.kinds[*kind as usize]).sum();
        let _ = writeln!(
            text,
            "| {stem} | `{kernel}` | {} | {} | {} | {} | {:.1} | {:.1} | {} | {} | {:.1} |",
            timed.read,
            counts.read.bytes,
            timed.written,
            counts.written.bytes,
            each(|traffic| traffic.taken),
            each(|traffic| traffic.least),
            counts.shared.taken,
            counts.shared.least,
            instructions as f64 * 128.0 / moved as f64
        );
    }
    text += "\nSectors above the fewest are on purpose: ";
    let mut reasons: Vec<String> = costs
        .iter()
        .filter_map(|((_, kernel), cost)| Some(format!("`{kernel}`, {}", cost.row.apart?)))
        .collect();
    reasons.dedup();
    let _ = writeln!(text, "{}.", reasons.join("; "));
    text += &by_architecture(costs, program);
    text += &attention_floors::floors();
    text
}

/// What ptxas makes of each kernel for each architecture, and what a full card has under way.
fn by_architecture(costs: &BTreeMap<(String, String), Cost>, program: &Path) -> String {
    let mut text = "\n## By ptxas\n\nUnder way: bytes that all threads a card holds ask for before they need one of them, in KiB, and the \
        KiB that its\nbandwidth times its latency needs (Little's law; both of the simulated card's profile). Where nothing waits for bytes, \
        the\nreason stands instead.\n\n| build | kernel | card | registers | spilled | shared | blocks a multiprocessor | occupancy | under way | needed |\n\
        |---|---|---|---|---|---|---|---|---|---|\n".to_owned();
    let options = options();
    for (architecture, card) in CARDS {
        let profile = Profile::named(card);
        for (stem, name, source) in builds() {
            let ptx =
                Unit { name: &name, source: &source, options: &options }.ptx(architecture).unwrap();
            for (kernel, compiled) in ptxas(program, &ptx, architecture) {
                let Some(cost) = costs.get(&(stem.clone(), kernel.clone())) else { continue };
                let allowed = cost.row.spills.iter().find(|(on, _)| *on == card);
                let spilled = compiled.spilled;
                assert!(
                    spilled <= allowed.map_or(0, |(_, bytes)| *bytes),
                    "{stem} {kernel} spills {spilled} bytes on {card}"
                );
                let geometry = cost.timed.case.geometry;
                let compiled = Compiled { shared: compiled.shared + geometry.shared, ..compiled };
                let threads = geometry.threads() as u32;
                let blocks = resident(architecture, threads, compiled);
                let occupancy = 100 * blocks * threads.next_multiple_of(32) / room(architecture).0;
                let under_way = u64::from(cost.code.in_flight() * blocks * threads)
                    * u64::from(profile.sm_count);
                let needed = (profile.bandwidth_gb_s * profile.latency_ns.2) as u64;
                let told = cost.row.idle.map_or_else(
                    || {
                        assert!(
                            under_way >= needed,
                            "{stem} {kernel} on {card}: {under_way} of {needed}"
                        );
                        format!("{} | {}", under_way >> 10, needed >> 10)
                    },
                    |reason| format!("{reason} | "),
                );
                let _ = writeln!(
                    text,
                    "| {stem} | `{kernel}` | {card} | {} | {} | {} | {blocks} | {occupancy} % | {told} |",
                    compiled.registers, compiled.spilled, compiled.shared
                );
            }
        }
    }
    text
}

/// Needs ptxas; `scripts/kernel-ptx` brings it and runs this.
#[test]
#[ignore = "needs ptxas, which cargo test must not require"]
fn the_document_of_costs_is_true_and_a_full_card_has_enough_under_way() {
    let program = std::env::var_os("SIMGPU_PTXAS").expect("SIMGPU_PTXAS names a ptxas");
    let made = document(&costs(), Path::new(&program));
    if std::env::var_os("SIMGPU_WRITE_PTX").is_some() {
        std::fs::write(DOCUMENT, made).unwrap();
        return;
    }
    let stored = std::fs::read_to_string(DOCUMENT).unwrap();
    assert!(
        made == stored,
        "docs/KERNELS.md is not true; `scripts/kernel-ptx --write` makes it anew"
    );
}

#[test]
fn as_many_blocks_are_resident_as_threads_registers_and_memory_leave_room_for() {
    let compiled = |registers, shared| Compiled { registers, spilled: 0, shared };
    assert_eq!(resident(80, 256, compiled(32, 0)), 8);
    assert_eq!(resident(80, 256, compiled(33, 0)), 6);
    assert_eq!(resident(75, 256, compiled(16, 16 << 10)), 4);
    assert_eq!(resident(86, 256, compiled(16, 16 << 10)), 5);
    assert_eq!(resident(90, 32, compiled(16, 0)), 32);
}
