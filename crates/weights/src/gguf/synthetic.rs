//! Synthetic quantised weights: blocks of random integers whose scales give each tensor its spread,
//! written once to the cache.
//!
//! No float is ever quantised: that takes minutes for billions of weights, and blocks of random bits
//! are as much work to multiply with as any others.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::quantized::GgmlDType;
use half::f16;
use rayon::prelude::*;
use warpmark_record::{Bytes, WeightsStamp};

use super::{StoredTensor, file_type};
use crate::cache::Draft;
use crate::damaged::removed;
use crate::synthetic::{GOLDEN, key, mix, out_of_time, refused, unlike};
use crate::{Cache, Init, Progress, WeightFiles, WeightsError};
use crate::{Checkpoint, Quantisation};

/// The recipe's number, part of the header: another recipe never reuses an older file.
const RECIPE: u32 = 1;

/// Where tensors may begin, in bytes: the format's own default.
const ALIGNMENT: u64 = 32;

/// Blocks that one thread makes and writes at a time.
const CHUNK: u64 = 1 << 13;

/// The file of a model's synthetic weights, written where it is not there or not the right one.
pub(super) fn locate(
    checkpoint: &Checkpoint,
    tensors: &[StoredTensor],
    (quantisation, seed): (Quantisation, u64),
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<WeightFiles, WeightsError> {
    let name = file_name(checkpoint, quantisation, seed);
    let layout = Layout::new(checkpoint, tensors, quantisation, seed);
    let path = cache.path(&name);
    if !layout.is_in(&path) {
        write(&layout, &name, seed, cache, progress)?;
    }
    Ok(WeightFiles::new(vec![path], WeightsStamp::Synthetic { seed }))
}

/// Examines the file that [`locate`] would take, if it is there, and removes it where a block is not the
/// seed's.
pub(in super::super) fn examine(
    model: &Checkpoint,
    tensors: &[StoredTensor],
    (quantisation, seed): (Quantisation, u64),
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<Option<String>, WeightsError> {
    let name = file_name(model, quantisation, seed);
    let layout = Layout::new(model, tensors, quantisation, seed);
    let path = cache.path(&name);
    if !layout.is_in(&path) {
        return Ok(None);
    }
    let file = File::open(&path).map_err(WeightsError::io("open", &path))?;
    progress.begin(&name, Some(Bytes(layout.length as f64)));
    let differing = differing(&layout, seed, &file, &name, progress);
    progress.finish(&name);
    let Some(tensor) = differing.map_err(WeightsError::io("read", &path))? else { return Ok(None) };
    removed(&path, &unlike(&tensor.name, seed)).map(Some)
}

fn file_name(model: &Checkpoint, quantisation: Quantisation, seed: u64) -> String {
    format!("{}-{quantisation}-seed{seed}.gguf", model.id)
}

/// A file as it is to be: its header and where each tensor goes.
struct Layout<'a> {
    head: Vec<u8>,
    tensors: Vec<(&'a StoredTensor, u64)>,
    length: u64,
}

/// A tensor, where its data begin in the file, the first block of the chunk and how many are in it.
type Chunk<'a> = (&'a StoredTensor, u64, u64, u64);

impl<'a> Layout<'a> {
    fn new(
        checkpoint: &Checkpoint,
        tensors: &'a [StoredTensor],
        quantisation: Quantisation,
        seed: u64,
    ) -> Self {
        // As in a plain file: two that differ in how they are filled must not be taken for one another.
        let fills = tensors.iter().fold(seed, |hash, tensor| match tensor.spec.init {
            Init::Normal { std } => mix(hash ^ u64::from(std.to_bits())),
            Init::Ones => mix(hash ^ (1 << 32)),
            Init::Zeros => mix(hash ^ (2 << 32)),
        });
        let mut head = Head::new(tensors.len() as u64, 3);
        head.text_value("general.architecture", &checkpoint.architecture);
        head.number_value("general.file_type", file_type(quantisation));
        let recipe = format!("synthetic recipe {RECIPE} seed {seed} fills {fills:016x}");
        head.text_value("warpmark", &recipe);
        let mut offset = 0;
        let mut starts = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            head.tensor(tensor, offset);
            starts.push((tensor, offset));
            offset = (offset + tensor.bytes()).next_multiple_of(ALIGNMENT);
        }
        let mut head = head.0;
        head.resize(head.len().next_multiple_of(ALIGNMENT as usize), 0);
        let data = head.len() as u64;
        let tensors = starts.into_iter().map(|(tensor, start)| (tensor, data + start)).collect();
        Self { head, tensors, length: data + offset }
    }

    /// What one thread makes at a time.
    fn chunks(&self) -> Vec<Chunk<'a>> {
        let chunks = self.tensors.iter().flat_map(|(tensor, start)| {
            let blocks = tensor.bytes() / tensor.kind.type_size() as u64;
            (0..blocks)
                .step_by(CHUNK as usize)
                .map(move |first| (*tensor, *start, first, CHUNK.min(blocks - first)))
        });
        chunks.collect()
    }

    /// Whether the file there is this one: its length, and every byte of its header.
    fn is_in(&self, path: &Path) -> bool {
        let Ok(file) = File::open(path) else { return false };
        let right_length = file.metadata().is_ok_and(|data| data.len() == self.length);
        let mut head = vec![0; self.head.len()];
        right_length && file.read_exact_at(&mut head, 0).is_ok() && head == self.head
    }
}

/// The bytes of a header of version 3.
struct Head(Vec<u8>);

impl Head {
    fn new(tensors: u64, values: u64) -> Self {
        let mut head = b"GGUF".to_vec();
        head.extend(3u32.to_le_bytes());
        head.extend(tensors.to_le_bytes());
        head.extend(values.to_le_bytes());
        Self(head)
    }

    fn text(&mut self, text: &str) {
        self.0.extend((text.len() as u64).to_le_bytes());
        self.0.extend(text.bytes());
    }

    fn text_value(&mut self, name: &str, value: &str) {
        const TEXT: u32 = 8;
        self.text(name);
        self.0.extend(TEXT.to_le_bytes());
        self.text(value);
    }

    fn number_value(&mut self, name: &str, value: u32) {
        const U32: u32 = 4;
        self.text(name);
        self.0.extend(U32.to_le_bytes());
        self.0.extend(value.to_le_bytes());
    }

    fn tensor(&mut self, tensor: &StoredTensor, offset: u64) {
        self.text(&tensor.name);
        self.0.extend((tensor.spec.shape.len() as u32).to_le_bytes());
        // The fastest extent first.
        for extent in tensor.spec.shape.iter().rev() {
            self.0.extend((*extent as u64).to_le_bytes());
        }
        self.0.extend(number(tensor.kind).to_le_bytes());
        self.0.extend(offset.to_le_bytes());
    }
}

/// ggml's number of a kind.
fn number(kind: GgmlDType) -> u32 {
    match kind {
        GgmlDType::F32 => 0,
        GgmlDType::F16 => 1,
        GgmlDType::Q4_0 => 2,
        GgmlDType::Q4_1 => 3,
        GgmlDType::Q5_0 => 6,
        GgmlDType::Q5_1 => 7,
        GgmlDType::Q8_0 => 8,
        GgmlDType::Q8_1 => 9,
        GgmlDType::Q2K => 10,
        GgmlDType::Q3K => 11,
        GgmlDType::Q4K => 12,
        GgmlDType::Q5K => 13,
        GgmlDType::Q6K => 14,
        GgmlDType::Q8K => 15,
        GgmlDType::BF16 => 30,
    }
}

fn write(
    layout: &Layout<'_>,
    name: &str,
    seed: u64,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<PathBuf, WeightsError> {
    let draft = cache.begin(name, layout.length)?;
    progress.begin(name, Some(Bytes(layout.length as f64)));
    fill(layout, seed, &draft, name, progress)
        .map_err(|error| refused(&draft, name, error, progress))?;
    let path = draft.commit()?;
    progress.finish(name);
    Ok(path)
}

/// Makes and writes all blocks, each thread what it has made.
fn fill(
    layout: &Layout<'_>,
    seed: u64,
    draft: &Draft,
    name: &str,
    progress: &dyn Progress,
) -> io::Result<()> {
    draft.file.write_all_at(&layout.head, 0)?;
    draft.file.set_len(layout.length)?;
    let done = AtomicU64::new(layout.head.len() as u64);
    layout.chunks().into_par_iter().try_for_each_init(
        Vec::new,
        |buffer, (tensor, start, first, count)| {
            let size = tensor.kind.type_size();
            buffer.resize(count as usize * size, 0);
            generate(tensor, seed, first, buffer);
            draft.file.write_all_at(buffer, start + first * size as u64)?;
            out_of_time(progress)?;
            let count = buffer.len() as u64;
            let done = count + done.fetch_add(count, Ordering::Relaxed);
            progress.advance(name, Bytes(done as f64));
            Ok(())
        },
    )
}

/// A tensor of which a block in the file is not the seed's, if there is one.
fn differing<'a>(
    layout: &Layout<'a>,
    seed: u64,
    file: &File,
    name: &str,
    progress: &dyn Progress,
) -> io::Result<Option<&'a StoredTensor>> {
    let done = AtomicU64::new(layout.head.len() as u64);
    let look = |(made, found): &mut (Vec<u8>, Vec<u8>),
                (tensor, start, first, count): Chunk<'a>| {
        let size = tensor.kind.type_size();
        made.resize(count as usize * size, 0);
        found.resize(count as usize * size, 0);
        generate(tensor, seed, first, made);
        file.read_exact_at(found, start + first * size as u64)?;
        out_of_time(progress)?;
        let count = made.len() as u64;
        progress.advance(name, Bytes((count + done.fetch_add(count, Ordering::Relaxed)) as f64));
        Ok((made != found).then_some(tensor))
    };
    layout
        .chunks()
        .into_par_iter()
        .map_init(Default::default, look)
        .find_any(|found| !matches!(found, Ok(None)))
        .unwrap_or(Ok(None))
}

/// The blocks of a tensor from block `first` on.
fn generate(tensor: &StoredTensor, seed: u64, first: u64, blocks: &mut [u8]) {
    let size = tensor.kind.type_size();
    let key = key(&tensor.name, seed);
    let words = size.div_ceil(8) as u64 + 1;
    for (index, block) in (first..).zip(blocks.chunks_exact_mut(size)) {
        let word = |at: u64| mix(key.wrapping_add((index * words + at).wrapping_mul(GOLDEN)));
        for (at, bytes) in (0..).zip(block.chunks_mut(8)) {
            bytes.copy_from_slice(&word(at).to_le_bytes()[..bytes.len()]);
        }
        match tensor.spec.init {
            Init::Normal { std } => scale(tensor.kind, std, word(words - 1), block),
            Init::Ones => constant(tensor.kind, 1.0, block),
            Init::Zeros => constant(tensor.kind, 0.0, block),
        }
    }
}

/// A block of one value in each place.
fn constant(kind: GgmlDType, value: f32, block: &mut [u8]) {
    block.fill(0);
    match kind {
        GgmlDType::F32 => block.copy_from_slice(&value.to_le_bytes()),
        GgmlDType::F16 => block.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
        _ => {
            // Only norms are constant, and those are never quantised; zeros are zeros in every kind.
            debug_assert!(value == 0.0, "{kind:?} has no constant block");
        }
    }
}

/// Turns a block of random bits into weights around zero with that standard deviation, by its scales.
/// `random` decides what of them is random too.
fn scale(kind: GgmlDType, std: f32, random: u64, block: &mut [u8]) {
    /// The root of the mean square of a uniform integer of so many bits around its middle.
    fn spread(bits: i32) -> f32 {
        ((4f32.powi(bits) - 1.0) / 12.0).sqrt()
    }
    let sign = if random & 1 == 0 { 1.0 } else { -1.0 };
    let mut put = |at: usize, value: f32| {
        block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
    };
    match kind {
        // One number: its middle is at half of the range.
        GgmlDType::F32 | GgmlDType::F16 => {
            let value = (random >> 32) as f32 / u32::MAX as f32 - 0.5;
            constant(kind, value * std * 12f32.sqrt(), block);
        }
        // d · q with q in -2ⁿ⁻¹ .. 2ⁿ⁻¹: half a step below zero on average, so every other block is
        // turned round.
        GgmlDType::Q4_0 => put(0, sign * std / spread(4)),
        GgmlDType::Q5_0 => put(0, sign * std / spread(5)),
        GgmlDType::Q8_0 => put(0, sign * std / spread(8)),
        // d · q + m with q in 0 .. 2ⁿ.
        GgmlDType::Q5_1 => {
            let d = std / spread(5);
            put(0, d);
            put(2, -15.5 * d);
        }
        // d · s · q - e · m with s and m of six bits for every 32 weights: with m = s and e the middle
        // of q times d, d · s · (q - middle).
        GgmlDType::Q4K | GgmlDType::Q5K => {
            let (bits, middle) = if kind == GgmlDType::Q4K { (4, 7.5) } else { (5, 15.5) };
            let d = std / (spread(bits) * SIX_BITS);
            put(0, d);
            put(2, middle * d);
            pack(random, &mut block[4..16]);
        }
        // d · s · (q - 32) with s of eight bits and both signs for every 16 weights.
        GgmlDType::Q6K => {
            for scale in &mut block[192..208] {
                let magnitude = 64 + (scale.cast_signed() & 63);
                let signed = if *scale & 128 == 0 { magnitude } else { -magnitude };
                *scale = signed.cast_unsigned();
            }
            let d = f16::from_f32(std / (spread(6) * EIGHT_BITS));
            block[208..210].copy_from_slice(&d.to_le_bytes());
        }
        other => debug_assert!(false, "no quantisation of ours holds {other:?}"),
    }
}

/// The root mean square of 32 .. 64, from which the scales of six bits are drawn.
const SIX_BITS: f32 = 48.389;

/// The root mean square of 64 .. 128, from which the scales of eight bits are drawn.
const EIGHT_BITS: f32 = 97.270;

/// Packs eight scales of six bits, drawn from 32 .. 64, as scales and as minima: the low six bits of
/// the first four of each stand in bytes of their own, whose upper two bits hold those of the last four.
fn pack(random: u64, packed: &mut [u8]) {
    let scale = |index: usize| 32 + (random >> (8 * index) & 31) as u8;
    for index in 0..4 {
        let (first, last) = (scale(index), scale(index + 4));
        packed[index] = first | (last >> 4) << 6;
        packed[index + 4] = first | (last >> 4) << 6;
        packed[index + 8] = (last & 15) | (last & 15) << 4;
    }
}
