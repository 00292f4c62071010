//! Products with what is done before and behind them.

use super::super::super::case::{Case, Numbers, Timed};
use super::super::Built;
use super::{Half, floats, found, found_words, off};

/// What becomes of a row, and how the input is normalised, by the numbers of `decode.cu`.
const STORE: u64 = 0;
const ADD: u64 = 1;
const GELU_TANH: u64 = 2;
const GELU_ERF: u64 = 3;
const SWIGLU: u64 = 4;
const LOGITS: u64 = 5;
const LAYER: u64 = 2;

/// `ROWS` of `decode.cu`.
const ROWS: u64 = 4;

pub(in super::super) const EPSILON: f64 = 0.125;

/// Sequences that a kernel was built for: `decode_product_4_f16`.
fn sequences(built: Built<'_>) -> u64 {
    built.name.split('_').nth(2).and_then(|word| word.parse().ok()).unwrap()
}

/// Bytes of the staged inputs.
fn staged(chunk: u64, size: u64) -> u32 {
    (((chunk + 3) / 8 * 8 + 4) * 32 * size) as u32
}

/// By its series (Abramowitz and Stegun 7.1.6); far out it is 1 to the last digit.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
}

/// An input as the product takes it: plain, or normalised with weights and biases.
pub(in super::super) fn normalised(x: &[f64], norm: u64, weight: &[f64], bias: &[f64]) -> Vec<f64> {
    if norm == 0 {
        return x.to_vec();
    }
    let count = x.len() as f64;
    let mean = if norm == LAYER { x.iter().sum::<f64>() / count } else { 0.0 };
    let square = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    let scale = 1.0 / (square + EPSILON).sqrt();
    let parts = x.iter().zip(weight).zip(bias);
    parts.map(|((x, weight), bias)| (x - mean) * scale * weight + bias).collect()
}

/// What becomes of a row of sums; `before` is what was there.
pub(in super::super) fn made_of(sums: &[f64], row: usize, action: u64, before: f64) -> f64 {
    match action {
        ADD => before + sums[row],
        GELU_TANH => gelu_tanh(sums[row]),
        GELU_ERF => 0.5 * sums[row] * (1.0 + erf(sums[row] / 2_f64.sqrt())),
        SWIGLU => sums[2 * row] / (1.0 + (-sums[2 * row]).exp()) * sums[2 * row + 1],
        STORE | LOGITS => sums[row],
        _ => unreachable!("six actions"),
    }
}

pub(in super::super) fn product(built: Built<'_>, n: &mut Numbers) -> Case {
    let (half, size) = (Half::of(built), sequences(built));
    let (batch, columns) = (1 + n.below(size), 1 + n.below(330));
    let (norm, action) = (n.below(3), n.below(6));
    let rows = if action == SWIGLU { 2 * (1 + n.below(13)) } else { 1 + n.below(26) };
    let split = n.one_of(&[1, 2, 4, 8]);
    let beside = 1 + n.below(8 / split);
    let (vectors, padded) = (columns.div_ceil(8), columns.next_multiple_of(8));
    let chunk = n.one_of(&[vectors, vectors.div_ceil(2), 3, 9]);
    let blocks = rows.div_ceil(ROWS * beside);

    let (weights, weight) = half.matrix(n, [rows, columns], 1.0, 0.0);
    let (biases, bias) = half.matrix(n, [1, rows], 1.0, 0.0);
    let has_bias = n.below(2) == 1;
    let (norms, norm_weight) = half.matrix(n, [1, columns], 0.5, 1.0);
    let (norm_biases, norm_bias) = half.matrix(n, [1, columns], 1.0, 0.0);
    let (mut inputs, mut xs) = (Vec::new(), Vec::new());
    for _ in 0..batch {
        let (bytes, values) = floats(n, columns);
        inputs.extend(bytes);
        inputs.resize(inputs.len() + 4 * (padded - columns) as usize, 0);
        let bias = if norm == LAYER { norm_bias.clone() } else { vec![0.0; columns as usize] };
        xs.push(normalised(&values, norm, &norm_weight, &bias));
    }
    let made = if action == SWIGLU { rows / 2 } else { rows };
    let stride = made + n.below(3);
    let (before, mut expected) = floats(n, batch * stride);

    for (b, x) in xs.iter().enumerate() {
        let row_sum = |row: usize| {
            let row_of = &weight[row * columns as usize..][..columns as usize];
            let sum: f64 = row_of.iter().zip(x).map(|(w, x)| w * x).sum();
            sum + if has_bias { bias[row] } else { 0.0 }
        };
        let sums: Vec<f64> = (0..rows as usize).map(row_sum).collect();
        let out = &mut expected[b * stride as usize..][..made as usize];
        for (row, out) in out.iter_mut().enumerate() {
            *out = made_of(&sums, row, action, *out);
        }
    }

    let mut case = Case::new(blocks as u32, (32 * split * beside) as u32).array(weights);
    case.geometry.shared = staged(chunk, size);
    let case = if has_bias { case.array(biases) } else { case.u64(0) };
    let case = case.array(inputs).array(norms);
    let case = if norm == LAYER { case.array(norm_biases) } else { case.u64(0) };
    let case = case.array(before).room(8 * batch * blocks);
    let numbers = [rows, columns, stride, batch, norm, action, split, chunk];
    let case = numbers.into_iter().fold(case, |case, number| case.u32(number as u32));
    let case = case.f32(EPSILON as f32);
    let (at, best_at) = (case.address(5), case.address(6));
    case.checked(move |memory| {
        let y = found(memory, at, batch * stride);
        if let Some(place) = off(&y, &expected) {
            return Some(at + 4 * place);
        }
        if action != LOGITS {
            return None;
        }
        let best = found_words(memory, best_at, 2 * batch * blocks);
        (0..batch * blocks).find_map(|place| {
            let (b, first) = (place / blocks, place % blocks * ROWS * beside);
            let own = first..rows.min(first + ROWS * beside);
            let value = |row: u64| y[(b * stride + row) as usize];
            let most = own.clone().map(value).fold(f32::MIN, f32::max);
            let row = own.into_iter().find(|row| value(*row).to_bits() == most.to_bits());
            let told = [f32::to_bits(most), row.map_or(u32::MAX, |row| row as u32)];
            (best[2 * place as usize..][..2] != told).then_some(best_at + 8 * place)
        })
    })
}

/// Of a layer: every block reads the inputs and what normalises them, the weights are read once.
pub(in super::super) fn timed_product(built: Built<'_>, scale: u64) -> Timed {
    let size = sequences(built);
    let (rows, columns, beside) = (32 * scale, 512, 8);
    let blocks = rows / ROWS / beside;
    let array = |bytes: u64| vec![0; bytes as usize];
    let mut case = Case::new(blocks as u32, 256).array(array(2 * rows * columns)).u64(0);
    case.geometry.shared = staged(columns / 8, size);
    let case = case.array(array(4 * size * columns)).array(array(2 * columns)).u64(0);
    let case = case.room(4 * size * rows).room(8);
    let numbers = [rows, columns, rows, size, 1, STORE, 1, columns / 8];
    let case = numbers.into_iter().fold(case, |case, number| case.u32(number as u32));
    // The inputs once for their mean square and once for what they become, with the norm's weights of each.
    let inputs = blocks * size * (2 * 4 * columns + 2 * columns);
    let (warps, sums) = (8, 4 * size);
    let staging = size * columns * 4;
    // Each warp reads all inputs for its rows; and each adds up a sum for each sequence by two barriers.
    let shared = blocks * (staging + warps * staging + warps * sums + 256 * warps * sums);
    let shared = shared + blocks * (8 * size + size * columns / 4 * 8);
    Timed::of(case.f32(1.0), 2 * rows * columns + inputs, 4 * size * rows).sharing(shared)
}
