//! How long a launch takes, by what was counted of it and by the profile of the card.
//!
//! Each thing that a launch needs has a rate, and a launch takes as long as the one of which it needs most:
//! cards do all of them at once. No term is a kernel's own.
//!
//! | term | seconds |
//! |---|---|
//! | memory | sectors that come from or go to device memory × 32 / bandwidth |
//! | L2, L1 | sectors that a level answers × 32 / its rate |
//! | shared | passes over the banks × 128 / the rate of shared memory |
//! | atomics | operations / their rate, or those on one word / the rate on one word |
//! | issue | instructions of warps / (4 a clock and multiprocessor) |
//! | pipes | lanes of a kind / its lanes a clock and multiprocessor |
//! | tensor | operations / the peak of their arithmetic that multiplications reach |
//! | latency | waits of a warp × latency × how often the slots of the card are filled anew |
//!
//! What an allocation holds is answered by the smallest level that has room for all of it that is touched:
//! the first touch of a sector comes from memory, others from that level, and from memory where none has
//! room. Levels are empty when a launch begins, but latencies are those of a level that is full.
//!
//! What a multiprocessor does by itself (all but memory, L2, atomics) takes as long as on the one that has
//! most blocks: a tail of a few blocks costs a whole one.

use warpmark_ptx::{Counts, Kind, PRODUCTS, SECTOR};

use crate::occupancy::{Assembled, Multiprocessor, SCHEDULERS};
use crate::profile::Profile;

/// Bytes that a pass over the banks of shared memory gives.
const PASS: f64 = 128.0;

/// What a launch takes its time for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Term {
    Memory,
    L2,
    L1,
    Shared,
    Atomics,
    Issue,
    Pipe(Kind),
    Tensor,
    Latency,
}

/// How a launch lies on a card.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) blocks: u64,
    /// Threads of a block.
    pub(crate) threads: u32,
    /// Bytes of shared memory of a block.
    pub(crate) shared: u32,
    pub(crate) assembled: Option<Assembled>,
}

/// The seconds of each term.
#[derive(Debug, Clone)]
pub(crate) struct Cost(Vec<(Term, f64)>);

impl Cost {
    /// The cost of a launch that counted this.
    pub(crate) fn of(counts: &Counts, shape: &Shape, profile: &Profile) -> Self {
        let on = Card::of(shape, profile);
        let mut terms = on.levels(counts);
        terms.extend(on.inside(counts));
        terms.push((Term::Atomics, on.atomics(counts)));
        terms.push((Term::Latency, on.waiting(counts)));
        Self(terms)
    }

    /// The longest term, which is what the launch takes.
    pub(crate) fn longest(&self) -> (Term, f64) {
        let longest = self.0.iter().copied().max_by(|(_, a), (_, b)| a.total_cmp(b));
        longest.unwrap_or((Term::Issue, 0.0))
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.longest().1
    }
}

/// A card with a launch on it.
struct Card<'a> {
    profile: &'a Profile,
    multiprocessor: Multiprocessor,
    shape: Shape,
    multiprocessors: f64,
    /// By how much the multiprocessor with most blocks has more than its share.
    tail: f64,
    /// Clocks a second, of all multiprocessors together.
    clocks: f64,
}

impl<'a> Card<'a> {
    fn of(shape: &Shape, profile: &'a Profile) -> Self {
        let multiprocessors = f64::from(profile.sm_count);
        let blocks = shape.blocks.max(1) as f64;
        Self {
            profile,
            multiprocessor: Multiprocessor::of(profile.compute_capability),
            shape: *shape,
            multiprocessors,
            tail: (blocks / multiprocessors).ceil() * multiprocessors / blocks,
            clocks: f64::from(profile.sm_clock_mhz) * 1e6 * multiprocessors,
        }
    }

    /// Memory and the caches.
    fn levels(&self, counts: &Counts) -> Vec<(Term, f64)> {
        let (mut memory, mut l2, mut l1) = (0.0, 0.0, 0.0);
        for area in &counts.areas {
            let [read, written, atomic, held] =
                [area.read, area.written, area.atomic, area.touched].map(|n| (n * SECTOR) as f64);
            let level = self.profile.level(area.touched * SECTOR);
            l1 += read;
            // Atomic operations are done there at their own rate.
            l2 += written + if level == 0 { read.min(held * self.multiprocessors) } else { read };
            memory += if level == 2 {
                read + written + atomic
            } else {
                read.min(held) + (written + atomic).min(held)
            };
        }
        vec![
            (Term::Memory, memory / self.profile.bandwidth()),
            (Term::L2, l2 / (self.profile.l2_gb_s * 1e9)),
            (Term::L1, l1 / (self.profile.l1_gb_s * 1e9) * self.tail),
        ]
    }

    /// What goes on inside the multiprocessors.
    fn inside(&self, counts: &Counts) -> Vec<(Term, f64)> {
        let of = |kind: &Kind| counts.kinds[*kind as usize] as f64;
        // Moves are mostly gone in machine code.
        let issued: f64 = Kind::ALL.iter().filter(|kind| **kind != Kind::Move).map(of).sum();
        let shared = counts.shared.taken as f64 * PASS / (self.profile.shared_gb_s * 1e9);
        let tensor = PRODUCTS.iter().zip(counts.products).filter(|(_, count)| *count > 0);
        let tensor: f64 = tensor
            .map(|(arithmetic, count)| {
                let rate = self.profile.matmul(arithmetic).or(self.profile.matmul("f32/f32"));
                count as f64 / rate.unwrap_or(f64::INFINITY)
            })
            .sum();
        let mut terms = vec![
            (Term::Shared, shared * self.tail),
            (Term::Issue, issued / (SCHEDULERS * self.clocks) * self.tail),
            (Term::Tensor, tensor * self.tail),
        ];
        let pipes = Kind::ALL.iter().filter_map(|kind| {
            let lanes = self.multiprocessor.lanes(*kind)?;
            Some((Term::Pipe(*kind), of(kind) * 32.0 / (lanes * self.clocks) * self.tail))
        });
        terms.extend(pipes);
        terms
    }

    fn atomics(&self, counts: &Counts) -> f64 {
        let (on_one, on_many) = self.profile.atomics_g_s;
        let all = counts.atomics.operations as f64 / (on_many * 1e9);
        all.max(counts.atomics.on_one as f64 / (on_one * 1e9))
    }

    /// Latency: warps wait one beside the other, as many as the card holds, and the waits of each come one
    /// after the other.
    fn waiting(&self, counts: &Counts) -> f64 {
        let Shape { blocks, threads, shared, assembled } = self.shape;
        let warps = (blocks.max(1) * u64::from(threads.div_ceil(32))) as f64;
        let resident = self.multiprocessor.resident(threads, shared, assembled).max(1);
        let rounds = (blocks as f64 / (f64::from(resident) * self.multiprocessors)).ceil();
        counts.waits as f64 / warps * rounds.max(1.0) * self.latency(counts)
    }

    /// The latency of what is read, by the share of each level.
    fn latency(&self, counts: &Counts) -> f64 {
        let sectors = |area: &warpmark_ptx::Area| (area.read + area.atomic) as f64;
        let all: f64 = counts.areas.iter().map(sectors).sum();
        let each = counts
            .areas
            .iter()
            .map(|area| sectors(area) / all.max(1.0) * self.profile.latency(area.touched * SECTOR));
        each.sum()
    }
}

#[cfg(test)]
#[path = "cost_tests.rs"]
mod tests;
