//! The kernel on simulated cards against the formula.

use warpmark_cuda::{Buffer, Compiler, wait};
use warpmark_device::CudaDevice;

use super::reference::{attend, place};
use super::*;
use crate::testing::on_card;

/// Numbers that look random: between -1 and 1, a few of them larger.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        let unit = (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0;
        if self.0 >> 60 == 0 { 4.0 * unit } else { unit }
    }
}

/// How the parts of an operand follow each other.
#[derive(Debug, Clone, Copy)]
enum Layout {
    ByHead,
    ByPosition,
}

/// An attention to compute.
#[derive(Debug, Clone)]
struct Case {
    build: (u32, Dtype),
    heads: (u32, u32),
    queries: u32,
    /// For each sequence the position of its first query and the count of its keys.
    positions: Vec<(u32, u32)>,
    mask: AttentionMask,
    layout: Layout,
    /// Positions that a sequence has room for; nobody writes those after its keys.
    room: u32,
    /// Whether two blocks of queries fit a warp, as far as the card is concerned.
    multiprocessors: u32,
}

impl Case {
    fn new(size: u32, dtype: Dtype, queries: u32, keys: u32) -> Self {
        Self {
            build: (size, dtype),
            heads: (1, 1),
            queries,
            positions: vec![(0, keys)],
            mask: AttentionMask::Full,
            layout: Layout::ByHead,
            room: keys,
            multiprocessors: u32::MAX / 2,
        }
    }

    fn strides(&self, heads: u32, positions: u32) -> Strides {
        match self.layout {
            Layout::ByHead => Strides::by_head(heads, positions, self.build.0),
            Layout::ByPosition => Strides::by_position(heads, positions, self.build.0),
        }
    }

    fn shape(&self) -> AttentionShape {
        let (heads, key_heads) = self.heads;
        let (first, keys) = self.positions[0];
        AttentionShape {
            sequences: self.positions.len() as u32,
            heads,
            key_heads,
            queries: self.queries,
            positions: Positions::Uniform { first, keys },
            mask: self.mask,
            scale: 1.0 / (self.build.0 as f32).sqrt(),
            q: self.strides(heads, self.queries),
            k: self.strides(key_heads, self.room),
            v: self.strides(key_heads, self.room),
            out: self.strides(heads, self.queries),
        }
    }
}

/// An operand: on the device, and as numbers; `None` where nobody wrote.
struct Operand {
    buffer: Buffer,
    numbers: Vec<f64>,
}

fn operand(
    device: &CudaDevice,
    case: &Case,
    strides: Strides,
    heads: u32,
    counts: &[u32],
    room: u32,
    numbers: &mut Numbers,
) -> Operand {
    let (size, dtype) = case.build;
    let all = counts.len() as u32 * heads * room * size;
    let stream = device.context.default_stream();
    let mut buffer = Buffer::new(&stream, 2 * all as usize, "an operand").unwrap();
    let mut whole = vec![f64::NAN; all as usize];
    for (sequence, count) in (0..).zip(counts) {
        for head in 0..heads {
            for position in 0..*count {
                let at = place(strides, sequence, head, position);
                let mut bytes = Vec::new();
                for number in &mut whole[at..at + size as usize] {
                    let bits = dtype.bits(numbers.next());
                    bytes.extend(bits.to_le_bytes());
                    *number = f64::from(dtype.value(bits));
                }
                buffer.write_at(&stream, 2 * at, &bytes).unwrap();
            }
        }
    }
    Operand { buffer, numbers: whole }
}

/// Computes a case on the device and holds every element of it against the formula.
fn hold(device: &CudaDevice, case: &Case) {
    let stream = device.context.default_stream();
    let capability = device.spec.gpu.as_ref().unwrap().compute_capability;
    let compiler = Compiler::new(device).unwrap();
    let card = Card { capability, multiprocessors: case.multiprocessors, shared: 164 << 10 };
    let mut shape = case.shape();
    let kernel = Attention::new(&compiler, case.build, card, &[shape]).unwrap();
    let mut numbers = Numbers(u64::from(case.queries) << 8 | u64::from(case.build.0));
    let keys: Vec<u32> = case.positions.iter().map(|(_, keys)| *keys).collect();
    let asked = vec![case.queries; keys.len()];
    let q = operand(device, case, shape.q, shape.heads, &asked, case.queries, &mut numbers);
    let k = operand(device, case, shape.k, shape.key_heads, &keys, case.room, &mut numbers);
    let v = operand(device, case, shape.v, shape.key_heads, &keys, case.room, &mut numbers);
    let out = Buffer::new(&stream, q.buffer.bytes(), "the results").unwrap();
    let mut told = Buffer::new(&stream, 8 * keys.len(), "positions").unwrap();
    if keys.len() > 1 {
        let pairs = case.positions.iter().flat_map(|(first, keys)| [*first, *keys]);
        let bytes: Vec<u8> = pairs.flat_map(u32::to_le_bytes).collect();
        told.write(&stream, &bytes).unwrap();
        shape.positions = Positions::Ragged(told.address);
    }
    let operands = Operands {
        q: q.buffer.address,
        k: k.buffer.address,
        v: v.buffer.address,
        out: out.address,
    };
    // SAFETY: the buffers have room for all that the shape makes of them.
    unsafe { kernel.launch(&stream, operands, &shape) }.unwrap();
    wait(&stream).unwrap();
    let mut bytes = vec![0; out.bytes()];
    out.read(&stream, 0, &mut bytes).unwrap();
    let found: Vec<u16> =
        bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    for (sequence, positions) in (0..).zip(&case.positions) {
        for head in 0..shape.heads {
            for query in 0..case.queries {
                let at = place(shape.out, sequence, head, query);
                let operands = (&q.numbers[..], &k.numbers[..], &v.numbers[..]);
                let who = (sequence, head, query);
                let expected = attend(&shape, operands, who, *positions, case.build);
                for (bits, expected) in found[at..].iter().zip(expected) {
                    let value = f64::from(case.build.1.value(*bits));
                    let off = (value - expected.value).abs();
                    assert!(off <= expected.bound, "{case:?} {who:?}: {value} {expected:?}");
                }
            }
        }
    }
}

/// Shapes that every card computes.
fn cases() -> Vec<Case> {
    let f16 = Dtype::F16;
    let mut all = Vec::new();
    // Lengths around the blocks of queries and keys, and over several of them.
    for (queries, keys) in [(1, 1), (7, 65), (65, 7), (130, 130), (64, 128)] {
        all.push(Case::new(64, f16, queries, keys));
    }
    // After the first, whole blocks and such as a mask goes through.
    for (queries, first) in [(1, 0), (7, 0), (65, 0), (130, 0), (9, 61), (70, 65)] {
        let mut case = Case::new(64, f16, queries, first + queries);
        (case.positions, case.mask) = (vec![(first, first + queries)], AttentionMask::Causal);
        all.push(case);
    }
    for size in [32, 40, 128, 256] {
        for mask in [AttentionMask::Full, AttentionMask::Causal] {
            all.push(Case { mask, heads: (2, 1), ..Case::new(size, f16, 37, 71) });
        }
    }
    // Grouped heads, both layouts, a cache with room, sequences of their own lengths.
    for layout in [Layout::ByHead, Layout::ByPosition] {
        for mask in [AttentionMask::Full, AttentionMask::Causal] {
            let positions = vec![(0, 5), (61, 66), (128, 133)];
            let (heads, room) = ((8, 2), 140);
            all.push(Case { heads, positions, mask, layout, room, ..Case::new(64, f16, 5, 0) });
        }
    }
    // Seven heads; a sequence without keys is answered by zeros.
    all.push(Case {
        heads: (7, 7),
        positions: vec![(0, 0), (3, 9)],
        room: 9,
        ..Case::new(64, f16, 3, 9)
    });
    all
}

/// Shapes in bf16, and such with two sixteens of queries a warp.
fn cases_from_8_0() -> Vec<Case> {
    let mut all = cases();
    for (queries, mask) in [(1, AttentionMask::Full), (65, AttentionMask::Causal)] {
        all.push(Case { mask, heads: (2, 1), ..Case::new(64, Dtype::Bf16, queries, 70) });
    }
    for (size, queries, keys) in [(64, 200, 90), (64, 127, 127), (128, 200, 90)] {
        for mask in [AttentionMask::Full, AttentionMask::Causal] {
            let case = Case::new(size, Dtype::F16, queries, keys);
            all.push(Case { mask, multiprocessors: 1, heads: (2, 2), ..case });
        }
    }
    all
}

#[test]
fn attention_is_that_of_the_formula_on_a_t4() {
    on_card("t4", |device| cases().iter().for_each(|case| hold(device, case)));
}

#[test]
fn attention_is_that_of_the_formula_on_an_a100() {
    on_card("a100-40", |device| cases_from_8_0().iter().for_each(|case| hold(device, case)));
}

/// The same text as on an A100, after another driver's answers: every third case is enough.
fn some() -> impl Iterator<Item = Case> {
    cases_from_8_0().into_iter().step_by(3)
}

#[test]
fn attention_is_that_of_the_formula_on_an_l4() {
    on_card("l4", |device| some().for_each(|case| hold(device, &case)));
}

#[test]
fn attention_is_that_of_the_formula_on_an_h100() {
    on_card("h100", |device| some().for_each(|case| hold(device, &case)));
}

#[test]
fn what_no_build_can_do_is_refused_with_the_reason() {
    let build = |head_size, dtype, tiles| AttentionBuild { head_size, dtype, tiles };
    let reason = |build: AttentionBuild, capability| match build.check(capability) {
        Err(WorkloadError::Unsupported(reason)) => reason,
        other => panic!("{build:?} on {capability:?}: {other:?}"),
    };
    for size in (8..=256).step_by(8) {
        build(size, Dtype::F16, 1).check((7, 5)).unwrap();
        build(size, Dtype::Bf16, 1).check((8, 0)).unwrap();
    }
    for size in [0, 9, 60, 264] {
        let said = reason(build(size, Dtype::F16, 1), (9, 0));
        assert!(said.contains(&format!("not {size}")), "{said}");
    }
    assert!(reason(build(64, Dtype::F16, 1), (7, 0)).contains("the card has 7.0"));
    assert!(reason(build(64, Dtype::Bf16, 1), (7, 5)).contains("f16 would do"));
    assert!(reason(build(136, Dtype::F16, 2), (9, 0)).contains("of size 136"));
    assert!(reason(build(64, Dtype::F16, 2), (7, 5)).contains("of size 64"));
    assert!(reason(build(64, Dtype::F16, 3), (9, 0)).contains("3 sixteens"));
}

#[test]
fn large_blocks_are_taken_where_they_fill_the_card_and_two_have_room() {
    let a100 = Card { capability: (8, 0), multiprocessors: 108, shared: 164 << 10 };
    let l4 = Card { capability: (8, 9), multiprocessors: 58, shared: 100 << 10 };
    let t4 = Card { capability: (7, 5), multiprocessors: 40, shared: 64 << 10 };
    let tiles = |head: u32, card, queries| {
        let shape =
            AttentionShape { heads: 32, queries, ..Case::new(head, Dtype::F16, 1, 1).shape() };
        AttentionBuild::chosen((head, Dtype::F16), card, &shape).tiles
    };
    // 32 heads of 7 blocks are more than twice 108, and of 6 are less.
    assert_eq!([tiles(128, a100, 7 * 128), tiles(128, a100, 6 * 128)], [2, 1]);
    assert_eq!([tiles(64, l4, 4096), tiles(128, l4, 4096)], [2, 1]);
    assert_eq!([tiles(64, t4, 4096), tiles(136, a100, 4096)], [1, 1]);
}

#[test]
fn what_the_kernel_cannot_reach_or_share_is_refused_with_the_reason() {
    let good = Case::new(64, Dtype::F16, 5, 9).shape();
    let aligned = Operands { q: 256, k: 512, v: 768, out: 1024 };
    good.check(aligned).unwrap();
    let refused = |shape: AttentionShape, operands, word: &str| match shape.check(operands) {
        Err(WorkloadError::Unsupported(reason)) => assert!(reason.contains(word), "{reason}"),
        other => panic!("{shape:?}: {other:?}"),
    };
    refused(AttentionShape { heads: 7, key_heads: 2, ..good }, aligned, "7 heads");
    refused(AttentionShape { queries: 0, ..good }, aligned, "without");
    refused(AttentionShape { scale: f32::NAN, ..good }, aligned, "NaN");
    refused(AttentionShape { scale: 0.0, ..good }, aligned, "times 0");
    let endless = Positions::Uniform { first: u32::MAX, keys: 9 };
    refused(AttentionShape { positions: endless, ..good }, aligned, "4294967295 positions");
    let odd = Strides { position: 63, ..good.k };
    refused(AttentionShape { k: odd, ..good }, aligned, "keys that lie not");
    let far = Strides { position: 1 << 24, ..good.v };
    refused(AttentionShape { v: far, ..good }, aligned, "values that lie not");
    refused(good, Operands { out: 1032, ..aligned }, "results that lie not");
    let many = AttentionShape { sequences: 1 << 20, heads: 1 << 12, key_heads: 1 << 12, ..good };
    assert!(many.grid(1).is_err());
    assert_eq!(good.grid(3).unwrap(), 3);
}
