//! Attention over a cache, whole and in parts.

use super::super::super::case::{Case, Numbers, Timed, held};
use super::super::Built;
use super::{Half, floats, found, off, stored, words};

/// Query heads that a kernel was built for: `decode_attend_4_f16`.
fn heads_of(built: Built<'_>) -> u64 {
    built.name.split('_').nth(2).and_then(|word| word.parse().ok()).unwrap()
}

/// `ATTEND` of `decode.cu`.
const THREADS: u64 = 128;

/// What a part without positions leaves for its largest score.
const LOWEST: f64 = -1e30;

/// What attention is of.
#[derive(Debug, Clone, Copy)]
struct Shape {
    batch: u64,
    heads: u64,
    shared: u64,
    width: u64,
    capacity: u64,
    parts: u64,
    /// Whether results are halves.
    narrow: bool,
}

impl Shape {
    fn padded(&self) -> u64 {
        self.width.next_multiple_of(8)
    }

    fn qkv(&self) -> u64 {
        (self.heads + 2 * self.shared) * self.width
    }

    fn cache(&self) -> u64 {
        self.batch * self.shared * self.capacity * self.padded()
    }

    /// Where a key or value begins in the cache.
    fn place(&self, b: u64, head: u64, position: u64) -> u64 {
        ((b * self.shared + head) * self.capacity + position) * self.padded()
    }

    /// Bytes of shared memory of a block that takes so many heads.
    fn memory(&self, heads: u64) -> u32 {
        let plane = (self.padded() / 8 + 3) / 8 * 8 + 4;
        let warps = THREADS / 32;
        (4 * (heads * 8 * plane * (1 + warps) + 2 * warps * heads) + 4 * self.padded()) as u32
    }

    /// The launch, with what it is given.
    fn case(&self, heads: u64, arrays: [Vec<u8>; 6], scale: f32) -> Case {
        let [qkv, bias, keys, values, turns, positions] = arrays;
        let tiles = (self.heads / self.shared).div_ceil(heads);
        let case = Case::new(1, THREADS as u32).array(qkv);
        let case = if bias.is_empty() { case.u64(0) } else { case.array(bias) };
        let mut case = case.array(keys).array(values);
        case.geometry.grid = [self.parts, self.shared * tiles, self.batch].map(|side| side as u32);
        case.geometry.shared = self.memory(heads);
        let case = if turns.is_empty() { case.u64(0) } else { case.array(turns) };
        let (all, out) = (self.batch * self.heads * self.parts, self.heads * self.padded());
        let case = case.array(positions).room(8 * all).room(4 * all * self.padded());
        let case = case.room(if self.narrow { 2 } else { 4 } * self.batch * out);
        let numbers = [
            self.heads,
            self.shared,
            self.width,
            self.capacity,
            self.qkv(),
            out,
            u64::from(self.narrow),
        ];
        let case = numbers.into_iter().fold(case, |case, number| case.u32(number as u32));
        case.f32(scale)
    }
}

/// A head turned by its position's angles.
pub(in super::super) fn turned(head: &[f64], turns: &[f64], position: u64) -> Vec<f64> {
    let half = head.len() / 2;
    if turns.is_empty() {
        return head.to_vec();
    }
    let row = &turns[2 * half * position as usize..][..2 * half];
    let mut out = head.to_vec();
    for pair in 0..half {
        let (cos, sin) = (row[2 * pair], row[2 * pair + 1]);
        out[pair] = head[pair] * cos - head[pair + half] * sin;
        out[pair + half] = head[pair + half] * cos + head[pair] * sin;
    }
    out
}

pub(in super::super) fn attend(built: Built<'_>, n: &mut Numbers) -> Case {
    let (half, size) = (Half::of(built), heads_of(built));
    let shared = 1 + n.below(2);
    let widths = [2, 8, 10, 18, 64, 80, 130, 256];
    let shape = Shape {
        batch: 1 + n.below(2),
        heads: shared * (1 + n.below(2 * size)),
        shared,
        width: n.one_of(&widths),
        capacity: 1 + n.below(45),
        parts: 1 + n.below(4),
        narrow: n.below(3) == 0,
    };
    let Shape { batch, width, capacity, parts, .. } = shape;
    let positions: Vec<u32> = (0..batch).map(|_| n.below(capacity) as u32).collect();
    let (qkv, mut inputs) = floats(n, batch * shape.qkv());
    let (mut biases, bias) = half.matrix(n, [1, shape.qkv()], 1.0, 0.0);
    if n.below(2) == 0 {
        let all = inputs.chunks_mut(bias.len()).flat_map(|row| row.iter_mut().zip(&bias));
        all.for_each(|(input, bias)| *input += bias);
    } else {
        biases.clear();
    }
    let cache = |n: &mut Numbers| {
        let (mut bytes, _) = half.matrix(n, [batch * shared * capacity, width], 1.0, 0.0);
        // What lies behind a sequence's position is no number.
        for (b, position) in (0..batch).zip(&positions) {
            for head in 0..shared {
                for behind in u64::from(*position)..capacity {
                    let first = 2 * shape.place(b, head, behind) as usize;
                    bytes[first..][..2 * shape.padded() as usize].fill(0xFF);
                }
            }
        }
        bytes
    };
    let (keys, values) = (cache(n), cache(n));
    let angles: Vec<f32> = if n.below(3) == 0 {
        Vec::new()
    } else {
        (0..capacity * width / 2).map(|_| 3.0 * super::unit(n)).collect()
    };
    let turns: Vec<f32> = angles.iter().flat_map(|angle| [angle.cos(), angle.sin()]).collect();
    let turn_bytes = turns.iter().flat_map(|turn| turn.to_le_bytes()).collect();
    let scale = std::f32::consts::LOG2_E / (width as f32).sqrt();
    let arrays = [qkv, biases, keys.clone(), values.clone(), turn_bytes, words(&positions)];
    let case = shape.case(size, arrays, scale);
    let turns: Vec<f64> = turns.into_iter().map(f64::from).collect();
    let at = [2, 3, 6, 7, 8].map(|argument| case.address(argument));
    let expected = Expected { half, shape, positions, inputs, turns, keys, values, at };
    case.checked(move |memory| match expected.appended(memory) {
        Ok((keys, values)) => expected.parts(memory, &keys, &values, parts == 1),
        Err(wrong) => Some(wrong),
    })
}

/// What a launch should leave.
struct Expected {
    half: Half,
    shape: Shape,
    positions: Vec<u32>,
    inputs: Vec<f64>,
    turns: Vec<f64>,
    keys: Vec<u8>,
    values: Vec<u8>,
    /// Addresses of keys, values, sums, mixtures and the quotients.
    at: [u64; 5],
}

impl Expected {
    /// The head of queries, keys and values of a sequence by its number among all.
    fn head(&self, b: u64, number: u64) -> &[f64] {
        let first = b * self.shape.qkv() + number * self.shape.width;
        &self.inputs[first as usize..][..self.shape.width as usize]
    }

    /// The cache behind the launch, or where it is not what it should be: the new key and value within a unit of
    /// their type, everything else as it was.
    fn appended(
        &self,
        memory: &crate::address_space::AddressSpace,
    ) -> Result<(Vec<f64>, Vec<f64>), u64> {
        let (shape, unit) = (self.shape, if self.half.brain { 8e-3 } else { 1e-3 });
        let mut both = Vec::new();
        for (at, before, first, turns) in [
            (self.at[0], &self.keys, shape.heads, &self.turns[..]),
            (self.at[1], &self.values, shape.heads + shape.shared, &[]),
        ] {
            let bytes = held(memory, at, 2 * shape.cache());
            let bits = |bytes: &[u8], place: u64| {
                u16::from_le_bytes(bytes[2 * place as usize..][..2].try_into().unwrap())
            };
            let mut new = std::collections::HashMap::new();
            for (b, position) in (0..shape.batch).zip(&self.positions) {
                for head in 0..shape.shared {
                    let place = shape.place(b, head, u64::from(*position));
                    let own = turned(self.head(b, first + head), turns, u64::from(*position));
                    let padded = own.into_iter().chain(std::iter::repeat(0.0));
                    new.extend((place..place + shape.padded()).zip(padded));
                }
            }
            for place in 0..shape.cache() {
                let found = bits(&bytes, place);
                let right = new.get(&place).map_or_else(
                    || found == bits(before, place),
                    |expected| {
                        let off = (self.half.value(found) - expected).abs();
                        off <= unit * expected.abs() + 1e-6
                    },
                );
                if !right {
                    return Err(at + 2 * place);
                }
            }
            both.push(
                (0..shape.cache()).map(|place| self.half.value(bits(&bytes, place))).collect(),
            );
        }
        let values = both.pop().unwrap();
        Ok((both.pop().unwrap(), values))
    }

    /// The first address at which a part, or the quotient of the only one, is not what it should be.
    fn parts(
        &self,
        memory: &crate::address_space::AddressSpace,
        keys: &[f64],
        values: &[f64],
        alone: bool,
    ) -> Option<u64> {
        let Shape { batch, heads, shared, width, parts, .. } = self.shape;
        let [_, _, sums_at, mixtures_at, out_at] = self.at;
        let padded = self.shape.padded();
        for (b, head, part) in (0..batch * heads * parts)
            .map(|place| (place / parts / heads, place / parts % heads, place % parts))
        {
            let length = u64::from(self.positions[b as usize]) + 1;
            let each = length.div_ceil(parts);
            let own = part * each..length.min((part + 1) * each);
            let place = (b * heads + head) * parts + part;
            let query = turned(self.head(b, head), &self.turns, length - 1);
            let row = |cache: &[f64], position: u64| -> Vec<f64> {
                let place = self.shape.place(b, head / (heads / shared), position);
                cache[place as usize..][..width as usize].to_vec()
            };
            let scale = std::f64::consts::LOG2_E / (width as f64).sqrt();
            let scores: Vec<f64> = own
                .clone()
                .map(|at| query.iter().zip(row(keys, at)).map(|(q, k)| q * k).sum::<f64>() * scale)
                .collect();
            let most = scores.iter().copied().fold(LOWEST, f64::max);
            let powers: Vec<f64> = scores.iter().map(|score| (score - most).exp2()).collect();
            let sum: f64 = powers.iter().sum();
            let mut mixture = vec![0.0; width as usize];
            for (at, power) in own.clone().zip(&powers) {
                let value = row(values, at);
                mixture.iter_mut().zip(value).for_each(|(mixed, value)| *mixed += power * value);
            }
            if alone {
                // What pads a head is zero.
                let mixed = mixture.iter().map(|mixed| mixed / sum);
                let mixed: Vec<f64> =
                    mixed.chain(std::iter::repeat(0.0)).take(padded as usize).collect();
                let kept = stored(self.half, self.shape.narrow);
                let wrong = kept.off(memory, out_at, (b * heads + head) * padded, &mixed);
                if wrong.is_some() {
                    return wrong;
                }
                continue;
            }
            let at = sums_at + 8 * place;
            if let Some(wrong) = off(&found(memory, at, 2), &[most, sum]) {
                return Some(at + 4 * wrong);
            }
            let at = mixtures_at + 4 * place * padded;
            // A part without positions leaves no mixture.
            let wrong =
                if own.is_empty() { None } else { off(&found(memory, at, width), &mixture) };
            if let Some(wrong) = wrong {
                return Some(at + 4 * wrong);
            }
        }
        None
    }
}

/// One sequence in the middle of its cache, two parts of 32 positions each; the keys and values once.
pub(in super::super) fn timed_attend(built: Built<'_>, scale: u64) -> Timed {
    let size = heads_of(built);
    let length = 64 * scale;
    let shape = Shape {
        batch: 1,
        heads: size,
        shared: 1,
        width: 64,
        capacity: length,
        parts: 2,
        narrow: false,
    };
    let zeros = |bytes: u64| vec![0; bytes as usize];
    let arrays = [
        zeros(4 * shape.qkv()),
        Vec::new(),
        zeros(2 * shape.cache()),
        zeros(2 * shape.cache()),
        Vec::new(),
        words(&[length as u32 - 1]),
    ];
    let case = shape.case(size, arrays, 1.0);
    // The last position is not read: its key and value come with the queries, which both parts read.
    let cache = 2 * 2 * 64 * (length - 1);
    let read = cache + 2 * 4 * size * 64 + 2 * 4 * 64 + 2 * 4 * THREADS;
    let written = 2 * 2 * 64 + 2 * size * (8 + 4 * 64);
    // Of a block: queries are written and read by every thread, each warp leaves its mixture, and all are joined, of
    // which each number takes the largest score and the sum of every warp too.
    let block = size * (4 * 64 + 32 * THREADS + 4 * (32 * 8 + 8) + 64 * 4 * (4 + 4 + 4));
    // The new key and value, written and read once.
    Timed::of(case, read, written).sharing(2 * block + 2 * 2 * 2 * 64)
}

/// Parts that are joined; some of them have no positions.
pub(in super::super) fn join(built: Built<'_>, n: &mut Numbers) -> Case {
    let half = Half::of(built);
    let (batch, heads, parts) = (1 + n.below(2), 1 + n.below(3), 1 + n.below(5));
    let width: u64 = n.one_of(&[2, 9, 64, 130, 256]);
    let (padded, all) = (width.next_multiple_of(8), batch * heads * parts);
    let mut sums = Vec::new();
    for place in 0..all {
        // One part at least has positions.
        let empty = place % parts > 0 && n.below(3) == 0;
        let most = 8.0 * super::unit(n);
        sums.push(if empty { [LOWEST as f32, 0.0] } else { [most, 1.0 + super::unit(n).abs()] });
    }
    let (mixtures, values) = floats(n, all * padded);
    let (stride, narrow) = (heads * padded + n.below(3), n.below(2) == 0);
    let kept = stored(half, narrow);
    let bytes = sums.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    let mut case = Case::new(1, padded.next_multiple_of(32) as u32).array(bytes).array(mixtures);
    case.geometry.grid = [heads as u32, batch as u32, 1];
    let (before, mut expected) = kept.some(n, batch * stride);
    let case = case.array(before).u32(parts as u32).u32(padded as u32).u32(stride as u32);
    let case = case.u32(u32::from(narrow));
    for head in 0..batch * heads {
        let own = &sums[(head * parts) as usize..][..parts as usize];
        let most = own.iter().map(|sum| f64::from(sum[0])).fold(LOWEST, f64::max);
        let factor = |sum: &[f32; 2]| (f64::from(sum[0]) - most).exp2();
        let all: f64 = own.iter().map(|sum| f64::from(sum[1]) * factor(sum)).sum();
        for c in 0..padded {
            let mixed: f64 = (0..parts)
                .map(|part| {
                    let sum = &own[part as usize];
                    let value = values[((head * parts + part) * padded + c) as usize];
                    if sum[1] == 0.0 { 0.0 } else { value * factor(sum) }
                })
                .sum();
            let place = head / heads * stride + head % heads * padded + c;
            expected[place as usize] = mixed / all;
        }
    }
    let at = case.address(2);
    case.checked(move |memory| kept.off(memory, at, 0, &expected))
}

pub(in super::super) fn timed_join(_: Built<'_>, scale: u64) -> Timed {
    let (heads, parts, width) = (2 * scale, 4, 64);
    let zeros = |bytes: u64| vec![0; bytes as usize];
    let sums: Vec<u8> =
        (0..heads * parts).flat_map(|_| [0.0_f32, 1.0]).flat_map(f32::to_le_bytes).collect();
    let case = Case::new(heads as u32, 64).array(sums).array(zeros(4 * heads * parts * width));
    let case = case.room(4 * heads * width).u32(parts as u32).u32(width as u32);
    // Every thread reads the sums of all parts, once for the largest score and once for the rest.
    let read = 4 * heads * parts * width + heads * width * parts * (4 + 8);
    Timed::of(case.u32((heads * width) as u32).u32(0), read, 4 * heads * width)
}
