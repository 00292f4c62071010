//! The suite's kernels, a row each: how tests launch them, and what they may cost.
//!
//! A kernel that stands here is executed with all checks at random small sizes, has its place in
//! `docs/KERNELS.md`, and is changed by `scripts/kernel-ptx --mutants`. A kernel of `kernels/` that does not
//! stand here fails a test.

use super::case::{Case, Numbers, Timed};

pub(super) mod attention;
mod decode;
mod halves;
mod hierarchy;
mod pass;
mod streams;

/// A kernel as it was built.
#[derive(Debug, Clone, Copy)]
pub(super) struct Built<'a> {
    pub(super) name: &'a str,
    /// The most threads of a block, by its launch bounds; 256 without them.
    pub(super) threads: u32,
}

/// What tests know of a kernel.
pub(super) struct Row {
    /// Its name, or with a `*` behind it what its names begin with.
    pub(super) name: &'static str,
    /// A launch of some small size. One whose kernel has no model (`kernels.rs`) has a check of its own.
    pub(super) random: fn(Built<'_>, &mut Numbers) -> Case,
    /// A launch as it is timed, with nothing stored for a check: at 1 a small one, at more as many times as
    /// large as the kernel's shapes allow.
    pub(super) timed: Option<fn(Built<'_>, u64) -> Timed>,
    /// Of how many random launches one is made: more than one where a launch takes long.
    pub(super) of: usize,
    /// Why its accesses lie in more sectors than they need, if that is on purpose.
    pub(super) apart: Option<&'static str>,
    /// Why it need not have enough bytes under way to hide the latency of memory.
    pub(super) idle: Option<&'static str>,
    /// Cards on which it spills registers, at most so many bytes of them, and why.
    pub(super) spills: &'static [(&'static str, u32, &'static str)],
}

impl Row {
    const fn new(
        name: &'static str,
        random: fn(Built<'_>, &mut Numbers) -> Case,
        timed: fn(Built<'_>, u64) -> Timed,
    ) -> Self {
        let timed = Some(timed);
        Self { name, random, timed, of: 1, apart: None, idle: None, spills: &[] }
    }

    const fn apart(self, reason: &'static str) -> Self {
        Self { apart: Some(reason), ..self }
    }

    const fn idle(self, reason: &'static str) -> Self {
        Self { idle: Some(reason), ..self }
    }

    fn is_of(&self, kernel: &str) -> bool {
        self.name == kernel || self.name.strip_suffix('*').is_some_and(|it| kernel.starts_with(it))
    }
}

/// Why a kernel that only stores needs no bytes under way.
const STORES: &str = "nothing waits for what is stored";

/// Why a kernel that moves little needs few.
const SMALL: &str = "it moves some kilobytes, far below 1 % of a step";

/// All of them.
const KERNELS: &[Row] = &[
    Row::new("memory_read", streams::reading, streams::timed),
    Row::new("memory_write", streams::writing, streams::timed).idle(STORES),
    Row::new("memory_copy", streams::copying, streams::timed),
    Row::new("memory_scale", streams::copying, streams::timed),
    Row::new("memory_add", streams::adding, streams::timed),
    Row::new("memory_triad", streams::adding, streams::timed),
    Row::new("fill_*", streams::filling, streams::fill).idle(STORES),
    Row::new("intensity_sweep", hierarchy::intensity, hierarchy::timed_intensity),
    Row::new("cache_read", hierarchy::cache, hierarchy::timed_cache),
    Row::new("chase_walk", hierarchy::chase, hierarchy::timed_chase)
        .apart("one thread, and each load on a line of its own: latency is measured")
        .idle("one load at a time is what it measures"),
    Row::new("shared_read", hierarchy::shared, hierarchy::timed_shared)
        .idle("it reads shared memory"),
    Row::new("atomics_add", hierarchy::atomics, hierarchy::timed_atomics)
        .apart("a counter in each sector: atomic operations are measured, not bytes")
        .idle("nothing waits for what an atomic operation gives"),
    Row::new("launch_empty", hierarchy::empty, hierarchy::timed_empty).idle("it moves nothing"),
    Row {
        apart: Some("lines of 80 bytes, every other of which begins in the middle of a sector"),
        ..attention("attention_f16_40x1")
    },
    Row {
        spills: &[("t4", 8, "results and queries alone take 192 of the 255 registers of a thread")],
        ..attention("attention_f16_256x1")
    },
    attention("attention_*"),
    Row::new("decode_product_*", decode::product, decode::timed_product)
        .apart("a warp stores four rows of each sequence, half a sector"),
    Row::new("decode_attend_*", decode::attend, decode::timed_attend),
    Row::new("decode_embed_*", decode::embed, decode::timed_embed).idle(SMALL),
    Row::new("decode_join_*", decode::join, decode::timed_join).idle(SMALL),
    Row::new("decode_pick", decode::pick, decode::timed_pick).idle(SMALL),
    Row::new("pass_embed_*", pass::embed, pass::timed_embed)
        .idle("it reads a row of a table for each token, far below 1 % of a pass"),
    Row::new("pass_norm_*", pass::norm, pass::timed_norm),
    Row::new("pass_turn_*", pass::turn, pass::timed_turn)
        .apart("a thread reads the angles of eight numbers, which every head finds in the cache"),
    Row::new("pass_activate_*", pass::activate, pass::timed_activate),
    Row::new("pass_best", pass::best, pass::timed_best).idle(SMALL),
    // It waits as long as it is told to, so that nothing of it is timed.
    Row { timed: None, ..Row::new("block_stream", hierarchy::blocking, hierarchy::timed_empty) },
];

const fn attention(name: &'static str) -> Row {
    let row = Row::new(name, attention::random, attention::timed);
    Row { of: 2, ..row.idle("its products take longer than its bytes") }
}

/// The row of a kernel.
pub(super) fn row(kernel: &str) -> &'static Row {
    KERNELS
        .iter()
        .find(|row| row.is_of(kernel))
        .unwrap_or_else(|| panic!("{kernel} has no row in crates/simgpu/src/kernels/table.rs"))
}

#[test]
fn a_star_stands_for_the_rest_of_a_name_and_every_row_is_found_by_its_own() {
    assert_eq!(row("fill_bf16").name, "fill_*");
    for each in KERNELS {
        assert!(std::ptr::eq(row(each.name.trim_end_matches('*')), each), "{}", each.name);
    }
}
