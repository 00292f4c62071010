//! Files of weights, whole and in shards, plain and quantised: located and loaded as a run would.

use std::error::Error;
use std::fs;
use std::path::Path;

use candle_core::Device;
use candle_core::quantized::GgmlDType;
use warpmark_models::weights::gguf::StoredTensor;
use warpmark_models::weights::{
    Cache, Checkpoint, Dtype, Init, Quantisation, Quiet, Source, TensorNames, TensorSpec,
    WeightSpec,
};

use super::Seeds;

const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

fn checkpoint(dtype: Dtype, files: &[&str]) -> Checkpoint {
    Checkpoint {
        id: "fuzz".to_owned(),
        repo: "someone/fuzz".to_owned(),
        revision: None,
        files: files.iter().map(|file| (*file).to_owned()).collect(),
        sha256: Vec::new(),
        tokenizer: None,
        dtype,
        architecture: "llama".to_owned(),
        names: TensorNames { ignored: &["*.bias"], ..TensorNames::default() },
    }
}

/// The same as a hub has it.
pub(super) fn checkpoint_of_hub() -> Checkpoint {
    let revision = Some("0123456789abcdef0123456789abcdef01234567".to_owned());
    Checkpoint { revision, ..checkpoint(Dtype::F32, &["model.safetensors"]) }
}

fn tensor(name: &str, shape: &[usize]) -> TensorSpec {
    let init = Init::Normal { std: 0.02 };
    TensorSpec { name: name.to_owned(), shape: shape.to_vec(), init }
}

pub(super) fn tensors() -> Vec<TensorSpec> {
    vec![tensor("embedding", &[5, 8]), tensor("norm", &[8]), tensor("head", &[8, 5])]
}

fn stored() -> Vec<StoredTensor> {
    let of = |name: &str, shape: &[usize], kind| StoredTensor {
        spec: tensor(name, shape),
        name: name.to_owned(),
        kind,
    };
    vec![
        of("token_embd.weight", &[4, 64], GgmlDType::Q8_0),
        of("blk.0.attn_q.weight", &[2, 256], GgmlDType::Q4K),
        of("output_norm.weight", &[5], GgmlDType::F32),
    ]
}

/// The bytes that the suite's own writer makes of them.
fn written(wanted: &WeightSpec, dtype: Dtype) -> Result<Vec<u8>, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let files = wanted.locate(
        &checkpoint(dtype, &["model.safetensors"]),
        &Source::Synthetic { seed: 7 },
        &Cache::at(folder.path()),
        &Quiet,
    )?;
    Ok(fs::read(&files.paths()[0])?)
}

fn load(wanted: &WeightSpec, files: &[&str], path: &Path) {
    let Some(folder) = path.parent() else { return };
    let checkpoint = checkpoint(Dtype::F32, files);
    let source = Source::Folder(folder.to_owned());
    // Nothing is written there: a folder needs no cache.
    let cache = Cache::at(folder.join("cache"));
    if let Ok(files) = wanted.locate(&checkpoint, &source, &cache, &Quiet) {
        let _ = wanted.read_by_load(&files);
        let _ = wanted.load(&checkpoint, &files, &Device::Cpu);
    }
}

pub(super) fn plain(path: &Path, _: &[u8]) {
    load(&WeightSpec::Plain(tensors(), Dtype::F16), &["model.safetensors"], path);
}

pub(super) fn plain_seeds() -> Seeds {
    [Dtype::F32, Dtype::F16, Dtype::Bf16]
        .map(|dtype| written(&WeightSpec::Plain(tensors(), dtype), dtype))
        .into_iter()
        .collect()
}

pub(super) fn plain_sharded(path: &Path, _: &[u8]) {
    load(&WeightSpec::Plain(tensors(), Dtype::F32), &["model.safetensors"], path);
}

pub(super) fn write_shards(folder: &Path) -> Result<(), Box<dyn Error>> {
    let all = tensors();
    for (name, part) in SHARDS.iter().zip([&all[..1], &all[1..]]) {
        let bytes = written(&WeightSpec::Plain(part.to_vec(), Dtype::F32), Dtype::F32)?;
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

pub(super) fn quantised(path: &Path, _: &[u8]) {
    for quantisation in [Quantisation::Q8_0, Quantisation::Q4KM] {
        load(&WeightSpec::Quantised(stored(), quantisation), &[], path);
    }
}

pub(super) fn quantised_seeds() -> Seeds {
    [Quantisation::Q8_0, Quantisation::Q4KM]
        .map(|quantisation| written(&WeightSpec::Quantised(stored(), quantisation), Dtype::F32))
        .into_iter()
        .collect()
}
