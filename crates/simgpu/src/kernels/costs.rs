//! What the kernels cost by their text: held against the least that their headers name, and written down
//! in `docs/KERNELS.md`, with what ptxas makes of them.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::case::Timed;
use super::table::{Row, row};
use super::text_tests::{built, options};
use super::*;
use crate::compiler::{Unit, builds};
use crate::occupancy::{Assembled, Multiprocessor};
use crate::source::load;
use warpmark_ptx::{Counts, Kind, Traffic};

/// Where it is written down.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/KERNELS.md");

/// By how much the bytes counted may exceed the least.
const TOLERANCE: f64 = 1.05;

/// A kernel's text and what a timed launch of it does.
struct Cost {
    row: &'static Row,
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
            let (result, ran) = timed.case.launch(&entry, &profile).by_text(&code);
            assert!(
                result.is_ok() && ran.findings.is_empty(),
                "{}: {:?}",
                entry.name,
                ran.findings
            );
            let cost = Cost { row, timed, counts: ran.counts };
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

/// The simulated cards, each with its architecture.
pub(super) const CARDS: [(u32, &str); 6] =
    [(75, "t4"), (80, "a100-40"), (86, "a10g"), (89, "l4"), (90, "h100"), (90, "h200")];

/// The document.
fn document(costs: &BTreeMap<(String, String), Cost>) -> String {
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
    text += &by_card(costs);
    text += &spilled(costs);
    text += &attention_floors::floors();
    text
}

/// What ptxas makes of each kernel for each card, and what a full card has under way.
fn by_card(costs: &BTreeMap<(String, String), Cost>) -> String {
    let mut text = "\n## By ptxas\n\nUnder way: bytes that all threads a card holds ask for before they need one of them, in KiB, and the \
        KiB that its\nbandwidth times its latency needs (Little's law; both of the simulated card's profile). Where nothing waits for bytes, \
        the\nreason stands instead.\n\n| build | kernel | card | registers | spilled | shared | blocks a multiprocessor | occupancy | under way | needed |\n\
        |---|---|---|---|---|---|---|---|---|---|\n".to_owned();
    let options = options();
    for (architecture, card) in CARDS {
        let profile = Profile::named(card);
        for (stem, name, source) in builds() {
            let unit = Unit { name: &name, source: &source, options: &options };
            let ptx = unit.stored(architecture).unwrap();
            let entries = load(&ptx, |_, _| 0).unwrap().entries();
            let entries = entries.iter().map(|entry| (entry.name.clone(), &**entry));
            for (kernel, entry) in entries.collect::<BTreeMap<String, &Entry>>() {
                let Some(cost) = costs.get(&(stem.clone(), kernel.clone())) else { continue };
                let held =
                    row_of_a_card(&format!("{stem} {kernel}"), entry, cost, (card, &profile));
                let _ = writeln!(text, "| {stem} | `{kernel}` | {card} | {held} |");
            }
        }
    }
    text
}

/// Why what spills may do so.
fn spilled(costs: &BTreeMap<(String, String), Cost>) -> String {
    let reasons = costs.iter().flat_map(|((_, kernel), cost)| {
        let of_one = move |(card, bytes, reason): &(&str, u32, &str)| {
            format!("`{kernel}` on {card}, at most {bytes} bytes: {reason}")
        };
        cost.row.spills.iter().map(of_one)
    });
    let reasons: Vec<String> = reasons.collect();
    format!("\nSpills that are allowed: {}.\n", reasons.join("; "))
}

/// What ptxas makes of a kernel for a card, held against what the kernel may cost.
fn row_of_a_card(
    what: &str,
    entry: &Entry,
    cost: &Cost,
    (card, profile): (&str, &Profile),
) -> String {
    let assembled = entry.assembled_for(profile);
    let assembled = assembled.unwrap_or_else(|| {
        panic!("{what}: nothing of ptxas for {card}; `scripts/kernel-ptx --write` makes it")
    });
    let Assembled { registers, spilled, shared } = assembled;
    let allowed = cost.row.spills.iter().find(|(on, ..)| *on == card);
    assert!(
        spilled <= allowed.map_or(0, |(_, bytes, _)| *bytes),
        "{what} spills {spilled} bytes on {card}"
    );
    let geometry = cost.timed.case.geometry;
    let threads = geometry.threads() as u32;
    let multiprocessor = Multiprocessor::of(profile.compute_capability);
    let shared = shared + geometry.shared;
    let blocks = multiprocessor.resident(threads, shared, Some(assembled));
    let occupancy = 100 * blocks * threads.next_multiple_of(32) / multiprocessor.threads;
    let in_flight = entry.code.in_flight();
    let under_way = u64::from(in_flight * blocks * threads) * u64::from(profile.sm_count);
    let needed = (profile.bandwidth_gb_s * profile.latency_ns.2) as u64;
    let told = cost.row.idle.map_or_else(
        || {
            assert!(under_way >= needed, "{what} on {card}: {under_way} of {needed}");
            format!("{} | {}", under_way >> 10, needed >> 10)
        },
        |reason| format!("{reason} | "),
    );
    format!("{registers} | {spilled} | {shared} | {blocks} | {occupancy} % | {told}")
}

#[test]
fn the_document_of_costs_is_true_and_a_full_card_has_enough_under_way() {
    let made = document(&costs());
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
