//! Synthetic weights: random values at the true shapes, written once to the cache.
//!
//! The speed of a net does not depend on its weights as long as they are random and finite, and a
//! load from a real file is real I/O; so a benchmark needs no download. A tensor's values depend on
//! the seed and on its name alone, not on the tensors around it or on the number of threads.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use half::{bf16, f16};
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use warpmark_record::{Bytes, WeightsStamp};

use super::cache::Draft;
use super::damaged::removed;
use super::element::{self, Element};
use super::{Cache, Init, Progress, TensorSpec, WeightFiles, WeightsError};
use crate::{Checkpoint, Dtype};

/// The recipe's number, part of the header: another recipe never reuses an older file.
const RECIPE: u32 = 1;

/// Elements that one thread makes and writes at a time: 1 MiB of f32.
const CHUNK: usize = 1 << 18;

/// The file of a model's synthetic weights, written where it is not there or not the right one.
pub(super) fn locate(
    checkpoint: &Checkpoint,
    tensors: &[TensorSpec],
    seed: u64,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<WeightFiles, WeightsError> {
    let name = file_name(checkpoint, seed);
    let layout = Layout::new(tensors, checkpoint.dtype, seed);
    let path = cache.path(&name);
    if !layout.is_in(&path) {
        write(&layout, &name, seed, cache, progress)?;
    }
    Ok(WeightFiles::new(vec![path], WeightsStamp::Synthetic { seed }))
}

/// Examines the file that [`locate`] would take, if it is there, and removes it where a value is not the
/// seed's.
pub(super) fn examine(
    model: &Checkpoint,
    tensors: &[TensorSpec],
    seed: u64,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<Option<String>, WeightsError> {
    let name = file_name(model, seed);
    let layout = Layout::new(tensors, model.dtype, seed);
    let path = cache.path(&name);
    if !layout.is_in(&path) {
        return Ok(None);
    }
    let file = File::open(&path).map_err(WeightsError::io("open", &path))?;
    progress.begin(&name, Some(Bytes(layout.length as f64)));
    let differing = match layout.dtype {
        Dtype::F32 => differing::<f32>(&layout, seed, &file, &name, progress),
        Dtype::F16 => differing::<f16>(&layout, seed, &file, &name, progress),
        Dtype::Bf16 => differing::<bf16>(&layout, seed, &file, &name, progress),
    };
    progress.finish(&name);
    let Some(tensor) = differing.map_err(WeightsError::io("read", &path))? else { return Ok(None) };
    removed(&path, &unlike(&tensor.name, seed)).map(Some)
}

/// How a file differs from what its seed gives.
pub(super) fn unlike(tensor: &str, seed: u64) -> String {
    format!("{tensor:?} in it is not what seed {seed} gives")
}

fn file_name(model: &Checkpoint, seed: u64) -> String {
    format!("{}-{}-seed{seed}.safetensors", model.id, model.dtype)
}

/// A file as it is to be: its header and where each tensor goes.
struct Layout<'a> {
    head: Vec<u8>,
    tensors: Vec<(&'a TensorSpec, u64)>,
    dtype: Dtype,
    length: u64,
}

/// A tensor, where its data begin in the file, the first element of the chunk and how many the tensor has.
type Chunk<'a> = (&'a TensorSpec, u64, usize, usize);

impl<'a> Layout<'a> {
    fn new(tensors: &'a [TensorSpec], dtype: Dtype, seed: u64) -> Self {
        let mut header = Map::new();
        // How tensors are filled stands in no other part of the header, and two files that differ in
        // it must not be taken for one another.
        let fills = tensors.iter().fold(seed, |hash, tensor| match tensor.init {
            Init::Normal { std } => mix(hash ^ u64::from(std.to_bits())),
            Init::Ones => mix(hash ^ (1 << 32)),
            Init::Zeros => mix(hash ^ (2 << 32)),
        });
        header.insert(
            "__metadata__".to_owned(),
            json!({ "warpmark": format!("synthetic recipe {RECIPE} seed {seed} fills {fills:016x}") }),
        );
        let dtype_name = match dtype {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
        };
        let mut offset: u64 = 0;
        let mut starts = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            // The catalog has held the sum of these against `MAX_PARAMETERS`.
            let bytes = tensor.elements().unwrap_or(0) * dtype.bytes() as u64;
            let entry = json!({
                "dtype": dtype_name,
                "shape": tensor.shape,
                "data_offsets": [offset, offset + bytes],
            });
            header.insert(tensor.name.clone(), entry);
            starts.push((tensor, offset));
            offset += bytes;
        }
        let mut text = Value::Object(header).to_string().into_bytes();
        // The format wants the data aligned to eight bytes, and allows spaces for it.
        text.resize(text.len().next_multiple_of(8), b' ');
        let mut head = (text.len() as u64).to_le_bytes().to_vec();
        head.append(&mut text);
        let data_start = head.len() as u64;
        let tensors =
            starts.into_iter().map(|(tensor, start)| (tensor, data_start + start)).collect();
        Self { head, tensors, dtype, length: data_start + offset }
    }

    /// What one thread makes at a time.
    fn chunks(&self) -> Vec<Chunk<'a>> {
        let chunks = self.tensors.iter().flat_map(|(tensor, start)| {
            let elements = tensor.elements().unwrap_or(0) as usize;
            (0..elements).step_by(CHUNK).map(move |first| (*tensor, *start, first, elements))
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

fn write(
    layout: &Layout<'_>,
    name: &str,
    seed: u64,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<PathBuf, WeightsError> {
    let draft = cache.begin(name, layout.length)?;
    progress.begin(name, Some(Bytes(layout.length as f64)));
    let written = match layout.dtype {
        Dtype::F32 => fill::<f32>(layout, seed, &draft, name, progress),
        Dtype::F16 => fill::<f16>(layout, seed, &draft, name, progress),
        Dtype::Bf16 => fill::<bf16>(layout, seed, &draft, name, progress),
    };
    written.map_err(|error| refused(&draft, name, error, progress))?;
    let path = draft.commit()?;
    progress.finish(name);
    Ok(path)
}

/// Ends the writing where the time allowed is up.
pub(super) fn out_of_time(progress: &dyn Progress) -> io::Result<()> {
    if progress.time_left().is_some_and(|left| left.is_zero()) {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(())
}

/// Why a file could not be written.
pub(super) fn refused(
    draft: &Draft,
    name: &str,
    error: io::Error,
    progress: &dyn Progress,
) -> WeightsError {
    if error.kind() == io::ErrorKind::TimedOut && out_of_time(progress).is_err() {
        return WeightsError::OutOfTime { file: name.to_owned() };
    }
    draft.explain(error)
}

/// Makes and writes all values. Memory is bounded by one chunk per thread; each thread writes what it
/// has made, so that making and writing overlap.
fn fill<T: Element>(
    layout: &Layout<'_>,
    seed: u64,
    draft: &Draft,
    name: &str,
    progress: &dyn Progress,
) -> io::Result<()> {
    draft.file.write_all_at(&layout.head, 0)?;
    let done = AtomicU64::new(layout.head.len() as u64);
    layout.chunks().into_par_iter().try_for_each_init(
        || vec![T::default(); CHUNK],
        |buffer, (tensor, start, first, elements)| {
            let values = &mut buffer[..CHUNK.min(elements - first)];
            generate(tensor, seed, first as u64, values);
            let bytes = element::bytes_of(values);
            draft.file.write_all_at(bytes, start + (first * size_of::<T>()) as u64)?;
            out_of_time(progress)?;
            let count = bytes.len() as u64;
            let done = count + done.fetch_add(count, Ordering::Relaxed);
            progress.advance(name, Bytes(done as f64));
            Ok(())
        },
    )
}

/// A tensor of which a value in the file is not the seed's, if there is one.
fn differing<'a, T: Element>(
    layout: &Layout<'a>,
    seed: u64,
    file: &File,
    name: &str,
    progress: &dyn Progress,
) -> io::Result<Option<&'a TensorSpec>> {
    let done = AtomicU64::new(layout.head.len() as u64);
    let look = |(made, found): &mut (Vec<T>, Vec<u8>),
                (tensor, start, first, elements): Chunk<'a>| {
        let values = &mut made[..CHUNK.min(elements - first)];
        generate(tensor, seed, first as u64, values);
        let bytes = element::bytes_of(values);
        let found = &mut found[..bytes.len()];
        file.read_exact_at(found, start + (first * size_of::<T>()) as u64)?;
        out_of_time(progress)?;
        let count = bytes.len() as u64;
        progress.advance(name, Bytes((count + done.fetch_add(count, Ordering::Relaxed)) as f64));
        Ok((bytes != found).then_some(tensor))
    };
    layout
        .chunks()
        .into_par_iter()
        .map_init(|| (vec![T::default(); CHUNK], vec![0; CHUNK * size_of::<T>()]), look)
        .find_any(|found| !matches!(found, Ok(None)))
        .unwrap_or(Ok(None))
}

/// The values of a tensor from element `first` on.
fn generate<T: Element>(tensor: &TensorSpec, seed: u64, first: u64, values: &mut [T]) {
    match tensor.init {
        Init::Ones => values.fill(T::narrow(1.0)),
        Init::Zeros => values.fill(T::narrow(0.0)),
        Init::Normal { std } => {
            let key = key(&tensor.name, seed);
            // Four uniform 16-bit numbers: mean 4 * 32767.5, variance 4 * (2^32 - 1) / 12.
            let scale = std / (((u32::MAX as f32) / 3.0).sqrt());
            for (index, value) in (first..).zip(values) {
                let word = mix(key.wrapping_add(index.wrapping_mul(GOLDEN)));
                let sum =
                    (word & 0xffff) + (word >> 16 & 0xffff) + (word >> 32 & 0xffff) + (word >> 48);
                *value = T::narrow((sum as f32 - 131_070.0) * scale);
            }
        }
    }
}

/// The increment of `SplitMix64`.
pub(super) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", OOPSLA 2014). Used on a counter, so that any element can be had without those before
/// it.
pub(super) fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// The start of a tensor's stream.
pub(super) fn key(name: &str, seed: u64) -> u64 {
    name.bytes().fold(mix(seed.wrapping_add(GOLDEN)), |key, byte| {
        mix((key ^ u64::from(byte)).wrapping_add(GOLDEN))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Quiet, TensorNames};

    fn normal(name: &str, shape: &[usize]) -> TensorSpec {
        let init = Init::Normal { std: 0.02 };
        TensorSpec { name: name.to_owned(), shape: shape.to_vec(), init }
    }

    fn small() -> Vec<TensorSpec> {
        let mut gain = normal("norm.weight", &[5]);
        gain.init = Init::Ones;
        let mut bias = normal("norm.bias", &[5]);
        bias.init = Init::Zeros;
        vec![normal("w", &[40, 30]), gain, bias]
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            id: "small".to_owned(),
            repo: "someone/small".to_owned(),
            revision: None,
            files: Vec::new(),
            sha256: Vec::new(),
            tokenizer: None,
            dtype: Dtype::F32,
            architecture: "gpt2".to_owned(),
            names: TensorNames::default(),
        }
    }

    fn locate_small(tensors: &[TensorSpec], seed: u64, cache: &Cache) -> PathBuf {
        let files = locate(&checkpoint(), tensors, seed, cache, &Quiet).unwrap();
        files.paths()[0].clone()
    }

    fn values(name: &str, seed: u64, first: u64, count: usize) -> Vec<f32> {
        let mut values = vec![0f32; count];
        generate(&normal(name, &[count]), seed, first, &mut values);
        values
    }

    #[test]
    fn the_values_of_a_seed_are_the_same_for_ever() {
        // From an independent implementation of the recipe.
        let golden = [0.016_401_837f32, 0.023_604_266, -0.006_228_786_4, 0.008_840_499];
        assert_eq!(values("h.0.attn.c_attn.weight", 0, 0, 4), golden);
        assert_eq!(values("h.0.attn.c_attn.weight", 0, 2, 2), golden[2..]);
    }

    #[test]
    fn the_seed_and_the_name_each_change_the_values() {
        assert_ne!(values("a", 0, 0, 8), values("b", 0, 0, 8));
        assert_ne!(values("a", 0, 0, 8), values("a", 1, 0, 8));
        assert_ne!(values("ab", 0, 0, 8), values("ba", 0, 0, 8));
    }

    #[test]
    fn normal_values_have_the_mean_the_deviation_and_the_tails_they_should() {
        let count = 200_000;
        let values = values("w", 7, 0, count);
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / count as f64;
        let variance =
            values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count as f64;
        // Five standard errors of either.
        assert!(mean.abs() < 5.0 * 0.02 / (count as f64).sqrt(), "{mean}");
        assert!((variance.sqrt() / 0.02 - 1.0).abs() < 0.01, "{}", variance.sqrt());
        // Of normal values 4.6 % lie beyond two deviations; of a sum of four uniforms 4.2 %.
        let beyond = values.iter().filter(|v| v.abs() > 0.04).count() as f64 / count as f64;
        assert!((0.035..0.05).contains(&beyond), "{beyond}");
        assert!(values.iter().all(|v| v.abs() < 3.5 * 0.02));
        let neighbours =
            values.windows(2).map(|pair| f64::from(pair[0] * pair[1])).sum::<f64>() / count as f64;
        assert!((neighbours / variance).abs() < 0.02, "{neighbours}");
    }

    #[test]
    fn the_number_of_threads_does_not_change_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let tensors = [normal("w", &[3, CHUNK + 17])];
        let bytes = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let cache = Cache::at(folder.path().join(threads.to_string()));
            std::fs::read(pool.install(|| locate_small(&tensors, 3, &cache))).unwrap()
        };
        assert!(bytes(1) == bytes(3));
    }

    #[test]
    fn the_file_is_a_sound_safetensors_file_with_the_fills_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = std::fs::read(locate_small(&small(), 0, &Cache::at(folder.path()))).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let floats = |name: &str| -> Vec<f32> {
            let data = file.tensor(name).unwrap().data().to_vec();
            data.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        };
        assert_eq!(floats("norm.weight"), [1.0; 5]);
        assert_eq!(floats("norm.bias"), [0.0; 5]);
        assert_eq!(floats("w"), values("w", 0, 0, 1200));
        assert_eq!(file.tensor("w").unwrap().shape(), [40, 30]);
    }

    #[test]
    fn a_sound_file_is_used_again_and_a_damaged_or_different_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let path = locate_small(&small(), 0, &cache);
        let written = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
        let first = written(&path);
        assert_eq!(locate_small(&small(), 0, &cache), path);
        assert_eq!(written(&path), first);

        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        locate_small(&small(), 0, &cache);
        assert!(std::fs::read(&path).unwrap() == whole);

        let mut other = small();
        other[0].init = Init::Normal { std: 0.5 };
        locate_small(&other, 0, &cache);
        assert!(std::fs::read(&path).unwrap() != whole);
    }

    #[test]
    fn a_changed_value_is_found_whatever_it_is_and_the_file_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let look = || examine(&checkpoint(), &small(), 0, &cache, &Quiet).unwrap();
        assert_eq!(look(), None, "what is not there is not damaged");
        let path = locate_small(&small(), 0, &cache);
        assert_eq!(look(), None);
        let whole = std::fs::read(&path).unwrap();
        // The last byte of the file is in its last tensor, and is a plausible number before and after.
        for (at, tensor) in [(whole.len() - 1, "norm.bias"), (whole.len() - 100, "\"w\"")] {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            std::fs::write(&path, damaged).unwrap();
            let said = look().unwrap();
            assert!(said.contains(tensor) && said.contains(path.to_str().unwrap()), "{said}");
            assert!(said.contains("seed 0") && !path.exists(), "{said}");
            assert!(std::fs::read(locate_small(&small(), 0, &cache)).unwrap() == whole);
        }
    }

    #[test]
    fn the_budget_ends_the_writing_and_leaves_nothing() {
        struct Gone;
        impl Progress for Gone {
            fn begin(&self, _file: &str, _total: Option<Bytes>) {}
            fn advance(&self, _file: &str, _done: Bytes) {}
            fn finish(&self, _file: &str) {}
            fn time_left(&self) -> Option<std::time::Duration> {
                Some(std::time::Duration::ZERO)
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let error = locate(&checkpoint(), &small(), 0, &cache, &Gone).unwrap_err();
        assert!(matches!(error, WeightsError::OutOfTime { .. }), "{error}");
        assert!(matches!(error.into(), warpmark_measure::WorkloadError::OutOfTime(_)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn two_runs_that_write_at_once_both_get_a_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let tensors = small();
        let paths: Vec<PathBuf> = std::thread::scope(|scope| {
            let runs: Vec<_> =
                (0..4).map(|_| scope.spawn(|| locate_small(&tensors, 0, &cache))).collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        assert!(paths.iter().all(|path| Layout::new(&tensors, Dtype::F32, 0).is_in(path)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
