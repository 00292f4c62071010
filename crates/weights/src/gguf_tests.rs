use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use candle_core::Device;
use candle_core::quantized::gguf_file::Content;

use super::*;
use crate::{Checkpoint, Dtype, Init, Quiet, TensorNames};

const EVERY: [GgmlDType; 9] = [
    GgmlDType::F32,
    GgmlDType::F16,
    GgmlDType::Q4_0,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

fn model() -> Checkpoint {
    Checkpoint {
        id: "tinyllama-1.1b".to_owned(),
        repo: "someone/tinyllama".to_owned(),
        revision: None,
        files: Vec::new(),
        sha256: Vec::new(),
        tokenizer: None,
        dtype: Dtype::Bf16,
        architecture: "llama".to_owned(),
        names: TensorNames { ignored: &["rope_freqs.weight"], ..TensorNames::default() },
    }
}

fn tensor(name: &str, kind: GgmlDType, shape: &[usize], init: Init) -> StoredTensor {
    let spec = TensorSpec { name: format!("{name}.plain"), shape: shape.to_vec(), init };
    StoredTensor { spec, name: name.to_owned(), kind }
}

fn tensors() -> Vec<StoredTensor> {
    let normal = Init::Normal { std: 0.02 };
    let mut tensors: Vec<StoredTensor> =
        EVERY.map(|kind| tensor(&format!("{kind:?}"), kind, &[96, 512], normal)).to_vec();
    tensors.push(tensor("norm", GgmlDType::F32, &[5], Init::Ones));
    tensors
}

fn files(folder: &tempfile::TempDir) -> WeightFiles {
    let cache = Cache::at(folder.path());
    let source = Source::Synthetic { seed: 3 };
    locate(&model(), &tensors(), Quantisation::Q4KM, (&source, &cache), &Quiet).unwrap()
}

fn load_all(files: &WeightFiles) -> Result<crate::Loaded, WeightsError> {
    load(&model(), files, (&tensors(), Quantisation::Q4KM), &Device::Cpu, true)
}

#[test]
fn every_kind_of_block_has_the_spread_asked_for_around_zero() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = load_all(&files(&folder)).unwrap();
    for kind in EVERY {
        let name = format!("{kind:?}.plain");
        let plain = match loaded.blocks.get(&name) {
            Some(blocks) => blocks.dequantize(&Device::Cpu).unwrap(),
            None => loaded.tensors[&name].clone(),
        };
        let values: Vec<f32> = plain.flatten_all().unwrap().to_vec1().unwrap();
        let count = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
        let square = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / count;
        assert!(mean.abs() < 5e-4, "{kind:?} has the mean {mean}");
        assert!((square.sqrt() / 0.02 - 1.0).abs() < 0.03, "{kind:?}: {}", square.sqrt());
    }
    assert_eq!(loaded.tensors["norm.plain"].to_vec1::<f32>().unwrap(), [1.0; 5]);
}

#[test]
fn blocks_stay_as_they_are_stored_and_take_as_many_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder);
    let loaded = load_all(&files).unwrap();
    assert_eq!(loaded.held(), held(&tensors()));
    let stored = tensors().into_iter().find(|tensor| tensor.kind == GgmlDType::Q6K).unwrap();
    let found = loaded.blocks[&stored.spec.name].data().unwrap().into_owned();
    assert_eq!(found, blocks(&files, &stored).unwrap());
    assert_eq!(found.len() as u64, stored.bytes());
    let on_disk = std::fs::metadata(&files.paths()[0]).unwrap().len() as f64;
    let read = read_by_load(&files, &tensors()).unwrap().0;
    assert!(read <= on_disk && read > 0.99 * on_disk, "{read} of {on_disk}");
}

#[test]
fn a_sound_file_is_used_again_and_a_damaged_one_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = files(&folder).paths()[0].clone();
    let written = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
    let first = written(&path);
    files(&folder);
    assert_eq!(written(&path), first);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    files(&folder);
    assert!(std::fs::read(&path).unwrap() == whole);
}

/// The error of a load from a copy of the sound file in which something was changed.
fn refused(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder);
    let mut bytes = std::fs::read(&files.paths()[0]).unwrap();
    change(&mut bytes);
    std::fs::write(&files.paths()[0], bytes).unwrap();
    load_all(&files).err().map(|error| error.to_string()).unwrap()
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
}

#[test]
fn a_file_of_another_model_or_quantisation_is_refused_with_what_it_is() {
    let text = refused(|bytes| replace(bytes, b"llama", b"gemma"));
    assert!(text.contains("architecture is gemma, the model's llama"), "{text}");
    let text = refused(|bytes| {
        let at = bytes.windows(17).position(|window| window == b"general.file_type").unwrap();
        bytes[at + 17 + 4] = 7;
    });
    assert!(text.contains("file type is 7") && text.contains("q4_k_m is 15"), "{text}");
    let text = refused(|bytes| replace(bytes, b"Q5_0", b"Q5_x"));
    assert!(text.contains("1 of the model's tensors") && text.contains("Q5_0"), "{text}");
    let text = refused(|bytes| {
        let at = bytes.windows(4).position(|window| window == b"Q6K\x02").unwrap();
        // 512 columns become 256.
        bytes[at + 3 + 4 + 1] = 1;
    });
    assert!(text.contains("shape"), "{text}");
}

#[test]
fn a_damaged_file_is_refused_and_nothing_panics() {
    let text = refused(|bytes| bytes.truncate(bytes.len() / 2));
    assert!(text.contains("truncated"), "{text}");
    let text = refused(|bytes| bytes.truncate(20));
    assert!(text.contains("no sound GGUF file"), "{text}");
    let text = refused(|bytes| bytes[0] = b'X');
    assert!(text.contains("no sound GGUF file"), "{text}");
    // The scale of the last block of the last quantised tensor is not finite.
    let text = refused(|bytes| {
        let end = bytes.len();
        // Behind it stands the norm, in an aligned place of its own.
        let scale = end - 32 - 2;
        bytes[scale..scale + 2].copy_from_slice(&0x7e00u16.to_le_bytes());
    });
    assert!(text.contains("Q6K") && text.contains("NaN"), "{text}");
}

#[test]
fn an_alignment_of_nothing_is_a_damaged_file_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(17u64.to_le_bytes());
    bytes.extend(b"general.alignment");
    bytes.extend(4u32.to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let files = in_folder(folder.path(), Quantisation::Q4KM).unwrap();
    let error = load_all(&files).err().unwrap().to_string();
    assert!(error.contains("its header cannot be read"), "{error}");
}

#[test]
fn bytes_flipped_anywhere_in_the_header_are_an_error_or_a_sound_load() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder);
    let whole = std::fs::read(&files.paths()[0]).unwrap();
    let mut file = std::fs::File::open(&files.paths()[0]).unwrap();
    let header = Content::read(&mut file).unwrap().tensor_data_offset;
    let file = std::fs::File::options().write(true).open(&files.paths()[0]).unwrap();
    for at in (0..header).step_by(5) {
        for value in [0, 0xff] {
            file.write_all_at(&[value], at).unwrap();
            // Either way: what matters is that it comes back.
            drop(read_by_load(&files, &tensors()));
        }
        file.write_all_at(&whole[at as usize..=at as usize], at).unwrap();
    }
    load_all(&files).unwrap();
}

#[test]
fn the_file_of_a_folder_is_the_one_named_after_the_quantisation_or_the_only_one() {
    let chosen = |names: &[&str]| -> Result<PathBuf, String> {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let files = in_folder(folder.path(), Quantisation::Q4KM).map_err(|e| e.to_string())?;
        Ok(files.paths()[0].file_name().unwrap().into())
    };
    assert_eq!(chosen(&["x.gguf"]).unwrap(), PathBuf::from("x.gguf"));
    let both = ["m.Q8_0.gguf", "m.Q4_K_M.gguf"];
    assert_eq!(chosen(&both).unwrap(), PathBuf::from("m.Q4_K_M.gguf"));
    assert!(chosen(&["a.gguf", "b.gguf"]).unwrap_err().contains("put q4_k_m into its name"));
    assert!(chosen(&["a.safetensors"]).unwrap_err().contains("no .gguf file"));
}
