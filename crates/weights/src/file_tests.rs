use std::path::Path;

use candle_core::{DType, Device};
use half::{bf16, f16};
use warpmark_record::WeightsStamp;

use super::*;
use crate::{Copied, Init};

struct Stored {
    name: &'static str,
    dtype: &'static str,
    shape: Vec<usize>,
    data: Vec<u8>,
}

fn floats(name: &'static str, shape: &[usize], values: &[f32]) -> Stored {
    let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Stored { name, dtype: "F32", shape: shape.to_vec(), data }
}

fn write(path: &Path, tensors: &[Stored]) {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for tensor in tensors {
        let start = data.len();
        data.extend_from_slice(&tensor.data);
        let entry = serde_json::json!({
            "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, data.len()],
        });
        header.insert(tensor.name.to_owned(), entry);
    }
    let text = serde_json::Value::Object(header).to_string();
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes.extend_from_slice(&data);
    std::fs::write(path, bytes).unwrap();
}

struct Case {
    _folder: tempfile::TempDir,
    files: WeightFiles,
}

fn case(files: &[&[Stored]]) -> Case {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> =
        (0..files.len()).map(|i| folder.path().join(format!("part{i}.safetensors"))).collect();
    for (path, tensors) in paths.iter().zip(files) {
        write(path, tensors);
    }
    let stamp = WeightsStamp::Folder { name: "test".to_owned() };
    Case { _folder: folder, files: WeightFiles::new(paths, stamp).with_names(NAMES) }
}

fn spec(name: &str, shape: &[usize]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), shape: shape.to_vec(), init: Init::Zeros }
}

fn load(case: &Case, expected: &[TensorSpec], dtype: DType) -> Result<Loaded, WeightsError> {
    case.files.load(expected, dtype, &Device::Cpu)
}

fn error(case: &Case, expected: &[TensorSpec]) -> String {
    load(case, expected, DType::F32).err().expect("the load should fail").to_string()
}

const VALUES: [f32; 6] = [1.0, -2.5, 0.125, 3.0, 0.1, -0.02];

#[test]
fn tensors_arrive_with_their_values_and_shapes_in_every_dtype() {
    let case = case(&[&[floats("w", &[2, 3], &VALUES), floats("b", &[1], &[7.0])]]);
    let expected = [spec("w", &[2, 3]), spec("b", &[1])];
    for (dtype, narrow) in [
        (DType::F32, (|v| v) as fn(f32) -> f32),
        (DType::F16, |v| f16::from_f32(v).to_f32()),
        (DType::BF16, |v| bf16::from_f32(v).to_f32()),
    ] {
        let loaded = load(&case, &expected, dtype).unwrap();
        let w = loaded.tensor("w").unwrap();
        assert_eq!((w.dtype(), w.dims()), (dtype, &[2, 3][..]));
        let values: Vec<f32> =
            w.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(values, VALUES.map(narrow));
        assert_eq!(loaded.bytes, case.files.bytes().unwrap());
        assert!(loaded.stages.open.0 > 0.0 && loaded.stages.read.0 > 0.0);
        assert!(loaded.var_builder().get((2, 3), "w").is_ok());
        assert!(loaded.tensor("other").is_err_and(|e| e.to_string().contains("\"other\"")));
    }
}

#[test]
fn half_checkpoints_load_as_what_they_are_and_as_floats() {
    let data = |to: fn(f32) -> [u8; 2]| VALUES.iter().flat_map(|v| to(*v)).collect::<Vec<u8>>();
    let f16_data = data(|v| f16::from_f32(v).to_le_bytes());
    let bf16_data = data(|v| bf16::from_f32(v).to_le_bytes());
    let case = case(&[&[
        Stored { name: "h", dtype: "F16", shape: vec![6], data: f16_data },
        Stored { name: "b", dtype: "BF16", shape: vec![6], data: bf16_data },
    ]]);
    let loaded = load(&case, &[spec("h", &[6]), spec("b", &[6])], DType::F32).unwrap();
    let values = |name| loaded.tensor(name).unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(values("h"), VALUES.map(|v| f16::from_f32(v).to_f32()));
    assert_eq!(values("b"), VALUES.map(|v| bf16::from_f32(v).to_f32()));
}

const NAMES: TensorNames = TensorNames {
    prefix: "net.",
    ignored: &["*.mask", "reader.*"],
    renamed: &[],
    copies: &[Copied { copy: "head", of: "table", advice: "untie it" }],
    not_computed: &[(".bias", "biases")],
};

#[test]
fn names_shards_buffers_and_equal_copies_are_taken_as_the_family_says() {
    let mut case = case(&[
        &[floats("net.w", &[2], &[1.0, 2.0]), floats("net.0.mask", &[1], &[1.0])],
        &[
            floats("net.table", &[1], &[3.0]),
            floats("head", &[1], &[3.0]),
            floats("reader.w", &[1], &[1.0]),
        ],
    ]);
    let expected = [spec("table", &[1]), spec("w", &[2])];
    // Without the names, each of them is a tensor too many or too few.
    case.files = case.files.with_names(TensorNames::default());
    assert!(error(&case, &expected).contains("are not in"));
    case.files = case.files.with_names(NAMES);
    let loaded = load(&case, &expected, DType::F32).unwrap();
    assert_eq!(loaded.tensors.len(), 2);
    assert_eq!(loaded.tensor("w").unwrap().to_vec1::<f32>().unwrap(), [1.0, 2.0]);
    // The mask, the head and the reader, four bytes each, are not read.
    let read = case.files.bytes().unwrap() - Bytes(12.0);
    assert_eq!(loaded.bytes, read);
    assert_eq!(case.files.read_by_load(&expected).unwrap(), read);
}

#[test]
fn a_head_that_differs_from_what_is_computed_with_is_refused_wherever_it_differs() {
    let count = (1 << 20) + 3;
    let table: Vec<f32> = (0..count).map(|i| (i % 97) as f32).collect();
    let halves = |values: &[f32]| Stored {
        name: "head",
        dtype: "F16",
        shape: vec![values.len()],
        data: values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
    };
    for change in [None, Some(0), Some(count - 1)] {
        let mut head = table.clone();
        if let Some(at) = change {
            head[at] += 1.0;
        }
        let mut case = case(&[&[floats("table", &[count], &table)], &[halves(&head)]]);
        case.files = case.files.with_names(NAMES);
        let expected = [spec("table", &[count])];
        let checked = case.files.check(&expected).map_err(|error| error.to_string());
        let loaded =
            load(&case, &expected, DType::F32).map(drop).map_err(|error| error.to_string());
        assert_eq!(checked, loaded);
        if change.is_none() {
            loaded.unwrap();
        } else {
            let error = loaded.unwrap_err();
            assert!(error.contains("\"head\"") && error.contains("untie it"), "{error}");
        }
    }
    let mut case = case(&[&[floats("table", &[2], &[1.0, 2.0]), floats("head", &[1], &[1.0])]]);
    case.files = case.files.with_names(NAMES);
    assert!(error(&case, &[spec("table", &[2])]).contains("differs from \"table\""));
}

#[test]
fn what_a_family_does_not_compute_is_named_and_not_taken_for_another_model() {
    let mut case = case(&[&[floats("table", &[1], &[1.0]), floats("0.bias", &[1], &[1.0])]]);
    case.files = case.files.with_names(NAMES);
    let too_many = error(&case, &[spec("table", &[1])]);
    let other_shape = error(&case, &[spec("table", &[1]), spec("0.bias", &[2])]);
    for error in [too_many, other_shape] {
        assert!(error.contains("\"0.bias\"") && error.contains("biases, which is not"), "{error}");
        assert!(!error.contains("another model?"), "{error}");
    }
}

#[test]
fn a_git_lfs_pointer_is_named_with_the_command_that_fetches_the_file() {
    let case = case(&[&[floats("w", &[1], &[1.0])]]);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    std::fs::write(&case.files.paths()[0], pointer).unwrap();
    let error = error(&case, &[spec("w", &[1])]);
    assert!(error.contains("git lfs pull") && error.contains("part0"), "{error}");
}

#[test]
fn a_tensor_longer_than_a_staging_lot_is_converted_without_a_seam() {
    let count = (16 << 20) / 4 + 5;
    let values: Vec<f32> = (0..count).map(|i| (i % 2048) as f32).collect();
    let case = case(&[&[floats("w", &[count], &values)]]);
    let loaded = load(&case, &[spec("w", &[count])], DType::F16).unwrap();
    let back = loaded.tensor("w").unwrap().to_vec1::<f16>().unwrap();
    let back: Vec<f32> = back.into_iter().map(f16::to_f32).collect();
    assert!(back == values);
}

#[test]
fn missing_tensors_are_counted_and_the_first_are_named() {
    let case = case(&[&[floats("w", &[1], &[1.0])]]);
    let expected: Vec<TensorSpec> = (0..7).map(|i| spec(&format!("t{i}"), &[1])).collect();
    let error = error(&case, &expected);
    assert!(error.contains("7 of the model's tensors"), "{error}");
    assert!(error.contains("t0, t1, t2, t3, t4, ..."), "{error}");
    assert!(error.contains("part0.safetensors"), "{error}");
}

#[test]
fn tensors_that_belong_to_no_part_of_the_model_are_refused() {
    let case = case(&[&[floats("w", &[1], &[1.0]), floats("h.12.ln_1.weight", &[1], &[1.0])]]);
    let error = error(&case, &[spec("w", &[1])]);
    assert!(error.contains("h.12.ln_1.weight") && error.contains("another model"), "{error}");
}

#[test]
fn a_wrong_shape_is_told_with_both_shapes() {
    let case = case(&[&[floats("w", &[2, 3], &VALUES)]]);
    let error = error(&case, &[spec("w", &[3, 2])]);
    assert!(error.contains("[2, 3]") && error.contains("[3, 2]"), "{error}");
}

#[test]
fn a_tensor_that_is_in_two_files_is_refused() {
    let mut case = case(&[&[floats("w", &[1], &[1.0])], &[floats("net.w", &[1], &[2.0])]]);
    case.files = case.files.with_names(NAMES);
    let error = error(&case, &[spec("w", &[1])]);
    assert!(error.contains("part0") && error.contains("part1"), "{error}");
}

#[test]
fn a_dtype_that_cannot_be_loaded_is_named_unless_nobody_needs_the_tensor() {
    let odd = |name| Stored { name, dtype: "I64", shape: vec![1], data: vec![0; 8] };
    let needed = case(&[&[odd("w")]]);
    assert!(error(&needed, &[spec("w", &[1])]).contains("I64"));
    let mut mask = case(&[&[odd("h.0.mask"), floats("w", &[1], &[1.0])]]);
    mask.files = mask.files.with_names(NAMES);
    assert!(load(&mask, &[spec("w", &[1])], DType::F32).is_ok());
}

#[test]
fn a_nan_is_found_with_its_tensor_and_place() {
    for (bad, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let case = case(&[&[floats("ok", &[1], &[1.0]), floats("w", &[3], &[1.0, bad, 2.0])]]);
        let expected = [spec("ok", &[1]), spec("w", &[3])];
        for dtype in [DType::F32, DType::F16] {
            let error = load(&case, &expected, dtype).err().unwrap().to_string();
            assert!(error.contains(&format!("holds {word} at element 1")), "{error}");
            assert!(error.contains("\"w\""), "{error}");
        }
        assert!(case.files.load_trusted(&expected, DType::F32, &Device::Cpu).is_ok());
    }
}

#[test]
fn a_weight_too_large_for_half_precision_is_an_error_and_not_an_infinity() {
    let case = case(&[&[floats("w", &[2], &[1.0, 70000.0])]]);
    let expected = [spec("w", &[2])];
    let error = load(&case, &expected, DType::F16).err().unwrap().to_string();
    assert!(error.contains("70000") && error.contains("bf16"), "{error}");
    assert!(load(&case, &expected, DType::BF16).is_ok());
}

#[test]
fn a_truncated_file_is_told_with_both_lengths() {
    let case = case(&[&[floats("w", &[2, 3], &VALUES)]]);
    let path = &case.files.paths()[0];
    let whole = std::fs::read(path).unwrap();
    for length in [whole.len() - 1, 20, 8, 3, 0] {
        std::fs::write(path, &whole[..length]).unwrap();
        let error = error(&case, &[spec("w", &[2, 3])]);
        assert!(error.contains(&format!("it has {length}")), "{error}");
    }
}

#[test]
fn a_file_that_went_away_is_named() {
    let case = case(&[&[floats("w", &[1], &[1.0])]]);
    std::fs::remove_file(&case.files.paths()[0]).unwrap();
    let error = error(&case, &[spec("w", &[1])]);
    assert!(error.contains("cannot open") && error.contains("part0"), "{error}");
}

#[test]
fn an_integer_dtype_cannot_be_asked_for() {
    let case = case(&[&[floats("w", &[1], &[1.0])]]);
    let error = load(&case, &[spec("w", &[1])], DType::U8).err().unwrap().to_string();
    assert!(error.contains("u8"), "{error}");
}
