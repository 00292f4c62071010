//! Launches of `attention.cu`, held against the formula in f64.

use half::{bf16, f16};

use super::super::case::{Case, Numbers, Timed, held};
use super::Built;

/// What a build of the kernel is for, as its name tells.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct Build {
    bf16: bool,
    head: u64,
    tiles: u64,
}

impl Build {
    /// Of a kernel's name, as `attention_f16_64x1`.
    fn named(kernel: &str) -> Self {
        let words: Vec<&str> = kernel.split(['_', 'x']).collect();
        let [_, half, head, tiles] = words[..] else { panic!("{kernel} names no build") };
        Self { bf16: half == "bf16", head: head.parse().unwrap(), tiles: tiles.parse().unwrap() }
    }

    /// The build that a launch on a card of this architecture takes: one with twice the queries in a block where
    /// two such blocks have room on a multiprocessor, and there are blocks enough.
    pub(in crate::kernels) fn chosen(
        head: u64,
        architecture: u32,
        shared_kib: u32,
        enough: impl FnOnce() -> bool,
    ) -> Self {
        let double = Self { bf16: false, head, tiles: 2 };
        let room = 2 * (double.dynamic() + 1024) <= shared_kib << 10;
        let tiles = if head <= 128 && architecture >= 80 && room && enough() { 2 } else { 1 };
        Self { tiles, ..double }
    }

    /// Bytes of dynamic shared memory: queries that no registers keep, with keys and values.
    fn dynamic(self) -> u32 {
        if self.tiles == 1 || self.head <= 64 {
            return 0;
        }
        let width = self.head.next_multiple_of(16);
        let keys = if width > 96 { 32 } else { 64 };
        ((self.rows() + 2 * keys) * (width + 8) * 2) as u32
    }

    /// The stem of its stored file.
    pub(in crate::kernels) fn stem(self) -> String {
        let half = if self.bf16 { "bf16" } else { "f16" };
        let double = if self.tiles > 1 { "-double" } else { "" };
        format!("attention-{}-{half}{double}", self.head)
    }

    /// Queries of a block.
    pub(in crate::kernels) fn rows(self) -> u64 {
        64 * self.tiles
    }

    fn bits(self, x: f64) -> u16 {
        if self.bf16 { bf16::from_f64(x).to_bits() } else { f16::from_f64(x).to_bits() }
    }

    fn number(self, bits: u16) -> f64 {
        if self.bf16 { bf16::from_bits(bits).to_f64() } else { f16::from_bits(bits).to_f64() }
    }

    /// The largest error of rounding, relative to what is rounded.
    fn roundoff(self) -> f64 {
        if self.bf16 { 1.0 / 256.0 } else { 1.0 / 2048.0 }
    }
}

/// The extents of a launch.
#[derive(Debug, Clone)]
pub(in crate::kernels) struct Extents {
    build: Build,
    key_heads: u64,
    sharing: u64,
    queries: u64,
    /// Of each sequence: the position of its first query, and the count of its keys.
    positions: Vec<(u64, u64)>,
    causal: bool,
    /// Heads lie beside each other at each position, or each head's positions do.
    by_position: bool,
}

impl Extents {
    /// Small extents: a few queries, over several blocks of queries and keys, or such that stand apart.
    fn random(build: Build, n: &mut Numbers) -> Self {
        let (causal, kind) = (n.below(2) == 1, n.below(3));
        let (queries, key_heads, sharing, sequences) = match kind {
            0 => (1 + n.below(9), 1 + n.below(2), 1 + n.below(2), 1),
            1 => (build.rows() + 1 + n.below(40), 1, 2, 1),
            _ => (1 + n.below(40), 2, 1, 2),
        };
        let position = |n: &mut Numbers| {
            let most = n.one_of(&[1, 9, 100]);
            let first = n.below(most);
            let few = n.one_of(&[0, 70]);
            let all = if kind == 0 { n.below(few + 1) } else { 65 + n.below(90) };
            (first, if causal { first + queries } else { all })
        };
        let positions = (0..sequences).map(|_| position(n)).collect();
        Self { build, key_heads, sharing, queries, positions, causal, by_position: n.below(2) == 1 }
    }

    /// One head with a full block of queries over so many keys.
    pub(in crate::kernels) fn full(build: Build, keys: u64) -> Self {
        Self {
            build,
            key_heads: 1,
            sharing: 1,
            queries: build.rows(),
            positions: vec![(0, keys)],
            causal: false,
            by_position: false,
        }
    }

    fn heads(&self) -> u64 {
        self.key_heads * self.sharing
    }

    fn room(&self) -> u64 {
        self.positions.iter().map(|(_, keys)| *keys).max().unwrap().max(1)
    }

    /// How far apart sequences, heads and positions of an operand are.
    fn strides(&self, heads: u64, room: u64) -> [u64; 3] {
        let head = self.build.head;
        let [next, position] =
            if self.by_position { [head, heads * head] } else { [room * head, head] };
        [heads * room * head, next, position]
    }

    /// What the kernel takes behind its pointers.
    fn shape(&self, blocks: u64, scale: f32) -> Vec<u8> {
        let (asked, read) =
            (self.strides(self.heads(), self.queries), self.strides(self.key_heads, self.room()));
        let strides = [asked, read, read, asked];
        let mut bytes: Vec<u8> = strides.into_iter().flatten().flat_map(u64::to_le_bytes).collect();
        let (first, keys) = self.positions[0];
        let words = [self.heads(), self.sharing, self.queries, blocks, first, keys];
        bytes.extend(words.into_iter().flat_map(|word| (word as u32).to_le_bytes()));
        bytes.extend(u32::from(self.causal).to_le_bytes());
        bytes.extend((scale * std::f32::consts::LOG2_E).to_le_bytes());
        bytes
    }

    /// The number of keys that a query may see.
    fn end(&self, sequence: usize, query: u64) -> u64 {
        let (first, keys) = self.positions[sequence];
        if self.causal { keys.min(first + query + 1) } else { keys }
    }
}

/// What a launch is given, as numbers.
struct Operands {
    extents: Extents,
    scale: f32,
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
}

/// A launch of these extents.
pub(in crate::kernels) fn case(extents: Extents, n: &mut Numbers) -> Case {
    let build = extents.build;
    let sequences = extents.positions.len() as u64;
    let blocks = extents.queries.div_ceil(build.rows());
    let scale = 1.0 / (build.head as f32).sqrt();
    // Queries of which a few keys have all the weight: without the largest score their exponentials overflow.
    let sharp = n.one_of(&[1.0, 64.0]);
    let mut operand = |count: u64, times: f64| {
        let numbers = (0..count).map(|_| times * (n.below(4096) as f64 / 1024.0 - 2.0));
        let bits: Vec<u16> = numbers.map(|x| build.bits(x)).collect();
        let values: Vec<f64> = bits.iter().map(|bits| build.number(*bits)).collect();
        (bits.into_iter().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(), values)
    };
    let asked = sequences * extents.heads() * extents.queries * build.head;
    let read = sequences * extents.key_heads * extents.room() * build.head;
    let ((q_bytes, q), (k_bytes, k), (v_bytes, v)) =
        (operand(asked, sharp), operand(read, 1.0), operand(read, 1.0));
    let grid = (blocks * extents.heads() * sequences) as u32;
    let mut case = Case::new(grid, 128);
    case.geometry.shared = build.dynamic();
    let case = case.array(q_bytes).array(k_bytes).array(v_bytes).room(2 * asked);
    let case = if sequences == 1 {
        case.u64(0)
    } else {
        let pairs = extents.positions.iter().flat_map(|(first, keys)| [*first, *keys]);
        case.array(pairs.flat_map(|x| (x as u32).to_le_bytes()).collect())
    };
    let case = case.bytes(extents.shape(blocks, scale));
    let out = case.address(3);
    let operands = Operands { extents, scale, q, k, v };
    case.checked(move |memory| {
        let bytes = held(memory, out, 2 * operands.q.len() as u64);
        let halves = bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
        let wrong = operands.wrong(&halves.collect::<Vec<u16>>());
        wrong.map(|place| out + 2 * place as u64)
    })
}

/// A launch of some small extents.
pub(super) fn random(kernel: Built<'_>, n: &mut Numbers) -> Case {
    let extents = Extents::random(Build::named(kernel.name), n);
    case(extents, n)
}

/// Full blocks of queries, a head each, over 128 keys.
pub(super) fn timed(kernel: Built<'_>, scale: u64) -> Timed {
    let build = Build::named(kernel.name);
    let (rows, keys, head) = (build.rows(), 128, build.head);
    let extents = Extents { key_heads: scale, ..Extents::full(build, keys) };
    let (line, width) = (2 * head, 2 * head.next_multiple_of(16));
    // Each warp reads its own queries, once or for each block of keys, and all keys and values; results go through once
    // more.
    let times = if build.dynamic() > 0 { keys / if width > 192 { 32 } else { 64 } } else { 1 };
    let shared = (times * rows + 4 * 2 * keys) * width + rows * (width + line)
        // Columns behind the head are set to zero.
        + (rows + 2 * keys) * (width - line);
    let (read, written) = ((rows + 2 * keys) * line, rows * line);
    Timed::of(case(extents, &mut Numbers(1)), scale * read, scale * written).sharing(scale * shared)
}

impl Operands {
    /// The weights of the keys that a query may see, the largest of them 1, and the farthest score from zero.
    fn weights(&self, sequence: usize, head: u64, query: u64) -> (Vec<f64>, f64) {
        let asked = self.place(sequence, (head, self.extents.heads()), query, self.extents.queries);
        let scores: Vec<f64> = (0..self.extents.end(sequence, query))
            .map(|key| {
                let at = self.key(sequence, head, key);
                let head = 0..self.extents.build.head as usize;
                let dot: f64 = head.map(|d| self.q[asked + d] * self.k[at + d]).sum();
                dot * f64::from(self.scale)
            })
            .collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let farthest = scores.iter().fold(0.0, |most: f64, score| most.max(score.abs()));
        (scores.into_iter().map(|score| (score - largest).exp()).collect(), farthest)
    }

    fn place(&self, sequence: usize, (head, heads): (u64, u64), position: u64, room: u64) -> usize {
        let [next, from_head, from_position] = self.extents.strides(heads, room);
        (sequence as u64 * next + head * from_head + position * from_position) as usize
    }

    fn key(&self, sequence: usize, head: u64, key: u64) -> usize {
        let Extents { key_heads, sharing, .. } = self.extents;
        self.place(sequence, (head / sharing, key_heads), key, self.extents.room())
    }

    /// The first result that is farther from the formula's than rounding the weights and the result explains.
    fn wrong(&self, found: &[u16]) -> Option<usize> {
        let (extents, u) = (&self.extents, self.extents.build.roundoff());
        for sequence in 0..extents.positions.len() {
            for head in 0..extents.heads() {
                for query in 0..extents.queries {
                    let (weights, farthest) = self.weights(sequence, head, query);
                    // What f32 rounds off a score is what its weight is off.
                    let slack = 1e-5 + f64::from(2f32.powi(-20)) * farthest;
                    let total: f64 = weights.iter().sum();
                    let at = self.place(sequence, (head, extents.heads()), query, extents.queries);
                    for d in 0..extents.build.head as usize {
                        // Of weights below f16's normal range, the last digit is absolute.
                        let (mut sum, mut size, mut small) = (0.0, 0.0, 0.0);
                        for (key, weight) in (0..).zip(&weights) {
                            let value = self.v[self.key(sequence, head, key) + d];
                            sum += weight * value;
                            size += weight * value.abs();
                            small += f64::from(2f32.powi(-25)) * (value.abs() + 1.0);
                        }
                        let total = total.max(f64::MIN_POSITIVE);
                        let (sum, size) = (sum / total, size / total);
                        let bound =
                            u * (size + sum.abs()) * (1.0 + u) + slack * size + small / total;
                        let off = (extents.build.number(found[at + d]) - sum).abs();
                        if off.is_nan() || off > bound {
                            return Some(at + d);
                        }
                    }
                }
            }
        }
        None
    }
}
