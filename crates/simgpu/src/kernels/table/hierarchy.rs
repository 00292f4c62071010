//! Launches of the kernels that measure caches, latencies, shared memory, atomics and launches, and of the
//! one that holds a stream back.

use std::sync::Arc;

use super::super::case::{Case, Numbers, Timed, held};
use super::Built;
use crate::contents::Bytes;

/// `TILE` of `cache.cu`, in bytes.
const TILE: u64 = 16 << 10;

fn mask(n: &mut Numbers) -> u32 {
    n.one_of(&[0, u32::MAX])
}

fn blocks(built: Built<'_>, n: &mut Numbers) -> Case {
    Case::new(1 + n.below(3) as u32, built.threads)
}

/// Bytes that a block of `intensity.cu` reads.
const SWEPT: u64 = 256 * 4 * 16;

fn sweep(blocks: u64, bytes: Vec<u8>, steps: u32, (scale, shift): (f32, f32), mask: u32) -> Case {
    let case = Case::new(blocks as u32, 256).array(bytes).u32(steps).f32(scale).f32(shift);
    case.array(vec![0; 4]).u32(mask)
}

pub(super) fn intensity(_: Built<'_>, n: &mut Numbers) -> Case {
    let blocks = 1 + n.below(3);
    let (floats, steps) = (n.floats(blocks * SWEPT / 4), n.below(12) as u32);
    let by = (n.one_of(&[-1.0, 1.0, 0.75]), n.one_of(&[1.0, -0.3]));
    sweep(blocks, floats, steps, by, mask(n))
}

pub(super) fn timed_intensity(_: Built<'_>, scale: u64) -> Timed {
    let bytes = 2 * scale * SWEPT;
    Timed::of(sweep(2 * scale, vec![0; bytes as usize], 4, (-1.0, 1.0), 0), bytes, 0)
}

pub(super) fn cache(built: Built<'_>, n: &mut Numbers) -> Case {
    let case = blocks(built, n);
    let (tiles, steps, mask) = (1 + n.below(4), n.below(7) as u32, mask(n));
    let case = case.array(n.words(tiles * TILE / 4)).u32(tiles as u32).u32(steps);
    case.array(n.words(1)).u32(mask)
}

pub(super) fn timed_cache(built: Built<'_>, scale: u64) -> Timed {
    let (tiles, blocks, steps) = (2, 2 * scale, 3);
    let case = Case::new(blocks as u32, built.threads).array(vec![0; (tiles * TILE) as usize]);
    let case = case.u32(tiles as u32).u32(steps).array(vec![0; 4]).u32(0);
    Timed::of(case, blocks * u64::from(steps) * TILE, 0)
}

/// A walk from the word `first` through `len` words, each the address of the one `step` further on.
fn walk(len: u64, step: u64, first: u64, steps: u32) -> Case {
    let mut case = Case::new(1, 1).room(8 * len);
    let table = case.address(0);
    case.arguments.clear();
    let next = (0..len).flat_map(|at| (table + (at + step) % len * 8).to_le_bytes()).collect();
    let (contents, offset) = case.memory.contents(table, 8 * len).unwrap();
    contents.write(offset, 8 * len, Arc::new(Bytes(next)));
    let state = [table + 8 * first, 0, 0].into_iter().flat_map(u64::to_le_bytes).collect();
    case.u32(steps).array(state)
}

pub(super) fn chase(_: Built<'_>, n: &mut Numbers) -> Case {
    let len = 2 + n.below(300);
    walk(len, 1 + n.below(len - 1), n.below(len), n.below(70) as u32)
}

pub(super) fn timed_chase(_: Built<'_>, scale: u64) -> Timed {
    let steps = 48 * scale;
    Timed::of(walk(64, 1, 0, steps as u32), 8 * steps + 8, 24)
}

pub(super) fn shared(built: Built<'_>, n: &mut Numbers) -> Case {
    let stride = n.one_of(&[0, 1, 255, 256, 257]);
    let case = blocks(built, n);
    let case = case.u32(n.next() as u32).u32(n.below(20) as u32).u32(stride);
    let mask = mask(n);
    case.array(n.words(1)).u32(mask)
}

pub(super) fn timed_shared(built: Built<'_>, scale: u64) -> Timed {
    let (blocks, steps) = (2, 16 * scale);
    let case = Case::new(blocks as u32, built.threads).u32(1).u32(steps as u32).u32(256);
    let case = case.array(vec![0; 4]).u32(0);
    Timed::of(case, 0, 0).sharing(blocks * (256 * steps * 16 + TILE))
}

pub(super) fn atomics(_: Built<'_>, n: &mut Numbers) -> Case {
    let (blocks, threads) = (1 + n.below(3) as u32, 32 * (1 + n.below(8) as u32));
    let stride = n.one_of(&[0, 1, 8]);
    let len = u64::from(blocks * threads - 1) * stride + 1;
    let case = Case::new(blocks, threads).array(n.words(len));
    case.u32(stride as u32).u32(n.below(5) as u32)
}

pub(super) fn timed_atomics(_: Built<'_>, scale: u64) -> Timed {
    let (blocks, stride, rounds) = (2 * scale, 8, 3);
    let counters = blocks * 256;
    let case = Case::new(blocks as u32, 256).array(vec![0; (4 * stride * counters) as usize]);
    Timed::of(case.u32(stride as u32).u32(rounds), 0, counters * u64::from(rounds) * 4)
}

pub(super) fn empty(_: Built<'_>, n: &mut Numbers) -> Case {
    Case::new(1, 1).array(n.words(1)).u32(n.one_of(&[0, 7]))
}

pub(super) fn timed_empty(_: Built<'_>, _: u64) -> Timed {
    Timed::of(Case::new(1, 1).array(vec![0; 4]).u32(0), 0, 0)
}

/// A flag that is set, or that nobody sets: the second word tells.
pub(super) fn blocking(_: Built<'_>, n: &mut Numbers) -> Case {
    let (first, ticket, told) = n.one_of(&[(5_u32, 5_u32, 0_u32), (4, 5, 5), (6, 5, 5), (0, 1, 1)]);
    let words = [first, 0].into_iter().flat_map(u32::to_le_bytes).collect();
    // A thousand nanoseconds: some looks at the flag.
    let case = Case::new(1, 1).array(words).u32(ticket).u64(1000);
    let at = case.address(0);
    let expected: Vec<u8> = [first, told].into_iter().flat_map(u32::to_le_bytes).collect();
    case.checked(move |memory| {
        let found = held(memory, at, 8);
        (0..8).find(|byte| found[*byte] != expected[*byte]).map(|byte| at + byte as u64)
    })
}
