use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use candle_core::Device;
use candle_core::quantized::gguf_file::Content;

use super::*;
use crate::{Checkpoint, Copied, Dtype, Init, Quiet, TensorNames};

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

/// The error of a load from a copy of the well-formed file in which something was changed.
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

/// Gives a tensor of two dimensions another kind, by ggml's number.
fn change_kind(bytes: &mut [u8], name: &[u8], kind: u32) {
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    let at = at + name.len() + 4 + 2 * 8;
    bytes[at..at + 4].copy_from_slice(&kind.to_le_bytes());
}

#[test]
fn kinds_that_are_not_computed_are_refused_by_their_names_and_not_fetched_again() {
    for (number, name) in
        [(20, "IQ4_NL"), (16, "IQ2_XXS"), (23, "IQ4_XS"), (39, "MXFP4"), (77, "77")]
    {
        let text = refused(|bytes| change_kind(bytes, b"Q5_0", number));
        assert!(text.contains(name) && text.contains("Q8_0 or Q4_K_M"), "{text}");
        assert!(!text.contains("again"), "{text}");
    }
    // Known to candle, and of as many bytes as fit.
    let text = refused(|bytes| change_kind(bytes, b"Q8_0", 10));
    assert!(text.contains("Q8_0 is stored as Q2_K"), "{text}");
}

#[test]
fn tensors_in_bf16_are_widened_as_those_in_f16_are() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder);
    let mut bytes = std::fs::read(&files.paths()[0]).unwrap();
    change_kind(&mut bytes, b"F16", 30);
    std::fs::write(&files.paths()[0], bytes).unwrap();
    let loaded = load_all(&files).unwrap();
    let tensor = tensors().into_iter().find(|tensor| tensor.name == "F16").unwrap();
    let stored = blocks(&files, &tensor).unwrap();
    let expected: Vec<f32> = stored
        .chunks_exact(2)
        .map(|half| half::bf16::from_le_bytes([half[0], half[1]]).to_f32())
        .collect();
    let found: Vec<f32> = loaded.tensors["F16.plain"].flatten_all().unwrap().to_vec1().unwrap();
    assert!(found == expected && !loaded.blocks.contains_key("F16.plain"));
}

#[test]
fn a_git_lfs_pointer_is_named_with_the_command_that_fetches_the_file() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n";
    let text = refused(|bytes| *bytes = pointer.to_vec());
    assert!(text.contains("run `git lfs pull`"), "{text}");
}

/// One part of a file that was cut in two, with one norm of four elements.
fn part(number: u16, name: &str, value: f32) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    let first = number == 0;
    bytes.extend(if first { 3u64 } else { 2 }.to_le_bytes());
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.bytes());
    };
    for (key, value) in [("split.no", number), ("split.count", 2)] {
        text(&mut bytes, key);
        bytes.extend(2u32.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    if first {
        text(&mut bytes, "general.architecture");
        bytes.extend(8u32.to_le_bytes());
        text(&mut bytes, "llama");
    }
    text(&mut bytes, name);
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(4u64.to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.extend([value; 4].iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

#[test]
fn a_head_that_is_no_copy_of_the_embeddings_is_refused_where_none_is_asked_for() {
    const NAMES: TensorNames = TensorNames {
        prefix: "",
        ignored: &[],
        renamed: &[],
        copies: &[Copied {
            copy: "output.weight",
            of: "token_embd.weight",
            advice: "tied = false",
        }],
        not_computed: &[],
    };
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint { names: NAMES, ..model() };
    let table = |name: &str| tensor(name, GgmlDType::Q8_0, &[2, 64], Init::Normal { std: 0.1 });
    let stored = [table("token_embd.weight"), table("output.weight")];
    let source = Source::Synthetic { seed: 1 };
    let cache = Cache::at(folder.path());
    let files =
        locate(&checkpoint, &stored, Quantisation::Q8_0, (&source, &cache), &Quiet).unwrap();
    let wanted = &stored[..1];
    let loaded = || {
        load(&checkpoint, &files, (wanted, Quantisation::Q8_0), &Device::Cpu, true)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    // Both are random.
    let error = loaded().unwrap_err();
    assert!(error.contains("output.weight") && error.contains("tied = false"), "{error}");
    let embeddings = blocks(&files, &stored[0]).unwrap();
    let mut bytes = std::fs::read(&files.paths()[0]).unwrap();
    let head = blocks(&files, &stored[1]).unwrap();
    let at = bytes.windows(head.len()).position(|window| window == head).unwrap();
    bytes[at..at + head.len()].copy_from_slice(&embeddings);
    std::fs::write(&files.paths()[0], bytes).unwrap();
    loaded().unwrap();
}

#[test]
fn a_file_that_was_cut_into_parts_is_read_whole_and_a_part_alone_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("m-q4_k_m-00001-of-00002.gguf"), part(0, "a", 1.0)).unwrap();
    let expected = ["a", "b"].map(|name| tensor(name, GgmlDType::F32, &[4], Init::Ones));
    let missing = in_folder(folder.path(), Quantisation::Q4KM).unwrap_err().to_string();
    assert!(missing.contains("no m-q4_k_m-00002-of-00002.gguf"), "{missing}");
    std::fs::write(path("m-q4_k_m-00002-of-00002.gguf"), part(1, "b", 2.0)).unwrap();
    let files = in_folder(folder.path(), Quantisation::Q4KM).unwrap();
    let loaded =
        load(&model(), &files, (&expected, Quantisation::Q4KM), &Device::Cpu, true).unwrap();
    let values = |name: &str| loaded.tensors[name].to_vec1::<f32>().unwrap();
    assert_eq!([values("a.plain"), values("b.plain")], [vec![1.0; 4], vec![2.0; 4]]);
    let on_disk: u64 =
        files.paths().iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
    assert_eq!(loaded.bytes, Bytes(on_disk as f64));
    assert_eq!(metadata(&files).unwrap()["general.architecture"], "llama");

    std::fs::remove_file(path("m-q4_k_m-00002-of-00002.gguf")).unwrap();
    std::fs::rename(path("m-q4_k_m-00001-of-00002.gguf"), path("m.gguf")).unwrap();
    let files = in_folder(folder.path(), Quantisation::Q4KM).unwrap();
    let alone = load(&model(), &files, (&expected, Quantisation::Q4KM), &Device::Cpu, true);
    let text = alone.err().unwrap().to_string();
    assert!(text.contains("part 1 of 2") && text.contains("llama-gguf-split --merge"), "{text}");
}

#[test]
fn a_damaged_file_is_refused_and_nothing_panics() {
    let text = refused(|bytes| bytes.truncate(bytes.len() / 2));
    assert!(text.contains("truncated"), "{text}");
    let text = refused(|bytes| bytes.truncate(20));
    assert!(text.contains("malformed GGUF file"), "{text}");
    let text = refused(|bytes| bytes[0] = b'X');
    assert!(text.contains("malformed GGUF file"), "{text}");
    // The scale of the last block of the last quantised tensor is not finite.
    let text = refused(|bytes| {
        let end = bytes.len();
        // After it stands the norm, in an aligned place of its own.
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
