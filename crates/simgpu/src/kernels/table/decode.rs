//! Launches of the kernels of a decode step, and the same from the formulas in f64.

mod attend;
mod product;

pub(super) use attend::{attend, join, timed_attend, timed_join, turned};
pub(super) use product::{EPSILON, made_of, normalised, product, timed_product};

use super::super::case::{Case, Numbers, Timed};
use super::Built;
use super::halves::{Half, floats, found, found_words, off, stored, unit, words};

pub(super) fn embed(built: Built<'_>, n: &mut Numbers) -> Case {
    let half = Half::of(built);
    let (batch, width, rows) = (1 + n.below(3), 1 + n.below(70), 2 + n.below(5));
    let padded = width.next_multiple_of(8);
    let (table, values) = half.matrix(n, [rows, width], 2.0, 0.0);
    let (places, place_values) = half.matrix(n, [rows, width], 2.0, 0.0);
    let learned = n.below(2) == 1;
    let pick = |n: &mut Numbers| (0..batch).map(|_| n.below(rows) as u32).collect::<Vec<u32>>();
    let (tokens, positions) = (pick(n), pick(n));
    let threads = 32 * (1 + n.below(4) as u32);
    let mut case = Case::new(1, threads).array(words(&tokens)).array(words(&positions));
    case.geometry.grid = [(padded as u32 / 4).div_ceil(threads), batch as u32, 1];
    let case = case.array(table);
    let case = if learned { case.array(places) } else { case.u64(0) };
    let case = case.room(4 * batch * padded).u32(padded as u32 / 4);
    let at = case.address(4);
    let mut expected = vec![0.0; (batch * padded) as usize];
    for b in 0..batch as usize {
        for c in 0..width as usize {
            let of = |table: &[f64], row: u32| table[row as usize * width as usize + c];
            let place = if learned { of(&place_values, positions[b]) } else { 0.0 };
            expected[b * padded as usize + c] = of(&values, tokens[b]) + place;
        }
    }
    case.checked(move |memory| {
        off(&found(memory, at, batch * padded), &expected).map(|place| at + 4 * place)
    })
}

pub(super) fn timed_embed(_: Built<'_>, scale: u64) -> Timed {
    let width = 512 * scale;
    let mut case = Case::new(1, 128).array(words(&[1, 0])).array(words(&[0, 1]));
    case.geometry.grid = [(width as u32 / 4).div_ceil(128), 2, 1];
    let table = || vec![0; 4 * width as usize];
    let case = case.array(table()).array(table()).room(8 * width).u32(width as u32 / 4);
    // Every thread reads the token and the position of its sequence.
    Timed::of(case, 8 * width + 2 * width / 4 * 8, 8 * width)
}

/// The next token: the largest, of equals the first; what a prompt has goes before.
pub(super) fn pick(_: Built<'_>, n: &mut Numbers) -> Case {
    let (batch, count, capacity) = (1 + n.below(3), 1 + n.below(600), 2 + n.below(6));
    // Now and then no block had a number.
    let none = n.below(4) == 0;
    let best: Vec<(f32, u32)> = (0..batch * count)
        .map(|_| (n.below(9) as f32 - 4.0, n.below(1 << 20) as u32))
        .map(|one| if none { (f32::MIN, u32::MAX) } else { one })
        .collect();
    let given: Vec<i32> = (0..batch * capacity)
        .map(|_| if n.below(4) == 0 { n.below(9) as i32 } else { -7 })
        .collect();
    let positions: Vec<u32> = (0..batch).map(|_| n.below(capacity) as u32).collect();
    // A window never begins at its end, and a position never lies behind it.
    let begin = n.below(capacity) as u32;
    let end = capacity as u32;
    let bytes = best.iter().flat_map(|(value, row)| [value.to_bits(), *row]).collect::<Vec<u32>>();
    let prompts: Vec<u32> = given.iter().map(|token| token.cast_unsigned()).collect();
    let threads = 32 * (1 + n.below(8) as u32);
    let case = Case::new(batch as u32, threads).array(words(&bytes)).array(words(&prompts));
    let case = case.room(4 * batch).array(words(&positions));
    let case = case.u32(count as u32).u32(capacity as u32).u32(begin).u32(end);
    let (tokens_at, positions_at) = (case.address(2), case.address(3));
    let next = |position: u32| if position + 1 == end { begin } else { position + 1 };
    let expected: Vec<(u32, u32)> = (0..batch as usize)
        .map(|b| {
            let place = next(positions[b]);
            let own = &best[b * count as usize..][..count as usize];
            let first = own.iter().fold((f32::MIN, u32::MAX), |kept, one| {
                if one.0 > kept.0 || (one.0 >= kept.0 && one.1 < kept.1) { *one } else { kept }
            });
            let given = given[b * capacity as usize + place as usize];
            let chosen = if first.1 == u32::MAX { 0 } else { first.1 };
            (if given >= 0 { given.cast_unsigned() } else { chosen }, place)
        })
        .collect();
    case.checked(move |memory| {
        let tokens = found_words(memory, tokens_at, batch);
        let positions = found_words(memory, positions_at, batch);
        let wrong = |b: &usize| (tokens[*b], positions[*b]) != expected[*b];
        (0..batch as usize).find(wrong).map(|b| tokens_at + 4 * b as u64)
    })
}

pub(super) fn timed_pick(_: Built<'_>, scale: u64) -> Timed {
    let count = 512 * scale;
    let case = Case::new(1, 256).array(vec![0; 8 * count as usize]).array(words(&[7; 4]));
    let case = case.room(4).array(words(&[1])).u32(count as u32).u32(4).u32(1).u32(4);
    // Eight warps leave their best, and one thread reads those of the seven others.
    Timed::of(case, 8 * count + 8, 8).sharing(8 * 8 + 7 * 8)
}
