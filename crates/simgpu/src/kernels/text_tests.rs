//! Every kernel's text against its model, at small random sizes, and mutants of the text.

use std::collections::BTreeSet;

use super::case::{Case, Numbers};
use super::table::{Built, row};
use super::text::BUDGET;
use super::*;
use crate::compiler::Unit;
use crate::source::load;
use warpmark_ptx::Findings;

/// What is found in launches of every kernel of a text.
pub(crate) fn findings(ptx: &str, seed: u64, launches: usize) -> Findings {
    let profile = Profile::named("t4");
    let (mut all, mut n) = (Findings::default(), Numbers(seed));
    for entry in load(ptx, |_, _| 0).unwrap().entries() {
        let row = row(&entry.name);
        for _ in 0..launches.div_ceil(row.of) {
            all.merge(of_a_launch(&entry, (row.random)(built(&entry), &mut n), &profile));
        }
    }
    all
}

/// How a kernel was built.
pub(super) fn built(entry: &Entry) -> Built<'_> {
    let code = &entry.code;
    Built { name: &entry.name, threads: code.most_threads.unwrap_or(256) }
}

/// What is found in a launch: by the checks of the machine, and in what it leaves in memory.
fn of_a_launch(entry: &Entry, mut case: Case, profile: &Profile) -> Findings {
    let check = case.check.take();
    let mut launch = case.launch(entry, profile);
    let Some(check) = check else { return launch.run(BUDGET).1.findings };
    let (result, ran) = launch.by_text(&entry.code);
    let mut found = ran.findings;
    // What a kernel leaves that was ended is nobody's business.
    if result.is_ok()
        && let Some(place) = check(&case.memory)
    {
        found.differs_from_its_model(&entry.name, place);
    }
    found
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
fn every_model_was_held_to_the_real_text_and_none_was_passed_by() {
    let (profile, mut n, mut held) = (Profile::named("t4"), Numbers(9), BTreeSet::new());
    for (_, name, source) in crate::compiler::builds() {
        let unit = Unit { name: &name, source: &source, options: &options() };
        for entry in load(&unit.ptx(80).unwrap(), |_, _| 0).unwrap().entries() {
            if model(&entry.name).is_none() || waits_for_the_host(&entry.name) {
                continue;
            }
            let mut case = (row(&entry.name).random)(built(&entry), &mut n);
            let (_, ran) = case.launch(&entry, &profile).run(BUDGET);
            // What the model alone answered has spent nothing.
            assert!(ran.spent > 0 && ran.counts.lanes > 0, "{}", entry.name);
            held.insert(entry.name.clone());
        }
    }
    assert_eq!(held.len(), 18, "each kernel that has a model, and no other: {held:?}");
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

/// The slowest that any kernel may be, in 10⁶ instructions of lanes a second.
const LEAST_RATE: f64 = 150.0;

/// How fast the machine is, with all its checks:
/// `cargo test -p warpmark-simgpu -- --ignored --nocapture fast`.
#[test]
#[ignore = "a figure of the host's, which must not be busy"]
fn how_fast_kernels_are_executed() {
    let profile = Profile::named("t4");
    let mut slow = Vec::new();
    for (stem, name, source) in crate::compiler::builds() {
        let ptx = Unit { name: &name, source: &source, options: &options() }.ptx(80).unwrap();
        for entry in load(&ptx, |_, _| 0).unwrap().entries() {
            let Some(timed) = row(&entry.name).timed else { continue };
            let mut case = timed(built(&entry), 32).case;
            // A launch of nothing is made of what comes before its first instruction.
            if entry.name == "launch_empty" {
                continue;
            }
            // The first launch pays for memory of the host, as the first of every process does.
            let mut run = || case.launch(&entry, &profile).by_text(&entry.code).1.counts;
            run();
            let (mut lanes, mut warps) = (0, 0);
            let (started, mut seconds) = (processor_seconds(), 0.0);
            while seconds < 0.2 {
                let counts = run();
                lanes += counts.lanes;
                warps += counts.kinds.iter().sum::<u64>();
                seconds = processor_seconds() - started;
            }
            let [lanes, warps] = [lanes, warps].map(|count| count as f64 / seconds / 1e6);
            println!(
                "{stem} {}: {lanes:.0} M instructions of lanes, {warps:.1} M of warps",
                entry.name
            );
            // One lane that follows a chain of loads does one lane's work in the time of 32: its warp
            // can be as fast as others are, and it cannot be as fast as 32 lanes.
            let one = case.geometry.threads() < 32;
            if (if one { 32.0 * warps } else { lanes }) < LEAST_RATE {
                slow.push(format!("{stem} {}: {lanes:.0}", entry.name));
            }
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
}
