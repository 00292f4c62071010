//! Launches of `memory.cu` and `fill.cu`.

use super::super::CHUNK;
use super::super::case::{Case, Numbers, Timed};
use super::Built;

/// A few blocks, and the elements that they handle.
fn blocks(built: Built<'_>, n: &mut Numbers) -> (Case, u64) {
    let blocks = 1 + n.below(3) as u32;
    (Case::new(blocks, built.threads), u64::from(blocks) * CHUNK)
}

fn scale(n: &mut Numbers) -> f32 {
    n.below(64) as f32 / 8.0 - 3.0
}

pub(super) fn reading(built: Built<'_>, n: &mut Numbers) -> Case {
    let (case, count) = blocks(built, n);
    let mask = n.one_of(&[0, u32::MAX]);
    case.array(n.floats(count)).array(n.words(1)).u32(mask)
}

pub(super) fn writing(built: Built<'_>, n: &mut Numbers) -> Case {
    let (case, count) = blocks(built, n);
    case.room(4 * count).bytes(n.words(4))
}

/// From one array to another: copied, or scaled.
pub(super) fn copying(built: Built<'_>, n: &mut Numbers) -> Case {
    let (case, count) = blocks(built, n);
    let case = case.array(n.floats(count)).room(4 * count);
    if built.name == "memory_scale" { case.f32(scale(n)) } else { case }
}

/// From two arrays to a third: added, or a triad.
pub(super) fn adding(built: Built<'_>, n: &mut Numbers) -> Case {
    let (case, count) = blocks(built, n);
    let case = case.array(n.floats(count)).array(n.floats(count)).room(4 * count);
    if built.name == "memory_triad" { case.f32(scale(n)) } else { case }
}

pub(super) fn timed(built: Built<'_>, scale: u64) -> Timed {
    let blocks = 2 * scale;
    let bytes = 4 * CHUNK * blocks;
    let case = Case::new(blocks as u32, built.threads);
    let from = |case: Case| case.array(vec![0; bytes as usize]);
    match built.name {
        "memory_read" => Timed::of(from(case).array(vec![0; 4]).u32(0), bytes, 0),
        "memory_write" => Timed::of(case.room(bytes).bytes(vec![0; 16]), 0, bytes),
        "memory_copy" => Timed::of(from(case).room(bytes), bytes, bytes),
        "memory_scale" => Timed::of(from(case).room(bytes).f32(2.0), bytes, bytes),
        "memory_add" => Timed::of(from(from(case)).room(bytes), 2 * bytes, bytes),
        _ => Timed::of(from(from(case)).room(bytes).f32(2.0), 2 * bytes, bytes),
    }
}

/// Bytes of an element that a kernel of `fill.cu` makes.
fn size(built: Built<'_>) -> u64 {
    match built.name {
        "fill_f32" => 4,
        "fill_f16" | "fill_bf16" => 2,
        "fill_fp8" | "fill_int8" => 1,
        "fill_f64" => 8,
        other => panic!("nobody says what {other} fills"),
    }
}

pub(super) fn filling(built: Built<'_>, n: &mut Numbers) -> Case {
    let blocks = 1 + n.below(3) as u32;
    let count = 1 + n.below(1500);
    let case = Case::new(blocks, 1 + n.below(256) as u32);
    case.room(count * size(built)).u64(count).u64(n.next())
}

pub(super) fn fill(built: Built<'_>, scale: u64) -> Timed {
    let count = 2 * CHUNK * scale;
    let bytes = count * size(built);
    Timed::of(Case::new(2 * scale as u32, 256).room(bytes).u64(count).u64(7), 0, bytes)
}
