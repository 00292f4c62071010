//! What is extrapolated from a few blocks and rounds, against what the whole launch counts.

use warpmark_ptx::{Area, Traffic};

use super::case::Case;
use super::table::{Built, row};
use super::text_tests::{built, options};
use super::*;
use crate::compiler::{Unit, builds};
use crate::source::load;
use warpmark_ptx::Counts;

/// How far an extrapolated count may be off: branches that only some threads take are not every block's.
const TOLERANCE: f64 = 2e-3;

/// Launches with more blocks than are sampled, and more rounds of their loops.
fn long(built: Built<'_>) -> Vec<Case> {
    let word = || vec![0; 4];
    match built.name {
        "cache_read" => {
            let case = Case::new(13, built.threads).array(vec![0; 5 << 14]).u32(5);
            vec![case.u32(16 * 5 + 3).array(word()).u32(0)]
        }
        "shared_read" => {
            let case = Case::new(11, built.threads).u32(1).u32(16 * 6 + 7).u32(256);
            vec![case.array(word()).u32(0)]
        }
        "atomics_add" => [0, 8]
            .map(|stride: u32| {
                let counters = vec![0; 4 * 11 * 96 * stride.max(1) as usize];
                Case::new(11, 96).array(counters).u32(stride).u32(16 * 4 + 9)
            })
            .into(),
        name if name.starts_with("fill_") => {
            let count = 9 * 64 * (16 * 4 + 3) + 17;
            vec![Case::new(9, 64).room(8 * count).u64(count).u64(7)]
        }
        name => row(name).timed.map(|timed| timed(built, 11).case).into_iter().collect(),
    }
}

/// All that is counted but what the sample says by another rule.
fn flat(counts: &Counts) -> Vec<u64> {
    let Counts { lanes, kinds, read, written, shared, barriers, waits, atomics, products, areas } =
        counts;
    let mut all = vec![*lanes, *barriers, *waits, atomics.operations, atomics.on_one];
    all.extend(kinds);
    all.extend(products);
    for Traffic { requests, bytes, taken, least } in [read, written, shared] {
        all.extend([requests, bytes, taken, least]);
    }
    let mut areas = areas.clone();
    areas.sort_by_key(|area| area.start);
    for Area { read, written, atomic, span, .. } in areas {
        all.extend([read, written, atomic, span]);
    }
    all
}

#[test]
fn a_few_blocks_and_rounds_tell_what_a_whole_launch_counts_and_how_long_it_takes() {
    let (profile, options, mut seen) = (Profile::named("t4"), options(), 0);
    for (stem, name, source) in builds() {
        let ptx = Unit { name: &name, source: &source, options: &options }.ptx(75).unwrap();
        for entry in load(&ptx, |_, _| 0).unwrap().entries() {
            if model(&entry.name).is_none() || waits_for_the_host(&entry.name) {
                continue;
            }
            let code = Arc::clone(&entry.code);
            for mut case in long(built(&entry)) {
                let mut launch = case.launch(&entry, &profile);
                let estimated = launch.estimate(&code).unwrap();
                let (_, ran) = launch.by_text(&code);
                for (of, (a, b)) in (0..).zip(flat(&estimated).iter().zip(flat(&ran.counts))) {
                    let off = (*a as f64 - b as f64).abs() / b.max(1) as f64;
                    assert!(off <= TOLERANCE, "{stem} {}, count {of}: {a}, not {b}", entry.name);
                }
                let [a, b] = [&estimated, &ran.counts].map(|counts| launch.seconds(counts));
                assert!((a / b - 1.0).abs() <= TOLERANCE, "{stem} {}: {a}, not {b}", entry.name);
                seen += 1;
            }
        }
    }
    assert!(seen >= 47, "{seen}");
}
