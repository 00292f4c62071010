//! Launches of the kernels between the matrix products of a pass, and the same from the formulas in f64.

use super::super::case::{Case, Numbers, Timed};
use super::Built;
use super::decode::{EPSILON, made_of, normalised, turned};
use super::halves::{Half, Stored, found, found_words, off, stored, unit, words};

/// `LAYER`, `GELU_TANH`, `GELU_ERF` and `SWIGLU` of `pass.cu`.
const LAYER: u64 = 2;
const GELU_TANH: u64 = 2;
const GELU_ERF: u64 = 3;
const SWIGLU: u64 = 4;

fn zeros(bytes: u64) -> Vec<u8> {
    vec![0; bytes as usize]
}

/// An array, or a null pointer.
fn maybe(case: Case, there: bool, bytes: Vec<u8>) -> Case {
    if there { case.array(bytes) } else { case.u64(0) }
}

/// Rows of numbers with zeros behind them, and what they are with those.
fn padded_rows(kept: Stored, n: &mut Numbers, [rows, columns]: [u64; 2]) -> (Vec<u8>, Vec<f64>) {
    let (mut bytes, mut values) = (Vec::new(), Vec::new());
    for _ in 0..rows {
        let (row, numbers) = kept.some(n, columns);
        let size = row.len() / columns as usize;
        bytes.extend(row);
        bytes.resize(bytes.len() + (columns.next_multiple_of(8) - columns) as usize * size, 0);
        values.extend(numbers);
    }
    (bytes, values)
}

pub(super) fn embed(built: Built<'_>, n: &mut Numbers) -> Case {
    let half = Half::of(built);
    let (sequences, length, width, rows) =
        (1 + n.below(3), 1 + n.below(4), 1 + n.below(300), 5 + n.below(5));
    let (padded, capacity) = (width.next_multiple_of(8), length + n.below(3));
    let (table, values) = half.matrix(n, [rows, width], 2.0, 0.0);
    let (places, place_values) = half.matrix(n, [capacity, width], 2.0, 0.0);
    let learned = n.below(2) == 1;
    let tokens: Vec<u32> = (0..sequences * capacity).map(|_| n.below(rows) as u32).collect();
    let threads = 32 * (1 + n.below(8) as u32);
    let case = Case::new((sequences * length) as u32, threads).array(words(&tokens)).array(table);
    let case = maybe(case, learned, places).room(4 * sequences * length * padded);
    let case = case.room(4 * sequences);
    let numbers = [length, capacity, padded / 4];
    let case = numbers.into_iter().fold(case, |case, number| case.u32(number as u32));
    let mut expected = Vec::new();
    for (sequence, position) in (0..sequences * length).map(|row| (row / length, row % length)) {
        let token = tokens[(sequence * capacity + position) as usize];
        for c in 0..padded {
            let of = |table: &[f64], row: u64| {
                if c < width { table[(row * width + c) as usize] } else { 0.0 }
            };
            let place = if learned { of(&place_values, position) } else { 0.0 };
            expected.push(of(&values, u64::from(token)) + place);
        }
    }
    let (at, positions_at) = (case.address(3), case.address(4));
    case.checked(move |memory| {
        let behind = found_words(memory, positions_at, sequences);
        if let Some(wrong) = behind.iter().position(|position| u64::from(*position) != length) {
            return Some(positions_at + 4 * wrong as u64);
        }
        off(&found(memory, at, expected.len() as u64), &expected).map(|place| at + 4 * place)
    })
}

pub(super) fn timed_embed(_: Built<'_>, scale: u64) -> Timed {
    let (width, length) = (512 * scale, 4);
    let case = Case::new(length as u32, 128).array(words(&[1, 0, 2, 1])).array(zeros(6 * width));
    let case = case.array(zeros(2 * length * width)).room(4 * length * width).room(4);
    let case = case.u32(length as u32).u32(length as u32).u32(width as u32 / 4);
    // Every thread reads the token of its row, and one writes the position behind all of them.
    Timed::of(case, length * (4 * width + 4 * 128), 4 * length * width + 4)
}

/// A stream of some rows, of which every `step`th is normalised.
pub(super) fn norm(built: Built<'_>, n: &mut Numbers) -> Case {
    let half = Half::of(built);
    let (columns, rows, step) = (1 + n.below(500), 1 + n.below(3), 1 + n.below(3));
    let first = n.below(step);
    let padded = columns.next_multiple_of(8);
    let (kind, has_bias) = (n.below(3).max(1), n.below(2) == 0);
    let all = first + step * (rows - 1) + 1;
    let (stream, mut values) = padded_rows(stored(half, false), n, [all, columns]);
    let (biases, bias) = half.matrix(n, [1, columns], 1.0, 0.0);
    let (weights, weight) = half.matrix(n, [1, columns], 0.5, 1.0);
    let (norm_biases, norm_bias) = half.matrix(n, [1, columns], 1.0, 0.0);
    let norm_bias = if kind == LAYER { norm_bias } else { vec![0.0; columns as usize] };
    let mut expected = Vec::new();
    for row in 0..rows {
        let of = (first + step * row) * columns;
        let x = &mut values[of as usize..][..columns as usize];
        if has_bias {
            x.iter_mut().zip(&bias).for_each(|(x, bias)| *x += bias);
        }
        expected.extend(normalised(x, kind, &weight, &norm_bias));
        expected.resize(((row + 1) * padded) as usize, 0.0);
    }
    // As many threads as keep a row, or some more.
    let least = (padded / 4).div_ceil(8).div_ceil(32);
    let threads = 32 * (least + n.below(4)).min(32) as u32;
    let case =
        maybe(Case::new(rows as u32, threads).array(stream), has_bias, biases).array(weights);
    let case = maybe(case, kind == LAYER, norm_biases).room(2 * rows * padded);
    let numbers = [first, step, padded / 4, columns, kind];
    let case = numbers.into_iter().fold(case, |case, number| case.u32(number as u32));
    let case = case.f32(EPSILON as f32);
    let (stream_at, at) = (case.address(0), case.address(4));
    case.checked(move |memory| {
        let rows = values.chunks(columns as usize).enumerate();
        let mut of_stream = rows.map(|(row, values)| {
            stored(half, false).off(memory, stream_at, row as u64 * padded, values)
        });
        let wrong = of_stream.find_map(|wrong| wrong);
        wrong.or_else(|| stored(half, true).off(memory, at, 0, &expected))
    })
}

pub(super) fn timed_norm(_: Built<'_>, scale: u64) -> Timed {
    let (columns, rows) = (1024 * scale, 2);
    let threads = (columns / 4).div_ceil(4).next_multiple_of(32).min(1024);
    let case = Case::new(rows as u32, threads as u32).array(zeros(4 * rows * columns));
    let case = case.array(zeros(2 * columns)).array(zeros(2 * columns)).array(zeros(2 * columns));
    let case = case.room(2 * rows * columns).u32(0).u32(1).u32(columns as u32 / 4);
    let case = case.u32(columns as u32).u32(LAYER as u32).f32(1.0);
    // Two sums, for each of which every warp leaves its own and reads all.
    let warps = threads / 32;
    let shared = 2 * rows * (4 * warps + 4 * warps * warps);
    Timed::of(case, rows * (4 + 3 * 2) * columns, rows * (4 + 2) * columns).sharing(shared)
}

/// Queries, keys and values of some positions of some sequences.
pub(super) fn turn(built: Built<'_>, n: &mut Numbers) -> Case {
    let half = Half::of(built);
    let (sequences, length, shared) = (1 + n.below(2), 1 + n.below(3), 1 + n.below(2));
    let (heads, capacity) = (shared * (1 + n.below(3)), length + n.below(3));
    let width: u64 = n.one_of(&[2, 8, 9, 10, 16, 24, 32, 64]);
    let turning = width.is_multiple_of(2) && n.below(3) > 0;
    let (padded, rows) = (width.next_multiple_of(8), sequences * length);
    let qkv = (heads + 2 * shared) * width;
    let stride = qkv.next_multiple_of(8);
    let (input, mut values) = padded_rows(stored(half, true), n, [rows, qkv]);
    let (biases, bias) = half.matrix(n, [1, qkv], 1.0, 0.0);
    let has_bias = n.below(2) == 0;
    if has_bias {
        let all = values.chunks_mut(qkv as usize).flat_map(|row| row.iter_mut().zip(&bias));
        all.for_each(|(value, bias)| *value += bias);
    }
    let angles: Vec<f32> = (0..capacity * (width / 2)).map(|_| 3.0 * unit(n)).collect();
    let turns: Vec<f32> = angles.iter().flat_map(|angle| [angle.cos(), angle.sin()]).collect();
    let turn_bytes: Vec<u8> = turns.iter().flat_map(|turn| turn.to_le_bytes()).collect();
    let turns: Vec<f64> = turns.into_iter().map(f64::from).collect();
    let cache = sequences * shared * capacity * padded;
    let (keys_before, mut keys) = stored(half, true).some(n, cache);
    let (values_before, mut mixed) = stored(half, true).some(n, cache);
    let mut queries = vec![0.0; (rows * heads * padded) as usize];
    for row in 0..rows {
        let (sequence, position) = (row / length, row % length);
        for head in 0..heads + 2 * shared {
            let own = &values[(row * qkv + head * width) as usize..][..width as usize];
            let angles: &[f64] = if turning && head < heads + shared { &turns } else { &[] };
            let made = turned(own, angles, position);
            let cached = |head: u64| ((sequence * shared + head) * capacity + position) * padded;
            let (to, place) = if head < heads {
                (&mut queries, (row * heads + head) * padded)
            } else if head < heads + shared {
                (&mut keys, cached(head - heads))
            } else {
                (&mut mixed, cached(head - heads - shared))
            };
            let to = &mut to[place as usize..][..padded as usize];
            to.fill(0.0);
            to[..width as usize].copy_from_slice(&made);
        }
    }
    let case = Case::new(rows as u32, 32 * (1 + n.below(8) as u32)).array(input);
    let case = maybe(maybe(case, has_bias, biases), turning, turn_bytes);
    let case = case.room(2 * rows * heads * padded).array(keys_before).array(values_before);
    let numbers = [heads, shared, width, capacity, stride, length];
    let case = numbers.into_iter().fold(case, |case, number| case.u32(number as u32));
    let at = [3, 4, 5].map(|argument| case.address(argument));
    let kept = stored(half, true);
    case.checked(move |memory| {
        let all = at.iter().zip([&queries, &keys, &mixed]);
        all.into_iter().find_map(|(at, expected)| kept.off(memory, *at, 0, expected))
    })
}

pub(super) fn timed_turn(_: Built<'_>, scale: u64) -> Timed {
    let (heads, shared, width, length) = (8, 2, 64, 2 * scale);
    let (qkv, out) = ((heads + 2 * shared) * width, shared * length * width);
    let case = Case::new(length as u32, 96).array(zeros(2 * length * qkv)).u64(0);
    let case = case.array(zeros(4 * length * width)).room(2 * length * heads * width);
    let case = case.array(zeros(2 * out)).array(zeros(2 * out));
    let numbers = [heads, shared, width, length, qkv, length];
    let case = numbers.into_iter().fold(case, |case, number| case.u32(number as u32));
    // What turns is read once more for its pair, with the angle of each number.
    let turning = (heads + shared) * width;
    Timed::of(case, length * (2 * qkv + (2 + 8) * turning), 2 * length * qkv)
}

pub(super) fn activate(built: Built<'_>, n: &mut Numbers) -> Case {
    let half = Half::of(built);
    let (rows, hidden) = (1 + n.below(4), 1 + n.below(200));
    let (action, has_bias) = (n.one_of(&[GELU_TANH, GELU_ERF, SWIGLU]), n.below(2) == 0);
    let columns = if action == SWIGLU { 2 * hidden } else { hidden };
    let (input, values) = padded_rows(stored(half, true), n, [rows, columns]);
    let (biases, bias) = half.matrix(n, [1, columns], 1.0, 0.0);
    let (padded, up) = (hidden.next_multiple_of(8), columns.next_multiple_of(8));
    let mut expected = Vec::new();
    for row in values.chunks(columns as usize) {
        let sums = row.iter().zip(&bias);
        let sums: Vec<f64> =
            sums.map(|(sum, bias)| sum + if has_bias { *bias } else { 0.0 }).collect();
        expected.extend((0..hidden as usize).map(|place| made_of(&sums, place, action, 0.0)));
        expected.resize(expected.len().next_multiple_of(padded as usize), 0.0);
    }
    let threads = 32 * (1 + n.below(4));
    let each = if action == SWIGLU { padded / 4 } else { padded / 8 };
    let blocks = (rows * each).div_ceil(threads);
    let case = Case::new(blocks as u32, threads as u32).array(input);
    let case = maybe(case, has_bias, biases).room(2 * rows * padded);
    let numbers = [rows, padded / 8, up / 8, action];
    let case = numbers.into_iter().fold(case, |case, number| case.u32(number as u32));
    let at = case.address(2);
    let kept = stored(half, true);
    case.checked(move |memory| kept.off(memory, at, 0, &expected))
}

pub(super) fn timed_activate(_: Built<'_>, scale: u64) -> Timed {
    let (rows, hidden) = (4 * scale, 512);
    let case = Case::new((rows * hidden / 4).div_ceil(256) as u32, 256);
    let case = case.array(zeros(4 * rows * hidden)).u64(0).room(2 * rows * hidden);
    let numbers = [rows, hidden / 8, hidden / 4, SWIGLU];
    let case = numbers.into_iter().fold(case, |case, number| case.u32(number as u32));
    Timed::of(case, 4 * rows * hidden, 2 * rows * hidden)
}

/// The largest logit of each part, of equals the first.
pub(super) fn best(_: Built<'_>, n: &mut Numbers) -> Case {
    let (batch, vocabulary, blocks) = (1 + n.below(3), 1 + n.below(900), 1 + n.below(4));
    let (stride, each) = (vocabulary + n.below(5), vocabulary.div_ceil(blocks));
    let logits: Vec<f32> = (0..batch * stride).map(|_| n.below(40) as f32 - 20.0).collect();
    let bytes = logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
    let mut case = Case::new(1, 32 * (1 + n.below(8) as u32)).array(bytes);
    case.geometry.grid = [blocks as u32, batch as u32, 1];
    let case = case.room(8 * batch * blocks).u32(vocabulary as u32).u32(stride as u32);
    let case = case.u32(each as u32);
    let mut expected = Vec::new();
    for (b, block) in (0..batch * blocks).map(|place| (place / blocks, place % blocks)) {
        let own = (block * each).min(vocabulary)..vocabulary.min((block + 1) * each);
        let first = own.fold((-1e30_f32, u32::MAX), |kept, place| {
            let logit = logits[(b * stride + place) as usize];
            if logit > kept.0 { (logit, place as u32) } else { kept }
        });
        expected.extend([first.0.to_bits(), first.1]);
    }
    let at = case.address(1);
    case.checked(move |memory| {
        let found = found_words(memory, at, expected.len() as u64);
        let wrong = found.iter().zip(&expected).position(|(found, expected)| found != expected);
        wrong.map(|place| at + 4 * place as u64)
    })
}

pub(super) fn timed_best(_: Built<'_>, scale: u64) -> Timed {
    let vocabulary = 4096 * scale;
    let mut case = Case::new(1, 256).array(zeros(4 * vocabulary)).room(16);
    case.geometry.grid = [2, 1, 1];
    let case = case.u32(vocabulary as u32).u32(vocabulary as u32).u32(vocabulary as u32 / 2);
    // Eight warps leave their best, and one thread reads those of the seven others.
    Timed::of(case, 4 * vocabulary, 16).sharing(2 * (8 * 8 + 7 * 8))
}
