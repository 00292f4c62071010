//! How fast attention can be on each card at the most, and what is predicted of the kernel, by its counts.

use std::fmt::Write;

use warpmark_ptx::{Counts, Kind};

use super::case::Numbers;
use super::costs::CARDS;
use super::table::attention::{Build, Extents, case};
use super::text_tests::options;
use super::*;
use crate::compiler::{Unit, builds};
use crate::source::load;

/// Attention as a model of the suite has it.
struct Workload {
    name: &'static str,
    /// Head size.
    head: u64,
    heads: u64,
    key_heads: u64,
    /// Queries, and as many keys.
    length: u64,
    causal: bool,
}

const WORKLOADS: [Workload; 4] = [
    Workload {
        name: "GPT-2 124M, prefill 1024",
        head: 64,
        heads: 12,
        key_heads: 12,
        length: 1024,
        causal: true,
    },
    Workload {
        name: "Llama-3-8B, prefill 2048",
        head: 128,
        heads: 32,
        key_heads: 8,
        length: 2048,
        causal: true,
    },
    Workload {
        name: "Whisper large, encoder",
        head: 64,
        heads: 20,
        key_heads: 20,
        length: 1500,
        causal: false,
    },
    Workload {
        name: "SDXL, 64 × 64 of the image",
        head: 64,
        heads: 10,
        key_heads: 10,
        length: 4096,
        causal: false,
    },
];

/// Bytes that shared memory gives a multiprocessor in a clock.
const SHARED_BYTES: f64 = 128.0;

/// Instructions of warps that a multiprocessor begins in a clock.
const ISSUED: f64 = 4.0;

/// Exponentials that a multiprocessor computes in a clock.
const EXPONENTIALS: f64 = 16.0;

/// The share of the peak that `mma.sync` reaches: on 9.0 the whole of it is for `wgmma` (Luo et al., "Benchmarking and
/// Dissecting the Nvidia Hopper GPU Architecture via Microbenchmarking", 2024, measured 63 %).
fn of_the_peak(architecture: u32) -> f64 {
    if architecture >= 90 { 0.63 } else { 1.0 }
}

/// What a block of queries costs for each block of keys, on one multiprocessor alone.
#[derive(Debug, Clone, Copy)]
struct Step {
    rows: u64,
    keys: u64,
    instructions: f64,
    /// Bytes through shared memory, those of copies from device memory too.
    shared: f64,
}

/// Executes a build over 128 keys and over 256: what the second half adds is the cost of a step.
fn step(build: Build, head: u64, architecture: u32) -> Step {
    let (profile, options) = (Profile::named("t4"), options());
    let (_, name, source) =
        builds().into_iter().find(|(stem, ..)| *stem == build.stem()).expect("a stored build");
    let ptx = Unit { name: &name, source: &source, options: &options }.ptx(architecture).unwrap();
    let entry = load(&ptx, |_, _| 0).unwrap().entries().remove(0);
    let counted = |keys: u64| -> Counts {
        let mut case = case(Extents::full(build, keys), &mut Numbers(1));
        let (result, ran) = case.launch(&entry, &profile).by_text(&entry.code);
        assert!(result.is_ok() && ran.findings.is_empty(), "{:?}", ran.findings);
        ran.counts
    };
    let (half, whole) = (counted(128), counted(256));
    let instructions =
        |counts: &Counts| Kind::ALL.iter().map(|kind| counts.kinds[*kind as usize]).sum::<u64>();
    let arriving = if architecture >= 80 { 2 * 128 * 2 * head } else { 0 };
    let shared = whole.shared.taken - half.shared.taken;
    Step {
        rows: build.rows(),
        keys: 128,
        instructions: (instructions(&whole) - instructions(&half)) as f64,
        shared: shared as f64 * SHARED_BYTES + arriving as f64,
    }
}

/// Seconds of a workload on a card: the floors, and the terms of the prediction.
struct Predicted {
    bytes: f64,
    flops: f64,
    tensor: f64,
    shared: f64,
    issue: f64,
    exponentials: f64,
}

impl Predicted {
    fn of(workload: &Workload, architecture: u32, profile: &Profile, step: Step) -> Self {
        let Workload { head, heads, key_heads, length, causal, .. } = *workload;
        let clocks = f64::from(profile.sm_clock_mhz) * 1e6;
        let peak = profile.peaks_tflops["f16/f32"] * 1e12;
        let pairs = heads * if causal { length * (length + 1) / 2 } else { length * length };
        // Keys that the blocks of queries go over, whole steps of them.
        let visited = |block: u64| {
            let seen = if causal { length.min((block + 1) * step.rows) } else { length };
            seen.div_ceil(step.keys) as f64
        };
        let blocks = length.div_ceil(step.rows);
        let steps = heads as f64 * (0..blocks).map(visited).sum::<f64>();
        // The last round of blocks leaves multiprocessors idle.
        let all = (heads * blocks) as f64;
        let rounds = all / f64::from(profile.sm_count);
        let each = steps * rounds.ceil() / rounds / f64::from(profile.sm_count) / clocks;
        let in_pairs = (step.rows * step.keys) as f64;
        let per_clock = peak / f64::from(profile.sm_count) / clocks * of_the_peak(architecture);
        Self {
            bytes: (2 * head * length * (2 * heads + 2 * key_heads)) as f64
                / (profile.bandwidth_gb_s * 1e9),
            flops: (4 * head * pairs) as f64 / peak,
            tensor: each * in_pairs * 4.0 * head as f64 / per_clock,
            shared: each * step.shared / SHARED_BYTES,
            issue: each * step.instructions / ISSUED,
            exponentials: each * in_pairs / EXPONENTIALS,
        }
    }

    /// The shares of the higher floor that are reached if the terms follow each other, and if they overlap.
    fn shares(&self) -> (f64, f64) {
        let terms = [self.tensor, self.shared, self.issue, self.exponentials];
        let floor = self.bytes.max(self.flops);
        let longest = terms.into_iter().fold(self.bytes, f64::max);
        (floor / terms.iter().sum::<f64>().max(self.bytes), floor / longest)
    }
}

/// The part of the document.
pub(super) fn floors() -> String {
    let mut text = "\n## Attention: floors, and what is predicted\n\n\
        No card has been measured: these are floors by each card's datasheet, and a prediction, in µs. Bytes: queries, \
        keys,\nvalues and results once. FLOPs: 4 · head size for each query and key it may see. The terms, of all blocks \
        on all\nmultiprocessors, the last round's idle ones counted: products at the rate of `mma.sync` (63 % of the peak on 9.0), \
        masked ones\ntoo; shared memory at 128 bytes a clock; four instructions of a warp a clock, counted in the text; 16 \
        exponentials a\nclock. The share of the higher floor lies between that of the terms' sum, where nothing overlaps, \
        and that of the\nlongest alone. It is tested by measuring the same shapes: a share outside means a term that is \
        missing here.\nBefore large heads had blocks of 128 queries, the prediction for Llama-3-8B was 27 to 71 % on the A100 and 16 to 40 %\non the \
        H100: shared memory was the longest term.\n\n\
        | workload | card | bytes | FLOPs | products | shared | instructions | exponentials | share predicted |\n\
        |---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for workload in &WORKLOADS {
        for (architecture, card) in CARDS {
            let profile = Profile::named(card);
            let build =
                Build::chosen(workload.head, architecture, profile.shared_per_sm_kib, || {
                    workload.heads * workload.length.div_ceil(128)
                        >= 2 * u64::from(profile.sm_count)
                });
            let predicted = Predicted::of(
                workload,
                architecture,
                &profile,
                step(build, workload.head, architecture),
            );
            let (least, most) = predicted.shares();
            let us = |seconds: f64| format!("{:.1}", 1e6 * seconds);
            let _ = writeln!(
                text,
                "| {} | {card} | {} | {} | {} | {} | {} | {} | {:.0} to {:.0} % |",
                workload.name,
                us(predicted.bytes),
                us(predicted.flops),
                us(predicted.tensor),
                us(predicted.shared),
                us(predicted.issue),
                us(predicted.exponentials),
                100.0 * least,
                100.0 * most
            );
        }
    }
    text
}
